//! Many runs, two at a time, and what they came to.

use super::client::Book;
use super::damage::{self, Outcome};
use super::nest::{Nest, is_root};
use super::plan::{CHAIN, Kind, Run, run};
use super::{Finding, Wrong};
use decores_tests::node::Settings;
use decores_tests::wait::timed;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Runs at a time.
const WORKERS: usize = 2;

/// What to run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Seed of the plan.
    pub seed: u64,
    /// Indexes, each a run.
    pub indexes: Vec<u64>,
    /// Whether damage that needs root is done.
    pub root: bool,
    /// What a failure says for its replay: a command, to which seed and index are added.
    pub command: String,
}

/// A run that was done, or why it was not.
#[derive(Debug)]
pub struct Ran {
    /// The run.
    pub run: Run,
    /// What it came to.
    pub outcome: Result<Outcome, &'static str>,
    /// Where to look, if anything was found.
    pub folder: Option<PathBuf>,
    /// How long it took.
    pub took: Duration,
}

/// Settings with short limits of time, so that a process that stands still passes all of them.
fn settings() -> Settings {
    Settings { slots: 2, offer_seconds: 5, head_seconds: 2, body_seconds: 2, ..Settings::default() }
}

impl Campaign {
    /// The first `runs` runs of these kinds.
    pub fn new(seed: u64, runs: usize, kinds: &[Kind], command: &str) -> Self {
        let wanted = (0..).filter(|index| kinds.contains(&super::plan::kind(*index)));
        let root = is_root();
        Self { seed, indexes: wanted.take(runs).collect(), root, command: command.to_owned() }
    }

    /// One run, and those before it on the same home.
    pub fn one(seed: u64, index: u64, kinds: &[Kind], command: &str) -> Self {
        let indexes =
            (index - index % CHAIN..=index).filter(|at| *at == index || kinds.contains(&super::plan::kind(*at)));
        Self { seed, indexes: indexes.collect(), root: is_root(), command: command.to_owned() }
    }

    /// Does all runs; `told` hears of each when it is over.
    pub fn go(&self, told: &(dyn Fn(&Ran) + Sync)) -> Vec<Ran> {
        let mut chains: BTreeMap<u64, VecDeque<u64>> = BTreeMap::new();
        for index in &self.indexes {
            chains.entry(index / CHAIN).or_default().push_back(*index);
        }
        let chains = Mutex::new(chains.into_values().collect::<VecDeque<_>>());
        let done = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    loop {
                        let chain = chains.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let Some(chain) = chain else { return };
                        self.chain(chain, &mut |ran| {
                            told(&ran);
                            done.lock().unwrap_or_else(PoisonError::into_inner).push(ran);
                        });
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|ran| ran.run.index);
        done
    }

    /// Runs on one home, one after the other; after a finding the next one gets a fresh home.
    fn chain(&self, indexes: VecDeque<u64>, done: &mut dyn FnMut(Ran)) {
        let mut home: Option<(Nest, Book)> = None;
        for index in indexes {
            let run = run(self.seed, index);
            if let Some(why) = run.obstacle(self.root) {
                done(Ran { run, outcome: Err(why), folder: None, took: Duration::ZERO });
                continue;
            }
            let (outcome, took) = timed(|| self.run(&run, &mut home));
            let folder = match &mut home {
                Some((nest, _)) if !outcome.findings.is_empty() => {
                    nest.keep();
                    Some(nest.folder().to_owned())
                }
                _ => None,
            };
            if folder.is_some() {
                home = None;
            }
            done(Ran { run, outcome: Ok(outcome), folder, took });
        }
    }

    fn run(&self, run: &Run, home: &mut Option<(Nest, Book)>) -> Outcome {
        let failed = |what: String| Outcome {
            struck: None,
            findings: vec![Finding::new(Wrong::Failure, what)],
            note: String::new(),
        };
        if home.is_none() {
            match Nest::make(&format!("{}-{}", run.seed, run.index), &settings(), self.root, run.served) {
                Ok(nest) => *home = Some((nest, Book::default())),
                Err(error) => return failed(error),
            }
        }
        let Some((nest, book)) = home.as_mut() else { return failed("there is no home".to_owned()) };
        let ran = catch_unwind(AssertUnwindSafe(|| damage::execute(run, nest, book)));
        ran.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            failed(text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
        })
    }

    /// How to have a run again.
    pub fn replay(&self, run: &Run) -> String {
        format!("{} --seed {} --run {}", self.command, run.seed, run.index)
    }
}

