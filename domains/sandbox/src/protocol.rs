//! What the node and an engine say to each other.
//!
//! An engine is started with these descriptors and nothing else:
//!
//! | fd | |
//! |---|---|
//! | 3 | job, read: length (4 bytes, big-endian), canonical JSON [`EngineJob`], then the 32-byte seed of the offer key, then that of a kept program where there is one |
//! | 4 | events, written: one JSON [`EngineEvent`] a line, at most [`MAX_EVENT`] bytes each |
//! | 5 | the sealed payload, read |
//! | 6 | the sealed output, written |
//! | 7 | the sealed logs, written |
//!
//! | 9 | where a compiled program is kept: the sealed one, read, or the place for it, written; see [`ModuleJob`] |
//!
//! Its one argument is the scratch folder, where it has one. Standard input and output lie in memory files.
//!
//! The last event is [`EngineEvent::Finished`]; an engine that ends without it is lost.

use crate::container::RunReport;
use crate::host::Namespace;
use decores_types::canonical::{self, CanonicalError};
use decores_types::{Attempt, Commitment, ConsumerId, Digest, JobId, JobSpec, KeyId, Reason, Scratch, Swap};
use serde::{Deserialize, Serialize};
use std::io::{self, Read};

/// Descriptor the job is read from.
pub const FD_JOB: i32 = 3;
/// Descriptor events are written to.
pub const FD_EVENTS: i32 = 4;
/// Descriptor of the sealed payload.
pub const FD_PAYLOAD: i32 = 5;
/// Descriptor of the sealed output.
pub const FD_OUTPUT: i32 = 6;
/// Descriptor of the sealed logs.
pub const FD_LOGS: i32 = 7;
/// Descriptor of a compiled program that is kept.
pub const FD_MODULE: i32 = 9;
/// Largest [`EngineJob`], in bytes.
pub const MAX_JOB: usize = 64 * 1024;
/// Largest event line, in bytes.
pub const MAX_EVENT: usize = 4096;

/// One attempt, as an engine is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EngineJob {
    /// Protocol version: 1.
    pub version: u32,
    /// The job.
    pub job: JobId,
    /// Its attempt.
    pub attempt: Attempt,
    /// Whose it is.
    pub consumer: ConsumerId,
    /// Digest of the offer's DSSE payload: part of what the payload is bound to.
    pub offer: Digest,
    /// Id of the offer key whose seed follows.
    pub offer_key: KeyId,
    /// Epoch of the offer key.
    pub offer_epoch: u32,
    /// The spec, limits included.
    pub spec: JobSpec,
    /// The scratch folder inside the jail; absent where there is none, and then jobs with files are refused.
    pub scratch: Option<String>,
    /// Address space of the compile process, in bytes.
    pub compile_address_space: u64,
    /// A compiled program that is kept, or to be kept; its key follows the seed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub module: Option<ModuleJob>,
}

/// What an engine does with [`FD_MODULE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleJob {
    /// Loads the compiled program from it, where it is this program's.
    Load,
    /// Seals the compiled program to it.
    Store {
        /// Bytes of code at most; more is not kept.
        most: u64,
    },
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleEnd {
    /// It was loaded; nothing was compiled.
    Loaded,
    /// The compiled program was sealed.
    Stored,
    /// It is of another program, or of another engine.
    Foreign,
    /// It does not open: it was altered, or cut short.
    Damaged,
}

/// Why a job was not read.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// It ends early, or cannot be read.
    #[error("failed to read the job")]
    Read(#[source] io::Error),
    /// Not a job in its one encoding.
    #[error("not a job")]
    Document(#[source] CanonicalError),
    /// Of a version that is not known here.
    #[error("a job of another version than 1")]
    Version,
}

impl EngineJob {
    /// What is written before the seed: length and document.
    ///
    /// # Errors
    /// If it does not serialise, or is larger than what is read.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CanonicalError> {
        let document = canonical::to_vec(self)?;
        if document.len() > MAX_JOB {
            return Err(CanonicalError::TooLarge { actual: document.len(), max: MAX_JOB });
        }
        Ok([(document.len() as u32).to_be_bytes().as_slice(), &document].concat())
    }

    /// Reads exactly the length and the document; the seed follows.
    ///
    /// # Errors
    /// If it is anything but a job of this version in its one encoding.
    pub fn read(source: &mut impl Read) -> Result<Self, JobError> {
        let mut length = [0; 4];
        source.read_exact(&mut length).map_err(JobError::Read)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_JOB {
            return Err(JobError::Document(CanonicalError::TooLarge { actual: length, max: MAX_JOB }));
        }
        let mut document = vec![0; length];
        source.read_exact(&mut document).map_err(JobError::Read)?;
        let job: Self = canonical::from_slice(&document, MAX_JOB).map_err(JobError::Document)?;
        if job.version == 1 && job.spec.version == 1 { Ok(job) } else { Err(JobError::Version) }
    }
}

/// What an engine reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "event")]
pub enum EngineEvent {
    /// The jail is closed; nothing of the guest's has been read yet.
    Locked(Locked),
    /// The program is being compiled.
    Compiling,
    /// The program runs.
    Started {
        /// Milliseconds compiling took.
        #[serde(rename = "compileMs")]
        compile_ms: u64,
    },
    /// The program ended; output is being sealed.
    Sealing,
    /// The end.
    Finished(Box<Finished>),
}

