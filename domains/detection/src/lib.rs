//! Alerts: what a person must learn of. Causes: why a node takes nothing new.
//!
//! For now an alert is a record that waits to be acknowledged; every alert is an event in the log.

mod alert;
mod clock;
mod pressure;
mod quota;

pub use alert::{Alert, AlertKind, Severity};
pub use clock::{ClockWatch, Jump};
pub use pressure::{CALM, Cause, Faults, Pressure, Reading, Reserve};
pub use quota::Quota;
