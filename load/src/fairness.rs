//! Two consumers: what does the one's flood cost the other?

use crate::crowd::{Crowd, Member, Work, explain};
use decores_tests::node::{Node, Settings};
use decores_tests::wasm;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::{JoinSet, LocalSet};

/// What the polite one thinks between two jobs.
const PAUSE: Duration = Duration::from_millis(100);
/// Submissions of the flood at a time.
const FLOOD: usize = 40;
/// The most that its p99 may grow.
pub const BAR: f64 = 2.0;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Jobs of the polite consumer, alone and again beside the flood.
    pub jobs: usize,
    /// What the flood consists of.
    pub flood: Kind,
}

/// What a flood consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Jobs that are over at once: starting, wiping and telling of them is the work.
    Short,
    /// Jobs that compute without end, for as long as they may.
    Spinning,
}

impl Kind {
    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Short, Self::Spinning].into_iter().find(|kind| kind.name() == name)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Spinning => "spinning",
        }
    }

    fn work(self) -> Work {
        match self {
            Self::Short => Work::new(&wasm::nothing(), &[b'x'; 4096], 60_000),
            Self::Spinning => Work::new(&wasm::loops(), &[b'x'; 4096], 3000),
        }
    }
}

/// How long the polite consumer's jobs took, in milliseconds, from their draft to their verified receipt.
#[derive(Debug)]
pub struct Times(Vec<f64>);

impl Times {
    /// The time that this share of jobs stayed within.
    pub fn percentile(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }

    fn to_json(&self) -> Value {
        json!({ "p50": self.percentile(0.5), "p90": self.percentile(0.9), "p99": self.percentile(0.99), "worst": self.percentile(1.0) })
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What the flood consisted of.
    pub flood: Kind,
    /// Without the flood.
    pub alone: Times,
    /// Beside it.
    pub beside: Times,
    /// Jobs of the flood that were taken meanwhile.
    pub taken: u64,
    /// Requests of the flood that were refused.
    pub refused: u64,
    /// Jobs that waited when it was over.
    pub waiting: u64,
}

impl Outcome {
    /// By how much the polite consumer's p99 grew.
    pub fn growth(&self) -> f64 {
        self.beside.percentile(0.99) / self.alone.percentile(0.99)
    }

    /// For a program.
    pub fn to_json(&self) -> Value {
        json!({
            "bench": "fairness", "flood": self.flood.name(), "jobs": self.alone.0.len(), "alone": self.alone.to_json(),
            "beside": self.beside.to_json(), "growth": self.growth(), "floodTaken": self.taken,
            "floodRefused": self.refused, "floodWaiting": self.waiting,
        })
    }
}

#[derive(Default)]
struct Flood {
    over: AtomicBool,
    taken: AtomicU64,
    refused: AtomicU64,
}

/// Runs a plan on a node of its own, with the places that a node has by default.
pub async fn run(plan: Plan) -> Outcome {
    let node = Node::with(&Settings { slots: 2, queue: 256, connections: 256, ..Settings::default() });
    let operator = node.operator().key().to_owned();
    let crowd = Crowd::new(&node, &operator, 2).await;
    let (polite, flooding) = (Arc::clone(&crowd.members[0]), Arc::clone(&crowd.members[1]));
    let work = Work::new(&wasm::cat(), b"thank you", 60_000);
    // The first ones find everything cold.
    jobs(&polite, &work, 5).await;
    let alone = jobs(&polite, &work, plan.jobs).await;
    let flood = Arc::new(Flood::default());
    let heavy = plan.flood.work();
    // On a thread of its own: the polite one's time is the node's, not that of its neighbour in this process.
    let pouring = std::thread::spawn({
        let flood = Arc::clone(&flood);
        move || pour_all(flooding, heavy, flood)
    });
    // It is worst when its share of the queue is full.
    let full = async {
        while flood.refused.load(Ordering::Relaxed) < 40 || status(&crowd).await < 100 {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), full).await.expect("a flood fills its share of the queue");
    let beside = jobs(&polite, &work, plan.jobs).await;
    let waiting = status(&crowd).await;
    flood.over.store(true, Ordering::Relaxed);
    pouring.join().unwrap();
    let (taken, refused) = (flood.taken.load(Ordering::Relaxed), flood.refused.load(Ordering::Relaxed));
    Outcome { flood: plan.flood, alone, beside, taken, refused, waiting }
}

async fn status(crowd: &Crowd) -> u64 {
    crowd.operator.client.status().await.unwrap().queued
}

/// One job after the other, with a pause between.
async fn jobs(member: &Member, work: &Work, count: usize) -> Times {
    let mut times = Vec::new();
    for _ in 0..count {
        let begin = member.now_ms();
        let mut record = member.draft(work);
        let job = member.run(&mut record, work).await.unwrap_or_else(|error| panic!("{}", explain(&error)));
        member.verify(&job, None).await.unwrap();
        times.push((member.now_ms() - begin) as f64);
        tokio::time::sleep(PAUSE).await;
    }
    times.sort_by(f64::total_cmp);
    Times(times)
}

/// Floods until it is over.
fn pour_all(member: Arc<Member>, work: Work, flood: Arc<Flood>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut tasks = JoinSet::new();
    LocalSet::new().block_on(&runtime, async move {
        for _ in 0..FLOOD {
            tasks.spawn_local(pour(Arc::clone(&member), work.clone(), Arc::clone(&flood)));
        }
        while !flood.over.load(Ordering::Relaxed) {
            tokio::time::sleep(PAUSE).await;
        }
        tasks.shutdown().await;
    });
}

/// Submits job after job, and comes back as soon as it is told that it may.
async fn pour(member: Arc<Member>, work: Work, flood: Arc<Flood>) {
    while !flood.over.load(Ordering::Relaxed) {
        let mut record = member.draft(&work);
        let told = |progress: decores_client::Progress<'_>| {
            if matches!(progress, decores_client::Progress::Again { .. }) {
                flood.refused.fetch_add(1, Ordering::Relaxed);
            }
        };
        if member.submit_telling(&mut record, &work, &told).await.is_ok() {
            flood.taken.fetch_add(1, Ordering::Relaxed);
        }
    }
}
