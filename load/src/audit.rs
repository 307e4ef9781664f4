//! What is left when all jobs have ended: the log, the disk, the machine.

use crate::crowd::{Crowd, explain};
use crate::weight::engines;
use decores_api::jobs::Job;
use decores_audit::event::{Entry, Event};
use decores_tests::machine::files;
use decores_tests::node::Node;
use decores_types::{Attempt, JobId, JobState};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Entries of one answer.
const PAGE: u64 = 500;

/// What the log says of attempts.
#[derive(Debug, Default)]
pub struct Told {
    /// Entries in all.
    pub entries: u64,
    queued: BTreeMap<(JobId, Attempt), u32>,
    ended: BTreeMap<(JobId, Attempt), Vec<JobState>>,
    wiped: BTreeMap<(JobId, Attempt), bool>,
}

impl Told {
    /// Reads the whole log.
    pub async fn read(crowd: &Crowd) -> Self {
        let mut told = Self::default();
        loop {
            let page = crowd.operator.client.entries(Some(told.entries), PAGE).await.unwrap();
            if page.entries.is_empty() {
                return told;
            }
            for entry in &page.entries {
                told.take_in(Entry::parse(&entry.entry.0).unwrap().event);
            }
        }
    }

    fn take_in(&mut self, event: Event) {
        self.entries += 1;
        match event {
            Event::JobState { job, attempt, state: JobState::Queued, .. } => {
                *self.queued.entry((job, attempt)).or_default() += 1;
            }
            Event::JobEnded { job, attempt, state, .. } => self.ended.entry((job, attempt)).or_default().push(state),
            Event::JobWiped { job, attempt, complete, .. } => {
                self.wiped.insert((job, attempt), complete);
            }
            _ => {}
        }
    }

    /// Attempts that ended.
    pub fn attempts(&self) -> usize {
        self.ended.len()
    }

    /// What is wrong: each attempt ends once, and its wipe was complete; a job is done once at most, and each of
    /// these has an end.
    pub fn findings(&self, jobs: &[Job]) -> Vec<String> {
        let mut findings = Vec::new();
        for (at, times) in self.queued.iter().filter(|(_, times)| **times != 1) {
            findings.push(format!("{at:?} was queued {times} times"));
        }
        for at in self.queued.keys().filter(|at| !self.ended.contains_key(at)) {
            findings.push(format!("{at:?} has not ended"));
        }
        let mut done = BTreeMap::<JobId, u32>::new();
        for ((job, attempt), states) in &self.ended {
            if states.len() != 1 || !self.queued.contains_key(&(*job, *attempt)) {
                findings.push(format!("{job} attempt {attempt} ended {} times", states.len()));
            }
            if self.wiped.get(&(*job, *attempt)) != Some(&true) {
                findings.push(format!("{job} attempt {attempt}: its wipe was not complete"));
            }
            *done.entry(*job).or_default() += states.iter().filter(|state| **state == JobState::Done).count() as u32;
        }
        findings.extend(done.iter().filter(|(_, n)| **n > 1).map(|(job, n)| format!("{job} was done {n} times")));
        for job in jobs {
            if self.ended.get(&(job.job, job.attempt)).map(Vec::as_slice) != Some(&[job.state]) {
                findings.push(format!("the log knows no such end of {} attempt {}", job.job, job.attempt));
            }
        }
        let known: BTreeSet<JobId> = jobs.iter().map(|job| job.job).collect();
        let unknown = done.keys().filter(|job| !known.contains(job));
        findings.extend(unknown.map(|job| format!("nobody submitted {job}")));
        findings
    }
}

/// Checks the whole log against its signed checkpoint, as `decores log check` does.
pub async fn log(crowd: &Crowd) -> Vec<String> {
    let operator = &crowd.operator;
    let key = operator.client.log_key(&operator.trust).unwrap();
    let checked = operator.client.check_log(&key, |_, _| {}).await;
    checked.err().map(|error| format!("the log does not hold: {}", explain(&error))).into_iter().collect()
}

/// What lies in a node's folder, or runs for it, that is neither log nor receipt nor a result that is kept.
pub async fn leftovers(node: &Node, jobs: &[Job]) -> Vec<String> {
    let mut expected = BTreeSet::new();
    for job in jobs {
        let name = |what: &str| format!("{}-{}.{what}", job.job, job.attempt);
        expected.extend(job.result.then(|| name("output")));
        expected.extend(job.logs.then(|| name("logs")));
    }
    let mut findings = Vec::new();
    for _ in 0..50 {
        findings = look(node, &expected);
        if findings.is_empty() {
            break;
        }
        // What was refused a moment ago may still be on its way out.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    findings
}

fn look(node: &Node, expected: &BTreeSet<String>) -> Vec<String> {
    let mut findings = Vec::new();
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let found: BTreeSet<String> = files(&node.home().join("blobs")).iter().map(|path| name(path)).collect();
    // Of a job that is sealed as done, output and logs are kept both, or said to be absent.
    findings.extend(found.difference(expected).map(|name| format!("`{name}` lies on the disk")));
    findings.extend(expected.difference(&found).map(|name| format!("`{name}` is not on the disk")));
    for folder in ["jails", "scratch"] {
        for entry in fs::read_dir(node.home().join(folder)).into_iter().flatten().flatten() {
            findings.push(format!("`{}` is left", entry.path().display()));
        }
    }
    findings.extend(engines(node.pid()).iter().map(|process| format!("{process:?} runs")));
    findings
}
