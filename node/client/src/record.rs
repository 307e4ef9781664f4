//! What only the consumer knows of a job: the keys that open its output and its commitments.

use crate::ClientError;
use crate::input::Prepared;
use decores_keys::{Recipient, XWingKey};
use decores_secrets::{Secret, Zeroizing};
use decores_types::ambient::random_bytes;
use decores_types::bundle::{HexDigest, OutputManifest};
use decores_types::job::EngineKind;
use decores_types::{Base64, CommitmentKey, JobId, JobSpec, KeyId, Limits, Protection, Random};
use serde::{Deserialize, Serialize};

/// Kept until the consumer deletes it; without it, output and logs do not open.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct JobRecord {
    /// Format version: 1.
    pub version: u32,
    /// The identity of the node that runs it.
    pub node: KeyId,
    /// Its id, once the node gave it one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub job: Option<JobId>,
    /// Makes submitting safe to repeat.
    pub idempotency_key: String,
    commitment_key: Base64,
    output_seed: Base64,
    /// The spec.
    pub spec: JobSpec,
    /// SHA-256 of the program.
    pub program: HexDigest,
    /// The image in it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image: Option<JobImage>,
    /// SHA-256 of the input's manifest.
    pub input: HexDigest,
    /// The output's manifest, once it was opened.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub output: Option<OutputManifest>,
}

/// The image that a job's program is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobImage {
    /// The digest that pins it.
    pub digest: HexDigest,
    /// How it was named.
    pub name: String,
}

/// What a consumer asks of a node, apart from program and input.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The weakest protection that is accepted.
    pub protection: Protection,
    /// The most the job may use.
    pub limits: Limits,
    /// Seconds a compiled program may be kept.
    pub cache_seconds: u32,
}

impl JobRecord {
    /// A new job for `node`: draws its keys and commits to program and input.
    pub fn new(node: KeyId, input: &Prepared, terms: &Terms, random: &dyn Random) -> Result<Self, ClientError> {
        let failed = |source| ClientError::Sealing { doing: "make the output key", source };
        let key = XWingKey::generate(1, random).map_err(|e| failed(Box::new(e)))?;
        let commitment_key = CommitmentKey::random(random);
        let (program, manifest) = (input.program_digest(), input.input_digest()?);
        let spec = JobSpec {
            version: 1,
            engine: if input.image().is_some() { EngineKind::Container } else { EngineKind::Wasm },
            protection: terms.protection,
            limits: terms.limits,
            program: commitment_key.commit("program", &program),
            input: commitment_key.commit("input", &manifest),
            key_check: commitment_key.check(),
            output_key: key.recipient().to_output_key(),
            cache_seconds: terms.cache_seconds,
            cache_id: None,
        };
        Ok(Self {
            version: 1,
            node,
            job: None,
            idempotency_key: random_bytes::<16>(random).iter().map(|b| format!("{b:02x}")).collect(),
            commitment_key: Base64(commitment_key.expose().to_vec()),
            output_seed: Base64(key.seed().expose().to_vec()),
            spec,
            program: program.into(),
            image: input.image().map(|i| JobImage { digest: i.digest().into(), name: i.name().to_owned() }),
            input: manifest.into(),
            output: None,
        })
    }

    /// The key that opens this job's commitments.
    pub fn commitment_key(&self) -> Result<CommitmentKey, ClientError> {
        let bytes = self.commitment_key.array::<32>().map(Zeroizing::new);
        bytes.map(|b| CommitmentKey::from_bytes(*b)).ok_or_else(|| contradicts("its commitment key has not 32 bytes"))
    }

    /// The key that opens output and logs.
    pub(crate) fn output_key(&self) -> Result<XWingKey, ClientError> {
        let failed = |source| ClientError::Sealing { doing: "load the output key", source };
        let seed = Secret::from_slice(&self.output_seed.0).map_err(|e| failed(Box::new(e)))?;
        let key = XWingKey::from_seed(seed, 1).map_err(|_| contradicts("its output key has not 32 bytes"))?;
        match Recipient::of_output_key(&self.spec.output_key) {
            Some(recipient) if recipient == *key.recipient() => Ok(key),
            _ => Err(contradicts("its output key is not the one in its spec")),
        }
    }
}

fn contradicts(what: &str) -> ClientError {
    ClientError::Mismatch(format!("our record of this job: {what}"))
}
