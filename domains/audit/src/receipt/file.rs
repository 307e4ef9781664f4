//! The receipt file, read strictly: one encoding, no unknown member, one signature.

use crate::code::Code;
use crate::proof::InclusionProof;
use crate::receipt::predicate::Predicate;
use crate::receipt::{MAX_RECEIPT, PAYLOAD_TYPE, RECEIPT_TYPE, STATEMENT_TYPE};
use decores_keys::Envelope;
use decores_types::bundle::{HexDigest, OutputManifest};
use decores_types::canonical::{self, CanonicalError};
use decores_types::{Base64, Commitment, CommitmentKey, Digest};
use serde::{Deserialize, Serialize};

/// The file, member by member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ReceiptFile {
    /// [`RECEIPT_TYPE`].
    pub r#type: String,
    /// The signed payload.
    pub envelope: Envelope,
    /// The log entry that commits to the payload.
    pub entry: Base64,
    /// Where that entry stands: a tlog-proof.
    pub proof: String,
    /// Chain anchors: none exist yet.
    pub anchors: Vec<Unbuilt>,
    /// What hardware evidence needs: none exists yet.
    pub collateral: Vec<Unbuilt>,
    /// Added by the consumer: opens the commitments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opening: Option<Opening>,
}

/// A list of what does not exist is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unbuilt {}

/// What opens the commitments; whoever reads it can test guesses of input and output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Opening {
    /// SHA-256 of the input's manifest.
    pub input: HexDigest,
    /// Digest of the image in the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<HexDigest>,
    /// The job's commitment key.
    pub key: Base64,
    /// The output's manifest; absent where there is no output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputManifest>,
    /// SHA-256 of the program.
    pub program: HexDigest,
}

impl Opening {
    /// The opening of a job whose program is no image.
    pub fn new(key: &CommitmentKey, program: Digest, input: Digest, output: Option<OutputManifest>) -> Self {
        let (input, key, program) = (HexDigest(input), key.expose().as_slice().into(), HexDigest(program));
        Self { image: None, input, key, output, program }
    }

    /// The commitment key; `None` if it has not 32 bytes.
    pub fn commitment_key(&self) -> Option<CommitmentKey> {
        self.key.array().map(CommitmentKey::from_bytes)
    }
}

/// An in-toto Statement v1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Statement {
    /// [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub statement_type: String,
    /// What is said.
    pub predicate: Predicate,
    /// [`RECEIPT_TYPE`].
    pub predicate_type: String,
    /// What it is said of: exactly one.
    pub subject: Vec<Subject>,
}

/// What a statement is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Its digest.
    pub digest: SubjectDigest,
    /// `output` or `job`.
    pub name: String,
}

/// The digest of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SubjectDigest {
    /// The commitment to the output's manifest.
    #[serde(rename = "decoresHmacSha256")]
    Output(Commitment),
    /// The digest of the spec, for an attempt without output.
    #[serde(rename = "sha256")]
    Spec(HexDigest),
}

/// A receipt that reads well; nothing in it is verified yet.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The file.
    pub file: ReceiptFile,
    /// The statement in its envelope.
    pub statement: Statement,
    /// The key that opens the job's log entries.
    pub log_key: [u8; 32],
}