impl Ran {
    /// Whether it was done and nothing was found.
    pub fn is_good(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|outcome| outcome.findings.is_empty())
    }

    /// One line on it, and one on each finding.
    pub fn tell(&self, campaign: &Campaign) -> String {
        let Self { run, outcome, folder, took } = self;
        let mut text = String::new();
        match outcome {
            Err(why) => _ = write!(text, "not run  {run}: {why}"),
            Ok(Outcome { struck, findings, note }) => {
                let verdict = if findings.is_empty() { "good    " } else { "BAD     " };
                let struck = struck.map_or_else(|| "nothing".to_owned(), |state| state.to_string());
                _ = write!(text, "{verdict} {run}; struck {struck}; {:.1} s", took.as_secs_f64());
                if !note.is_empty() {
                    _ = write!(text, " ({note})");
                }
                for finding in findings {
                    _ = write!(text, "\n         {finding}");
                }
                if !findings.is_empty() {
                    _ = write!(text, "\n         replay: {}", campaign.replay(run));
                }
                if let Some(folder) = folder {
                    _ = write!(text, "\n         kept: {}", folder.display());
                }
            }
        }
        text
    }
}

/// A table of runs by the state in which they struck, and kind.
pub fn table(ran: &[Ran]) -> String {
    let mut counts: BTreeMap<(String, Kind), usize> = BTreeMap::new();
    let mut order = vec!["nothing".to_owned()];
    use decores_types::JobState::{
        Attesting, Cancelled, Done, Failed, Queued, Refused, Running, Sealing, Starting, Wiping,
    };
    order.extend(
        [Queued, Attesting, Starting, Running, Sealing, Wiping, Done, Failed, Refused, Cancelled]
            .map(|s| s.to_string()),
    );
    for ran in ran {
        if let Ok(outcome) = &ran.outcome {
            let state = outcome.struck.map_or_else(|| "nothing".to_owned(), |state| state.to_string());
            *counts.entry((state, ran.run.kind())).or_default() += 1;
        }
    }
    let mut text = format!("{:<10}", "struck");
    Kind::ALL.iter().for_each(|kind| _ = write!(text, "{:>8}", kind.name()));
    for state in order.iter().filter(|state| counts.keys().any(|(s, _)| s == *state)) {
        _ = write!(text, "\n{state:<10}");
        for kind in Kind::ALL {
            _ = write!(text, "{:>8}", counts.get(&(state.clone(), kind)).copied().unwrap_or(0));
        }
    }
    text
}

/// The one line that says it all.
pub fn summary(campaign: &Campaign, ran: &[Ran]) -> String {
    let done = || ran.iter().filter_map(|ran| ran.outcome.as_ref().ok().map(|outcome| (ran, outcome)));
    let kinds =
        Kind::ALL.map(|kind| format!("{} {}", kind.name(), done().filter(|(r, _)| r.run.kind() == kind).count()));
    let found = |kind| done().flat_map(|(_, o)| &o.findings).filter(|f| f.kind == kind).count();
    let [losses, leftovers, forks, plaintext, failures] =
        [Wrong::Loss, Wrong::Leftover, Wrong::Fork, Wrong::Plaintext, Wrong::Failure].map(found);
    let mut text = format!(
        "campaign: {} runs, seed {}: {}; losses {losses}, leftovers {leftovers}, forks {forks}, plaintext {plaintext}, \
         failures {failures}",
        done().count(),
        campaign.seed,
        kinds.join(", ")
    );
    let mut missing: BTreeMap<(Kind, &str), usize> = BTreeMap::new();
    for ran in ran {
        if let Err(why) = ran.outcome {
            *missing.entry((ran.run.kind(), why)).or_default() += 1;
        }
    }
    for ((kind, why), count) in missing {
        _ = write!(text, "; not run: {count} {} ({why})", kind.name());
    }
    text
}
