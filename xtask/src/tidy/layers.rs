//! Who may use whom: the table of ARCHITECTURE.md, held against the manifests.

use super::Findings;
use crate::workspace::{DependencyKind, Workspace};

/// Where a crate stands in the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Foundation,
    Domain,
    Backend,
    Engine,
    Jail,
    Attempt,
    Api,
    Client,
    Cli,
    Http,
    Console,
    HelperLink,
    Program,
    Escape,
    Tool,
}

impl Layer {
    /// What may be used for tests alone: nothing that stands higher.
    fn height(self) -> u8 {
        match self {
            Self::Foundation => 0,
            Self::Domain | Self::Api => 1,
            Self::Backend
            | Self::Engine
            | Self::Jail
            | Self::Attempt
            | Self::Client
            | Self::Http
            | Self::Console
            | Self::HelperLink => 2,
            Self::Cli | Self::Program | Self::Escape => 3,
            Self::Tool => 4,
        }
    }

    /// The rule, for the message that says it is broken.
    fn rule(self) -> &'static str {
        match self {
            Self::Foundation => "foundation uses nothing but foundation",
            Self::Domain => {
                "a domain uses foundation and access; between other domains only \
                 keys -> attestation, compliance -> audit, incidents -> detection, audit -> keys"
            }
            Self::Backend => "a backend uses foundation and domains, and knows no other backend",
            Self::Engine | Self::Jail | Self::Attempt => {
                "an engine uses foundation, attempt, the jail and the domains keys, sandbox, attestation and privacy"
            }
            Self::Api => "the words on the wire use foundation only",
            Self::HelperLink => "the link to the helper uses the launcher, whose words it carries, and foundation",
            Self::Client => "the client uses foundation, api and the domains keys and audit",
            Self::Cli => {
                "the command line uses foundation, api, client, the domains audit and attestation, and backends/system"
            }
            Self::Http => "http uses foundation, domains and api",
            Self::Console => "the console uses foundation, domains, api and http",
            Self::Program => "daemon and helper use everything but engines, client and the command line",
            Self::Escape => "the escape table uses foundation, domains, backends and the engines' jail",
            Self::Tool => "nothing may use tests and tools, but campaign and load the tests",
        }
    }
}

/// A crate's place, from its folder; none if the table has no row for it.
fn place(folder: &str) -> Option<(Layer, &str)> {
    let (group, name) = folder.split_once('/').unwrap_or((folder, ""));
    let layer = match (group, name) {
        ("foundation", _) => Layer::Foundation,
        ("domains", _) => Layer::Domain,
        ("backends", _) => Layer::Backend,
        ("engines", "jail") => Layer::Jail,
        ("engines", "attempt") => Layer::Attempt,
        ("engines", _) => Layer::Engine,
        ("node", "api") => Layer::Api,
        ("node", "client") => Layer::Client,
        ("node", "cli") => Layer::Cli,
        ("node", "http") => Layer::Http,
        ("node", "console") => Layer::Console,
        ("node", "helper-link") => Layer::HelperLink,
        ("node", "daemon" | "helper") => Layer::Program,
        ("node", "escape") => Layer::Escape,
        ("tests" | "campaign" | "load" | "fuzz" | "benches" | "xtask", _) => Layer::Tool,
        _ => return None,
    };
    Some((layer, if name.is_empty() { group } else { name }))
}

/// Whether the first may use the second. The exceptions are in `docs/decisions/0001-client-seals.md`.
fn allowed((from, from_name): (Layer, &str), (to, to_name): (Layer, &str)) -> bool {
    use Layer::{
        Api, Attempt, Backend, Cli, Client, Console, Domain, Engine, Escape, Foundation, HelperLink, Http, Jail,
        Program, Tool,
    };
    match (from, to) {
        // Both drive nodes as the tests do.
        (Tool, Tool) => matches!((from_name, to_name), ("campaign" | "load", "tests")),
        (Tool, _) => true,
        (_, Foundation)
        | (Engine, Attempt)
        | (Engine | Attempt, Jail)
        | (Backend | Http | Console | Program | Escape, Domain) => true,
        // It stands in an engine's place, in jails that the launcher makes.
        (Escape, Backend | Jail) => true,
        (Domain, Domain) => matches!(
            (from_name, to_name),
            ("keys", "attestation")
                | ("compliance", "audit")
                | ("incidents", "detection")
                | ("audit", "keys")
                | (_, "access")
        ),
        (Engine | Jail | Attempt, Domain) => matches!(to_name, "keys" | "sandbox" | "attestation" | "privacy"),
        (Client, Domain) => matches!(to_name, "keys" | "audit"),
        (Cli, Domain) => matches!(to_name, "audit" | "attestation"),
        // A program brings clock and randomness; nothing else of the machine is its business.
        (Cli, Backend) => to_name == "system",
        (Client | Http, Api) | (Cli, Api | Client) | (Console, Api | Http) => true,
        (Program, Backend | Api | Http | Console | HelperLink) | (HelperLink, Backend) => true,
        _ => false,
    }
}

