//! Opening the input: arguments and environment, standard input, files.

use crate::descriptors::{Pump, pump};
use crate::error::{EngineError, Stop, doing};
use decores_keys::payload::{SectionKey, StreamOpener, expect_end};
use decores_types::bundle::{InputManifest, Item, Manifest, PRELUDE, RelPath, manifest_len};
use decores_types::digest::Hasher;
use decores_types::{CommitmentKey, Digest, JobSpec, Reason};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The guest's folders, below the scratch.
pub const IN: &str = "in";
/// Where it writes files.
pub const OUT: &str = "out";

/// Where the input goes.
pub struct Place<'a> {
    /// Standard input; a file in memory.
    pub stdin: &'a mut File,
    /// The scratch, where there is one.
    pub scratch: Option<&'a Path>,
}

/// Opens the whole input, compares every digest, and checks the commitment.
///
/// # Errors
/// If it is not what the spec commits to, or does not fit.
pub fn open(
    key: &SectionKey,
    length: Option<u64>,
    payload: &mut File,
    spec: &JobSpec,
    commitment: &CommitmentKey,
    place: &mut Place<'_>,
) -> Result<InputManifest, Stop> {
    let invalid = |_: decores_keys::payload::StreamError| refused("the sealed input is too long");
    let mut opener = StreamOpener::new(key, length, &mut *payload).map_err(invalid)?;
    let manifest = read_manifest(&mut opener)?;
    let digest = manifest.digest().map_err(|_| refused("the input's manifest is not one"))?;
    if commitment.commit("input", &digest) != spec.input {
        return Err(refused("the input is not the one that the spec commits to"));
    }
    check_size(&manifest, spec, place.scratch.is_some())?;
    write_content(&mut opener, &manifest.stdin, place.stdin)?;
    place.stdin.seek(SeekFrom::Start(0)).map_err(doing("rewinding the input"))?;
    if let Some(scratch) = place.scratch {
        for folder in [IN, OUT] {
            fs::create_dir_all(scratch.join(folder)).map_err(doing("making the guest's folders"))?;
        }
        for file in &manifest.files {
            let mut target = create(&scratch.join(IN), &file.path)?;
            let item = Item { sha256: file.sha256, size: file.size };
            write_content(&mut opener, &item, &mut target)?;
        }
    }
    // Reads the last chunk of a section that ends with it.
    let over = opener.read(&mut [0]).is_ok_and(|n| n == 0) && opener.finish().is_ok();
    if !over || expect_end(payload).is_err() {
        return Err(refused("the sealed input does not end where it should"));
    }
    Ok(manifest)
}

fn read_manifest(opener: &mut impl Read) -> Result<InputManifest, Stop> {
    let not_one = |_| refused("the input does not open");
    let mut prelude = [0; PRELUDE];
    opener.read_exact(&mut prelude).map_err(not_one)?;
    let length = manifest_len(&prelude).map_err(|_| refused("the input is not a bundle"))?;
    let mut bytes = vec![0; length];
    opener.read_exact(&mut bytes).map_err(not_one)?;
    InputManifest::parse(&bytes).map_err(|e| refused(&format!("the input's manifest is not one: {e}")))
}

fn check_size(manifest: &InputManifest, spec: &JobSpec, scratch: bool) -> Result<(), Stop> {
    let total = manifest.sizes().iter().fold(0_u64, |sum, n| sum.saturating_add(*n));
    if total > spec.limits.scratch_bytes {
        return Err(Stop::job(Reason::LimitScratch, "the input is larger than the scratch limit"));
    }
    if !manifest.files.is_empty() && !scratch {
        return Err(Stop::job(Reason::LimitScratch, "this node has no scratch for files"));
    }
    Ok(())
}

/// Copies one content and compares its digest.
fn write_content(opener: &mut impl Read, item: &Item, target: &mut File) -> Result<(), Stop> {
    let mut hashing = Hashing { target, hasher: Hasher::new() };
    pump(opener, &mut hashing, item.size).map_err(|e| match e {
        Pump::Read(_) => refused("the input does not open"),
        Pump::Write(e) => full(e),
    })?;
    if hashing.hasher.finish() == item.sha256.0 {
        Ok(())
    } else {
        Err(refused("a content of the input has another digest"))
    }
}

/// Makes a file and the folders above it; the path was parsed, so it cannot leave `base`.
fn create(base: &Path, path: &RelPath) -> Result<File, Stop> {
    let target: PathBuf = base.join(path.as_str());
    if let Some(above) = target.parent() {
        fs::create_dir_all(above).map_err(full)?;
    }
    File::options().write(true).create_new(true).open(target).map_err(full)
}

fn refused(note: &str) -> Stop {
    Stop::job(Reason::PayloadInvalid, note)
}

/// A scratch without room is the job's fault, all else is ours.
fn full(e: io::Error) -> Stop {
    match e.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG | libc::ENOMEM) => {
            Stop::job(Reason::LimitScratch, "the input does not fit the scratch")
        }
        _ => EngineError::Io("writing the input", e).into(),
    }
}

/// Writes and hashes.
pub(crate) struct Hashing<'a, W> {
    target: &'a mut W,
    hasher: Hasher,
}

impl<W: Write> Write for Hashing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.target.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

/// The digest of the next `length` bytes.
pub(crate) fn digest_of(source: &mut impl Read, length: u64) -> Result<Digest, Pump> {
    let mut hashing = Hashing { target: &mut io::sink(), hasher: Hasher::new() };
    pump(source, &mut hashing, length)?;
    Ok(hashing.hasher.finish())
}
