//! What a consumer or a program gives its engine to handle: outputs that are something else, too much of everything,
//! names that lead elsewhere.
//!
//! In a container a probe only plants; what its engine made of that is looked at once the job is over.

use super::mounts::c_path;
use crate::careless::{Left, gather, write_input};
use crate::probe::{Kind, Place, Probe, Stop, Stops, Tried, World, at, through};
use crate::syscall::{Side, address, call, fork, signed, text};
use decores_sandbox::Hole::OutputChecks;
use decores_types::Limits;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The name that leads out of the input folder.
pub(crate) const DOTS: &str = "../dots";
/// The same length, and nothing wrong with it.
pub(crate) const NO_DOTS: &str = "in/dots";
/// The probe that its consumer plants.
pub(crate) const INPUT_DOTS: &str = "input-dots";
const OUT: &str = "/out";
/// What is there in the engine's tree, and not in the container's.
const ENGINES: &str = "/engine";
const SCRATCH: &str = "/scratch/rootfs";
const OWN: &[u8] = b"its own";
const FLOOD: usize = 1 << 20;

/// What only the engine's care stops.
const CARE: Stops = Stops { wasm: &[], container: &[OutputChecks] };

pub(super) const PROBES: &[Probe] = &[
    left(INPUT_DOTS, "has an input written above its folder", |world| plant(world, INPUT_DOTS, |_, _| Ok(()))),
    left("output-link", "has the engine read a link out of its output", |world| plant(world, "output-link", link)),
    left("output-folder-link", "has the engine read a folder out of its output", |world| {
        plant(world, "output-folder-link", folder_link)
    }),
    left("output-race", "exchanges an output for a link while it is read", |world| plant(world, "output-race", race)),
    left("output-flood", "leaves more output than there may be", |world| plant(world, "output-flood", output_flood)),
    left("error-flood", "writes more to its log than there may be", |world| plant(world, "error-flood", error_flood)),
];

const fn left(name: &'static str, tries: &'static str, run: fn(&World) -> Tried) -> Probe {
    Probe { name, tries, stops: CARE, kind: Kind::Left, run }
}

/// Whether what a probe left shows that it got through.
pub(crate) fn got_through(probe: &str, left: &Left, limits: &Limits) -> Option<String> {
    let is_there = |found: bool, what: &str| found.then(|| what.to_owned());
    match probe {
        INPUT_DOTS => is_there(left.dots, "a file was written above the input folder"),
        "output-link" => is_there(left.files.contains_key("link"), "a file outside became output"),
        "output-folder-link" => {
            is_there(left.files.keys().any(|path| path.starts_with("folder/")), "a folder outside became output")
        }
        "output-race" => {
            is_there(left.files.values().any(|size| *size != OWN.len() as u64), "a file outside became output")
        }
        "output-flood" => is_there(left.files.values().sum::<u64>() > limits.output_bytes, "all of it became output"),
        "error-flood" => is_there(left.log > limits.log_bytes, "all of it was kept"),
        _ => None,
    }
}

/// Plants, and beside all jails reads it back as an engine without any care does.
fn plant(world: &World, probe: &str, how: fn(&World, &Path) -> io::Result<()>) -> Tried {
    if world.place == Place::Container {
        how(world, Path::new(OUT)).map_err(at("planting it"))?;
        return through("it was planted");
    }
    let folder = world.folder.join("out");
    let read = || {
        fs::create_dir_all(&folder)?;
        how(world, &folder)?;
        write_input(&folder, DOTS, OWN)?;
        let log = fs::metadata(world.folder.join("log"))?.len();
        Ok(Left { files: gather(&folder), log, dots: world.folder.join("dots").exists() })
    };
    let left = read();
    let _ = fs::remove_dir_all(&folder);
    let what = got_through(probe, &left.map_err(at("planting it"))?, &crate::wasm::limits());
    what.ok_or_else(|| Stop::Unclear("a reader without care was not led astray".to_owned()))
}

/// A file and a folder that are not the job's.
fn foreign(world: &World) -> (PathBuf, PathBuf) {
    if world.place == Place::Container {
        return (PathBuf::from(ENGINES), PathBuf::from(SCRATCH));
    }
    (world.public_file.clone(), world.public_file.parent().unwrap_or(Path::new("/")).to_owned())
}

fn link(world: &World, out: &Path) -> io::Result<()> {
    symlink(foreign(world).0, out.join("link"))
}

fn folder_link(world: &World, out: &Path) -> io::Result<()> {
    symlink(foreign(world).1, out.join("folder"))
}

/// At every moment one of the two names is a link.
fn race(world: &World, out: &Path) -> io::Result<()> {
    let (one, other) = (out.join("one"), out.join("other"));
    fs::write(&one, OWN)?;
    symlink(foreign(world).0, &other)?;
    let (one, other) = (c_path(&one)?, c_path(&other)?);
    if let Side::Parent(_) = fork()? {
        return Ok(());
    }
    // Outlives whoever watches the probe, who waits for the end of its pipe, if it can.
    if world.place == Place::Container {
        let _ = call(libc::SYS_setsid, []).and(call(libc::SYS_close_range, [0, u32::MAX as usize, 0]));
    }
    let here = signed(libc::AT_FDCWD);
    loop {
        let _ = call(libc::SYS_renameat2, [here, text(&one), here, text(&other), libc::RENAME_EXCHANGE as usize]);
    }
}

fn output_flood(_: &World, out: &Path) -> io::Result<()> {
    let more = usize::try_from(crate::wasm::limits().output_bytes).unwrap_or(usize::MAX);
    fs::write(out.join("flood"), vec![0; more + FLOOD])
}

fn error_flood(world: &World, _: &Path) -> io::Result<()> {
    let text = vec![b'x'; FLOOD];
    match world.log_descriptor {
        Some(log) => call(libc::SYS_write, [signed(log), address(text.as_slice()), text.len()]).map(drop),
        None => io::stderr().write_all(&text),
    }
}
