//! What was destroyed, how, and what was checked.

use decores_types::WipeCategory;
use serde::{Deserialize, Serialize};

/// One thing that was destroyed and looked for afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WipeCheck {
    /// What: `offer-key`, `sealed-input`, `processes`, `cgroup`, `mounts`, `scratch`.
    pub what: String,
    /// How it was destroyed.
    pub category: WipeCategory,
    /// Whether the check found it gone.
    pub passed: bool,
}

/// The wipe of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WipeRecord {
    /// The standard the categories come from.
    pub standard: String,
    /// Each thing, in order.
    pub checks: Vec<WipeCheck>,
    /// Whether every check passed.
    pub complete: bool,
    /// What no check covers.
    pub not_covered: Vec<String>,
}

impl WipeRecord {
    /// The record of these checks.
    pub fn new(checks: Vec<WipeCheck>) -> Self {
        Self {
            standard: "NIST SP 800-88 Rev. 2".to_owned(),
            complete: !checks.is_empty() && checks.iter().all(|c| c.passed),
            checks,
            not_covered: NOT_COVERED.iter().map(|s| (*s).to_owned()).collect(),
        }
    }

    /// The category of the whole: the weakest of its parts.
    pub fn category(&self) -> Option<WipeCategory> {
        self.checks.iter().map(|c| c.category).min()
    }
}

/// What no software on a running machine can check.
const NOT_COVERED: [&str; 4] = [
    "memory freed by the kernel is reused, not overwritten, unless the kernel runs with init_on_free",
    "copies in processor caches and registers",
    "remanence of memory chips and of storage cells",
    "snapshots of the machine taken by whoever runs its hypervisor or holds root",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(category: WipeCategory, passed: bool) -> WipeCheck {
        WipeCheck { what: "x".to_owned(), category, passed }
    }

    #[test]
    fn a_wipe_is_complete_only_if_every_check_passed() {
        let key = check(WipeCategory::PurgeCryptographicErase, true);
        assert!(WipeRecord::new(vec![key.clone(), check(WipeCategory::Clear, true)]).complete);
        assert!(!WipeRecord::new(vec![key, check(WipeCategory::Clear, false)]).complete);
        assert!(!WipeRecord::new(Vec::new()).complete, "nothing checked is nothing shown");
    }

    #[test]
    fn the_category_is_that_of_the_weakest_part() {
        let parts = vec![check(WipeCategory::PurgeCryptographicErase, true), check(WipeCategory::Clear, true)];
        assert_eq!(WipeRecord::new(parts).category(), Some(WipeCategory::Clear));
        assert_eq!(WipeRecord::new(Vec::new()).category(), None);
    }
}
