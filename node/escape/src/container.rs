//! Containers: the launcher's own code, the real engine and the real helper, with this program as the container's.

use crate::probe::{End, Kind, Mission, Place, Told, World};
use crate::probes;
use crate::probes::results::got_through;
use crate::sealed::{Outcome, carry_out, sealed};
use crate::table::Finding;
use crate::wasm::{Jails, in_turns};
use anyhow::{Result, bail};
use decores_sandbox::container::CONTAINER_TASKS;
use decores_sandbox::{Hole, IsolationPlan};
use decores_types::Limits;
use std::path::PathBuf;

/// What a container's program has open.
const DESCRIPTORS: [i32; 3] = [0, 1, 2];
/// How many a container's program may open.
const OPEN_FILES: u32 = 4096;
/// Where a planted hole shows the host's files.
const HOST: &str = "/sys";
/// The process of the helper, which a container without a process namespace of its own sees as the first.
const HELPER: i32 = 1;

/// Room for the image beside what probes use.
pub(crate) fn limits() -> Limits {
    Limits { memory_bytes: 64 << 20, scratch_bytes: 64 << 20, compile_ms: 60_000, ..crate::wasm::limits() }
}

/// Runs these probes in containers, each that may take its watcher along in one of its own.
///
/// # Errors
/// If a container cannot be run.
pub(crate) fn run(jails: &Jails<'_>, image: &[u8], world: &World, names: &[&str]) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for names in in_turns(names) {
        let probes = names.iter().map(|name| (*name).to_owned()).collect();
        found.extend(container(jails, image, Mission { probes, holes: jails.holes.to_vec(), world: world.clone() })?);
    }
    Ok(found)
}

/// A world as a container's program sees it.
pub(crate) fn from_inside(world: &mut World, plan: &IsolationPlan, holes: &[Hole]) {
    world.place = Place::Container;
    (world.folder, world.program) = (PathBuf::from("/tmp"), PathBuf::from(crate::image::PROGRAM));
    (world.descriptors, world.log_descriptor) = (DESCRIPTORS.to_vec(), None);
    if holes.contains(&Hole::Root) {
        world.host = PathBuf::from(HOST);
    }
    if holes.contains(&Hole::PidNamespace) {
        // The helper's own namespace stays: nearer than that is nobody else.
        (world.node, world.launcher, world.neighbour) = (HELPER, HELPER, HELPER);
    }
    let group = plan.container.as_ref().and_then(|container| container.cgroup.as_ref());
    world.tasks = CONTAINER_TASKS;
    world.memory_bytes = group.map_or(limits().memory_bytes, |group| group.memory_bytes);
    (world.scratch_bytes, world.open_files) = (plan.scratch_bytes, OPEN_FILES);
}

fn container(jails: &Jails<'_>, image: &[u8], mission: Mission) -> Result<Vec<Finding>> {
    let probes = mission.probes.clone();
    let Outcome { end, exit, stdout, left, refused } = carry_out(jails, sealed(jails, image, mission)?)?;
    let told = String::from_utf8(stdout)?;
    let told: Vec<Told> = told.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    if told.is_empty() && !exit.out_of_memory && refused.is_none() {
        bail!("a container with probes did not run: {end}");
    }
    let of = |name: &String| told.iter().find(|told| told.probe == *name).map(|told| told.end.clone());
    let lost = || match exit.out_of_memory {
        true => End::Killed { signal: libc::SIGKILL, dumped: false },
        false => End::Unclear { why: format!("nothing was told of it: {end}") },
    };
    let end = |name: &String| match (of(name), &refused) {
        _ if probes::named(name).is_none_or(|probe| probe.kind != Kind::Left) => of(name).unwrap_or_else(lost),
        (_, Some(reason)) => End::Refused { step: format!("the engine: {reason}"), errno: libc::EINVAL },
        (Some(End::Through { .. }), None) => match got_through(name, &left, &limits()) {
            Some(what) => End::Through { what },
            None => End::Refused { step: "the engine".to_owned(), errno: libc::ENOENT },
        },
        (told, None) => told.unwrap_or_else(lost),
    };
    let finding = |name: &String| Finding { probe: name.clone(), end: end(name), out_of_memory: exit.out_of_memory };
    Ok(probes.iter().map(finding).collect())
}
