//! The header: what stands in clear before the encapsulated key.

use decores_types::KeyId;
use std::io;

const MAGIC: &[u8; 4] = b"DCSP";
const VERSION: u8 = 1;
/// HPKE base mode with X-Wing, HKDF-SHA256, AES-256-GCM; STREAM with AES-256-GCM.
const SUITE: u16 = 1;
/// Bytes before the list of sections.
pub(super) const FIXED: usize = 29;
/// Bytes for each section.
pub(super) const PER_SECTION: usize = 9;
/// A length that is not known in advance.
const TO_END: u64 = u64::MAX;

/// Why a payload's head was refused.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// It could not be read to its end.
    #[error("failed to read the payload's head")]
    Read(#[source] io::Error),
    /// Not a sealed payload.
    #[error("not a sealed payload")]
    Magic,
    /// A version that is not known here.
    #[error("sealed payload of version {0}, only {VERSION} is known")]
    Version(u8),
    /// A kind that is not known here.
    #[error("sealed payload of the unknown kind {0}")]
    Kind(u8),
    /// A suite that is not known here.
    #[error("sealed payload with the unknown suite {0}")]
    Suite(u16),
    /// Too many or too few sections for its kind.
    #[error("{found} sections in a payload of {wanted}")]
    SectionCount {
        /// How many there are.
        found: u8,
        /// How many its kind has.
        wanted: usize,
    },
    /// A section that does not belong there.
    #[error("section {index} has type {found}, which does not belong there")]
    SectionType {
        /// Its place, from 0.
        index: usize,
        /// The type's number.
        found: u8,
    },
    /// A length "to the end" before the last section.
    #[error("section {0} has no length, which only the last may lack")]
    SectionLength(usize),
}

/// What a payload holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// Program and input, to an offer key.
    Job,
    /// The output, to an output key.
    Output,
    /// The logs, to an output key.
    Logs,
}

impl PayloadKind {
    const fn number(self) -> u8 {
        match self {
            Self::Job => 1,
            Self::Output => 2,
            Self::Logs => 3,
        }
    }

    fn of_number(number: u8) -> Result<Self, PayloadError> {
        [Self::Job, Self::Output, Self::Logs]
            .into_iter()
            .find(|k| k.number() == number)
            .ok_or(PayloadError::Kind(number))
    }

    /// The sections it has, in order.
    pub const fn sections(self) -> &'static [SectionKind] {
        match self {
            Self::Job => &[SectionKind::Program, SectionKind::Input],
            Self::Output => &[SectionKind::Output],
            Self::Logs => &[SectionKind::Logs],
        }
    }

    /// Bytes that are sealed to the recipient: the data keys and a job's commitment key.
    pub(super) const fn secret_bytes(self) -> usize {
        match self {
            Self::Job => 3 * 32,
            Self::Output | Self::Logs => 32,
        }
    }
}

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SectionKind {
    /// The program.
    Program,
    /// The input bundle.
    Input,
    /// The output bundle.
    Output,
    /// Standard error.
    Logs,
    /// A compiled program that an engine keeps; in no payload.
    Module,
}

impl SectionKind {
    /// Its number, which is in every nonce.
    pub const fn number(self) -> u8 {
        match self {
            Self::Program => 1,
            Self::Input => 2,
            Self::Output => 3,
            Self::Logs => 4,
            Self::Module => 5,
        }
    }
}

/// A section and its plaintext's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it holds.
    pub kind: SectionKind,
    /// Bytes of plaintext; `None` goes to the end.
    pub length: Option<u64>,
}

/// The clear part of a payload's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the payload holds.
    pub kind: PayloadKind,
    /// The key it is sealed to.
    pub recipient: KeyId,
    /// That key's epoch.
    pub epoch: u32,
    /// Its sections.
    pub sections: Vec<Section>,
}

impl Header {
    /// The bytes on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend([VERSION, self.kind.number()]);
        out.extend(SUITE.to_be_bytes());
        out.extend(self.recipient.as_bytes());
        out.extend(self.epoch.to_be_bytes());
        out.push(self.kind.sections().len() as u8);
        for section in &self.sections {
            out.push(section.kind.number());
            out.extend(section.length.unwrap_or(TO_END).to_be_bytes());
        }
        out
    }

    /// Reads the fixed part: everything but the sections, which [`Self::read_sections`] adds.
    pub(super) fn read_fixed(bytes: &[u8; FIXED]) -> Result<Self, PayloadError> {
        let (magic, rest) = take::<4>(bytes);
        let ([version], rest) = take::<1>(rest);
        let ([kind], rest) = take::<1>(rest);
        let (suite, rest) = take::<2>(rest);
        let (recipient, rest) = take::<16>(rest);
        let (epoch, rest) = take::<4>(rest);
        let ([count], _) = take::<1>(rest);
        if magic != *MAGIC {
            return Err(PayloadError::Magic);
        }
        if version != VERSION {
            return Err(PayloadError::Version(version));
        }
        let kind = PayloadKind::of_number(kind)?;
        let suite = u16::from_be_bytes(suite);
        if suite != SUITE {
            return Err(PayloadError::Suite(suite));
        }
        let wanted = kind.sections().len();
        if usize::from(count) != wanted {
            return Err(PayloadError::SectionCount { found: count, wanted });
        }
        let recipient = KeyId::from_bytes(recipient);
        Ok(Self { kind, recipient, epoch: u32::from_be_bytes(epoch), sections: Vec::new() })
    }

    pub(super) fn read_sections(&mut self, bytes: &[u8]) -> Result<(), PayloadError> {
        let kinds = self.kind.sections();
        for (index, (bytes, kind)) in bytes.chunks(PER_SECTION).zip(kinds).enumerate() {
            let ([found], rest) = take::<1>(bytes);
            if found != kind.number() {
                return Err(PayloadError::SectionType { index, found });
            }
            let length = Some(u64::from_be_bytes(take::<8>(rest).0)).filter(|l| *l != TO_END);
            if length.is_none() && index + 1 != kinds.len() {
                return Err(PayloadError::SectionLength(index));
            }
            self.sections.push(Section { kind: *kind, length });
        }
        Ok(())
    }
}

/// The first `N` bytes and the rest; zeroes stand for what is missing, and callers see to it that nothing is.
fn take<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    bytes.split_first_chunk().map_or(([0; N], &[]), |(first, rest)| (*first, rest))
}