/// Why a receipt was not read or made.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// Not the file, or not its one encoding.
    #[error("failed to read the receipt")]
    File(#[source] CanonicalError),
    /// Not the payload, or not its one encoding.
    #[error("failed to read the receipt's payload")]
    Payload(#[source] CanonicalError),
    /// Of another type or version.
    #[error("not a receipt: its {what} is `{found}`")]
    Type {
        /// Which type.
        what: &'static str,
        /// What stands there.
        found: String,
    },
    /// Not exactly one signature.
    #[error("the receipt has {0} signatures, not one")]
    Signatures(usize),
    /// The log key has not 32 bytes.
    #[error("the receipt's log key has not 32 bytes")]
    LogKey,
    /// A list that is not sorted, or has something twice.
    #[error("the receipt's list `{0}` is not sorted")]
    Order(&'static str),
    /// A payload that reads back as another one, such as one with a number beyond 2^53.
    #[error("the receipt's payload does not read back as it was written")]
    ReadBack,
    /// Larger than [`MAX_RECEIPT`].
    #[error("the receipt has {0} bytes, at most {MAX_RECEIPT} are written")]
    TooLarge(usize),
}

impl ReceiptError {
    /// Whether what was read is no JSON at all.
    pub const fn is_not_json(&self) -> bool {
        matches!(self, Self::File(CanonicalError::NotJson(_)))
    }
}

impl ReceiptFile {
    /// Joins what the node made.
    pub fn new(envelope: Envelope, entry: Vec<u8>, proof: &InclusionProof) -> Self {
        Self {
            r#type: RECEIPT_TYPE.to_owned(),
            envelope,
            entry: Base64(entry),
            proof: String::from_utf8_lossy(&proof.to_bytes()).into_owned(),
            anchors: Vec::new(),
            collateral: Vec::new(),
            opening: None,
        }
    }

    /// Reads the file strictly, but not what is in its envelope.
    ///
    /// # Errors
    /// If it is anything but a receipt's file in its one encoding.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let file: Self = canonical::from_slice(bytes, MAX_RECEIPT).map_err(ReceiptError::File)?;
        check_type("type", &file.r#type, RECEIPT_TYPE)?;
        check_type("payload type", &file.envelope.payload_type, PAYLOAD_TYPE)?;
        if file.envelope.signatures.len() != 1 {
            return Err(ReceiptError::Signatures(file.envelope.signatures.len()));
        }
        Ok(file)
    }

    /// The canonical bytes.
    ///
    /// # Errors
    /// If they would be more than is read.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ReceiptError> {
        let bytes = canonical::to_vec(self).map_err(ReceiptError::File)?;
        if bytes.len() > MAX_RECEIPT { Err(ReceiptError::TooLarge(bytes.len())) } else { Ok(bytes) }
    }
}

impl Statement {
    /// Reads a payload strictly; gives its log key, too.
    pub(super) fn parse(payload: &[u8]) -> Result<(Self, [u8; 32]), ReceiptError> {
        let statement: Self = canonical::from_slice(payload, MAX_RECEIPT).map_err(ReceiptError::Payload)?;
        check_type("statement type", &statement.statement_type, STATEMENT_TYPE)?;
        check_type("predicate type", &statement.predicate_type, RECEIPT_TYPE)?;
        let log_key = statement.predicate.log_key.array().ok_or(ReceiptError::LogKey)?;
        check_sorted(&statement.predicate)?;
        Ok((statement, log_key))
    }
}

impl Receipt {
    /// Reads a receipt strictly; verifies nothing.
    ///
    /// # Errors
    /// If it is anything but a receipt in its one encoding.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptError> {
        Self::open(ReceiptFile::parse(bytes)?)
    }

    /// Reads the payload of a file, strictly.
    ///
    /// # Errors
    /// If it is anything but a statement in its one encoding.
    pub fn open(file: ReceiptFile) -> Result<Self, ReceiptError> {
        let (statement, log_key) = Statement::parse(&file.envelope.payload.0)?;
        Ok(Self { file, statement, log_key })
    }

    /// What is said.
    pub const fn predicate(&self) -> &Predicate {
        &self.statement.predicate
    }
}

/// The lists of a predicate that have one order.
fn check_sorted(predicate: &Predicate) -> Result<(), ReceiptError> {
    if !predicate.insecure.is_sorted_by(|a, b| a < b) {
        return Err(ReceiptError::Order("insecure"));
    }
    if let Some(isolation) = &predicate.isolation {
        check_held(&isolation.namespaces, &isolation.cgroup)?;
        isolation.container.as_ref().map_or(Ok(()), |held| check_held(&held.namespaces, &held.cgroup))?;
    }
    Ok(())
}

fn check_held(namespaces: &[Code], cgroup: &[Code]) -> Result<(), ReceiptError> {
    for (name, list) in [("namespaces", namespaces), ("cgroup", cgroup)] {
        if !list.is_sorted_by(|a, b| a < b) {
            return Err(ReceiptError::Order(name));
        }
    }
    Ok(())
}

fn check_type(what: &'static str, found: &str, expected: &str) -> Result<(), ReceiptError> {
    if found == expected {
        return Ok(());
    }
    Err(ReceiptError::Type { what, found: found.chars().take(80).collect::<String>().escape_debug().to_string() })
}
