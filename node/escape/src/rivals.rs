//! The same probes under other programs that run something in a container, as each of them does it if not told
//! otherwise. These are only looked at: nothing is said of why a probe is stopped.

use crate::image::{PROGRAM, copy_to};
use crate::probe::{End, Kind, Mission, Place, Probe, Told, World};
use crate::prober::{self, mission_bytes};
use crate::stage::Stage;
use crate::syscall::{call, signed};
use crate::table::{Engine, Finding};
use crate::wasm::in_turns;
use anyhow::{Context as _, Result, bail};
use decores_sandbox::container::CONTAINER_TASKS;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What only our containers make sense of: there is an input, and the prober is all there is in the container.
const OURS: [&str; 2] = ["change-input", "signal-all"];
/// crun refuses machines that have both versions of control groups: it is started where it does not see the second.
const SECOND_GROUPS: &str = "/sys/fs/cgroup/unified";
const WITHOUT_SECOND: &str = r#"umount /sys/fs/cgroup/unified && exec "$0" "$@""#;
/// bubblewrap is made for users without rights; the others are started by root.
const NOBODY: u32 = 65_534;
const OPEN_FILES: u32 = 4096;

/// Whether a probe means something under another program: there is no engine that handles what it leaves.
pub(crate) fn is_meant(probe: &Probe) -> bool {
    !probe.stops.container.is_empty() && probe.kind != Kind::Left && !OURS.contains(&probe.name)
}

/// Runs these probes under another program, each that may take its watcher along in a container of its own.
///
/// # Errors
/// If that program does not run them.
pub(crate) fn run(engine: Engine, stage: &Stage, names: &[&str]) -> Result<Vec<Finding>> {
    let bundle = stage.folder().join("bundle");
    if !bundle.exists() {
        copy_to(&bundle.join("rootfs")).context("failed to copy this program")?;
    }
    let world = world(&stage.world, engine);
    let mut found = Vec::new();
    for names in in_turns(names) {
        let probes = names.iter().map(|name| (*name).to_owned()).collect();
        let mission = Mission { probes, holes: Vec::new(), world: world.clone() };
        found.extend(container(engine, &bundle, &mission)?);
    }
    Ok(found)
}

/// The promises are those of our own containers.
fn world(world: &World, engine: Engine) -> World {
    let limits = crate::container::limits();
    World {
        place: Place::Other,
        // The one place where all of them let a program write.
        folder: PathBuf::from(if engine == Engine::Bwrap { "/tmp" } else { "/dev/shm" }),
        program: PathBuf::from(PROGRAM),
        descriptors: vec![0, 1, 2],
        log_descriptor: None,
        tasks: CONTAINER_TASKS,
        memory_bytes: limits.memory_bytes,
        scratch_bytes: limits.scratch_bytes,
        open_files: OPEN_FILES,
        ..world.clone()
    }
}

fn container(engine: Engine, bundle: &Path, mission: &Mission) -> Result<Vec<Finding>> {
    let mut command = command(engine, bundle)?;
    let left_open = prober::leave_open(&mission.world)?;
    call(libc::SYS_fcntl, [signed(left_open.as_raw_fd()), libc::F_SETFD as usize, 0])?;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let child = child.as_mut().map_err(|e| anyhow::anyhow!("failed to start {}: {e}", engine.as_str()))?;
    let mut input = child.stdin.take().context("a pipe")?;
    input.write_all(&mission_bytes(mission)?)?;
    drop(input);
    let told = std::io::read_to_string(child.stdout.take().context("a pipe")?)?;
    let status = child.wait()?;
    let told: Vec<Told> = told.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    if told.is_empty() {
        bail!("{} ran no probe: {status}", engine.as_str());
    }
    let end = |name: &String| told.iter().find(|told| told.probe == *name).map(|told| told.end.clone());
    let lost = || End::Unclear { why: format!("nothing was told of it: {status}") };
    let finding =
        |name: &String| Finding { probe: name.clone(), end: end(name).unwrap_or_else(lost), out_of_memory: false };
    Ok(mission.probes.iter().map(finding).collect())
}

/// How each is started if not told otherwise.
fn command(engine: Engine, bundle: &Path) -> Result<Command> {
    let mut command = Command::new(engine.as_str());
    if engine == Engine::Bwrap {
        let all = "--ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --unshare-all --die-with-parent";
        command.args(all.split(' ')).arg(bundle.join("rootfs").join(PROGRAM.trim_start_matches('/'))).arg("inside");
        command.uid(NOBODY).gid(NOBODY);
        return Ok(command);
    }
    let config = bundle.join("config.json");
    if config.exists() {
        fs::remove_file(&config)?;
    }
    let made = Command::new(engine.as_str()).arg("spec").current_dir(bundle).status();
    if !made.with_context(|| format!("failed to start {}", engine.as_str()))?.success() {
        bail!("{} gives no spec", engine.as_str());
    }
    let mut spec: Value = serde_json::from_reader(File::open(&config)?)?;
    let process = spec.get_mut("process").and_then(Value::as_object_mut).context("a spec without a process")?;
    process.insert("terminal".to_owned(), json!(false));
    process.insert("args".to_owned(), json!([PROGRAM, "inside"]));
    fs::write(&config, spec.to_string())?;
    if engine == Engine::Crun && Path::new(SECOND_GROUPS).is_dir() {
        command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", WITHOUT_SECOND, engine.as_str()]);
    }
    command.arg("--root").arg(bundle.join("state")).args(["run", "-b"]).arg(bundle);
    command.arg(format!("decores-escape-{}", std::process::id()));
    Ok(command)
}
