//! Destroying what an attempt held, and looking whether it is gone.

use crate::blobs::names;
use crate::node::Node;
use anyhow::Result;
use decores_blobs::{BlobError, BlobName};
use decores_keys::OfferKey;
use decores_launcher::{LaunchError, LauncherHandle, Leftovers};
use decores_sandbox::{IsolationPlan, WipeCheck};
use decores_types::{Attempt, JobId, WipeCategory, chain};

/// What the check of the offer key is called.
pub(crate) const OFFER_KEY: &str = "offer-key";
/// What the check of an engine's processes is called.
const PROCESSES: &str = "processes";
/// What the check of the payload is called.
pub(crate) const SEALED_INPUT: &str = "sealed-input";
/// What the check of a sealed output is called that no record keeps.
pub(crate) const SEALED_OUTPUT: &str = "sealed-output";
/// What the check of sealed logs is called that no record keeps.
pub(crate) const SEALED_LOGS: &str = "sealed-logs";

/// What the check of a kept program is called that nobody keeps any more.
pub(crate) const SEALED_MODULE: &str = "sealed-module";

/// What was looked at, and why some of it is not known to be gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wiped {
    pub(crate) checks: Vec<WipeCheck>,
    pub(crate) causes: Vec<String>,
}

/// When an engine's traces are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// The launcher did when the engine ended, and this is what it found then, if it told; it tries again only where
    /// something is left.
    AtItsEnd(Option<Leftovers>),
    /// Nobody has since: it may be a former launcher's engine.
    Now,
}

impl Wiped {
    fn add(&mut self, what: &str, category: WipeCategory, passed: bool) {
        self.checks.push(WipeCheck { what: what.to_owned(), category, passed });
    }

    /// Processes, control groups, mounts and scratch of an engine.
    pub(crate) async fn engine(&mut self, node: &Node, plan: &IsolationPlan, when: When) {
        let left = left(node, plan, when).await.unwrap_or_else(|error| {
            tracing::error!(job = %plan.job, error, "failed to look for leftovers");
            self.causes.push(error);
            Leftovers { processes: true, cgroup: true, mounts: true, scratch: true }
        });
        self.add(PROCESSES, WipeCategory::Clear, !left.processes);
        self.add("cgroup", WipeCategory::Clear, !left.cgroup);
        self.add("mounts", WipeCategory::Clear, !left.mounts);
        self.add("scratch", WipeCategory::Clear, !left.scratch);
    }

    /// The key that opens the payload; without one, the process that held it is gone, and with it its locked memory.
    pub(crate) fn offer_key(&mut self, key: Option<OfferKey>) {
        let gone = key.is_none_or(|key| key.key.destroy());
        self.add(OFFER_KEY, WipeCategory::Clear, gone);
    }

    /// How the payload goes: nobody can open a copy of it only where all who held its key are gone, the engine too.
    pub(crate) fn of_payload(&self) -> WipeCategory {
        let passed = |what| self.checks.iter().find(|check| check.what == what).map(|check| check.passed);
        if passed(OFFER_KEY) == Some(true) && passed(PROCESSES) != Some(false) {
            WipeCategory::PurgeCryptographicErase
        } else {
            WipeCategory::Clear
        }
    }

    /// One of an attempt's sealed files, by the name of its check.
    pub(crate) async fn file(
        &mut self,
        node: &Node,
        (job, attempt): (JobId, Attempt),
        what: &str,
        category: WipeCategory,
    ) {
        let deleted = match file_of(job, attempt, what) {
            Ok(name) => delete(node, name).await,
            Err(error) => Err(chain(&error)),
        };
        if let Err(error) = &deleted {
            tracing::error!(%job, error, "failed to delete a sealed file");
            self.causes.push(error.clone());
        }
        self.add(what, category, deleted.is_ok());
    }
}

/// The file that a check is about.
fn file_of(job: JobId, attempt: Attempt, what: &str) -> Result<BlobName, BlobError> {
    let names = names(job, attempt)?;
    Ok(match what {
        SEALED_OUTPUT => names.output,
        SEALED_LOGS => names.logs,
        SEALED_MODULE => names.module,
        _ => names.payload,
    })
}

/// The check that is about a file.
pub(crate) fn check_of(blob: &BlobName) -> &'static str {
    match blob.as_str().rsplit_once('.') {
        Some((_, "output")) => SEALED_OUTPUT,
        Some((_, "logs")) => SEALED_LOGS,
        Some((_, "module")) => SEALED_MODULE,
        _ => SEALED_INPUT,
    }
}

/// Deletes a sealed file, and looks that it is gone; says why not.
pub(crate) async fn delete(node: &Node, name: BlobName) -> Result<(), String> {
    let blobs = node.blobs.clone();
    match tokio::task::spawn_blocking(move || blobs.delete(&name)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(chain(&error)),
        Err(error) => Err(error.to_string()),
    }
}

/// What the machine shows of an engine once it was removed.
async fn left(node: &Node, plan: &IsolationPlan, when: When) -> Result<Leftovers, String> {
    if when == When::AtItsEnd(Some(Leftovers::default())) {
        return Ok(Leftovers::default());
    }
    let (launcher, plan) = (node.launcher.clone(), plan.clone());
    match tokio::task::spawn_blocking(move || remove(&launcher, &plan, when)).await {
        Ok(Ok(left)) => Ok(left),
        Ok(Err(error)) => Err(chain(&error)),
        Err(error) => Err(error.to_string()),
    }
}

fn remove(launcher: &LauncherHandle, plan: &IsolationPlan, when: When) -> Result<Leftovers, LaunchError> {
    match when {
        When::AtItsEnd(_) => match launcher.inspect(plan.job, plan.attempt)? {
            left if left == Leftovers::default() => Ok(left),
            _ => launcher.remove(plan),
        },
        When::Now => launcher.remove(plan),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_whose_key_somebody_may_still_hold_is_not_called_erased() {
        let of = |checks: &[(&str, bool)]| {
            let mut wiped = Wiped::default();
            checks.iter().for_each(|(what, passed)| wiped.add(what, WipeCategory::Clear, *passed));
            wiped.of_payload()
        };
        let erased = WipeCategory::PurgeCryptographicErase;
        assert_eq!(of(&[(OFFER_KEY, true)]), erased);
        assert_eq!(of(&[(PROCESSES, true), ("mounts", false), (OFFER_KEY, true)]), erased);
        assert_eq!(of(&[(PROCESSES, false), (OFFER_KEY, true)]), WipeCategory::Clear);
        assert_eq!(of(&[(PROCESSES, true), (OFFER_KEY, false)]), WipeCategory::Clear);
        assert_eq!(of(&[]), WipeCategory::Clear);
    }
}
