//! What a node weighs: its own process and the launcher beside it.

use decores_tests::machine::{Process, family};
use serde_json::{Value, json};
use std::fs;

/// Memory and descriptors of one moment. Memory in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weight {
    /// Resident memory of the node (`VmRSS` of `decoresd`).
    pub node_rss: u64,
    /// Its proportional share of what it maps (`Pss`).
    pub node_pss: u64,
    /// Resident memory of its launcher.
    pub launcher_rss: u64,
    /// The launcher's proportional share.
    pub launcher_pss: u64,
    /// Descriptors that the node has open.
    pub descriptors: u64,
    /// Threads of the node.
    pub threads: u64,
}

impl Weight {
    /// Weighs a node.
    pub fn of(node: u32) -> Self {
        let launcher = family(node).into_iter().find(|process| process.name.starts_with("decores-launch"));
        let launcher = launcher.map_or(0, |process| process.pid);
        Self {
            node_rss: field(node, "status", "VmRSS:"),
            node_pss: field(node, "smaps_rollup", "Pss:"),
            launcher_rss: field(launcher, "status", "VmRSS:"),
            launcher_pss: field(launcher, "smaps_rollup", "Pss:"),
            descriptors: fs::read_dir(format!("/proc/{node}/fd")).map_or(0, |list| list.count() as u64),
            threads: field(node, "status", "Threads:"),
        }
    }

    /// Resident memory of both, in KiB.
    pub const fn rss(&self) -> u64 {
        self.node_rss + self.launcher_rss
    }

    /// For a program.
    pub fn to_json(self) -> Value {
        json!({
            "nodeRssKiB": self.node_rss, "nodePssKiB": self.node_pss,
            "launcherRssKiB": self.launcher_rss, "launcherPssKiB": self.launcher_pss,
            "descriptors": self.descriptors, "threads": self.threads,
        })
    }
}

fn field(pid: u32, file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// Engines of a node that run now, and what they started.
pub fn engines(node: u32) -> Vec<Process> {
    family(node).into_iter().filter(|process| process.name == "engine").collect()
}
