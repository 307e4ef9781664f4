//! A promise is shown by a test that exists, or says that it is not kept yet.

use super::Findings;
use crate::rust_text::has_function;
use crate::workspace::Workspace;

const PATH: &str = "docs/guarantees.md";

/// What a row says that promises nothing yet.
const NOT_YET: &str = "not yet";

/// The tests that a line names: `` `path/to/file.rs::test_name` ``.
fn named_tests(line: &str) -> Vec<(&str, &str)> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted.filter_map(|word| word.split_once("::")).filter(|(path, _)| path.ends_with(".rs")).collect()
}

/// The promise a row of a table is about, if it is such a row.
fn promise(line: &str) -> Option<u32> {
    line.trim().strip_prefix('|')?.split('|').next()?.trim().parse().ok()
}

/// What is wrong with the page; `text_of` gives the text of a file of the tree.
fn judge<'a>(page: &str, text_of: &dyn Fn(&str) -> Option<&'a str>) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in page.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        let tests = named_tests(line);
        for (path, name) in &tests {
            match text_of(path) {
                None => problems.push(format!("{PATH}:{number} names {path}, which does not exist")),
                Some(text) if !has_function(text, name) => {
                    problems.push(format!("{PATH}:{number} names the test {name}, which is not in {path}"));
                }
                Some(_) => {}
            }
        }
        if let Some(promise) = promise(line)
            && tests.is_empty()
            && !line.contains(NOT_YET)
        {
            problems.push(format!("{PATH}:{number}: promise {promise} names no test and does not say `{NOT_YET}`"));
        }
    }
    problems
}

/// Judges `docs/guarantees.md`.
pub(super) fn check(workspace: &Workspace, findings: &mut Findings) {
    match workspace.text(PATH) {
        None => findings.error(format!("{PATH} is missing")),
        Some(page) => findings.errors.extend(judge(page, &|path| workspace.text(path))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(page: &str) -> Vec<String> {
        judge(page, &|path| (path == "tests/a.rs").then_some("fn refuses_it() {}"))
    }

    #[test]
    fn a_promise_names_a_test_or_says_not_yet() {
        assert!(
            problems("| # | Promise |\n|---|---|\n| 1 | TLS | `tests/a.rs::refuses_it` |\n| 2 | x | not yet |")
                .is_empty()
        );
        assert_eq!(problems("| 1 | TLS | tested |").len(), 1);
    }

    #[test]
    fn a_test_that_does_not_exist_is_refused() {
        assert_eq!(problems("| 1 | TLS | `tests/a.rs::refuses_that` |").len(), 1);
        assert_eq!(problems("| 1 | TLS | `tests/b.rs::refuses_it` |").len(), 1);
        assert_eq!(problems("| 1 | TLS | `tests/a.rs::refuses_it`, `tests/a.rs::gone` |").len(), 1);
        assert_eq!(problems("as `tests/b.rs::refuses_it` shows").len(), 1);
    }
}
