//! Opening the data keys.

use super::head::Head;
use super::header::{PayloadKind, SectionKind};
use super::seal::INFO;
use super::stream::SectionKey;
use crate::x_wing::XWingKey;
use decores_secrets::{Secret, SecretError};
use decores_types::{CommitmentKey, Digest};
use hpke::aead::{AeadTag, AesGcm256};
use hpke::inout::InOutBuf;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable, Kem, OpModeR, single_shot_open_inout_detached};

/// Why a head did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A job where a result is expected, or the other way round.
    #[error("a payload of another kind is expected here")]
    Kind,
    /// Sealed to another key, or to another epoch of it.
    #[error("the payload is sealed to another key")]
    Recipient,
    /// It does not authenticate: altered, or meant for another offer, consumer, spec or job.
    #[error("the payload does not authenticate: it was altered or is meant for another place")]
    Refused,
    /// There is no room for the data keys.
    #[error("no room for the data keys")]
    Secret(#[from] SecretError),
}

/// What a job's head holds.
#[derive(Debug)]
pub struct JobKeys {
    /// Opens the program.
    pub program: SectionKey,
    /// Opens the input.
    pub input: SectionKey,
    /// The commitment key's bytes.
    pub commitment: Secret,
}

impl JobKeys {
    /// The commitment key, to commit with; this copy is outside the arena until it is dropped.
    pub fn commitment_key(&self) -> Option<CommitmentKey> {
        self.commitment.expose_array().copied().map(CommitmentKey::from_bytes)
    }

    /// Zeroes all keys and reads them back: evidence for a wipe.
    pub fn destroy(self) -> bool {
        [self.program.destroy(), self.input.destroy(), self.commitment.destroy()].iter().all(|zero| *zero)
    }
}

impl Head {
    /// Opens a job's keys.
    pub fn open_job(&self, key: &XWingKey, binding: &Digest) -> Result<JobKeys, OpenError> {
        if self.header().kind != PayloadKind::Job {
            return Err(OpenError::Kind);
        }
        let secrets = self.open(key, binding)?;
        let part = |i: usize| Secret::from_slice(secrets.expose().chunks(32).nth(i).unwrap_or_default());
        Ok(JobKeys {
            program: SectionKey::new(SectionKind::Program, part(0)?),
            input: SectionKey::new(SectionKind::Input, part(1)?),
            commitment: part(2)?,
        })
    }

    /// Opens the key of an output or of logs.
    pub fn open_single(&self, section: SectionKind, key: &XWingKey, binding: &Digest) -> Result<SectionKey, OpenError> {
        if self.header().kind == PayloadKind::Job || self.header().kind.sections() != [section] {
            return Err(OpenError::Kind);
        }
        Ok(SectionKey::new(section, self.open(key, binding)?))
    }

    fn open(&self, key: &XWingKey, binding: &Digest) -> Result<Secret, OpenError> {
        let recipient = key.recipient();
        if (self.header().recipient, self.header().epoch) != (recipient.id(), recipient.epoch()) {
            return Err(OpenError::Recipient);
        }
        let (header, encapped, sealed, tag) = self.parts();
        let aad = [header, binding.as_bytes().as_slice()].concat();
        let private = key.hpke().ok_or(OpenError::Refused)?;
        let encapped = <XWing as Kem>::EncappedKey::from_bytes(encapped).map_err(|_| OpenError::Refused)?;
        let tag = AeadTag::<AesGcm256>::from_bytes(tag).map_err(|_| OpenError::Refused)?;
        // Opened in the arena, so that the keys are never elsewhere.
        let mut secrets = Secret::from_slice(sealed)?;
        single_shot_open_inout_detached::<AesGcm256, HkdfSha256, XWing>(
            &OpModeR::Base,
            &private,
            &encapped,
            INFO,
            InOutBuf::from(secrets.expose_mut()),
            &aad,
            &tag,
        )
        .map_err(|_| OpenError::Refused)?;
        Ok(secrets)
    }
}
