//! `decores-helper serve`: starts engines for a node that is not root.
//!
//! What it may be told lies in a file that only root can write; without one, a node's defaults hold. Everything a plan
//! names is checked against it by the launcher of the conversation.

use anyhow::{Context as _, Result, bail};
use decores_launcher::{LauncherConfig, serve_at};
use decores_sandbox::container::RANGE;
use decores_sandbox::{Runtime, SandboxConfig};
use serde::Deserialize;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Where jails are mounted, and encrypted scratches lie.
const JAILS: &str = "/run/decores/jails";
const SCRATCH: &str = "/var/lib/decores-helper/scratch";
/// Largest configuration file, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// What was asked for on the command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    socket: PathBuf,
    user: u32,
    config: Option<PathBuf>,
}

impl Asked {
    /// Reads `--socket PATH --user UID [--config FILE]`, in any order.
    pub(crate) fn parse(arguments: &[String]) -> Option<Self> {
        let (mut socket, mut user, mut config) = (None, None, None);
        let (pairs, rest) = arguments.as_chunks();
        for [name, value] in pairs {
            match name.as_str() {
                "--socket" if socket.is_none() => socket = Some(PathBuf::from(value)),
                "--user" if user.is_none() => user = Some(value.parse().ok()?),
                "--config" if config.is_none() => config = Some(PathBuf::from(value)),
                _ => return None,
            }
        }
        Some(Self { socket: socket?, user: user?, config }).filter(|_| rest.is_empty())
    }
}

/// The configuration; what is not named is as in a node's defaults.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    runtime: Option<String>,
    programs: Option<PathBuf>,
    jails: PathBuf,
    scratch: PathBuf,
    slots: usize,
    first_uid: u32,
    first_range: u32,
    io_bytes_per_second: u64,
    max: Max,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Max {
    memory_bytes: u64,
    wall_ms: u64,
    compile_ms: u64,
    output_bytes: u64,
    log_bytes: u64,
    scratch_bytes: u64,
}

impl Default for File {
    fn default() -> Self {
        let sandbox = SandboxConfig::default();
        Self {
            runtime: None,
            programs: None,
            jails: JAILS.into(),
            scratch: SCRATCH.into(),
            slots: sandbox.slots,
            first_uid: sandbox.first_uid,
            first_range: sandbox.first_range,
            io_bytes_per_second: sandbox.io_bytes,
            max: Max::default(),
        }
    }
}

impl Default for Max {
    fn default() -> Self {
        let max = SandboxConfig::default().max_limits;
        Self {
            memory_bytes: max.memory_bytes,
            wall_ms: max.wall_ms,
            compile_ms: max.compile_ms,
            output_bytes: max.output_bytes,
            log_bytes: max.log_bytes,
            scratch_bytes: max.scratch_bytes,
        }
    }
}

/// Serves until it is told to end.
///
/// # Errors
/// If it is not root, or what it is to use is not root's alone, or the socket cannot be made.
pub(crate) fn run(asked: &Asked) -> Result<()> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        bail!("the helper must be started as root; it serves user {} then", asked.user);
    }
    if asked.user == 0 {
        bail!("a node that is root starts its engines itself: `--user` must name another user");
    }
    let file = asked.config.as_deref().map_or_else(|| Ok(File::default()), read)?;
    let own = std::env::current_exe().context("failed to find this program's own file")?;
    let mut config = resolve(file, &own, asked.user)?;
    let programs = config.engines.iter_mut().map(|(_, path)| path);
    for program in programs.chain(config.containers.as_mut().ok().map(|containers| &mut containers.helper)) {
        // What was looked at is what is started, wherever a link leads later.
        *program = only_root_writes(program)?;
    }
    for folder in [&config.jails, &config.scratch].into_iter().chain(&asked.socket.parent().map(Path::to_owned)) {
        // Whoever may connect must get to the socket; what lies below the others only its owner enters.
        let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(folder);
        made.with_context(|| format!("failed to make `{}`", folder.display()))?;
        only_root_writes(folder)?;
    }
    serve_at(&asked.socket, asked.user, &config).with_context(|| format!("failed at `{}`", asked.socket.display()))
}

