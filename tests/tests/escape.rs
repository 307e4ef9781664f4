//! The escape table: nothing gets out of a jail, and whatever is left out of one is noticed.
//!
//! To be run as root, as a provider does: without, fewer limits hold and the table says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use decores_sandbox::Hole;
use decores_tests::cli::Cli;
use decores_tests::programs::program;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const ENGINES: [&str; 2] = ["wasm", "container"];
/// Exit code of a table with an escape in it.
const REFUSED: i32 = 3;

fn table(arguments: &[&str], code: i32) -> Vec<Value> {
    // What `decores` runs must be there too.
    for name in ["decores-escape", "decores-engine-container", "decores-helper"] {
        program(name);
    }
    let ran = Cli::default().run([&["doctor", "--escape", "--json"], arguments].concat()).is(code);
    serde_json::from_str(&ran.stdout).unwrap()
}

fn word<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_else(|| panic!("no `{name}` in {row}"))
}

#[test]
fn nothing_escapes_and_every_mechanism_that_is_left_out_is_noticed() {
    let rows = table(&[], 0);
    for engine in ENGINES {
        let rows: Vec<&Value> = rows.iter().filter(|row| word(row, "engine") == engine).collect();
        let of = |result: &str| rows.iter().filter(|row| word(row, "result") == result).copied().collect::<Vec<_>>();
        assert_eq!(of("escaped"), Vec::<&Value>::new());
        let absent = of("absent");
        assert!(absent.len() <= 8 && absent.iter().all(|row| word(row, "errno").starts_with('E')), "{absent:?}");
        assert_eq!(of("contained").len() + absent.len(), rows.len());
        let names: BTreeSet<&str> = rows.iter().map(|row| word(row, "probe")).collect();
        assert!(names.len() == rows.len() && rows.len() >= 40, "{engine}: {} rows", rows.len());
    }
    holes_are_noticed(&rows);
}

/// What is stopped by several mechanisms, each of them enough, needs all of them left out.
fn holes_are_noticed(rows: &[Value]) {
    let mut groups: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for row in rows.iter().filter(|row| word(row, "result") == "contained") {
        groups.entry((word(row, "engine"), word(row, "mechanism"))).or_default().push(word(row, "probe"));
    }
    let mut left_out = BTreeSet::new();
    for ((engine, mechanisms), probes) in groups {
        let holes: Vec<&str> = mechanisms.split(", ").collect();
        let mut arguments = vec!["--engine", engine];
        arguments.extend(holes.iter().flat_map(|hole| ["--hole", hole]));
        arguments.extend(probes.iter().flat_map(|probe| ["--probe", probe]));
        let rows = table(&arguments, REFUSED);
        let held: Vec<&Value> = rows.iter().filter(|row| word(row, "result") != "escaped").collect();
        assert!(held.is_empty() && rows.len() == probes.len(), "{engine} without {mechanisms}: {held:?}");
        left_out.extend(holes.into_iter().map(str::to_owned));
    }
    let all: BTreeSet<String> = Hole::ALL.iter().map(|hole| hole.as_str().to_owned()).collect();
    assert_eq!(left_out, all);
}

#[test]
fn what_is_no_mechanism_probe_or_engine_is_refused() {
    for (flag, says) in [("--hole", "no such mechanism"), ("--probe", "no such probe"), ("--engine", "invalid value")] {
        Cli::default().run(["doctor", "--escape", flag, "nothing"]).is(2).says(says);
        Cli::default().run(["doctor", flag, "nothing"]).is(2);
    }
}
