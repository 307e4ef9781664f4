//! What we may ship: licences and sources of every package that is built.

use super::Findings;
use crate::workspace::Workspace;

/// Licences that ask for no more than naming them. `deny.toml` holds the same list.
const ALLOWED: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Licences allowed for one package only: (package, licence, why it is fine).
const NAMED: &[(&str, &str, &str)] =
    &[("pathrs", "MPL-2.0", "asks for the source of its own files only; libcontainer cannot be built without it")];

/// Packages that name no expression: (package, version, licence that its own file holds).
const UNNAMED: &[(&str, &str, &str)] = &[("rust-criu", "0.6.1", "MIT")];

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Whether an SPDX expression can be met with allowed licences; an error says what was not understood.
fn is_met(expression: &str, allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut words = words.as_slice();
    let met = alternatives(&mut words, allowed)?;
    match words.first() {
        None => Ok(met),
        Some(word) => Err(format!("unexpected {word}")),
    }
}

fn take(words: &mut &[&str], word: &str) -> bool {
    match words.split_first() {
        Some((first, rest)) if *first == word => {
            *words = rest;
            true
        }
        _ => false,
    }
}

fn alternatives(words: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let mut met = conditions(words, allowed)?;
    while take(words, "OR") {
        met |= conditions(words, allowed)?;
    }
    Ok(met)
}

fn conditions(words: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let mut met = licence(words, allowed)?;
    while take(words, "AND") {
        met &= licence(words, allowed)?;
    }
    Ok(met)
}

fn licence(words: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    if take(words, "(") {
        let met = alternatives(words, allowed)?;
        return if take(words, ")") { Ok(met) } else { Err("a bracket that does not close".to_owned()) };
    }
    let mut next = || match words.split_first() {
        Some((first, rest)) if !matches!(*first, "OR" | "AND" | "WITH" | ")") => {
            *words = rest;
            Ok(*first)
        }
        Some((first, _)) => Err(format!("unexpected {first}")),
        None => Err("it ends early".to_owned()),
    };
    let name = next()?;
    if take(words, "WITH") {
        let Some((exception, rest)) = words.split_first() else { return Err("it ends early".to_owned()) };
        *words = rest;
        return Ok(allowed(&format!("{name} WITH {exception}")));
    }
    Ok(allowed(name))
}

/// What is wrong with one package, if anything.
fn judge(name: &str, licence: Option<&str>, source: Option<&str>) -> Option<String> {
    if source.is_some_and(|source| source != CRATES_IO) {
        return Some(format!("{name} comes from {}: only crates.io and this tree are allowed", source.unwrap_or("")));
    }
    let Some(expression) = licence else {
        return Some(format!("{name} names no licence expression"));
    };
    let allowed = |licence: &str| {
        ALLOWED.contains(&licence) || NAMED.iter().any(|(package, named, _)| *package == name && *named == licence)
    };
    match is_met(expression, &allowed) {
        Ok(true) => None,
        Ok(false) => Some(format!("{name}: licence {expression} is not allowed (xtask/src/tidy/licences.rs)")),
        Err(error) => Some(format!("{name}: licence expression {expression:?}: {error}")),
    }
}

/// Judges every package that is built.
pub(super) fn check(workspace: &Workspace, findings: &mut Findings) {
    for package in &workspace.metadata.packages {
        let name = &package.name;
        let read = UNNAMED.iter().find(|(named, version, _)| named == name && package.version == *version);
        let licence = package.license.as_deref().or(read.map(|(_, _, licence)| *licence));
        if let Some(problem) = judge(name, licence, package.source.as_deref()) {
            findings.error(format!("{problem} (version {})", package.version));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine(licence: &str) -> bool {
        judge("a", Some(licence), Some(CRATES_IO)).is_none()
    }

    #[test]
    fn alternatives_need_one_and_conditions_need_all() {
        assert!(fine("MIT"));
        assert!(fine("MIT/Apache-2.0"));
        assert!(fine("Apache-2.0 OR BSL-1.0"));
        assert!(fine("GPL-3.0 OR (MIT AND BSD-3-Clause)"));
        assert!(fine("Apache-2.0 WITH LLVM-exception OR MIT"));
        assert!(fine("ISC AND (Apache-2.0 OR OpenSSL)"));
        assert!(!fine("GPL-3.0-only"));
        assert!(!fine("MIT AND GPL-3.0-only"));
        assert!(!fine("MIT AND (GPL-3.0-only OR AGPL-3.0)"));
        assert!(!fine("GPL-2.0 WITH Classpath-exception-2.0"));
        assert!(!fine("MIT WITH Unknown-exception"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for expression in ["", "MIT OR", "MIT MIT", "(MIT", "MIT)", "AND MIT", "MIT WITH"] {
            assert!(!fine(expression), "{expression:?}");
        }
        assert!(judge("a", None, None).is_some());
    }

    #[test]
    fn sources_other_than_the_registry_are_refused() {
        assert!(judge("a", Some("MIT"), None).is_none());
        assert!(judge("a", Some("MIT"), Some("git+https://example.org/a#1")).is_some());
        assert!(judge("a", Some("MIT"), Some("registry+https://example.org/index")).is_some());
    }
}
