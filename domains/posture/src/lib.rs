//! How well this machine is set up: what is weak, why it matters, and the command that mends it.
//!
//! Pure: [`checks`] turns observed facts into checks, and observes nothing itself.

mod check;
mod container;
mod facts;
mod isolation;
mod memory;
mod secrets;

pub use check::{Check, State};
pub use facts::{Containers, Facts, RootPlace};

/// Every check, in the order they are shown.
pub fn checks(facts: &Facts) -> Vec<Check> {
    let mut all = isolation::checks(facts);
    all.extend(container::check(facts));
    all.extend(memory::checks(facts));
    all.extend(secrets::checks(facts));
    all
}

/// The worst state of all checks.
pub fn worst(checks: &[Check]) -> State {
    checks.iter().map(|c| c.state).max().unwrap_or(State::Ok)
}
