//! Many clients, many jobs, a mix of ends; and engines that are killed meanwhile.

use crate::audit::{self, Told};
use crate::crowd::{Crowd, PATIENCE};
use crate::kind::{Kind, Programs};
use crate::weight::{Weight, engines};
use decores_api::jobs::Job;
use decores_tests::node::{Node, Settings, signal_all};
use decores_types::Reason;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// How often an engine is killed.
const KILL_EVERY: Duration = Duration::from_secs(5);
/// How often the node is weighed meanwhile.
const WEIGH_EVERY: Duration = Duration::from_millis(500);

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Jobs in all.
    pub jobs: usize,
    /// Clients at a time, each a consumer.
    pub clients: usize,
    /// Jobs that run at a time.
    pub slots: u32,
    /// How long the node gets at the end to give memory back; it does so once a minute.
    pub settle: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What was not as it must be.
    pub findings: Vec<String>,
    /// Ends, and how many jobs ended so.
    pub ends: BTreeMap<String, usize>,
    /// Jobs that the node took.
    pub taken: usize,
    /// Attempts at them, by the log.
    pub attempts: usize,
    /// Engines that were killed.
    pub killed: usize,
    /// Entries of the log.
    pub entries: u64,
    /// Seconds from the first submission to the last receipt.
    pub seconds: f64,
    /// After one job of each client, and before all others.
    pub before: Weight,
    /// The most there was.
    pub most: Weight,
    /// When all was over.
    pub after: Weight,
}

impl Outcome {
    /// For a program.
    pub fn to_json(&self) -> Value {
        json!({
            "bench": "load", "taken": self.taken, "attempts": self.attempts, "killed": self.killed,
            "entries": self.entries, "seconds": self.seconds, "ends": self.ends, "findings": self.findings,
            "before": self.before.to_json(), "most": self.most.to_json(), "after": self.after.to_json(),
        })
    }
}

/// What the clients share.
struct Shared {
    crowd: Crowd,
    programs: Programs,
    next: AtomicUsize,
    over: AtomicBool,
}

/// Runs a plan on a node of its own, within a [`LocalSet`](tokio::task::LocalSet).
pub async fn run(plan: Plan) -> Outcome {
    // A client has a connection for news, and one for what it asks meanwhile.
    let connections = u32::try_from(plan.clients * 2 + 64).unwrap();
    let settings = Settings { slots: plan.slots, queue: 1024, connections, ..Settings::default() };
    let node = Node::with(&settings);
    let operator = node.operator().key().to_owned();
    let crowd = Crowd::new(&node, &operator, plan.clients).await;
    let shared =
        Arc::new(Shared { crowd, programs: Programs::new(), next: AtomicUsize::new(0), over: AtomicBool::new(false) });
    let clock = Arc::clone(&shared.crowd.operator);
    let mut results = each(&shared, plan.clients.min(plan.jobs)).await;
    let before = Weight::of(node.pid());
    let begin = clock.now_ms();
    let meanwhile = (
        tokio::task::spawn_local(kill(Arc::clone(&shared), node.pid())),
        tokio::task::spawn_local(weigh(Arc::clone(&shared), node.pid())),
    );
    let warm = results.len();
    results.extend(each(&shared, plan.jobs).await);
    let seconds = (clock.now_ms() - begin) as f64 / 1000.0;
    shared.over.store(true, Ordering::Relaxed);
    let (killed, most) = (meanwhile.0.await.unwrap(), meanwhile.1.await.unwrap());
    let mut outcome = judge(&node, &shared.crowd, results).await;
    outcome.seconds = seconds * plan.jobs as f64 / (plan.jobs - warm).max(1) as f64;
    tokio::time::sleep(plan.settle).await;
    Outcome { killed, before, most, after: Weight::of(node.pid()), ..outcome }
}

type Ran = (Kind, Result<Option<Job>, String>);

/// Has every client take job after job until this many were begun.
async fn each(shared: &Arc<Shared>, until: usize) -> Vec<Ran> {
    let mut clients = JoinSet::new();
    for member in &shared.crowd.members {
        let (shared, member) = (Arc::clone(shared), member.clone());
        clients.spawn_local(async move {
            let mut ran = Vec::new();
            loop {
                let number = shared.next.fetch_add(1, Ordering::Relaxed);
                if number >= until {
                    shared.next.fetch_min(until, Ordering::Relaxed);
                    return ran;
                }
                let kind = Kind::MIX[number % Kind::MIX.len()];
                let ended = tokio::time::timeout(PATIENCE, shared.programs.run(kind, &member)).await;
                let ended = ended.unwrap_or_else(|_| Err(format!("a job ({}) does not end", kind.name())));
                ran.push((kind, ended));
            }
        });
    }
    clients.join_all().await.into_iter().flatten().collect()
}

async fn judge(node: &Node, crowd: &Crowd, results: Vec<Ran>) -> Outcome {
    let (mut findings, mut ends, mut jobs) = (Vec::new(), BTreeMap::<String, usize>::new(), Vec::new());
    for (kind, result) in results {
        let end = match result {
            Ok(Some(job)) => {
                let end = if job.reason == Reason::EngineLost { "engine lost twice" } else { kind.name() };
                jobs.push(job);
                end
            }
            Ok(None) => kind.name(),
            Err(what) => {
                findings.push(what);
                "not as it must"
            }
        };
        *ends.entry(end.to_owned()).or_default() += 1;
    }
    let told = Told::read(crowd).await;
    findings.extend(told.findings(&jobs));
    findings.extend(audit::log(crowd).await);
    findings.extend(audit::leftovers(node, &jobs).await);
    let (taken, attempts, entries) = (jobs.len(), told.attempts(), told.entries);
    let none = Weight::default();
    Outcome { findings, ends, taken, attempts, killed: 0, entries, seconds: 0.0, before: none, most: none, after: none }
}

/// Kills an engine now and then, as the kernel does when memory is short: its job is lost and submitted again.
async fn kill(shared: Arc<Shared>, node: u32) -> usize {
    let mut killed = 0;
    loop {
        tokio::time::sleep(KILL_EVERY).await;
        if shared.over.load(Ordering::Relaxed) {
            return killed;
        }
        // The first is an engine itself; what it started comes after. That it is over by now is the usual case.
        if let Some(engine) = engines(node).first() {
            killed += usize::from(signal_all("KILL", &[engine.pid]));
        }
    }
}

async fn weigh(shared: Arc<Shared>, node: u32) -> Weight {
    let mut most = Weight::default();
    while !shared.over.load(Ordering::Relaxed) {
        let now = Weight::of(node);
        let (descriptors, threads) = (most.descriptors.max(now.descriptors), most.threads.max(now.threads));
        if now.rss() > most.rss() {
            most = now;
        }
        most = Weight { descriptors, threads, ..most };
        tokio::time::sleep(WEIGH_EVERY).await;
    }
    most
}
