//! Alerts: what a person must learn of.
//!
//! For now an alert is a record that waits to be acknowledged; every alert is an event in the log.

mod alert;

pub use alert::{Alert, AlertKind, Severity};
