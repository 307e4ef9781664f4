//! What to do about an error that ends this program.

use crate::records::OPENING_A_ROW;
use decores_audit::ports::StoreError;

/// Told to stop before it served anything.
#[derive(Debug, thiserror::Error)]
#[error("stopped while starting")]
pub(crate) struct StoppedWhileStarting;

/// A log that is not gone on with.
#[derive(Debug, thiserror::Error)]
#[error("the log is damaged, nothing is signed or served: {what}")]
pub(crate) struct DamagedLog {
    pub(crate) what: String,
    pub(crate) hint: String,
}

/// The next step, where it is known and the error does not say it itself.
pub(crate) fn of(error: &anyhow::Error) -> Option<&str> {
    error.chain().find_map(|cause| {
        if let Some(damaged) = cause.downcast_ref::<DamagedLog>() {
            return Some(damaged.hint.as_str());
        }
        if cause.is::<StoppedWhileStarting>() {
            return Some("nothing is lost: start the node again");
        }
        if let Some(StoreError::Failed { during: OPENING_A_ROW, .. }) = cause.downcast_ref() {
            return Some(
                "the keystore does not fit the state, or a row was changed: restore both from the same backup",
            );
        }
        None
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn common_ends_of_a_start_say_what_to_do_next() {
        let row = StoreError::Failed { during: OPENING_A_ROW, source: "no key".into() };
        assert!(of(&row.into()).unwrap().contains("backup"));
        assert!(of(&StoppedWhileStarting.into()).unwrap().contains("start the node again"));
        assert_eq!(of(&anyhow::anyhow!("something else")), None);
    }
}