fn read(path: &Path) -> Result<File> {
    only_root_writes(path)?;
    let size = fs::metadata(path)?.len();
    if size > MAX_FILE {
        bail!("`{}` has {size} bytes, at most {MAX_FILE} are read", path.display());
    }
    let text = fs::read_to_string(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    toml::from_str(&text).with_context(|| format!("failed to read `{}`", path.display()))
}

/// Refuses what another than root could change, or swap for something else; gives its path without links.
fn only_root_writes(path: &Path) -> Result<PathBuf> {
    let real = path.canonicalize().with_context(|| format!("failed to look at `{}`", path.display()))?;
    for part in real.ancestors() {
        let meta = fs::metadata(part)?;
        // In a folder with the sticky bit, what is root's stays root's.
        let shared = meta.mode() & 0o022 != 0 && !(meta.is_dir() && meta.mode() & 0o1000 != 0 && part != real);
        if meta.uid() != 0 || shared {
            bail!(
                "`{}` can be changed by others than root (user {}, mode {:o})",
                part.display(),
                meta.uid(),
                meta.mode() & 0o7777
            );
        }
    }
    Ok(real)
}

fn resolve(file: File, own: &Path, user: u32) -> Result<LauncherConfig> {
    let runtime = match file.runtime.as_deref().unwrap_or("libcontainer") {
        "none" => None,
        "libcontainer" => Some(Runtime::Libcontainer),
        "runc" => Some(Runtime::Runc),
        "runsc" => Some(Runtime::Runsc),
        "kata" => Some(Runtime::Kata),
        other => bail!("`runtime` is \"{other}\"; it must be libcontainer, runc, runsc, kata or none"),
    };
    if !(1..=256).contains(&file.slots) {
        bail!("`slots` is {}; it must lie between 1 and 256", file.slots);
    }
    // One more of both is for trials.
    let places = file.slots as u64 + 1;
    let (own_ids, ranges) = (u64::from(file.first_uid), u64::from(file.first_range));
    let (own_end, end) = (own_ids + places, ranges + places * u64::from(RANGE));
    if own_ids < 65_536 || ranges < 65_536 || own_end > u64::from(u32::MAX) || end > u64::from(u32::MAX) {
        bail!("`first_uid` and `first_range` must be at least 65536, and their ids fit below 2^32");
    }
    let has = |first: u64, end: u64| (first..end).contains(&u64::from(user));
    if ranges < own_end && own_ids < end || has(own_ids, own_end) || has(ranges, end) {
        bail!("the ids from `first_uid`, those from `first_range` and `--user` must not be the same");
    }
    let max = file.max;
    let mut sandbox = SandboxConfig { slots: file.slots, first_uid: file.first_uid, ..SandboxConfig::default() };
    (sandbox.first_range, sandbox.io_bytes) = (file.first_range, file.io_bytes_per_second);
    sandbox.max_limits = decores_types::Limits {
        memory_bytes: max.memory_bytes,
        wall_ms: max.wall_ms,
        compile_ms: max.compile_ms,
        output_bytes: max.output_bytes,
        log_bytes: max.log_bytes,
        scratch_bytes: max.scratch_bytes,
    };
    let programs = match file.programs {
        Some(programs) => programs,
        None => own.parent().context("this program lies in no folder")?.to_owned(),
    };
    LauncherConfig::of_node(&sandbox, &programs, runtime, file.jails, file.scratch).map_err(anyhow::Error::msg)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn asked(line: &str) -> Option<Asked> {
        Asked::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn resolved(text: &str, user: u32) -> Result<LauncherConfig> {
        let programs = tempfile::tempdir()?;
        fs::write(programs.path().join("decores-engine-wasm"), "")?;
        resolve(toml::from_str(text)?, &programs.path().join("decores-helper"), user)
    }

    #[test]
    fn only_a_whole_command_line_is_understood() {
        let both = asked("--user 7 --socket /run/x --config /etc/y").unwrap();
        assert_eq!((both.user, both.config), (7, Some("/etc/y".into())));
        assert!(asked("--socket /run/x --user 7").unwrap().config.is_none());
        for line in ["", "--socket /run/x", "--user 7", "--socket /run/x --user me", "--socket /x --user 7 --user 8"] {
            assert_eq!(asked(line), None, "{line}");
        }
        assert_eq!(asked("--socket /run/x --user 7 --config"), None);
    }

    #[test]
    fn without_a_file_a_nodes_defaults_hold() {
        let config = resolved("", 1000).unwrap();
        let sandbox = SandboxConfig::default();
        assert_eq!((config.first_uid, config.max_limits), (sandbox.first_uid, sandbox.max_limits));
        assert!(config.owner && config.containers.unwrap_err().contains("decores-engine-container"));
    }

    #[test]
    fn ids_that_two_would_have_and_unknown_words_are_refused() {
        for (text, user) in [
            ("first_uid = 0", 1000),
            ("first_uid = 200000", 200_001),
            ("first_uid = 200000\nfirst_range = 199000", 1000),
            ("first_range = 4294900000", 1000),
            ("slots = 0", 1000),
            ("slots = 257", 1000),
            ("runtime = \"docker\"", 1000),
            ("engines = \"/tmp\"", 1000),
            ("[max]\nmemory = 7", 1000),
        ] {
            assert!(resolved(text, user).is_err(), "{text}");
        }
        assert!(resolved("first_uid = 200000\n[max]\nmemory_bytes = 7", 1000).is_ok());
    }

    #[test]
    fn what_others_than_root_can_change_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        fs::write(&file, "").unwrap();
        let mode = |mode| fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        mode(0o644);
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        assert_eq!(only_root_writes(&file).is_ok(), is_root);
        mode(0o664);
        assert!(only_root_writes(&file).is_err());
        mode(0o646);
        assert!(only_root_writes(&file).is_err());
        assert!(only_root_writes(&folder.path().join("absent")).is_err());
    }
}
