//! Size budgets: files, functions, and no crate where everything can reach everything.

use super::Findings;
use crate::rust_text::functions;
use crate::workspace::{SourceFile, Workspace};
use std::fmt::Write as _;

const FILE_LINES_TO_WARN: usize = 600;
const FILE_LINES: usize = 1000;
const FUNCTION_LINES: usize = 70;
const SHARE_PERCENT: usize = 15;

/// A house younger than this cannot hold the share: its first crates are all large.
const SHARE_HOLDS_FROM: usize = 30_000;

/// Tests, and the programs beside them that make vectors and measure.
fn is_test_file(path: &str) -> bool {
    let folders = ["/tests/", "/examples/", "/benches/"];
    path.starts_with("tests/") || path.ends_with("/tests.rs") || folders.iter().any(|folder| path.contains(folder))
}

fn judge_file(file: &SourceFile, findings: &mut Findings) {
    let path = &file.path;
    let text = file.text.as_deref().unwrap_or("");
    let lines = text.lines().count();
    if lines > FILE_LINES {
        findings.error(format!("{path} has {lines} lines; at most {FILE_LINES}"));
    } else if lines > FILE_LINES_TO_WARN {
        findings.warn(format!("{path} has {lines} lines; split it by noun before it reaches {FILE_LINES}"));
    }
    if is_test_file(path) {
        return;
    }
    for function in functions(text).iter().filter(|function| function.lines > FUNCTION_LINES) {
        let (name, line, lines) = (&function.name, function.first_line, function.lines);
        findings.error(format!("{path}:{line}: function {name} has {lines} lines; at most {FUNCTION_LINES}"));
    }
}

/// Judges the crates' shares, and prints them.
fn judge_shares(crates: &[(String, usize)], findings: &mut Findings) -> String {
    let total: usize = crates.iter().map(|(_, lines)| lines).sum();
    let mut table = format!("{:<28} {:>7} {:>6}\n", "crate", "lines", "share");
    for (name, lines) in crates {
        let share = lines * 1000 / total.max(1);
        _ = writeln!(table, "{name:<28} {lines:>7} {:>4}.{}%", share / 10, share % 10);
        if lines * 100 > total * SHARE_PERCENT {
            let message = format!("{name} is more than {SHARE_PERCENT}% of all Rust lines ({lines} of {total})");
            if total > SHARE_HOLDS_FROM {
                findings.error(message);
            } else {
                findings.warn(format!("{message}; an error from {SHARE_HOLDS_FROM} lines on"));
            }
        }
    }
    _ = writeln!(table, "{:<28} {total:>7}", "all");
    table
}

/// Judges every Rust file; returns the table of lines per crate.
pub(super) fn check(workspace: &Workspace, findings: &mut Findings) -> String {
    let rust = || workspace.files.iter().filter(|file| file.path.ends_with(".rs"));
    rust().for_each(|file| judge_file(file, findings));
    let crates: Vec<_> = workspace
        .members()
        .into_iter()
        .map(|member| {
            let folder = format!("{}/", member.folder);
            let texts = rust().filter(|file| file.path.starts_with(&folder)).filter_map(|file| file.text.as_deref());
            let lines = texts.map(|text| text.lines().count()).sum();
            (member.folder, lines)
        })
        .collect();
    judge_shares(&crates, findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(path: &str, text: String) -> Findings {
        let mut findings = Findings::default();
        judge_file(&SourceFile { path: path.to_owned(), bytes: 0, text: Some(text) }, &mut findings);
        findings
    }

    #[test]
    fn long_files_are_warned_of_then_refused() {
        assert_eq!(judged("a/src/a.rs", "\n".repeat(600)).warnings.len(), 0);
        assert_eq!(judged("a/src/a.rs", "\n".repeat(601)).warnings.len(), 1);
        assert_eq!(judged("a/src/a.rs", "\n".repeat(1001)).errors.len(), 1);
    }

    #[test]
    fn long_functions_are_refused_outside_of_tests() {
        let body = |lines: usize| format!("fn long() {{\n{}}}\n", "x();\n".repeat(lines - 2));
        assert_eq!(judged("a/src/a.rs", body(70)).errors.len(), 0);
        assert_eq!(judged("a/src/a.rs", body(71)).errors.len(), 1);
        assert_eq!(judged("tests/attacks/a.rs", body(71)).errors.len(), 0);
        assert_eq!(judged("a/src/a.rs", format!("#[cfg(test)]\nmod tests {{\n{}}}\n", body(71))).errors.len(), 0);
    }

    #[test]
    fn a_crate_may_not_hold_the_whole_house() {
        let judged = |lines: usize| {
            let mut findings = Findings::default();
            judge_shares(&[("a".to_owned(), lines), ("b".to_owned(), 30_000)], &mut findings);
            findings.errors.len()
        };
        assert_eq!(judged(1_000), 1, "b alone is too large");
        assert_eq!(judged(30_000), 2);
        let mut young = Findings::default();
        judge_shares(&[("a".to_owned(), 10)], &mut young);
        assert_eq!((young.errors.len(), young.warnings.len()), (0, 1));
    }
}
