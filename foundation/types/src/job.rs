//! The job spec, its limits, its states and reason codes (docs/formats/events.md).

use crate::digest::{Commitment, Digest};
use crate::encoding::Base64;
use crate::protection::Protection;
use crate::{KeyId, canonical};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Largest canonical spec, in bytes.
pub const MAX_SPEC_BYTES: usize = 16 * 1024;

/// What a consumer asks for; holds no data, only commitments to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct JobSpec {
    /// Format version: 1.
    pub version: u32,
    /// Which engine runs the program.
    pub engine: EngineKind,
    /// The weakest protection the consumer accepts.
    pub protection: Protection,
    /// The most the job may use.
    pub limits: Limits,
    /// Commitment to the program.
    pub program: Commitment,
    /// Commitment to the input.
    pub input: Commitment,
    /// Ties the commitments to one key.
    pub key_check: Digest,
    /// The consumer's key that outputs are sealed to.
    pub output_key: OutputKey,
    /// Seconds a compiled program may be kept; 0 keeps nothing.
    pub cache_seconds: u32,
    /// What the kept program is known by: a commitment under a key that the consumer keeps; present where it may be kept.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cache_id: Option<Commitment>,
}

impl JobSpec {
    /// The digest of the canonical spec.
    pub fn digest(&self) -> Result<Digest, canonical::CanonicalError> {
        Ok(Digest::of(&canonical::to_vec(self)?))
    }
}

/// The programs that run jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// WebAssembly, WASI preview 1 commands.
    Wasm,
    /// A program in an OCI image.
    Container,
}

/// A public X-Wing key of the consumer's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OutputKey {
    /// Its id; must fit `public`.
    pub id: KeyId,
    /// The raw 1,216 bytes.
    pub public: Base64,
}

/// The most a job may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// Linear memory of the program, in bytes.
    pub memory_bytes: u64,
    /// Wall time of the running program, in milliseconds.
    pub wall_ms: u64,
    /// Wall time of compiling it, in milliseconds.
    pub compile_ms: u64,
    /// Standard output and output files together, in bytes.
    pub output_bytes: u64,
    /// Standard error kept, in bytes; the rest is dropped.
    pub log_bytes: u64,
    /// Input and output files together on the scratch, in bytes.
    pub scratch_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            wall_ms: 60_000,
            compile_ms: 60_000,
            output_bytes: 64 << 20,
            log_bytes: 1 << 20,
            scratch_bytes: 256 << 20,
        }
    }
}

impl Limits {
    /// The first limit that exceeds the same one of `max`, by name.
    pub fn exceeds(&self, max: &Self) -> Option<&'static str> {
        [
            ("memoryBytes", self.memory_bytes, max.memory_bytes),
            ("wallMs", self.wall_ms, max.wall_ms),
            ("compileMs", self.compile_ms, max.compile_ms),
            ("outputBytes", self.output_bytes, max.output_bytes),
            ("logBytes", self.log_bytes, max.log_bytes),
            ("scratchBytes", self.scratch_bytes, max.scratch_bytes),
        ]
        .into_iter()
        .find(|(_, asked, max)| asked > max)
        .map(|(name, _, _)| name)
    }
}

/// The how-manieth try at a job; the first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Stored sealed, waiting.
    Queued,
    /// Evidence is being made.
    Attesting,
    /// The engine starts and compiles.
    Starting,
    /// The program runs.
    Running,
    /// The output is being sealed.
    Sealing,
    /// What the job held is being destroyed.
    Wiping,
    /// Ended well.
    Done,
    /// Ended badly.
    Failed,
    /// Never started: the node does not meet or allow the spec.
    Refused,
    /// Stopped on request.
    Cancelled,
}

