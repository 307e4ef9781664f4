//! The crash campaign; `cargo xtask campaign crash` builds what it needs and runs it.

use decores_campaign::plan::Kind;
use decores_campaign::report::{Campaign, Ran, summary, table};
use serde_json::{Value, json};
use std::process::ExitCode;

const USAGE: &str = "campaign [--runs N] [--seed N] [--only KIND[,KIND]] [--run INDEX] [--json FILE]";
/// What a replay is asked for with.
const COMMAND: &str = "cargo xtask campaign crash";

#[derive(Default)]
struct Options {
    runs: Option<usize>,
    seed: u64,
    only: Option<String>,
    run: Option<u64>,
    json: Option<String>,
}

fn options() -> Option<Options> {
    let mut options = Options { seed: 1, ..Options::default() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next()?;
        match word.as_str() {
            "--runs" => options.runs = Some(value.parse().ok()?),
            "--seed" => options.seed = value.parse().ok()?,
            "--only" => options.only = Some(value),
            "--run" => options.run = Some(value.parse().ok()?),
            "--json" => options.json = Some(value),
            _ => return None,
        }
    }
    Some(options)
}

fn kinds(only: Option<&str>) -> Option<Vec<Kind>> {
    let Some(only) = only else { return Some(Kind::ALL.to_vec()) };
    only.split(',').map(|name| Kind::ALL.into_iter().find(|kind| kind.name() == name)).collect()
}

fn json_of(ran: &Ran) -> Value {
    let run = json!({ "index": ran.run.index, "run": ran.run.to_string(), "kind": ran.run.kind().name() });
    let outcome = match &ran.outcome {
        Err(why) => json!({ "notRun": why }),
        Ok(outcome) => json!({
            "struck": outcome.struck.map(|state| state.to_string()),
            "note": outcome.note,
            "findings": outcome.findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "ms": u64::try_from(ran.took.as_millis()).unwrap_or(u64::MAX),
        }),
    };
    json!({ "plan": run, "outcome": outcome })
}

fn main() -> ExitCode {
    let parsed = options().and_then(|options| Some((kinds(options.only.as_deref())?, options)));
    let Some((kinds, options)) = parsed else {
        eprintln!("usage: {USAGE}\nkinds: {}", Kind::ALL.map(Kind::name).join(", "));
        return ExitCode::from(2);
    };
    let only = options.only.map(|only| format!(" --only {only}")).unwrap_or_default();
    let command = format!("{COMMAND}{only}");
    let campaign = match options.run {
        Some(index) => Campaign::one(options.seed, index, &kinds, &command),
        None => Campaign::new(options.seed, options.runs.unwrap_or(60), &kinds, &command),
    };
    let ran = campaign.go(&|ran| println!("{}", ran.tell(&campaign)));
    if let Some(file) = options.json {
        let document = json!({ "seed": options.seed, "runs": ran.iter().map(json_of).collect::<Vec<_>>() });
        if let Err(error) = std::fs::write(&file, format!("{document:#}\n")) {
            eprintln!("error: failed to write `{file}`: {error}");
            return ExitCode::FAILURE;
        }
    }
    println!("\n{}\n\n{}", table(&ran), summary(&campaign, &ran));
    let bad = ran.iter().any(|ran| ran.outcome.as_ref().is_ok_and(|outcome| !outcome.findings.is_empty()));
    if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
