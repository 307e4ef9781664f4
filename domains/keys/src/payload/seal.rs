//! Sealing the data keys to a recipient.

use super::header::{Header, PayloadKind, Section, SectionKind};
use super::stream::SectionKey;
use crate::random::HpkeRandom;
use crate::x_wing::Recipient;
use decores_secrets::{Secret, SecretError};
use decores_types::{CommitmentKey, Digest, Random};
use hpke::aead::AesGcm256;
use hpke::inout::InOutBuf;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{OpModeS, Serializable, single_shot_seal_inout_detached_with_rng};

/// HPKE `info`.
pub(super) const INFO: &[u8] = b"decores sealed payload v1";

/// Why a payload was not sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is no room for the data keys.
    #[error("no room for the data keys")]
    Secret(#[from] SecretError),
    /// The library refused the recipient's key.
    #[error("failed to seal to the recipient's key")]
    Recipient,
    /// Program and input are sealed together, as a job.
    #[error("this section is not sealed alone")]
    Section,
}

/// A job's head, to be written first, and the keys of its sections.
#[derive(Debug)]
pub struct SealedJob {
    /// The head's bytes.
    pub head: Vec<u8>,
    /// Seals the program, which follows the head.
    pub program: SectionKey,
    /// Seals the input, which follows the program.
    pub input: SectionKey,
}

/// A result's head, to be written first, and the key of its only section.
#[derive(Debug)]
pub struct SealedSingle {
    /// The head's bytes.
    pub head: Vec<u8>,
    /// Seals the section, which follows the head.
    pub key: SectionKey,
}

/// Seals the keys of a job to an offer key. Lengths are the plaintexts'; `None` goes to the end.
pub fn seal_job(
    recipient: &Recipient,
    binding: &Digest,
    program_len: u64,
    input_len: Option<u64>,
    commitment: &CommitmentKey,
    random: &dyn Random,
) -> Result<SealedJob, SealError> {
    let program = Secret::filled(32, |out| random.fill(out))?;
    let input = Secret::filled(32, |out| random.fill(out))?;
    let secrets = [program.expose(), input.expose(), commitment.expose()];
    let head = seal_head(PayloadKind::Job, recipient, &[Some(program_len), input_len], binding, &secrets, random)?;
    Ok(SealedJob {
        head,
        program: SectionKey::new(SectionKind::Program, program),
        input: SectionKey::new(SectionKind::Input, input),
    })
}

/// Seals the key of an output or of logs to an output key.
pub fn seal_single(
    section: SectionKind,
    recipient: &Recipient,
    length: Option<u64>,
    binding: &Digest,
    random: &dyn Random,
) -> Result<SealedSingle, SealError> {
    let kind = match section {
        SectionKind::Output => PayloadKind::Output,
        SectionKind::Logs => PayloadKind::Logs,
        SectionKind::Program | SectionKind::Input | SectionKind::Module => return Err(SealError::Section),
    };
    let key = Secret::filled(32, |out| random.fill(out))?;
    let head = seal_head(kind, recipient, &[length], binding, &[key.expose()], random)?;
    Ok(SealedSingle { head, key: SectionKey::new(section, key) })
}

fn seal_head(
    kind: PayloadKind,
    recipient: &Recipient,
    lengths: &[Option<u64>],
    binding: &Digest,
    secrets: &[&[u8]],
    random: &dyn Random,
) -> Result<Vec<u8>, SealError> {
    let sections = kind.sections().iter().zip(lengths).map(|(kind, length)| Section { kind: *kind, length: *length });
    let header = Header { kind, recipient: recipient.id(), epoch: recipient.epoch(), sections: sections.collect() };
    let mut head = header.to_bytes();
    let aad = [&head, binding.as_bytes().as_slice()].concat();
    let public = recipient.hpke().ok_or(SealError::Recipient)?;
    // The keys are gathered and sealed in the arena, so that they are never elsewhere.
    let mut sealed = Secret::filled(kind.secret_bytes(), |out| {
        out.chunks_mut(32).zip(secrets).for_each(|(out, secret)| out.copy_from_slice(secret));
    })?;
    let (encapped, tag) = single_shot_seal_inout_detached_with_rng::<AesGcm256, HkdfSha256, XWing>(
        &OpModeS::Base,
        &public,
        INFO,
        InOutBuf::from(sealed.expose_mut()),
        &aad,
        &mut HpkeRandom(random),
    )
    .map_err(|_| SealError::Recipient)?;
    head.extend_from_slice(&encapped.to_bytes());
    head.extend_from_slice(sealed.expose());
    head.extend_from_slice(&tag.to_bytes());
    Ok(head)
}
