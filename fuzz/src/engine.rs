//! What the node and an engine read of each other.

use decores_sandbox::protocol::{EngineEvent, EngineJob, MAX_EVENT, MAX_JOB};
use decores_types::canonical;
use std::io::Read as _;

/// Bytes of the seed that follows a job.
const SEED: usize = 32;

/// As the engine reads it: length, job, seed.
pub(crate) fn engine_job(data: &[u8]) {
    let mut source = data;
    let Ok(job) = EngineJob::read(&mut source) else { return };
    let bytes = job.to_bytes().unwrap();
    assert!(bytes.len() <= MAX_JOB + 4 && (job.version, job.spec.version) == (1, 1));
    assert_eq!(data.strip_prefix(bytes.as_slice()), Some(source), "one form, and not a byte too many is read");
    let mut seed = [0; SEED];
    assert_eq!(source.read_exact(&mut seed).is_ok(), data.len() >= bytes.len() + SEED);
}

/// As the node reads it: a line at a time.
pub(crate) fn engine_events(data: &[u8]) {
    for line in data.split_inclusive(|b| *b == b'\n').take(16) {
        let line = &line[..line.len().min(MAX_EVENT)];
        let Ok(event) = EngineEvent::parse(line) else { return };
        let written = serde_json::to_vec(&event).unwrap();
        assert!(!written.contains(&b'\n'));
        assert_eq!(EngineEvent::parse(&written).unwrap(), event);
        assert!(canonical::to_vec(&event).is_ok());
    }
}
