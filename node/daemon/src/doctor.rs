//! `decoresd doctor`: what this machine can do, what it cannot, why it matters, and what mends it.

use crate::args::Doctor;
use crate::boot::Root;
use crate::config::{self, RootChoice};
use crate::home::Home;
use crate::restart::open_states;
use crate::run::{bad_config, start_launcher};
use anyhow::{Context as _, Result};
use decores_audit::ports::{Select, Store as _, Table};
use decores_posture::{Check, Containers, Facts, RootPlace, State, checks, worst};
use decores_sandbox::{HostCapabilities, Runtime};
use decores_secrets::{ARENA_BYTES, Arena, ArenaKind};
use decores_store_sqlite::{LockError, OpenError, SqliteStore};
use std::io::Write as _;
use std::process::ExitCode;

/// Most unfinished wipes that are counted.
const MOST: usize = 1000;

/// Looks, prints, and answers 1 where something is missing that jobs need.
pub(crate) fn run(flags: &Doctor) -> Result<ExitCode> {
    let common = &flags.common;
    let home = Home::open(&common.home)?;
    let config = match config::load(home.path(), common.config.as_deref(), None) {
        Ok(config) => config,
        Err(error) => return Ok(bad_config(&error)),
    };
    let launcher = start_launcher(&config, &home, false)?.connect()?;
    let host = launcher.probe().context("failed to find out what this machine can isolate")?;
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(std::path::PathBuf::from);
    let root = match &config.root {
        // Not read here: it may be a pipe that the node itself is to read.
        RootChoice::Passphrase(_) => RootPlace::Passphrase,
        choice => match Root::choose(choice, &home, credentials.as_deref())? {
            Root::Passphrase(_) => RootPlace::Passphrase,
            Root::Credential(_) => RootPlace::Credential,
            Root::BesideData => RootPlace::BesideData,
        },
    };
    let mut checks = checks(&observe(&host, root, config.runtime));
    checks.push(wipes(&match flags.unfinished {
        Some(unfinished) => Unfinished::Known(unfinished),
        None => count(&home).unwrap_or_else(|error| Unfinished::Unreadable(format!("{error:#}"))),
    }));
    let state = worst(&checks);
    let mut out = std::io::stdout().lock();
    if common.json {
        serde_json::to_writer_pretty(&mut out, &serde_json::json!({ "checks": checks, "worst": state }))?;
        writeln!(out)?;
    } else {
        for check in &checks {
            writeln!(out, "{:<8} {}", check.state, check.title)?;
            if check.state != State::Ok {
                writeln!(out, "         why:  {}", check.why)?;
            }
            if let Some(mend) = &check.mend {
                writeln!(out, "         mend: {mend}")?;
            }
        }
        let count = |state| checks.iter().filter(|c| c.state == state).count();
        let (ok, weak, missing) = (count(State::Ok), count(State::Weak), count(State::Missing));
        writeln!(out, "\n{ok} ok, {weak} weak, {missing} missing")?;
    }
    Ok(if state == State::Missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Wipes that have not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Unfinished {
    Known(usize),
    /// No node runs that could finish them.
    Waiting(usize),
    /// A node runs, and only it can be asked.
    NodeRuns,
    /// The store cannot be read, and why.
    Unreadable(String),
}

/// Counts what the store of a node that does not run remembers, and what its end cut off; without its keys.
fn count(home: &Home) -> Result<Unfinished> {
    if !home.database().exists() {
        return Ok(Unfinished::Known(0));
    }
    let store = match SqliteStore::open(&home.database()) {
        Ok(store) => store,
        Err(OpenError::Lock(LockError::Taken { .. })) => return Ok(Unfinished::NodeRuns),
        Err(error) => return Err(error).context("failed to open the node's state"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let left = runtime.block_on(store.list(Table::Leftovers, Select { limit: MOST, ..Select::default() }))?;
    let cut_off = Select { states: open_states(), limit: MOST, ..Select::default() };
    let cut_off = runtime.block_on(store.list(Table::Jobs, cut_off))?;
    Ok(Unfinished::Waiting(left.len() + cut_off.len()))
}

fn wipes(unfinished: &Unfinished) -> Check {
    let (title, state, mend) = match unfinished {
        Unfinished::Known(0) | Unfinished::Waiting(0) => ("every wipe is finished".to_owned(), State::Ok, None),
        Unfinished::Waiting(n) => (
            format!("unfinished wipes: {n}"),
            State::Missing,
            Some("start the node, which finishes them: `decores up`"),
        ),
        Unfinished::Known(n) => (format!("unfinished wipes: {n}"), State::Missing, Some("decores doctor --mend")),
        Unfinished::NodeRuns => {
            let title = "whether every wipe is finished is not known: a node runs here, and was not asked";
            (title.to_owned(), State::Weak, Some("log in to it as operator with `decores login`, and ask again"))
        }
        Unfinished::Unreadable(why) => {
            let title = format!("whether every wipe is finished is not known: {why}");
            (title, State::Missing, Some("make the node's folder readable, or restore it from a backup"))
        }
    };
    Check {
        id: "wipes".to_owned(),
        title,
        state,
        why: "what a wipe left behind blocks the place and the user id of its job".to_owned(),
        mend: mend.map(str::to_owned),
    }
}

fn observe(host: &HostCapabilities, root: RootPlace, runtime: Option<Runtime>) -> Facts {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    Facts {
        own_users: host.own_users,
        namespaces: host.namespaces.iter().map(ToString::to_string).collect(),
        cgroup: host.cgroup.clone(),
        landlock_abi: host.landlock_abi,
        seccomp: host.seccomp,
        tmpfs_noswap: host.tmpfs_noswap,
        encrypted_scratch: host.encrypted_scratch,
        swap: host.swap,
        containers: runtime.map(|runtime| Containers {
            runtime: runtime.to_string(),
            protection: runtime.protection(),
            version: host.container.as_ref().map(|container| container.version.clone()),
            why: host.no_container.clone(),
        }),
        secret_memory: Arena::global().is_ok_and(|arena| arena.kind() == ArenaKind::MemfdSecret),
        memlock_bytes: memlock(),
        arena_bytes: ARENA_BYTES as u64,
        root,
        core_pattern: read("/proc/sys/kernel/core_pattern"),
        init_on_free: read("/proc/cmdline").map(|line| line.split_whitespace().any(|word| word == "init_on_free=1")),
        ptrace_scope: read("/proc/sys/kernel/yama/ptrace_scope").and_then(|text| text.parse().ok()),
    }
}

/// The soft limit on locked memory, in bytes; `None` where there is none or it cannot be read.
fn memlock() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max locked memory"))?;
    line.trim_start_matches("Max locked memory").split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_not_known_is_not_called_ok() {
        assert_eq!(wipes(&Unfinished::Known(0)).state, State::Ok);
        assert_eq!(wipes(&Unfinished::Known(2)).state, State::Missing);
        let runs = wipes(&Unfinished::NodeRuns);
        assert_eq!(runs.state, State::Weak);
        assert!(runs.title.contains("not known") && runs.mend.unwrap().contains("decores login"));
        let unreadable = wipes(&Unfinished::Unreadable("it is a file".to_owned()));
        assert_eq!(unreadable.state, State::Missing);
        assert!(unreadable.title.contains("it is a file") && unreadable.mend.is_some());
    }

    #[test]
    fn a_store_that_does_not_open_is_a_reason_and_not_the_end() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let home = Home::open(folder.path()).unwrap();
        std::fs::write(home.database(), b"not a folder").unwrap();
        let why = format!("{:#}", count(&home).unwrap_err());
        assert!(why.starts_with("failed to open the node's state: "), "{why}");
    }
}
