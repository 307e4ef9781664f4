//! What a node weighs: idle, with jobs waiting, and when they are over.

use crate::audit;
use crate::crowd::{Crowd, Work};
use crate::weight::Weight;
use decores_api::jobs::Job;
use decores_tests::node::{Node, Settings};
use decores_tests::wasm;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::JoinSet;

/// Time for connections that nobody uses to end.
const SETTLE: Duration = Duration::from_secs(12);
/// Time for a node to give back memory that it does not need any more: it does so once a minute.
pub const GIVEN_BACK: Duration = Duration::from_secs(65);
/// Consumers whose jobs wait.
const CONSUMERS: usize = 8;
/// Bytes of each waiting job's input.
const INPUT: usize = 64 << 10;

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Jobs that waited.
    pub jobs: usize,
    /// A node that has only just started.
    pub idle: Weight,
    /// With all of them waiting.
    pub queued: Weight,
    /// When they are over.
    pub finished: Weight,
    /// What is left that must not be.
    pub findings: Vec<String>,
}

impl Outcome {
    /// For a program.
    pub fn to_json(&self) -> Value {
        json!({
            "bench": "memory", "jobs": self.jobs, "idle": self.idle.to_json(), "queued": self.queued.to_json(),
            "finished": self.finished.to_json(), "findings": self.findings,
        })
    }
}

/// Lets this many jobs wait, and then run, within a [`LocalSet`](tokio::task::LocalSet).
pub async fn run(jobs: usize) -> Outcome {
    let queue = u32::try_from(jobs * 4).unwrap();
    let more_jobs = format!("queue_per_consumer = {jobs}");
    let settings =
        Settings { slots: 2, queue, offer_seconds: 3600, connections: 256, more_jobs, ..Settings::default() };
    let node = Node::with(&settings);
    tokio::time::sleep(SETTLE).await;
    let idle = Weight::of(node.pid());
    let operator = node.operator().key().to_owned();
    let crowd = Crowd::new(&node, &operator, CONSUMERS + 1).await;
    let (blocker, members) = crowd.members.split_last().unwrap();
    let endless = Work::new(&wasm::loops(), b"", 3_600_000);
    let mut blocking = Vec::new();
    for _ in 0..2 {
        let mut record = blocker.draft(&endless);
        blocking.push(blocker.submit(&mut record, &endless).await.unwrap());
    }
    let work = Work::new(&wasm::cat(), &vec![7; INPUT], 60_000);
    let mut submitting = JoinSet::new();
    for (at, member) in members.iter().cloned().enumerate() {
        let (work, share) = (work.clone(), jobs / CONSUMERS + usize::from(at < jobs % CONSUMERS));
        submitting.spawn_local(async move {
            let mut taken = Vec::new();
            for _ in 0..share {
                let mut record = member.draft(&work);
                taken.push(member.submit(&mut record, &work).await.unwrap());
            }
            (member, taken)
        });
    }
    let taken = submitting.join_all().await;
    tokio::time::sleep(SETTLE).await;
    let queued = Weight::of(node.pid());
    let status = crowd.operator.client.status().await.unwrap();
    assert_eq!(status.queued, jobs as u64, "all of them wait");
    for job in &blocking {
        blocker.client.cancel(job.job).await.unwrap();
    }
    let mut ended: Vec<Job> = Vec::new();
    for job in &blocking {
        ended.push(blocker.wait(job).await.unwrap());
    }
    for (member, jobs) in taken {
        for job in jobs {
            ended.push(member.wait(&job).await.unwrap());
        }
    }
    tokio::time::sleep(GIVEN_BACK).await;
    let finished = Weight::of(node.pid());
    let findings = audit::leftovers(&node, &ended).await;
    Outcome { jobs, idle, queued, finished, findings }
}
