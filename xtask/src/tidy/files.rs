//! What no file may be or hold.

use super::Findings;
use crate::workspace::{SourceFile, Workspace};

const MEBIBYTE: u64 = 1 << 20;

/// Where real data lives, which may be large.
const DATA_FOLDERS: &[&str] = &["examples/", "conformance/"];

/// Names that say nothing, and so collect everything.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "manager", "misc", "util", "utils"];

/// What is not finished does not land. Written in two halves so that this file passes.
const UNFINISHED: &[&str] = &[concat!("to", "do!("), concat!("unimple", "mented!("), concat!("#[ign", "ore")];

/// What is wrong with one file, if anything.
fn judge(file: &SourceFile) -> Vec<String> {
    let path = &file.path;
    let mut problems = Vec::new();
    if file.bytes > MEBIBYTE && !DATA_FOLDERS.iter().any(|folder| path.starts_with(folder)) {
        problems.push(format!("{path} is larger than 1 MiB ({} bytes)", file.bytes));
    }
    if let Some(stem) = path.strip_suffix(".rs").and_then(|path| path.rsplit('/').next())
        && EMPTY_NAMES.contains(&stem)
    {
        problems.push(format!("{path}: a name that says nothing; name the noun, or move the code to its one caller"));
    }
    if path.ends_with(".rs") || path.ends_with(".sh") || path.starts_with("scripts/") {
        let text = file.text.as_deref().unwrap_or("");
        for word in UNFINISHED.iter().filter(|word| text.contains(**word)) {
            problems.push(format!("{path} holds `{word}`"));
        }
    }
    problems
}

/// Judges every file of the tree.
pub(super) fn check(workspace: &Workspace, findings: &mut Findings) {
    findings.errors.extend(workspace.files.iter().flat_map(judge));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]
    use super::*;

    fn problems(path: &str, bytes: u64, text: &str) -> usize {
        judge(&SourceFile { path: path.to_owned(), bytes, text: Some(text.to_owned()) }).len()
    }

    #[test]
    fn large_files_are_for_data() {
        assert_eq!(problems("docs/a.png", MEBIBYTE, ""), 0);
        assert_eq!(problems("docs/a.png", MEBIBYTE + 1, ""), 1);
        assert_eq!(problems("examples/weather/weather.csv", 5 * MEBIBYTE, ""), 0);
    }

    #[test]
    fn names_that_say_nothing_are_refused() {
        assert_eq!(problems("domains/keys/src/util.rs", 1, ""), 1);
        assert_eq!(problems("domains/keys/src/epoch.rs", 1, ""), 0);
        assert_eq!(problems("node/helper/src/main.rs", 1, ""), 0);
    }

    #[test]
    fn unfinished_code_is_refused() {
        for word in UNFINISHED {
            assert_eq!(problems("node/api/src/lib.rs", 1, word), 1, "{word}");
        }
        assert_eq!(problems("CONTRIBUTING.md", 1, UNFINISHED[0]), 0);
    }
}