impl JobState {
    /// Whether an attempt in this state has ended.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Refused | Self::Cancelled)
    }

    /// Whether an attempt may go from here to `next`.
    pub fn may_become(self, next: Self) -> bool {
        use JobState::{Attesting, Cancelled, Done, Failed, Queued, Refused, Running, Sealing, Starting, Wiping};
        match self {
            Queued => matches!(next, Attesting | Wiping | Refused),
            Attesting => matches!(next, Starting | Wiping),
            // Twice: the engine starts, then it compiles.
            Starting => matches!(next, Starting | Running | Wiping),
            Running => matches!(next, Sealing | Wiping),
            Sealing => next == Wiping,
            Wiping => matches!(next, Wiping | Done | Failed | Refused | Cancelled),
            Done | Failed | Refused | Cancelled => false,
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queued => "queued",
            Self::Attesting => "attesting",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Sealing => "sealing",
            Self::Wiping => "wiping",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
        })
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $text:literal => $hint:literal,)*) => {
        /// Why a job is in its state; never absent.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)*
        }

        impl Reason {
            /// The code that stands in the log.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// A sentence for people.
            pub const fn explain(self) -> &'static str {
                match self { $(Self::$variant => $hint,)* }
            }
        }
    };
}

reasons! {
    /// Stored.
    Accepted = "accepted" => "stored sealed, waiting for a slot",
    /// No hardware evidence asked for.
    NotRequired = "not-required" => "no hardware evidence was asked for",
    /// A slot is free.
    SlotFree = "slot-free" => "an engine is starting",
    /// Being compiled.
    Compiling = "compiling" => "the program is being compiled",
    /// Runs.
    Started = "started" => "the program is running",
    /// Ended; output is being sealed.
    ProgramEnded = "program-ended" => "the program ended; its output is being sealed",
    /// Being wiped.
    Ended = "ended" => "what the job held is being destroyed",
    /// Exit code 0.
    Completed = "completed" => "the program ended with exit code 0",
    /// Another exit code.
    ExitNonzero = "exit-nonzero" => "the program ended with an exit code other than 0",
    /// Trapped.
    Trap = "trap" => "the program trapped; its logs may say why",
    /// Memory limit.
    LimitMemory = "limit-memory" => "the program asked for more memory than its limit",
    /// Time limit.
    LimitTime = "limit-time" => "the program ran longer than its limit",
    /// Output limit.
    LimitOutput = "limit-output" => "the program wrote more output than its limit",
    /// Compile limit.
    LimitCompile = "limit-compile" => "compiling took more time or memory than its limit",
    /// Scratch limit.
    LimitScratch = "limit-scratch" => "input and output files do not fit the scratch limit",
    /// Not a wasm command.
    ProgramInvalid = "program-invalid" => "not a WebAssembly command module, or it imports what does not exist",
    /// The payload does not open.
    PayloadInvalid = "payload-invalid" => "the sealed payload does not open, or contradicts the spec",
    /// The engine vanished.
    EngineLost = "engine-lost" => "the engine ended without a result",
    /// The offer key is gone.
    Resubmit = "resubmit" => "the node lost the offer key; submit again",
    /// Waited too long.
    QueueExpired = "queue-expired" => "it waited longer than its offer key lives; submit again",
    /// A wipe check failed.
    WipeIncomplete = "wipe-incomplete" => "a check of the wipe did not pass",
    /// Cancelled by its owner.
    ByConsumer = "by-consumer" => "cancelled by the consumer",
    /// Cancelled by the node's owner.
    ByOperator = "by-operator" => "the node is stopping",
    /// Too little protection.
    Protection = "protection" => "the node cannot give the protection the spec asks for",
    /// Limits too large.
    Limits = "limits" => "the spec asks for more than the node allows",
    /// Forbidden.
    Policy = "policy" => "the node's policy does not allow this job",
}

impl Reason {
    /// The state in which an attempt ends for this reason; `None` where the reason ends nothing.
    /// Exhaustive: a new reason must be decided here.
    pub const fn end(self) -> Option<JobState> {
        match self {
            Self::Completed => Some(JobState::Done),
            Self::ExitNonzero
            | Self::Trap
            | Self::LimitMemory
            | Self::LimitTime
            | Self::LimitOutput
            | Self::LimitCompile
            | Self::LimitScratch
            | Self::ProgramInvalid
            | Self::PayloadInvalid
            | Self::EngineLost
            | Self::Resubmit
            | Self::QueueExpired => Some(JobState::Failed),
            Self::ByConsumer | Self::ByOperator => Some(JobState::Cancelled),
            Self::Protection | Self::Limits | Self::Policy => Some(JobState::Refused),
            Self::Accepted
            | Self::NotRequired
            | Self::SlotFree
            | Self::Compiling
            | Self::Started
            | Self::ProgramEnded
            | Self::Ended
            | Self::WipeIncomplete => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
