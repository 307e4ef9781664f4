//! Load, fairness and memory; `cargo xtask bench load`, `fairness` and `memory` build what they need and run this.
//! Prints one JSON object, and what happens meanwhile on standard error.

use decores_load::{fairness, memory, run};
use serde_json::Value;
use std::process::ExitCode;
use tokio::task::LocalSet;

const USAGE: &str = "decores-load load JOBS CLIENTS | fairness JOBS short|spinning | memory JOBS";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<usize>().ok()).filter(|number| *number > 0);
    let what = match (words.first().map(String::as_str), number(1), number(2)) {
        (Some("load"), Some(jobs), Some(clients)) => {
            What::Load(run::Plan { jobs, clients, slots: 2, settle: memory::GIVEN_BACK })
        }
        (Some("fairness"), Some(jobs), None) => match words.get(2).and_then(|name| fairness::Kind::parse(name)) {
            Some(flood) => What::Fairness(fairness::Plan { jobs, flood }),
            None => return usage(),
        },
        (Some("memory"), Some(jobs), None) => What::Memory(jobs),
        _ => return usage(),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: failed to start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (figures, bad) = LocalSet::new().block_on(&runtime, what.run());
    println!("{figures}");
    if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn usage() -> ExitCode {
    eprintln!("usage: {USAGE}");
    ExitCode::from(2)
}

enum What {
    Load(run::Plan),
    Fairness(fairness::Plan),
    Memory(usize),
}

impl What {
    /// The figures, and whether anything was not as it must be.
    async fn run(self) -> (Value, bool) {
        match self {
            Self::Load(plan) => {
                let outcome = run::run(plan).await;
                (outcome.to_json(), tell(&outcome.findings))
            }
            Self::Fairness(plan) => (fairness::run(plan).await.to_json(), false),
            Self::Memory(jobs) => {
                let outcome = memory::run(jobs).await;
                (outcome.to_json(), tell(&outcome.findings))
            }
        }
    }
}

fn tell(findings: &[String]) -> bool {
    findings.iter().for_each(|finding| eprintln!("wrong: {finding}"));
    !findings.is_empty()
}
