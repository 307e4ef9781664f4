//! A job, sealed here: each part can be altered before it is sent.

use decores_api::jobs::Submission;
use decores_audit::receipt::{Opening, Receipt};
use decores_keys::payload::{
    Head, JobBinding, ResultBinding, SectionKind, StreamOpener, StreamSealer, expect_end, seal_job,
};
use decores_keys::{Recipient, VerifiedOffer, XWingKey};
use decores_system::SystemRandom;
use decores_types::ambient::random_bytes;
use decores_types::bundle::{File, InputManifest, Item, Manifest, OutputManifest, PRELUDE, RelPath, manifest_len};
use decores_types::job::EngineKind;
use decores_types::{CommitmentKey, ConsumerId, Digest, JobSpec, Limits, OfferId, Protection, canonical};
use std::collections::BTreeMap;
use std::io::{Read, Write};

/// What a job is given.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// Arguments.
    pub args: Vec<String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Standard input.
    pub stdin: Vec<u8>,
    /// Files, by path.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Input {
    /// Standard input only.
    pub fn stdin(bytes: &[u8]) -> Self {
        Self { stdin: bytes.to_vec(), ..Self::default() }
    }
}

/// What came out of a job.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its manifest.
    pub manifest: OutputManifest,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Files, by path.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// A job and the keys that only its consumer has.
#[derive(Debug)]
pub struct Job {
    /// The program.
    pub program: Vec<u8>,
    /// The input's bundle.
    pub bundle: Vec<u8>,
    /// The spec.
    pub spec: JobSpec,
    /// Makes submitting safe to repeat.
    pub idempotency_key: String,
    manifest: InputManifest,
    commitment: CommitmentKey,
    output: XWingKey,
}

impl Job {
    /// A job with the default limits.
    pub fn new(program: &[u8], input: Input) -> Self {
        Self::limited(program, input, Limits::default())
    }

    /// A job with these limits.
    pub fn limited(program: &[u8], input: Input, limits: Limits) -> Self {
        let (manifest, bundle) = bundle(input);
        let (commitment, output) =
            (CommitmentKey::random(&SystemRandom), XWingKey::generate(1, &SystemRandom).unwrap());
        let spec = JobSpec {
            version: 1,
            engine: EngineKind::Wasm,
            protection: Protection::Process,
            limits,
            program: commitment.commit("program", &Digest::of(program)),
            input: commitment.commit("input", &manifest.digest().unwrap()),
            key_check: commitment.check(),
            output_key: output.recipient().to_output_key(),
            cache_seconds: 0,
            cache_id: None,
        };
        let idempotency_key = random_bytes::<16>(&SystemRandom).iter().map(|b| format!("{b:02x}")).collect();
        Self { program: program.to_vec(), bundle, spec, idempotency_key, manifest, commitment, output }
    }

    /// A job of an image, packed as the program of one.
    pub fn contained(image: &[u8], input: Input, limits: Limits) -> Self {
        let mut job = Self::limited(image, input, limits);
        (job.spec.engine, job.spec.protection) = (EngineKind::Container, Protection::Container);
        job
    }

    /// What an honest consumer binds the payload to.
    pub fn binding(&self, consumer: ConsumerId, offer: &VerifiedOffer) -> JobBinding {
        JobBinding {
            consumer,
            offer: offer.digest(),
            output_key: self.spec.output_key.id,
            spec: self.spec.digest().unwrap(),
        }
    }

    /// The payload, sealed to this key and bound to this place.
    pub fn seal(&self, recipient: &Recipient, binding: &JobBinding) -> Vec<u8> {
        let (program, input) = (self.program.len() as u64, self.bundle.len() as u64);
        let binding = binding.digest().unwrap();
        let sealed = seal_job(recipient, &binding, program, Some(input), &self.commitment, &SystemRandom).unwrap();
        let mut out = sealed.head;
        for (key, content) in [(&sealed.program, &self.program), (&sealed.input, &self.bundle)] {
            let mut sealer = StreamSealer::new(key, Some(content.len() as u64), &mut out).unwrap();
            sealer.write_all(content).unwrap();
            sealer.finish().unwrap();
        }
        out
    }

    /// Opens an output, which must be whole and fit its manifest.
    pub fn open_output(&self, ended: &decores_api::jobs::Job, sealed: &[u8]) -> Output {
        let plain = self.open(ended, SectionKind::Output, sealed);
        let length = manifest_len(plain[..PRELUDE].try_into().unwrap()).unwrap();
        let (manifest, mut rest) = plain[PRELUDE..].split_at(length);
        let manifest = OutputManifest::parse(manifest).unwrap();
        let mut take = |size: u64, digest: Digest| {
            let (part, left) = rest.split_at(usize::try_from(size).unwrap());
            rest = left;
            assert_eq!(Digest::of(part), digest);
            part.to_vec()
        };
        let stdout = take(manifest.stdout.size, manifest.stdout.sha256.0);
        let files = manifest.files.iter().map(|f| (f.path.to_string(), take(f.size, f.sha256.0))).collect();
        assert!(rest.is_empty());
        Output { manifest, stdout, files }
    }

    /// Opens logs.
    pub fn open_logs(&self, ended: &decores_api::jobs::Job, sealed: &[u8]) -> String {
        String::from_utf8(self.open(ended, SectionKind::Logs, sealed)).unwrap()
    }

    fn open(&self, ended: &decores_api::jobs::Job, section: SectionKind, sealed: &[u8]) -> Vec<u8> {
        let (attempt, consumer, job) = (ended.attempt, ended.consumer, ended.job);
        let binding = ResultBinding { attempt, consumer, job, spec: self.spec.digest().unwrap() }.digest().unwrap();
        let mut reader = sealed;
        let head = Head::read(&mut reader).unwrap();
        let key = head.open_single(section, &self.output, &binding).unwrap();
        let mut opener = StreamOpener::new(&key, head.header().sections[0].length, &mut reader).unwrap();
        let mut plain = Vec::new();
        opener.read_to_end(&mut plain).unwrap();
        expect_end(&mut opener.finish().unwrap()).unwrap();
        plain
    }

    /// The receipt with what opens its commitments.
    pub fn complete(&self, receipt: &[u8], output: Option<OutputManifest>) -> Vec<u8> {
        let mut receipt = Receipt::parse(receipt).unwrap();
        let input = self.manifest.digest().unwrap();
        receipt.file.opening = Some(Opening::new(&self.commitment, Digest::of(&self.program), input, output));
        receipt.file.to_bytes().unwrap()
    }
}

/// The body of a submission.
pub fn submission(offer: OfferId, spec: &JobSpec, payload: &[u8]) -> Vec<u8> {
    let head = canonical::to_vec(&Submission { offer, spec: spec.clone() }).unwrap();
    [&u32::try_from(head.len()).unwrap().to_be_bytes(), head.as_slice(), payload].concat()
}

fn bundle(input: Input) -> (InputManifest, Vec<u8>) {
    let item = |bytes: &[u8]| Item { sha256: Digest::of(bytes).into(), size: bytes.len() as u64 };
    let files = input.files.iter().map(|(path, bytes)| {
        let Item { sha256, size } = item(bytes);
        File { path: RelPath::parse(path).unwrap(), sha256, size }
    });
    let manifest =
        InputManifest { args: input.args, env: input.env, files: files.collect(), stdin: item(&input.stdin) };
    let mut bytes = manifest.prelude().unwrap();
    bytes.extend_from_slice(&input.stdin);
    input.files.values().for_each(|content| bytes.extend_from_slice(content));
    (manifest, bytes)
}
