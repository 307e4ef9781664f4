//! The program and the input of a job: where they are, what their digests are, and reading them again.
//!
//! Everything is read twice: once for the digests that the spec commits to, once while it is sealed.
//! The second reading is compared with the first, so that a file that changes meanwhile is caught
//! here and not by the engine.

use crate::ClientError;
use crate::files::failed;
use crate::image::Packed;
use decores_types::Digest;
use decores_types::bundle::{File as BundleFile, InputManifest, Item, MAX_FILES, Manifest, RelPath};
use decores_types::digest::Hasher;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest program that is sent.
pub const MAX_PROGRAM: u64 = 256 << 20;
/// Largest image that is sent.
pub const MAX_IMAGE: u64 = 8 << 30;
const BUFFER: usize = 64 * 1024;

/// Bytes that can be read more than once.
#[derive(Clone, Debug)]
pub enum Source {
    /// In memory.
    Bytes(Arc<[u8]>),
    /// A regular file.
    File(PathBuf),
    /// A container image.
    Image(Packed),
}

impl From<Packed> for Source {
    fn from(image: Packed) -> Self {
        Self::Image(image)
    }
}

impl Source {
    /// No bytes.
    pub fn empty() -> Self {
        Self::Bytes(Arc::from([]))
    }

    fn name(&self) -> String {
        match self {
            Self::Bytes(_) => "input".to_owned(),
            Self::File(path) => path.display().to_string(),
            Self::Image(image) => image.name().to_owned(),
        }
    }

    fn open(&self) -> Result<Box<dyn Read + Send>, ClientError> {
        match self {
            Self::Bytes(bytes) => Ok(Box::new(io::Cursor::new(Arc::clone(bytes)))),
            Self::File(path) => {
                let file = File::open(path).map_err(failed("read", path))?;
                let meta = file.metadata().map_err(failed("read", path))?;
                if !meta.is_file() {
                    return Err(ClientError::Input(format!("{} is not a regular file", path.display())));
                }
                Ok(Box::new(file))
            }
            Self::Image(image) => Ok(Box::new(image.reader())),
        }
    }

    /// Hands the bytes on in pieces.
    fn each(&self, mut take: impl FnMut(&[u8]) -> Result<(), ClientError>) -> Result<(), ClientError> {
        let mut reader = self.open()?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => take(buffer.get(..n).unwrap_or_default())?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("read", Path::new(&self.name()))(error)),
            }
        }
    }

    /// Reads it once, for its size and digest; tells `read` of every piece. Blocks.
    pub fn measure(&self, read: &mut dyn FnMut(u64)) -> Result<Item, ClientError> {
        let (mut hasher, mut size) = (Hasher::new(), 0_u64);
        self.each(|bytes| {
            hasher.update(bytes);
            size = size.saturating_add(bytes.len() as u64);
            read(bytes.len() as u64);
            Ok(())
        })?;
        Ok(Item { sha256: hasher.finish().into(), size })
    }

    /// Hands the bytes on again, and refuses them if they are not what was measured.
    fn replay(&self, item: &Item, mut take: impl FnMut(&[u8]) -> Result<(), ClientError>) -> Result<(), ClientError> {
        let changed = || ClientError::Changed(self.name());
        let (mut hasher, mut left) = (Hasher::new(), item.size);
        self.each(|bytes| {
            left = left.checked_sub(bytes.len() as u64).ok_or_else(changed)?;
            hasher.update(bytes);
            take(bytes)
        })?;
        if left == 0 && hasher.finish() == item.sha256.0 { Ok(()) } else { Err(changed()) }
    }
}

/// The files below a folder, by their path in it. Links and devices are refused: what is sent is what is seen.
pub fn folder(path: &Path) -> Result<BTreeMap<RelPath, Source>, ClientError> {
    let mut files = BTreeMap::new();
    add_folder(path, "", &mut files)?;
    Ok(files)
}

fn add_folder(folder: &Path, prefix: &str, files: &mut BTreeMap<RelPath, Source>) -> Result<(), ClientError> {
    for entry in std::fs::read_dir(folder).map_err(failed("read", folder))? {
        let entry = entry.map_err(failed("read", folder))?;
        let path = entry.path();
        let refused = |why: &str| ClientError::Input(format!("{} {why}", path.display()));
        let name = entry.file_name().into_string().map_err(|_| refused("has a name that is not UTF-8"))?;
        // Checked before descending, so that depth is bounded too.
        let inside = RelPath::parse(&format!("{prefix}{name}")).map_err(|e| ClientError::Input(e.to_string()))?;
        let kind = entry.file_type().map_err(failed("read", &path))?;
        if kind.is_dir() {
            add_folder(&path, &format!("{inside}/"), files)?;
        } else if kind.is_file() {
            files.insert(inside, Source::File(path));
        } else {
            return Err(refused("is neither a file nor a folder; links are not followed"));
        }
        if files.len() > MAX_FILES {
            return Err(ClientError::Input(format!("{} holds more than {MAX_FILES} files", folder.display())));
        }
    }
    Ok(())
}

/// What a job is given.
#[derive(Clone, Debug)]
pub struct JobInput {
    /// The program.
    pub program: Source,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Standard input.
    pub stdin: Source,
    /// Files, by the path the program sees.
    pub files: BTreeMap<RelPath, Source>,
}

/// A [`JobInput`] whose digests are known.
#[derive(Clone, Debug)]
pub struct Prepared {
    program: Source,
    program_item: Item,
    manifest: InputManifest,
    prelude: Vec<u8>,
    contents: Vec<Source>,
}

