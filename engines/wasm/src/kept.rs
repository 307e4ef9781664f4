//! A compiled program that is kept for its consumer's next jobs.
//!
//! It is sealed before the guest runs, and what opens it is gone before the guest runs: code that broke out of its
//! sandbox reaches no kept program. Its plaintext begins with a digest of everything that it is good for (program,
//! consumer, name, engine and configuration); code is loaded only where this engine comes to the same digest, having
//! opened and hashed the program itself.

use crate::compile::MAX_CODE;
use crate::limits;
use decores_attempt::{Attempt, EngineError};
use decores_keys::payload::{SectionKey, StreamOpener, StreamSealer};
use decores_sandbox::protocol::{ModuleEnd, ModuleJob};
use decores_types::{Digest, canonical};
use serde_json::json;
use std::fs::File;
use std::io::{self, Read, Write};
use wasmtime::Engine;

const DIGEST: usize = 32;

/// Where one program's code is, or is to be, kept.
pub(crate) struct Kept {
    file: File,
    key: SectionKey,
    what: ModuleJob,
}

impl Kept {
    /// The job's, where it has one.
    pub(crate) fn new(
        attempt: &Attempt,
        file: Option<File>,
        key: Option<SectionKey>,
    ) -> Result<Option<Self>, EngineError> {
        match (attempt.job.module, file, key) {
            (Some(what), Some(file), Some(key)) => Ok(Some(Self { file, key, what })),
            (None, None, None) => Ok(None),
            _ => Err(EngineError::Protocol("the kept program is not the one the launcher gave")),
        }
    }

    /// Whether there is code to load.
    pub(crate) const fn is_there(&self) -> bool {
        matches!(self.what, ModuleJob::Load)
    }

    /// The code, if it was made from this program by an engine like this one for this consumer.
    pub(crate) fn load(
        self,
        engine: &Engine,
        attempt: &Attempt,
        program: &Digest,
    ) -> Result<Result<Vec<u8>, ModuleEnd>, EngineError> {
        let wanted = binding(engine, attempt, program)?;
        let opened = open(&self.key, self.file);
        self.key.destroy();
        Ok(match opened {
            Ok(mut plain) if plain.starts_with(wanted.as_bytes()) => {
                plain.drain(..DIGEST);
                Ok(plain)
            }
            Ok(_) => Err(ModuleEnd::Foreign),
            Err(_) => Err(ModuleEnd::Damaged),
        })
    }

    /// Seals the code; nothing where there is no room for it, which is no fault of the job's.
    pub(crate) fn store(
        self,
        engine: &Engine,
        attempt: &Attempt,
        program: &Digest,
        code: &[u8],
    ) -> Result<Option<ModuleEnd>, EngineError> {
        let binding = binding(engine, attempt, program)?;
        let fits = matches!(self.what, ModuleJob::Store { most } if code.len() as u64 <= most);
        let stored = fits && seal(&self.key, self.file, &binding, code).is_ok();
        self.key.destroy();
        Ok(stored.then_some(ModuleEnd::Stored))
    }
}

/// The digest of what kept code is good for.
fn binding(engine: &Engine, attempt: &Attempt, program: &Digest) -> Result<Digest, EngineError> {
    let binding = json!({
        "config": limits::fingerprint(engine),
        "consumer": attempt.job.consumer,
        "engine": concat!("decores-engine-wasm ", env!("CARGO_PKG_VERSION")),
        "id": attempt.job.spec.cache_id,
        "program": program,
    });
    let bytes = canonical::to_vec(&binding).map_err(|_| EngineError::Protocol("a kept program has no binding"))?;
    Ok(Digest::of(&bytes))
}

fn open(key: &SectionKey, file: File) -> io::Result<Vec<u8>> {
    let mut opener = StreamOpener::new(key, None, file)?;
    let mut plain = Vec::new();
    (&mut opener).take(MAX_CODE + DIGEST as u64).read_to_end(&mut plain)?;
    opener.finish()?;
    Ok(plain)
}

fn seal(key: &SectionKey, mut file: File, binding: &Digest, code: &[u8]) -> io::Result<()> {
    let mut sealer = StreamSealer::new(key, None, &mut file)?;
    sealer.write_all(binding.as_bytes())?;
    sealer.write_all(code)?;
    sealer.finish().map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use decores_attempt::memory_file;
    use decores_keys::payload::SectionKind;
    use decores_secrets::Secret;
    use std::io::{Seek as _, SeekFrom};

    fn key(byte: u8) -> SectionKey {
        SectionKey::new(SectionKind::Module, Secret::from_slice(&[byte; 32]).unwrap())
    }

    fn sealed(binding: &Digest) -> File {
        // In memory: unnamed files on disk are counted by other tests of this process.
        let mut file = memory_file(c"kept").unwrap();
        seal(&key(1), file.try_clone().unwrap(), binding, &[7; 100_000]).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file
    }

    #[test]
    fn what_was_sealed_comes_back_after_its_binding() {
        let binding = Digest::of(b"binding");
        let plain = open(&key(1), sealed(&binding)).unwrap();
        assert!(plain.starts_with(binding.as_bytes()));
        assert_eq!(plain.len(), 100_032);
    }

    #[test]
    fn altered_cut_or_under_another_key_it_does_not_open() {
        let binding = Digest::of(b"binding");
        assert!(open(&key(2), sealed(&binding)).is_err());
        let mut file = sealed(&binding);
        file.seek(SeekFrom::Start(70_000)).unwrap();
        file.write_all(&[0]).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        assert!(open(&key(1), file).is_err());
        let file = sealed(&binding);
        file.set_len(65_552).unwrap();
        assert!(open(&key(1), file).is_err());
    }
}
