//! Outputs and logs: fetched sealed, opened here, used only when every chunk was authenticated.

use crate::client::Client;
use crate::connection::{SILENCE, path};
use crate::files::{NewFile, PRIVATE, failed};
use crate::{ClientError, JobRecord};
use decores_api::paths;
use decores_keys::payload::{Head, ResultBinding, SectionKey, SectionKind, StreamOpener, expect_end, sealed_len};
use decores_types::bundle::{Item, MAX_FILES, MAX_MANIFEST, Manifest, OutputManifest, PRELUDE, RelPath, manifest_len};
use decores_types::digest::Hasher;
use decores_types::{Attempt, Commitment, CommitmentKey, JobId};
use reqwest::Method;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

const BUFFER: usize = 64 * 1024;

/// A part of an output.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// Standard output.
    Stdout,
    /// A file.
    File(&'a RelPath),
}

/// Takes a part of an output: gives the writer that its bytes go to.
pub type Take<'a> = dyn FnMut(Part<'_>, &mut dyn Read) -> Result<(), ClientError> + Send + 'a;

/// A job's output: authenticated to its last byte, and every part fits its digest.
pub struct Output {
    section: Section,
    manifest: OutputManifest,
    commitment: Commitment,
}

impl Output {
    /// What it holds.
    pub const fn manifest(&self) -> &OutputManifest {
        &self.manifest
    }

    /// What an honest receipt of the job commits to.
    pub(crate) const fn commitment(&self) -> Commitment {
        self.commitment
    }

    /// Hands on each part, in order. Blocks.
    pub fn each(&mut self, take: &mut Take<'_>) -> Result<(), ClientError> {
        let mut opener = self.section.open()?;
        read_manifest(&mut opener)?;
        for (part, item) in parts(&self.manifest) {
            let mut content = (&mut opener).take(item.size);
            take(part, &mut content)?;
            // What was not taken is skipped, so that the next part starts where it should.
            io::copy(&mut content, &mut io::sink()).map_err(|e| opening("read the output", e))?;
        }
        Ok(())
    }

    /// Opens everything once, compares each part with its digest, and refuses what follows.
    pub(crate) fn check(section: Section, key: &CommitmentKey) -> Result<Self, ClientError> {
        let mut opener = section.open()?;
        let manifest = read_manifest(&mut opener)?;
        for (part, item) in parts(&manifest) {
            let mut hasher = Hashing(Hasher::new());
            let size =
                io::copy(&mut (&mut opener).take(item.size), &mut hasher).map_err(|e| opening("open the output", e))?;
            if size != item.size || hasher.0.finish() != item.sha256.0 {
                return Err(ClientError::Mismatch(format!("the output: {} does not fit its digest", name(part))));
            }
        }
        end(opener)?;
        let digest = manifest.digest().map_err(|e| opening("read the output", e))?;
        Ok(Self { section, manifest, commitment: key.commit("output", &digest) })
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}

impl Client {
    /// Fetches and opens a job's output; tells `got` how many bytes each piece has.
    ///
    /// Whoever knows the output key can seal to it: only [`Client::receipt`] tells whether this is what the node
    /// answers for.
    pub async fn output(&self, job: JobId, got: &mut (dyn FnMut(u64) + Send)) -> Result<Output, ClientError> {
        let record = self.record(job)?;
        let max = record.spec.limits.output_bytes.saturating_add((MAX_MANIFEST + PRELUDE + MAX_FILES) as u64);
        let section = self.fetch(&record, job, SectionKind::Output, max, got).await?;
        let key = record.commitment_key()?;
        blocking(move || Output::check(section, &key)).await
    }

    /// Fetches and opens what the program wrote to its standard error.
    pub async fn logs(&self, job: JobId) -> Result<Vec<u8>, ClientError> {
        let record = self.record(job)?;
        let max = record.spec.limits.log_bytes;
        let section = self.fetch(&record, job, SectionKind::Logs, max, &mut |_| {}).await?;
        blocking(move || {
            let mut opener = section.open()?;
            let mut logs = Vec::new();
            (&mut opener).take(max).read_to_end(&mut logs).map_err(|e| opening("open the logs", e))?;
            end(opener)?;
            Ok(logs)
        })
        .await
    }

