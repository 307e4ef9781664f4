//! Clients of one node, each with a home and a consumer of its own.

use decores_api::admin::ApiKeyRequest;
use decores_api::jobs::Job;
use decores_audit::Trust;
use decores_client::{
    ApiKey, Client, ClientError, Home, JobInput, JobRecord, NodeCard, NodeUrl, Prepared, Source, Terms,
};
use decores_client::{Output, Progress, bootstrap};
use decores_system::{SystemClock, SystemRandom};
use decores_tests::node::Node;
use decores_types::{Clock as _, Limits, Protection, Random as _};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Where clients keep what they know: in memory where there is a place for it, so that their disk is not the node's.
const IN_MEMORY: &str = "/dev/shm";
/// A job that is not over by then never will be.
pub const PATIENCE: Duration = Duration::from_secs(900);

/// Clients of one node.
pub struct Crowd {
    /// Somebody with the operator's key.
    pub operator: Arc<Member>,
    /// Consumers.
    pub members: Vec<Arc<Member>>,
    folder: TempDir,
    card: NodeCard,
    trust: Trust,
}

/// One client.
pub struct Member {
    /// As the command line uses it.
    pub client: Client,
    /// What it trusts.
    pub trust: Trust,
    clock: SystemClock,
}

/// What to run, read and measured once.
#[derive(Clone)]
pub struct Work {
    prepared: Arc<Prepared>,
    terms: Terms,
}

impl Work {
    /// A program, its standard input, and the time it may take.
    pub fn new(program: &[u8], stdin: &[u8], wall_ms: u64) -> Self {
        let input = JobInput {
            program: Source::Bytes(program.into()),
            args: Vec::new(),
            env: BTreeMap::new(),
            stdin: Source::Bytes(stdin.into()),
            files: BTreeMap::new(),
        };
        // Small enough for a scratch in memory.
        let limits = Limits { wall_ms, memory_bytes: 16 << 20, scratch_bytes: 1 << 20, ..Limits::default() };
        let terms = Terms { protection: Protection::Process, limits, cache_seconds: 0 };
        Self { prepared: Arc::new(input.prepare(&mut |_| {}).unwrap()), terms }
    }

    /// The same, under a protection that no node of today gives.
    pub fn unheard_of(mut self) -> Self {
        self.terms.protection = Protection::Enclave;
        self
    }
}

impl Crowd {
    /// Logs in the operator, and this many consumers.
    pub async fn new(node: &Node, operator: &str, members: usize) -> Self {
        let place = if Path::new(IN_MEMORY).is_dir() { IN_MEMORY.into() } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new().prefix("decores-crowd-").tempdir_in(place).unwrap();
        let card = bootstrap(NodeUrl::parse(&node.url()).unwrap()).await.unwrap();
        let trust = node.trust();
        let operator = Arc::new(member(folder.path(), &card, &trust, operator).await);
        let mut crowd = Self { operator, members: Vec::new(), folder, card, trust };
        for _ in 0..members {
            let member = crowd.join().await;
            crowd.members.push(member);
        }
        crowd
    }

    async fn join(&self) -> Arc<Member> {
        let request = ApiKeyRequest { name: "load".to_owned(), role: "consumer".to_owned(), expires_seconds: 86_400 };
        let created = self.operator.client.create_api_key(&request).await.unwrap();
        Arc::new(member(self.folder.path(), &self.card, &self.trust, &created.api_key).await)
    }
}

async fn member(folder: &Path, card: &NodeCard, trust: &Trust, key: &str) -> Member {
    let mut name = [0; 8];
    SystemRandom.fill(&mut name);
    let home = Home::new(folder.join(format!("{:016x}", u64::from_be_bytes(name))));
    let key = ApiKey::parse(key).unwrap();
    let login = card.log_in(&key).await.unwrap();
    home.save_login(&login, &key).unwrap();
    home.save_trust(&trust.to_bytes().unwrap()).unwrap();
    let clock = SystemClock::default();
    let client = Client::open(home, None, None, Arc::new(SystemClock::default()), Arc::new(SystemRandom)).unwrap();
    Member { client, trust: trust.clone(), clock }
}

impl Member {
    /// A new job.
    pub fn draft(&self, work: &Work) -> JobRecord {
        self.client.draft(&work.prepared, &work.terms).unwrap()
    }

    /// Submits, and comes again while the node is busy.
    pub async fn submit(&self, record: &mut JobRecord, work: &Work) -> Result<Job, ClientError> {
        self.client.submit(record, &work.prepared, &|_| {}).await
    }

    /// The same, telling of what happens.
    pub async fn submit_telling(
        &self,
        record: &mut JobRecord,
        work: &Work,
        note: &dyn Fn(Progress<'_>),
    ) -> Result<Job, ClientError> {
        self.client.submit(record, &work.prepared, note).await
    }

    /// Submits and waits; submits again what the node lost.
    pub async fn run(&self, record: &mut JobRecord, work: &Work) -> Result<Job, ClientError> {
        self.client.run(record, &work.prepared, &|_| {}).await
    }

    /// Waits for a job's end.
    pub async fn wait(&self, job: &Job) -> Result<Job, ClientError> {
        self.client.wait(job.job, &mut 0, &|_| {}).await
    }

    /// Fetches and verifies the receipt of a job that has ended; what is wrong with it otherwise.
    pub async fn verify(&self, job: &Job, output: Option<&Output>) -> Result<(), String> {
        let receipt = self.client.receipt(job, output, &self.trust, &[]).await.map_err(|error| explain(&error))?;
        if receipt.report.is_accepted() { Ok(()) } else { Err(format!("its receipt: {:?}", receipt.report.verdict)) }
    }

    /// A clock that only goes on, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.clock.monotonic_ms()
    }
}

/// An error and its causes.
pub fn explain(error: &ClientError) -> String {
    decores_types::chain(error)
}
