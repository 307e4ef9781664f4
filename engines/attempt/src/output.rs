//! Sealing what came out.

use crate::descriptors::{KernelRandom, Pump, pump};
use crate::error::{EngineError, Stop, doing};
use crate::input::{OUT, digest_of};
use decores_keys::Recipient;
use decores_keys::payload::{SectionKind, StreamSealer, seal_single};
use decores_types::bundle::{self, HexDigest, Item, MAX_FILES, Manifest, OutputManifest, RelPath};
use decores_types::{Digest, Limits, Reason};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The output, measured and ready to be sealed.
#[derive(Debug)]
pub struct Output {
    manifest: OutputManifest,
    stdout: File,
    folder: Option<PathBuf>,
}

impl Output {
    /// Measures standard output and the files the guest left.
    ///
    /// # Errors
    /// If they are more than the limits.
    pub fn measure(
        exit: i32,
        mut stdout: File,
        stdout_bytes: u64,
        scratch: Option<&Path>,
        limits: &Limits,
    ) -> Result<Self, Stop> {
        let folder = scratch.map(|s| s.join(OUT));
        let mut files = Vec::new();
        if let Some(folder) = &folder {
            list(folder, "", &mut files)?;
        }
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let total = files.iter().fold(stdout_bytes, |sum, f| sum.saturating_add(f.size));
        if total > limits.output_bytes {
            return Err(Stop::job(Reason::LimitOutput, "output and files together are larger than the output limit"));
        }
        for file in &mut files {
            if let Some(folder) = &folder {
                let mut content = open_plain(&folder.join(file.path.as_str())).map_err(doing("reading the output"))?;
                file.sha256 = HexDigest(digest_of(&mut content, file.size).map_err(ours)?);
            }
        }
        stdout.seek(SeekFrom::Start(0)).map_err(doing("reading the output"))?;
        let sha256 = HexDigest(digest_of(&mut stdout, stdout_bytes).map_err(ours)?);
        stdout.seek(SeekFrom::Start(0)).map_err(doing("reading the output"))?;
        let manifest = OutputManifest { exit, files, stdout: Item { sha256, size: stdout_bytes } };
        manifest.check().map_err(|e| Stop::job(Reason::LimitOutput, e.to_string()))?;
        Ok(Self { manifest, stdout, folder })
    }

    /// Seals it; the digest that the commitment is made to.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn seal(mut self, recipient: &Recipient, binding: &Digest, target: File) -> Result<Digest, Stop> {
        let too_large = |e: bundle::BundleError| Stop::job(Reason::LimitOutput, e.to_string());
        let prelude = self.manifest.prelude().map_err(too_large)?;
        let digest = self.manifest.digest().map_err(too_large)?;
        let sizes = self.manifest.sizes().iter().fold(prelude.len() as u64, |sum, n| sum.saturating_add(*n));
        seal(SectionKind::Output, recipient, sizes, binding, target, |sealer| {
            sealer.write_all(&prelude).map_err(Pump::Write)?;
            pump(&mut self.stdout, sealer, self.manifest.stdout.size)?;
            for file in &self.manifest.files {
                if let Some(folder) = &self.folder {
                    let mut content = open_plain(&folder.join(file.path.as_str())).map_err(Pump::Read)?;
                    pump(&mut content, sealer, file.size)?;
                }
            }
            Ok(())
        })?;
        Ok(digest)
    }
}

/// Seals the logs; the digest that the commitment is made to.
pub(crate) fn seal_logs(
    logs: &[u8],
    recipient: &Recipient,
    binding: &Digest,
    target: File,
) -> Result<Digest, EngineError> {
    seal(SectionKind::Logs, recipient, logs.len() as u64, binding, target, |sealer| {
        sealer.write_all(logs).map_err(Pump::Write)
    })?;
    Ok(Digest::of(logs))
}

fn seal(
    section: SectionKind,
    recipient: &Recipient,
    length: u64,
    binding: &Digest,
    mut target: File,
    write: impl FnOnce(&mut StreamSealer<&mut File>) -> Result<(), Pump>,
) -> Result<(), EngineError> {
    let failed = doing("writing what was sealed");
    let sealed = seal_single(section, recipient, Some(length), binding, &KernelRandom)
        .map_err(|_| EngineError::Protocol("the output key takes nothing"))?;
    target.write_all(&sealed.head).map_err(&failed)?;
    let mut sealer = StreamSealer::new(&sealed.key, Some(length), &mut target).map_err(|e| failed(e.into()))?;
    write(&mut sealer).map_err(ours)?;
    sealer.finish().map_err(&failed)?;
    sealed.key.destroy();
    target.flush().map_err(failed)
}

fn ours(e: Pump) -> EngineError {
    match e {
        Pump::Read(e) => EngineError::Io("reading the output", e),
        Pump::Write(e) => EngineError::Io("writing what was sealed", e),
    }
}

/// Plain files below a folder, with their sizes; links and special files are left out.
fn list(folder: &Path, below: &str, files: &mut Vec<bundle::File>) -> Result<(), Stop> {
    let failed = doing("listing the output");
    for entry in fs::read_dir(folder).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        let kind = entry.file_type().map_err(&failed)?;
        if !kind.is_dir() && !kind.is_file() {
            continue;
        }
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| Stop::job(Reason::LimitOutput, "a file's name is not UTF-8"))?;
        let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        // Depth and length of a path are limited, so this ends.
        let parsed = RelPath::parse(&path).map_err(|e| Stop::job(Reason::LimitOutput, e.to_string()))?;
        if kind.is_dir() {
            list(&entry.path(), &path, files)?;
        } else {
            if files.len() == MAX_FILES {
                return Err(Stop::job(Reason::LimitOutput, format!("more than {MAX_FILES} files")));
            }
            let size = entry.metadata().map_err(&failed)?.len();
            files.push(bundle::File { path: parsed, sha256: HexDigest(Digest::from_bytes([0; 32])), size });
        }
    }
    Ok(())
}

/// Opens a file that was found to be one; nobody is left to exchange it, and a link would be refused all the same.
fn open_plain(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Removes everything below the scratch.
pub(crate) fn empty(scratch: &Path) -> io::Result<()> {
    for entry in fs::read_dir(scratch)? {
        let path = entry?.path();
        if path.symlink_metadata()?.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    Ok(())
}