impl EngineEvent {
    /// Reads one line, with or without its end.
    ///
    /// # Errors
    /// If it is no event, or longer than [`MAX_EVENT`].
    pub fn parse(line: &[u8]) -> Result<Self, CanonicalError> {
        canonical::from_json(line.trim_ascii_end(), MAX_EVENT)
    }
}

/// What holds the engine, as it read back from the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Locked {
    /// Name and version of the engine.
    pub engine: String,
    /// Whether the seccomp filter is in force.
    pub seccomp: bool,
    /// The Landlock ABI in force; 0 where there is none.
    pub landlock_abi: u32,
    /// Where the engine's secrets lie: `memfd_secret` or `mlock`.
    pub secrets: String,
}

/// How an attempt ended, from the engine's side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Finished {
    /// Why: `completed`, `exit-nonzero`, `trap`, a limit, or what was invalid.
    pub reason: Reason,
    /// The program's exit code, where it ended by itself.
    pub exit: Option<i32>,
    /// Commitment to the program that was opened.
    pub program: Option<Commitment>,
    /// Commitment to the input that was opened.
    pub input: Option<Commitment>,
    /// Commitment to the digest that names the program's image, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Commitment>,
    /// Commitment to the output that was sealed.
    pub output: Option<Commitment>,
    /// Commitment to the logs that were sealed.
    pub logs: Option<Commitment>,
    /// Milliseconds the program ran.
    pub wall_ms: u64,
    /// Milliseconds of compiling.
    pub compile_ms: u64,
    /// Peak of the program's linear memory, in bytes.
    pub memory_bytes: u64,
    /// What became of a compiled program that is kept, or to be kept.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub module: Option<ModuleEnd>,
}

/// What the launcher gave an engine, as it read back from the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Given {
    /// Namespaces of its own, sorted.
    pub namespaces: Vec<Namespace>,
    /// Whether it has a user of its own.
    pub own_user: bool,
    /// Controllers whose limits hold, sorted.
    pub cgroup: Vec<String>,
    /// What the scratch is.
    pub scratch: Scratch,
    /// Whether its pages could reach a swap device when it started.
    pub swap: Swap,
}

/// How an engine's processes, and its container's, ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// Exit code, if it ended by itself.
    pub code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// Whether the deadline ended it.
    pub deadline: bool,
    /// Whether the kernel's out-of-memory killer struck in its cgroup, or the container's.
    pub out_of_memory: bool,
    /// User and system CPU time, in milliseconds.
    pub cpu_ms: u64,
    /// Peak memory of the whole engine and its container, in bytes.
    pub memory_bytes: u64,
    /// What held its container, as the helper read back; absent where none was started.
    #[serde(default)]
    pub container: Option<RunReport>,
    /// Why the helper could not run its container, for the operator; absent where it could, or says nothing.
    #[serde(default)]
    pub no_container: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const LOCKED: &str = r#"{"event":"locked","engine":"wasm 1","seccomp":true,"landlockAbi":7,"secrets":"mlock"}"#;

    fn event(line: &str) -> Option<EngineEvent> {
        EngineEvent::parse(line.as_bytes()).ok()
    }

    #[test]
    fn every_event_fits_one_line_and_comes_back() {
        let commitment = Commitment::parse(&"f".repeat(64)).ok();
        let finished = Finished {
            reason: Reason::EngineLost,
            exit: Some(i32::MIN),
            program: commitment,
            input: commitment,
            image: commitment,
            output: commitment,
            logs: commitment,
            wall_ms: (1 << 53) - 1,
            compile_ms: (1 << 53) - 1,
            memory_bytes: (1 << 53) - 1,
            module: Some(ModuleEnd::Foreign),
        };
        for said in [
            event(LOCKED).unwrap(),
            EngineEvent::Compiling,
            EngineEvent::Started { compile_ms: 1 },
            EngineEvent::Sealing,
            EngineEvent::Finished(Box::new(finished)),
        ] {
            let line = canonical::to_vec(&said).unwrap();
            assert!(line.len() < MAX_EVENT && !line.contains(&b'\n'), "{said:?}");
            assert_eq!(event(std::str::from_utf8(&line).unwrap()), Some(said));
        }
    }

    #[test]
    fn an_event_beyond_the_limit_is_refused() {
        let with_engine = |length: usize| LOCKED.replace("wasm 1", &"x".repeat(length));
        assert!(event(&with_engine(MAX_EVENT - LOCKED.len())).is_some());
        assert_eq!(event(&with_engine(MAX_EVENT)), None);
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for line in [
            "",
            "locked",
            r#"{"event":"unlocked"}"#,
            r#"{"event":"Compiling"}"#,
            r#"{"compileMs":1}"#,
            r#"{"event":"started"}"#,
            r#"{"event":"started","compileMs":-1}"#,
            r#"{"event":"started","compileMs":1,"also":2}"#,
            r#"{"event":"finished","reason":"because"}"#,
        ] {
            assert_eq!(event(line), None, "{line}");
        }
    }

    #[test]
    fn a_lock_told_twice_in_one_line_is_refused() {
        assert!(event(LOCKED).is_some());
        assert_eq!(event(&format!("{LOCKED}{LOCKED}")), None);
        assert_eq!(event(&LOCKED.replace(r#""seccomp":true"#, r#""seccomp":false,"seccomp":true"#)), None);
        assert_eq!(event(&LOCKED.replace(r#"{"#, r#"{"event":"compiling","#)), None);
        assert_eq!(event(&LOCKED.replace(r#","seccomp":true"#, "")), None, "what holds it must be said");
    }
}
