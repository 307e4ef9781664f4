//! Every kept input of every target again, on stable: nothing that was found comes back unseen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use decores_fuzz::TARGETS;
use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn targets() -> BTreeSet<String> {
    TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// Replays what lies in a folder per target; how many inputs that were.
fn replay(kept: &str) -> Vec<(&'static str, usize)> {
    let mut counts = Vec::new();
    for (target, run) in TARGETS {
        let folder = folder(kept).join(target);
        let inputs = names(&folder);
        for input in &inputs {
            let bytes = fs::read(folder.join(input)).unwrap();
            assert!(catch_unwind(|| run(&bytes)).is_ok(), "{}", folder.join(input).display());
        }
        counts.push((*target, inputs.len()));
    }
    counts
}

#[test]
fn the_kept_corpus_passes() {
    for (target, inputs) in replay("corpus") {
        assert!(inputs > 0, "{target} has no corpus");
    }
    assert_eq!(names(&folder("corpus")), targets(), "every folder has its target");
}

#[test]
fn what_was_found_stays_mended() {
    replay("regressions");
    assert!(names(&folder("regressions")).is_subset(&targets()), "every folder has its target");
}

/// What nobody can run with `cargo fuzz` is not fuzzed.
#[test]
fn every_target_is_built_for_cargo_fuzz() {
    let manifest = fs::read_to_string(folder("libfuzzer/Cargo.toml")).unwrap();
    let files: BTreeSet<String> = targets().iter().map(|target| format!("{target}.rs")).collect();
    assert_eq!(names(&folder("libfuzzer/targets")), files);
    for target in targets() {
        let path = format!("path = \"targets/{target}.rs\"");
        assert_eq!(manifest.matches(&path).count(), 1, "{target}");
        let text = fs::read_to_string(folder("libfuzzer/targets").join(format!("{target}.rs"))).unwrap();
        assert!(text.contains(&format!("decores_fuzz::{target}(data)")), "{target}");
    }
}
