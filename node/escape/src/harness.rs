//! The whole of it: plants, runs the probes outside and in every engine's jail, and prints what came of it.

use crate::args::Arguments;
use crate::container;
use crate::image::image;
use crate::probe::{End, Mission, Probe, Told, World};
use crate::prober::mission_bytes;
use crate::probes;
use crate::rivals;
use crate::stage::{Stage, folder};
use crate::table::{Engine, Finding, Outcome, Row, judge, text};
use crate::wasm::Jails;
use anyhow::{Context as _, Result, bail};
use decores_launcher::{Containers, Launcher, LauncherConfig};
use decores_sandbox::{Hole, HostCapabilities, Namespace, Runtime, SandboxConfig};
use decores_types::job::EngineKind;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// What ends the program where a probe got through.
const ESCAPED: u8 = 3;
/// Programs beside this one.
const CONTAINER_ENGINE: &str = "decores-engine-container";
const HELPER: &str = "decores-helper";
/// User ids of these jails, beyond those of any node here.
const BEYOND_NODES: u32 = 4096;
/// Jails at once: a prober's and its neighbour's.
const SLOTS: u32 = 2;
/// Ranges of user ids beyond those of any node here.
const RANGES_BEYOND: u32 = 0x0800_0000;
/// Milliseconds that a jail may take.
const DEADLINE_MS: u64 = 280_000;

/// Prints the table, or what it would be made of.
///
/// # Errors
/// If it could not be made: then no row of it is printed.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.list {
        print!("{}", listed());
        return Ok(ExitCode::SUCCESS);
    }
    let rows = rows(arguments)?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &rows)?;
        writeln!(out)?;
    } else {
        out.write_all(text(&rows).as_bytes())?;
    }
    let escaped = rows.iter().any(|row| row.result == Outcome::Escaped && Engine::OURS.contains(&row.engine));
    Ok(if escaped { ExitCode::from(ESCAPED) } else { ExitCode::SUCCESS })
}

fn listed() -> String {
    let mut text = String::new();
    for engine in Engine::OURS {
        for probe in of(engine, &[]) {
            let stops = engine.stops(probe).iter().map(|hole| hole.as_str()).collect::<Vec<_>>().join(" ");
            text += &format!("{:<10} {:<24} {stops}\n", engine.as_str(), probe.name);
        }
    }
    text
}

/// The probes of an engine, or those of them that are asked for.
fn of<'a>(engine: Engine, asked: &'a [&'static str]) -> impl Iterator<Item = &'static Probe> + 'a {
    let wanted = move |probe: &&Probe| engine.runs(probe);
    probes::all().filter(wanted).filter(move |probe| asked.is_empty() || asked.contains(&probe.name))
}

fn rows(arguments: &Arguments) -> Result<Vec<Row>> {
    let engines: Vec<Engine> = arguments.engine.map_or_else(|| Engine::OURS.to_vec(), |one| vec![one]);
    let home = folder("decores-escape-home-").context("failed to make a folder")?;
    let config = sandbox();
    // Before any thread: first the one whose jails have holes, if any have, then the one that another job has.
    let holed = Launcher::fork(launcher(&home.path().join("probed"), &config, &arguments.holes)?)?;
    let whole = Launcher::fork(launcher(&home.path().join("other"), &config, &[])?)?;
    let mut stage = Stage::set(home.path())?;
    (stage.world.launcher, stage.world.root) = (holed.pid(), is_root());
    let (holed, whole) = (holed.connect()?, whole.connect()?);
    let (host, other_host) = (holed.probe()?, whole.probe()?);
    if let Some(lacks) = lacks(&other_host, is_root()) {
        decores_telemetry::warn(&lacks);
    }
    let others = Jails { launcher: &whole, host: &other_host, config: &config, holes: &[] };
    let jails = Jails { launcher: &holed, host: &host, config: &config, holes: &arguments.holes };
    let neighbour = others.neighbour(&mut stage)?;
    let mut rows = Vec::new();
    for engine in engines {
        let probes: Vec<&Probe> = of(engine, &arguments.probes).collect();
        let names: Vec<&str> = probes.iter().map(|probe| probe.name).collect();
        let outside = outside(&stage.world, &names).context("failed to run the probes outside")?;
        let inside = match engine {
            Engine::Wasm => jails.run(&stage.world, &names).context("failed to run the probes as wasm jobs")?,
            Engine::Container => contained(&jails, &stage.world, &names)?,
            Engine::Bwrap | Engine::Runc | Engine::Crun => rivals::run(engine, &stage, &names)?,
        };
        rows.extend(judged(engine, &probes, &inside, &outside)?);
    }
    drop(neighbour);
    Ok(rows)
}

