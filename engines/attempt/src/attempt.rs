//! What stands around an engine's own work: the head before it, logs and report after it.

use crate::error::{EngineError, Stop, doing};
use crate::events::Events;
use crate::output::{self, seal_logs};
use decores_keys::payload::{Head, JobBinding, JobKeys, ResultBinding, SectionKey, SectionKind};
use decores_keys::{Recipient, XWingKey};
use decores_sandbox::protocol::{EngineEvent, EngineJob, Finished};
use decores_secrets::Secret;
use decores_types::{CommitmentKey, Digest, Reason};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of an offer key's seed.
const SEED: usize = 32;

/// Reads the job; it must name the scratch that the launcher made.
///
/// # Errors
/// If it is none.
pub fn read_job(source: &mut File, scratch: Option<&Path>) -> Result<EngineJob, EngineError> {
    let job = EngineJob::read(source).map_err(|_| EngineError::Protocol("not a job of this version"))?;
    if job.scratch.as_deref().map(Path::new) != scratch {
        return Err(EngineError::Protocol("the scratch is not the one the launcher made"));
    }
    Ok(job)
}

/// Reads the offer key's seed, which follows the job.
///
/// # Errors
/// If it ends early.
pub fn read_seed(mut source: impl Read) -> Result<Secret, EngineError> {
    let mut seed = Secret::zeroed(SEED)?;
    source.read_exact(seed.expose_mut()).map_err(doing("reading the offer key"))?;
    Ok(seed)
}

/// Reads the key of a compiled program that is kept, which follows the seed.
///
/// # Errors
/// If it ends early.
pub fn read_module_key(mut source: impl Read) -> Result<SectionKey, EngineError> {
    let mut key = Secret::zeroed(SEED)?;
    source.read_exact(key.expose_mut()).map_err(doing("reading the key of a kept program"))?;
    Ok(SectionKey::new(SectionKind::Module, key))
}

/// What the head of the payload held.
pub struct Opened {
    /// Opens the program.
    pub program: SectionKey,
    /// Bytes of the program.
    pub program_length: u64,
    /// Opens the input.
    pub input: SectionKey,
    /// Bytes of the input, where they are known.
    pub input_length: Option<u64>,
    /// What commitments are made with.
    pub commitment: CommitmentKey,
    /// Whom results are sealed to.
    pub recipient: Recipient,
}

/// One attempt at a job.
pub struct Attempt {
    /// The job.
    pub job: EngineJob,
    /// The sealed payload.
    pub payload: File,
    /// What the node is told at the end.
    pub finished: Finished,
    /// What results are bound to.
    pub binding: Digest,
    events: Events,
    spec: Digest,
    emptied: Option<PathBuf>,
}

impl Attempt {
    /// At this job; `emptied` is the folder whose content is removed at the end.
    ///
    /// # Errors
    /// If the spec has no digest.
    pub fn new(job: EngineJob, payload: File, events: Events, emptied: Option<&Path>) -> Result<Self, EngineError> {
        let spec = job.spec.digest().map_err(|_| EngineError::Protocol("the spec has no digest"))?;
        let binding = ResultBinding { attempt: job.attempt, consumer: job.consumer, job: job.job, spec };
        let binding = binding.digest().map_err(|_| EngineError::Protocol("the binding has no digest"))?;
        Ok(Self { job, payload, finished: unfinished(), binding, events, spec, emptied: emptied.map(Path::to_owned) })
    }

    /// Opens the head, has `work` done, and seals the logs. `work` gives the program's exit code or why there is
    /// none, and what goes in the logs.
    ///
    /// # Errors
    /// What is no fault of the job's.
    pub fn run(
        mut self,
        seed: Secret,
        logs: File,
        work: impl FnOnce(&mut Self, Opened) -> (Result<i32, Stop>, Vec<u8>),
    ) -> Result<(), EngineError> {
        let opened = match self.open_head(seed) {
            Ok(opened) => opened,
            // Without the commitment key there is nothing that logs could be tied to.
            Err(Stop::Job { reason, .. }) => return self.finish(reason),
            Err(Stop::Engine(e)) => return Err(e),
        };
        let (commitment, recipient) = (opened.commitment.clone(), opened.recipient.clone());
        let (end, log) = work(&mut self, opened);
        let (reason, note) = match end {
            Ok(0) => (Reason::Completed, None),
            Ok(_) => (Reason::ExitNonzero, None),
            Err(Stop::Job { reason, note }) => (reason, Some(note)),
            Err(Stop::Engine(e)) => return Err(e),
        };
        let text = with_note(log, note, self.job.spec.limits.log_bytes);
        let digest = seal_logs(&text, &recipient, &self.binding, logs)?;
        self.finished.logs = Some(commitment.commit("logs", &digest));
        self.finish(reason)
    }

