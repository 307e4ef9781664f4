//! What a receipt says of one attempt.

use crate::code::{Code, Version};
use decores_keys::RootSource;
use decores_types::job::EngineKind;
use decores_types::{
    Attempt, Base64, Commitment, ConsumerId, JobId, JobSpec, JobState, KeyId, Limits, OfferId, Protection, Reason,
    Scratch, Strength, Swap, Timestamp, WipeCategory,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The predicate of the in-toto statement. What an attempt never came to is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Predicate {
    /// Who says it.
    pub node: Node,
    /// Whose job it was.
    pub consumer: ConsumerId,
    /// The job.
    pub job: JobId,
    /// Its attempt.
    pub attempt: Attempt,
    /// The offer it was sealed to.
    pub offer: OfferId,
    /// The spec, as accepted.
    pub spec: JobSpec,
    /// Commitment to the program the engine opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Commitment>,
    /// Commitment to the digest of the image in it, for a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Commitment>,
    /// Commitment to the input the engine opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Commitment>,
    /// Commitment to the output the engine sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Commitment>,
    /// Commitment to the logs the engine sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<Commitment>,
    /// What protection was given; absent, with the next two, where no engine started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protection: Option<Protection>,
    /// How the engine was isolated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// The limits that were enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// How it ended.
    pub result: Outcome,
    /// What was destroyed.
    pub wipe: Wipe,
    /// What is still kept.
    pub retained: Vec<Retained>,
    /// Weakening settings in force, sorted.
    pub insecure: Vec<Code>,
    /// Where the keystore's root lay.
    pub root_source: RootSource,
    /// When.
    pub times: Times,
    /// How strongly each member is known: [`strengths`].
    pub strength: BTreeMap<String, Strength>,
    /// Opens the digests in this job's log entries.
    pub log_key: Base64,
}

/// The node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Node {
    /// Id of the identity key that signs.
    pub identity: KeyId,
    /// Version of its software.
    pub version: Version,
    /// Origin of its log.
    pub log: String,
}

/// How an engine was isolated, as read back from the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Isolation {
    /// As whom it ran.
    pub user: User,
    /// Namespaces of its own, sorted.
    pub namespaces: Vec<Code>,
    /// Whether a seccomp filter was in force.
    pub seccomp: bool,
    /// The Landlock ABI in force; 0 where there was none.
    pub landlock: u32,
    /// Cgroup controllers whose limits held, sorted.
    pub cgroup: Vec<Code>,
    /// Whether its pages could reach a disk.
    pub swap: Swap,
    /// What it could reach.
    pub network: Network,
    /// Name and version.
    pub engine: String,
    /// Where input and output files lay.
    pub scratch: Scratch,
    /// How the container beside it was isolated; absent where none was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
}

/// How a container was isolated, as read back from the kernel before its program started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Container {
    /// What ran it: `libcontainer`, `runc`, `runsc` or `kata`.
    pub runtime: Code,
    /// The version that says of itself.
    pub version: String,
    /// Namespaces of its own, sorted.
    pub namespaces: Vec<Code>,
    /// Whether a seccomp filter was in force.
    pub seccomp: bool,
    /// Whether it had no capabilities and could get none.
    pub powerless: bool,
    /// Whether its users were mapped to a range that no other job had.
    pub own_ids: bool,
    /// Cgroup controllers whose limits held, sorted.
    pub cgroup: Vec<Code>,
}

impl Container {
    /// What such a container may be called.
    pub fn protection(&self) -> Protection {
        if self.runtime.as_str() == "kata" { Protection::Vm } else { Protection::Container }
    }

    /// Whether its runtime runs programs on a kernel of its own, whose hold on them the node cannot read.
    #[must_use]
    pub fn own_kernel(&self) -> bool {
        matches!(self.runtime.as_str(), "runsc" | "kata")
    }
}

/// As whom an engine ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum User {
    /// A user no other live job had.
    Own,
    /// The node's own user.
    Shared,
}

/// What an engine could reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Nothing.
    None,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Outcome {
    /// In which state.
    pub state: JobState,
    /// Why.
    pub reason: Reason,
    /// The program's exit code; absent where it did not end by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// What it used; absent where no engine started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// What an attempt used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Usage {
    /// Milliseconds the program ran; absent where the engine gave no credible word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u64>,
    /// Milliseconds of compiling; absent where the engine gave no credible word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile_ms: Option<u64>,
    /// Milliseconds of processor time.
    pub cpu_ms: u64,
    /// Peak memory, in bytes.
    pub memory_bytes: u64,
}

/// What was destroyed, and what was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Wipe {
    /// Where the categories come from.
    pub standard: String,
    /// The weakest category among the checks; absent where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<WipeCategory>,
    /// Each thing, in order.
    pub checks: Vec<WipeCheck>,
    /// Whether every check passed.
    pub complete: bool,
    /// What no check covers.
    pub not_covered: Vec<String>,
}

/// One thing that was destroyed and looked for afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WipeCheck {
    /// What.
    pub what: Code,
    /// How it was destroyed.
    pub category: WipeCategory,
    /// Whether it was found gone.
    pub passed: bool,
}

/// Something that is still kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Retained {
    /// What, such as `log-entries` or `sealed-output`.
    pub what: Code,
    /// Until when; absent where for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// When, by the node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Times {
    /// Accepted.
    pub queued: Timestamp,
    /// The engine started; absent where none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// Wiped and over.
    pub ended: Timestamp,
}

/// How strongly each member is known of a node without hardware evidence: by its own word.
pub fn strengths(engine: EngineKind) -> BTreeMap<String, Strength> {
    const MEMBERS: [&str; 19] = [
        "attempt",
        "consumer",
        "input",
        "insecure",
        "isolation",
        "job",
        "limits",
        "logs",
        "node",
        "offer",
        "output",
        "program",
        "protection",
        "result",
        "retained",
        "rootSource",
        "spec",
        "times",
        "wipe",
    ];
    let image = match engine {
        EngineKind::Wasm => None,
        EngineKind::Container => Some("image"),
    };
    MEMBERS.into_iter().chain(image).map(|m| (m.to_owned(), Strength::Asserted)).collect()
}