impl JobInput {
    /// Reads everything once; tells `read` how many bytes each piece has. Blocks.
    pub fn prepare(self, read: &mut dyn FnMut(u64)) -> Result<Prepared, ClientError> {
        if self.files.len() > MAX_FILES {
            return Err(ClientError::Input(format!("{} input files are more than {MAX_FILES}", self.files.len())));
        }
        let program_item = self.program.measure(read)?;
        let max = if matches!(self.program, Source::Image(_)) { MAX_IMAGE } else { MAX_PROGRAM };
        if program_item.size == 0 || program_item.size > max {
            let text = format!("the program {} is empty or larger than {} MiB", self.program.name(), max >> 20);
            return Err(ClientError::Input(text));
        }
        let stdin = self.stdin.measure(read)?;
        let mut files = Vec::with_capacity(self.files.len());
        let mut contents = vec![self.stdin];
        for (path, source) in self.files {
            let Item { sha256, size } = source.measure(read)?;
            files.push(BundleFile { path, sha256, size });
            contents.push(source);
        }
        let manifest = InputManifest { args: self.args, env: self.env, files, stdin };
        let prelude = manifest.prelude().map_err(|e| ClientError::Input(decores_types::chain(&e)))?;
        Ok(Prepared { program: self.program, program_item, manifest, prelude, contents })
    }
}

impl Prepared {
    /// The digest of the program.
    pub const fn program_digest(&self) -> Digest {
        self.program_item.sha256.0
    }

    /// The image that the program is.
    pub const fn image(&self) -> Option<&Packed> {
        match &self.program {
            Source::Image(image) => Some(image),
            Source::Bytes(_) | Source::File(_) => None,
        }
    }

    /// The bytes of the program.
    pub const fn program_size(&self) -> u64 {
        self.program_item.size
    }

    /// The manifest of the input.
    pub const fn manifest(&self) -> &InputManifest {
        &self.manifest
    }

    /// The digest of the input's manifest.
    pub fn input_digest(&self) -> Result<Digest, ClientError> {
        self.manifest.digest().map_err(|e| ClientError::Input(decores_types::chain(&e)))
    }

    /// The bytes of the input's bundle.
    pub fn input_size(&self) -> u64 {
        self.manifest.sizes().iter().fold(self.prelude.len() as u64, |sum, size| sum.saturating_add(*size))
    }

    /// Hands on the program's bytes.
    pub(crate) fn read_program(&self, take: impl FnMut(&[u8]) -> Result<(), ClientError>) -> Result<(), ClientError> {
        self.program.replay(&self.program_item, take)
    }

    /// Hands on the input's bundle.
    pub fn read_input(&self, mut take: impl FnMut(&[u8]) -> Result<(), ClientError>) -> Result<(), ClientError> {
        take(&self.prelude)?;
        let stdin = std::iter::once(self.manifest.stdin.clone());
        let files = self.manifest.files.iter().map(|f| Item { sha256: f.sha256, size: f.size });
        for (source, item) in self.contents.iter().zip(stdin.chain(files)) {
            source.replay(&item, &mut take)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn bytes(text: &str) -> Source {
        Source::Bytes(Arc::from(text.as_bytes()))
    }

    fn input(stdin: Source) -> JobInput {
        JobInput {
            program: bytes("wasm"),
            args: vec!["a".to_owned()],
            env: BTreeMap::new(),
            stdin,
            files: BTreeMap::from([(RelPath::parse("b/c").unwrap(), bytes("file"))]),
        }
    }

    #[test]
    fn the_bundle_has_the_size_that_was_announced() {
        let mut read = 0;
        let prepared = input(bytes("hello")).prepare(&mut |n| read += n).unwrap();
        assert_eq!(read, "wasm".len() as u64 + "hello".len() as u64 + "file".len() as u64);
        let mut sent = Vec::new();
        prepared
            .read_input(|b| {
                sent.extend_from_slice(b);
                Ok(())
            })
            .unwrap();
        assert_eq!(sent.len() as u64, prepared.input_size());
        assert!(sent.ends_with(b"hellofile"));
        assert_eq!(prepared.program_digest(), Digest::of(b"wasm"));
    }

    #[test]
    fn a_file_that_changes_while_it_is_sent_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        for after in ["hellO", "hell", "hello!"] {
            std::fs::write(&path, "hello").unwrap();
            let prepared = input(Source::File(path.clone())).prepare(&mut |_| {}).unwrap();
            std::fs::write(&path, after).unwrap();
            assert!(matches!(prepared.read_input(|_| Ok(())), Err(ClientError::Changed(_))), "{after}");
        }
    }

    #[test]
    fn a_folder_gives_its_files_sorted() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["c", "a", "b/z", "b/y"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let files = super::folder(folder.path()).unwrap();
        assert_eq!(files.keys().map(RelPath::as_str).collect::<Vec<_>>(), ["a", "b/y", "b/z", "c"]);
    }

    #[test]
    fn links_sockets_and_odd_names_in_a_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert!(matches!(super::folder(folder.path()), Err(ClientError::Input(_))));
        std::fs::remove_file(&link).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        assert!(super::folder(folder.path()).is_err());
        drop(socket);
        std::fs::remove_file(folder.path().join("socket")).unwrap();
        std::fs::write(folder.path().join("a\\b"), "").unwrap();
        assert!(super::folder(folder.path()).is_err());
    }

    #[test]
    fn an_empty_program_and_a_folder_are_refused() {
        assert!(JobInput { program: Source::empty(), ..input(bytes("")) }.prepare(&mut |_| {}).is_err());
        let folder = tempfile::tempdir().unwrap();
        assert!(input(Source::File(folder.path().to_owned())).prepare(&mut |_| {}).is_err());
    }
}