/// What jails of this machine lack, for people; nothing where they have all.
fn lacks(host: &HostCapabilities, root: bool) -> Option<String> {
    let groups = ["memory", "pids"].into_iter().filter(|name| !host.cgroup.iter().any(|found| found == name));
    let groups: Vec<&str> = groups.collect();
    let lacks = [
        (!root).then(|| "not started by root: what root may do outside is not shown".to_owned()),
        (!host.own_users).then(|| "jobs have no users of their own".to_owned()),
        (!groups.is_empty()).then(|| format!("control groups hold no {}", groups.join(" and no "))),
        (!host.namespaces.contains(&Namespace::Mount)).then(|| "jobs see the machine's file tree".to_owned()),
        (host.landlock_abi == 0).then(|| "the kernel has no Landlock".to_owned()),
        (!host.seccomp).then(|| "the kernel takes no filter".to_owned()),
    ];
    let lacks: Vec<String> = lacks.into_iter().flatten().collect();
    (!lacks.is_empty()).then(|| lacks.join("; "))
}

/// An engine that cannot run here has no row, and that is a failure.
fn contained(jails: &Jails<'_>, world: &World, names: &[&str]) -> Result<Vec<Finding>> {
    if let Some(why) = &jails.host.no_container {
        bail!("containers cannot be run here: {why}; `--engine wasm` leaves them out");
    }
    let image = image()?;
    container::run(jails, &image, world, names).context("failed to run the probes as containers")
}

/// Judges all, and tells of all that cannot be told at once.
fn judged(engine: Engine, probes: &[&Probe], inside: &[Finding], outside: &[Told]) -> Result<Vec<Row>> {
    let root = is_root();
    let (mut rows, mut unclear) = (Vec::new(), Vec::new());
    for probe in probes {
        let inside = inside.iter().find(|found| found.probe == probe.name);
        let outside = outside.iter().find(|told| told.probe == probe.name);
        let row = match (inside, outside) {
            (Some(inside), Some(outside)) => judge(engine, probe, inside, &outside.end, root),
            _ => Err("nothing was told of it".to_owned()),
        };
        match row {
            Ok(row) => rows.push(row),
            Err(why) => unclear.push(format!("`{}`: {why}", probe.name)),
        }
    }
    if !unclear.is_empty() {
        bail!("probes of {} that cannot tell: {}", engine.as_str(), unclear.join("; "));
    }
    Ok(rows)
}

/// Runs probes beside all jails, as whoever runs this program.
fn outside(world: &World, names: &[&str]) -> Result<Vec<Told>> {
    let limits = crate::wasm::limits();
    let mut world = world.clone();
    world.folder = world.open_folder.clone();
    (world.tasks, world.open_files) = (16, 256);
    (world.memory_bytes, world.scratch_bytes) = (limits.memory_bytes, limits.scratch_bytes);
    let probes = names.iter().map(|name| (*name).to_owned()).collect();
    let mission = Mission { probes, holes: Vec::new(), world };
    let mut child = Command::new(std::env::current_exe()?)
        .arg("outside")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to start the probes")?;
    let mut input = child.stdin.take().context("a pipe")?;
    input.write_all(&mission_bytes(&mission)?)?;
    drop(input);
    let output = child.wait_with_output()?;
    let told = String::from_utf8(output.stdout)?.lines().map(serde_json::from_str).collect::<Result<Vec<Told>, _>>()?;
    let quiet = names.iter().filter(|name| !told.iter().any(|told| told.probe == **name));
    let quiet = quiet.map(|name| Told {
        probe: (*name).to_owned(),
        end: End::Unclear { why: "it took its watcher along".to_owned() },
    });
    Ok(told.iter().cloned().chain(quiet).collect())
}

fn sandbox() -> SandboxConfig {
    let config = SandboxConfig::default();
    SandboxConfig {
        first_uid: config.first_uid + BEYOND_NODES,
        first_range: config.first_range + RANGES_BEYOND,
        slots: SLOTS as usize,
        ..config
    }
}

fn launcher(home: &Path, config: &SandboxConfig, holes: &[Hole]) -> Result<LauncherConfig> {
    let own: PathBuf = std::env::current_exe().context("failed to find this program's own file")?;
    // The engine's own care can only be left out with the engine.
    let careless = holes.contains(&Hole::OutputChecks);
    let container_engine = if careless { own.clone() } else { own.with_file_name(CONTAINER_ENGINE) };
    Ok(LauncherConfig {
        // A node's launcher has no holes; one that has some is no node's.
        owner: holes.is_empty(),
        holes: holes.to_vec(),
        engines: vec![(EngineKind::Wasm, own.clone()), (EngineKind::Container, container_engine)],
        containers: Ok(Containers {
            runtime: Runtime::Libcontainer,
            helper: own.with_file_name(HELPER),
            first_range: config.first_range,
        }),
        jails: home.join("jails"),
        scratch: home.join("scratch"),
        first_uid: config.first_uid,
        slots: SLOTS,
        io_bytes: config.io_bytes,
        max_limits: config.max_limits,
        max_deadline_ms: DEADLINE_MS,
    })
}

fn is_root() -> bool {
    crate::syscall::call(libc::SYS_geteuid, []).is_ok_and(|user| user == 0)
}