    /// Fetches a sealed section into a nameless file and opens its key. `max` is the most plaintext there may be.
    async fn fetch(
        &self,
        record: &JobRecord,
        job: JobId,
        kind: SectionKind,
        max: u64,
        got: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Section, ClientError> {
        let attempt = self.job(job).await?.attempt;
        let template = if kind == SectionKind::Logs { paths::JOB_LOGS } else { paths::JOB_RESULT };
        let request = self.connection.request(Method::GET, &path(template, "{job}", &job));
        let mut answer = self.connection.send(request, SILENCE).await?;
        let max = sealed_len(max).saturating_add(Head::MAX_BYTES as u64);
        let target = self.home.scratch(&format!("{job}-{}", kind.number()))?;
        let mut file = NewFile::create(&target, PRIVATE)?;
        let mut size = 0_u64;
        while let Some(chunk) = self.connection.chunk(&mut answer).await? {
            size = size.saturating_add(chunk.len() as u64);
            if size > max {
                return Err(ClientError::TooLarge { max });
            }
            file.write_all(&chunk).map_err(failed("write", &target))?;
            got(chunk.len() as u64);
        }
        let binding = self.result_binding(record, job, attempt)?;
        let key = record.output_key()?;
        Section::read(file.rewind()?, |head| head.open_single(kind, &key, &binding))
    }

    fn result_binding(
        &self,
        record: &JobRecord,
        job: JobId,
        attempt: Attempt,
    ) -> Result<decores_types::Digest, ClientError> {
        let failed = |e| opening("bind the result", e);
        let spec = record.spec.digest().map_err(failed)?;
        ResultBinding { attempt, consumer: self.login.consumer, job, spec }.digest().map_err(failed)
    }
}

/// A sealed section in a file, and the key that opens it.
pub(crate) struct Section {
    file: File,
    start: u64,
    length: Option<u64>,
    key: SectionKey,
}

type Opener<'a> = StreamOpener<io::BufReader<&'a File>>;

impl Section {
    pub(crate) fn read(
        mut file: File,
        open: impl FnOnce(&Head) -> Result<SectionKey, decores_keys::payload::OpenError>,
    ) -> Result<Self, ClientError> {
        let head = Head::read(&mut file).map_err(|e| opening("open what the node sent", e))?;
        let key = open(&head).map_err(|e| opening("open what the node sent", e))?;
        let length = head.header().sections.first().and_then(|s| s.length);
        let start = file.stream_position().map_err(|e| opening("open what the node sent", e))?;
        Ok(Self { file, start, length, key })
    }

    fn open(&self) -> Result<Opener<'_>, ClientError> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.start)).map_err(|e| opening("open what the node sent", e))?;
        let reader = io::BufReader::with_capacity(BUFFER, file);
        StreamOpener::new(&self.key, self.length, reader).map_err(|e| opening("open what the node sent", e))
    }
}

fn end(mut opener: Opener<'_>) -> Result<(), ClientError> {
    let rest = io::copy(&mut opener, &mut io::sink()).map_err(|e| opening("open what the node sent", e))?;
    if rest > 0 {
        return Err(ClientError::Mismatch("what the node sent: bytes follow its last part".to_owned()));
    }
    let mut reader = opener.finish().map_err(|e| opening("open what the node sent", e))?;
    expect_end(&mut reader).map_err(|e| opening("open what the node sent", e))
}

fn read_manifest(opener: &mut impl Read) -> Result<OutputManifest, ClientError> {
    let mut prelude = [0; PRELUDE];
    opener.read_exact(&mut prelude).map_err(|e| opening("open the output", e))?;
    let length = manifest_len(&prelude).map_err(|e| opening("read the output", e))?;
    let mut manifest = vec![0; length];
    opener.read_exact(&mut manifest).map_err(|e| opening("open the output", e))?;
    OutputManifest::parse(&manifest).map_err(|e| opening("read the output", e))
}

fn parts(manifest: &OutputManifest) -> impl Iterator<Item = (Part<'_>, Item)> {
    let files = manifest.files.iter();
    let files = files.map(|f| (Part::File(&f.path), Item { sha256: f.sha256, size: f.size }));
    std::iter::once((Part::Stdout, manifest.stdout.clone())).chain(files)
}

fn name(part: Part<'_>) -> String {
    match part {
        Part::Stdout => "standard output".to_owned(),
        Part::File(path) => format!("file `{path}`"),
    }
}

fn opening(doing: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> ClientError {
    ClientError::Refused { what: format!("the sealed result (failed to {doing})"), source: Box::new(source) }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClientError> + Send + 'static,
) -> Result<T, ClientError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ClientError::Worker)?
}

struct Hashing(Hasher);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