/// What is wrong with one dependency, if anything.
fn judge(from: &str, to: &str, kind: Option<DependencyKind>) -> Option<String> {
    let unknown = |folder| format!("{folder} has no row in the layer table (xtask/src/tidy/layers.rs)");
    let Some(user) = place(from) else { return Some(unknown(from)) };
    let Some(used) = place(to) else { return Some(unknown(to)) };
    if allowed(user, used) {
        return None;
    }
    if kind == Some(DependencyKind::Dev) {
        let fine = used.0.height() <= user.0.height() && used.0 != Layer::Tool;
        return (!fine).then(|| format!("{from} -> {to} (for tests): tests use nothing from a higher layer"));
    }
    let rule = if used.0 == Layer::Tool { used.0.rule() } else { user.0.rule() };
    Some(format!("{from} -> {to}: {rule}"))
}

/// Judges every dependency between crates of this workspace.
pub(super) fn check(workspace: &Workspace, findings: &mut Findings) {
    for member in workspace.members() {
        if place(&member.folder).is_none() {
            findings.error(format!("{} has no row in the layer table (xtask/src/tidy/layers.rs)", member.folder));
            continue;
        }
        for dependency in &member.package.dependencies {
            let to = dependency.path.as_deref().map(|path| workspace.folder_of(path));
            match to {
                None => {}
                Some(None) => {
                    findings
                        .error(format!("{} -> {}: a path outside of the workspace", member.folder, dependency.name));
                }
                Some(Some(to)) => findings.errors.extend(judge(&member.folder, &to, dependency.kind)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(from: &str, to: &str) -> bool {
        judge(from, to, None).is_none()
    }

    #[test]
    fn the_table_allows_what_it_says() {
        for (from, to) in [
            ("foundation/secrets", "foundation/types"),
            ("domains/keys", "domains/attestation"),
            ("domains/audit", "domains/keys"),
            ("domains/posture", "domains/access"),
            ("backends/launcher", "domains/sandbox"),
            ("engines/wasm", "engines/jail"),
            ("engines/container", "engines/attempt"),
            ("engines/attempt", "engines/jail"),
            ("engines/wasm", "domains/keys"),
            ("node/client", "domains/keys"),
            ("node/cli", "domains/audit"),
            ("node/cli", "node/client"),
            ("node/cli", "backends/system"),
            ("node/http", "domains/detection"),
            ("node/daemon", "backends/system"),
            ("node/daemon", "node/http"),
            ("node/escape", "backends/launcher"),
            ("node/escape", "engines/jail"),
            ("tests", "node/client"),
        ] {
            assert!(may(from, to), "{from} -> {to}");
        }
    }

    #[test]
    fn the_table_refuses_what_it_does_not_say() {
        for (from, to) in [
            ("foundation/types", "domains/keys"),
            ("domains/keys", "domains/audit"),
            ("domains/keys", "backends/system"),
            ("domains/access", "domains/audit"),
            ("backends/blobs", "backends/system"),
            ("backends/blobs", "node/api"),
            ("engines/wasm", "domains/audit"),
            ("engines/attempt", "engines/container"),
            ("engines/jail", "engines/attempt"),
            ("engines/wasm", "backends/system"),
            ("engines/wasm", "node/api"),
            ("node/api", "domains/audit"),
            ("node/client", "domains/sandbox"),
            ("node/cli", "domains/keys"),
            ("node/cli", "backends/blobs"),
            ("node/cli", "node/http"),
            ("node/http", "backends/store-sqlite"),
            ("node/http", "node/client"),
            ("node/console", "backends/store-sqlite"),
            ("node/daemon", "node/client"),
            ("node/daemon", "engines/jail"),
            ("node/daemon", "tests"),
            ("node/daemon", "node/escape"),
            ("node/escape", "engines/wasm"),
            ("domains/keys", "xtask"),
        ] {
            assert!(!may(from, to), "{from} -> {to}");
        }
    }

    #[test]
    fn tests_may_go_sideways_but_not_upwards() {
        let dev = Some(DependencyKind::Dev);
        assert!(judge("backends/blobs", "backends/system", dev).is_none());
        assert!(judge("domains/keys", "domains/sandbox", dev).is_none());
        assert!(judge("domains/keys", "backends/system", dev).is_some());
        assert!(judge("node/http", "node/daemon", dev).is_some());
        assert!(judge("node/daemon", "tests", dev).is_some());
    }

    #[test]
    fn the_message_names_edge_and_rule() {
        let message = judge("backends/blobs", "backends/system", None).unwrap_or_default();
        assert!(message.contains("backends/blobs -> backends/system"), "{message}");
        assert!(message.contains("knows no other backend"), "{message}");
    }

    #[test]
    fn a_folder_without_a_row_is_refused() {
        assert!(!may("node/gateway", "foundation/types"));
        assert!(!may("node/daemon", "shared/things"));
    }
}