    /// Tells the node.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn say(&mut self, event: &EngineEvent) -> Result<(), EngineError> {
        self.events.send(event)
    }

    /// Compares the program with what the spec commits to.
    ///
    /// # Errors
    /// If it is another.
    pub fn check_program(&mut self, digest: &Digest, commitment: &CommitmentKey) -> Result<(), Stop> {
        let program = commitment.commit("program", digest);
        self.finished.program = Some(program);
        if program == self.job.spec.program {
            Ok(())
        } else {
            Err(Stop::job(Reason::PayloadInvalid, "the program is not the one that the spec commits to"))
        }
    }

    /// Removes what the guest had and says how it ended.
    fn finish(&mut self, reason: Reason) -> Result<(), EngineError> {
        if let Some(folder) = &self.emptied {
            output::empty(folder).map_err(doing("emptying the scratch"))?;
        }
        self.finished.reason = reason;
        self.events.send(&EngineEvent::Finished(Box::new(self.finished.clone())))
    }

    /// Opens the data keys and destroys the seed.
    fn open_head(&mut self, seed: Secret) -> Result<Opened, Stop> {
        let invalid = |note: &str| Stop::job(Reason::PayloadInvalid, note);
        let (job, spec) = (&self.job, &self.job.spec);
        let binding =
            JobBinding { consumer: job.consumer, offer: job.offer, output_key: spec.output_key.id, spec: self.spec };
        let binding = binding.digest().map_err(|_| invalid("the spec has no digest"))?;
        let key = XWingKey::from_seed(seed, job.offer_epoch)
            .map_err(|_| EngineError::Protocol("the offer key is not one"))?;
        if key.recipient().id() != job.offer_key {
            return Err(EngineError::Protocol("the offer key has another id").into());
        }
        let recipient =
            Recipient::of_output_key(&spec.output_key).ok_or_else(|| invalid("the output key is not one"))?;
        let head = Head::read(&mut self.payload).map_err(|_| invalid("the payload has no head"));
        let keys = head.and_then(|head| {
            let keys = head.open_job(&key, &binding).map_err(|_| invalid("the payload does not open"))?;
            Ok((head, keys))
        });
        key.destroy();
        let (head, keys) = keys?;
        let commitment = keys.commitment_key().ok_or_else(|| invalid("the payload has no commitment key"))?;
        if commitment.check() != spec.key_check {
            return Err(invalid("the commitment key is not the spec's"));
        }
        let lengths: Vec<Option<u64>> = head.header().sections.iter().map(|s| s.length).collect();
        let [Some(program_length), input_length] = *lengths.as_slice() else {
            return Err(invalid("the payload has other sections"));
        };
        let JobKeys { program, input, commitment: sealed } = keys;
        sealed.destroy();
        Ok(Opened { program, program_length, input, input_length, commitment, recipient })
    }
}

/// Overwritten as the attempt goes on.
const fn unfinished() -> Finished {
    Finished {
        reason: Reason::PayloadInvalid,
        exit: None,
        program: None,
        input: None,
        image: None,
        output: None,
        logs: None,
        wall_ms: 0,
        compile_ms: 0,
        memory_bytes: 0,
        module: None,
    }
}

/// The logs with the engine's own last line, which the guest's make room for.
fn with_note(mut logs: Vec<u8>, note: Option<String>, most: u64) -> Vec<u8> {
    let Some(note) = note else { return logs };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut line = format!("engine: {note}\n").into_bytes();
    line.truncate(most);
    logs.truncate(most - line.len());
    if logs.last().is_some_and(|b| *b != b'\n') && logs.len() + line.len() < most {
        logs.push(b'\n');
    }
    logs.extend_from_slice(&line);
    logs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_line_comes_last_and_within_the_limit() {
        let note = || Some("why".to_owned());
        assert_eq!(with_note(b"a".to_vec(), note(), 100), b"a\nengine: why\n");
        assert_eq!(with_note(b"abcdef".to_vec(), note(), 14), b"abengine: why\n");
        assert_eq!(with_note(b"abc".to_vec(), note(), 4), b"engi");
        assert_eq!(with_note(b"abc".to_vec(), note(), 0), b"");
        assert_eq!(with_note(b"abc".to_vec(), None, 0), b"abc");
    }
}
