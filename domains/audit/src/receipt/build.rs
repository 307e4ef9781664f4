//! Making a receipt: payload, signature, log entry.

use crate::event::{Event, LABEL_RECEIPT};
use crate::receipt::file::{ReceiptError, Statement, Subject, SubjectDigest};
use crate::receipt::predicate::Predicate;
use crate::receipt::{PAYLOAD_TYPE, RECEIPT_TYPE, STATEMENT_TYPE};
use decores_keys::{Envelope, KeyError, KeyStore};
use decores_types::bundle::HexDigest;
use decores_types::canonical::{self, CanonicalError};
use decores_types::digest::log_commitment;
use decores_types::{Commitment, Digest, KeyId};

/// The payload that is signed: an in-toto statement around the predicate.
///
/// # Errors
/// If the predicate does not read back.
pub fn payload(predicate: Predicate) -> Result<Vec<u8>, ReceiptError> {
    let subject = vec![subject(&predicate).map_err(ReceiptError::Payload)?];
    let statement = Statement {
        statement_type: STATEMENT_TYPE.to_owned(),
        predicate,
        predicate_type: RECEIPT_TYPE.to_owned(),
        subject,
    };
    let payload = canonical::to_vec(&statement).map_err(ReceiptError::Payload)?;
    let (read, _) = Statement::parse(&payload)?;
    if read == statement { Ok(payload) } else { Err(ReceiptError::ReadBack) }
}

/// What the statement is about: the output, or the spec where there is no output.
pub(crate) fn subject(predicate: &Predicate) -> Result<Subject, CanonicalError> {
    Ok(match predicate.output {
        Some(output) => Subject { digest: SubjectDigest::Output(output), name: "output".to_owned() },
        None => {
            let spec = HexDigest(predicate.spec.digest()?);
            Subject { digest: SubjectDigest::Spec(spec), name: "job".to_owned() }
        }
    })
}

/// Signs a payload with the node's identity key.
///
/// # Errors
/// If the keystore does not sign.
pub fn sign(keys: &dyn KeyStore, identity: &KeyId, payload: Vec<u8>) -> Result<Envelope, KeyError> {
    Envelope::sign(PAYLOAD_TYPE, payload, *identity, |message| keys.sign(identity, message))
}

/// What the entry holds of the payload.
pub fn commitment(log_key: &[u8; 32], payload: &[u8]) -> Commitment {
    log_commitment(log_key, LABEL_RECEIPT, Digest::of(payload).as_bytes())
}

/// The event that ends the attempt and commits to the payload.
pub fn ended(predicate: &Predicate, log_key: &[u8; 32], payload: &[u8]) -> Event {
    Event::JobEnded {
        job: predicate.job,
        attempt: predicate.attempt,
        state: predicate.result.state,
        reason: predicate.result.reason,
        receipt: commitment(log_key, payload),
    }
}
