//! What holds a container, read back from the kernel before its program starts.

use crate::spec::{has, id_map, namespaces};
use crate::stop::{Stop, at};
use decores_sandbox::container::{RunReport, RunRequest, RunTask};
use decores_sandbox::{Hole, Namespace};
use std::fs;

const CAPABILITIES: [&str; 5] = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"];

/// Reads what the waiting init of a container has.
///
/// # Errors
/// If it is not what was planned.
pub(crate) fn read(task: &RunTask, request: &RunRequest, version: String, pid: i32) -> Result<RunReport, Stop> {
    let status = read_file(pid, "status")?;
    let user = has(task, Hole::User);
    let mut report = RunReport {
        runtime: task.runtime,
        version,
        namespaces: own_namespaces(pid),
        seccomp: field(&status, "Seccomp:") == Some("2"),
        powerless: field(&status, "NoNewPrivs:") == Some("1")
            && CAPABILITIES.iter().all(|set| field(&status, set).is_some_and(|bits| bits.bytes().all(|b| b == b'0'))),
        own_ids: false,
        cgroup: groups(task, pid)?,
    };
    let maps = [("uid_map", request.uid), ("gid_map", request.gid)];
    for (file, id) in maps {
        if !user && numbers(&read_file(pid, file)?) != id_map(task, id).concat() {
            return Err(Stop::failed("looking at the container", "its users are not mapped as planned"));
        }
    }
    // Without root they are the node's, and nobody can drop them.
    let groups = field(&status, "Groups:").is_none_or(str::is_empty);
    report.own_ids = !user && task.ids.is_some();
    let as_planned = report.namespaces == namespaces(task)
        && report.seccomp != has(task, Hole::Seccomp)
        && report.powerless != user
        && (groups || task.ids.is_none())
        && read_only(task, &read_file(pid, "mountinfo")?)
        && report.cgroup.len() == task.cgroup.len();
    if as_planned {
        return Ok(report);
    }
    Err(Stop::failed("looking at the container", format!("it is not held as planned: {report:?}")))
}

/// What can be said of a container whose runtime keeps a kernel of its own.
///
/// # Errors
/// If its processes are not where the launcher's limits hold.
pub(crate) fn of_other_kernel(task: &RunTask, version: String, pid: i32) -> Result<RunReport, Stop> {
    let cgroup = groups(task, pid)?;
    if cgroup.len() != task.cgroup.len() {
        return Err(Stop::failed("looking at the container", "it is not in its control group"));
    }
    Ok(RunReport {
        runtime: task.runtime,
        version,
        namespaces: Vec::new(),
        seccomp: false,
        powerless: false,
        own_ids: false,
        cgroup,
    })
}

/// Whether the file tree and the input, as `/proc/…/mountinfo` has them, cannot be written to.
fn read_only(task: &RunTask, mounts: &str) -> bool {
    let of = |place: &str| {
        let mut found = mounts.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(4);
            (fields.next()? == place).then(|| fields.next()).flatten()
        });
        found.next_back().is_some_and(|options| options.split(',').any(|option| option == "ro"))
    };
    let wanted = !has(task, Hole::ReadOnly);
    ["/", "/in"].iter().all(|place| of(place) == wanted)
}

/// Controllers whose limits hold for a process, sorted.
fn groups(task: &RunTask, pid: i32) -> Result<Vec<String>, Stop> {
    let theirs = read_file(pid, "cgroup")?;
    let own = fs::read_to_string("/proc/self/cgroup").map_err(at("reading the helper's control groups"))?;
    let mut held: Vec<String> = task.cgroup.iter().filter(|name| stays(name, &theirs, &own)).cloned().collect();
    held.sort();
    Ok(held)
}

fn read_file(pid: i32, name: &str) -> Result<String, Stop> {
    fs::read_to_string(format!("/proc/{pid}/{name}")).map_err(at("reading what the container has"))
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn numbers(map: &str) -> Vec<u32> {
    map.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

/// Namespaces that differ from this process's, sorted.
fn own_namespaces(pid: i32) -> Vec<Namespace> {
    let all = [
        (Namespace::Cgroup, "cgroup"),
        (Namespace::Ipc, "ipc"),
        (Namespace::Mount, "mnt"),
        (Namespace::Net, "net"),
        (Namespace::Pid, "pid"),
        (Namespace::User, "user"),
        (Namespace::Uts, "uts"),
    ];
    let link = |who: &str, file: &str| fs::read_link(format!("/proc/{who}/ns/{file}"));
    let differs = |file: &str| matches!((link(&pid.to_string(), file), link("self", file)), (Ok(a), Ok(b)) if a != b);
    all.into_iter().filter(|(_, file)| differs(file)).map(|(kind, _)| kind).collect()
}

/// Whether a process is in or below the helper's group of a controller.
fn stays(controller: &str, theirs: &str, own: &str) -> bool {
    match (group(controller, theirs), group(controller, own)) {
        (Some(theirs), Some(own)) => {
            theirs.strip_prefix(own).is_some_and(|below| below.is_empty() || below.starts_with('/') || own == "/")
        }
        _ => false,
    }
}

/// The group of a controller in `/proc/…/cgroup`: a version 1 hierarchy's if it has one, else version 2's.
fn group<'a>(controller: &str, text: &'a str) -> Option<&'a str> {
    let parts = |line: &'a str| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?, parts.next()?))
    };
    let lines = || text.lines().filter_map(parts);
    let named = lines().find(|(names, _)| names.split(',').any(|name| name == controller));
    named.or_else(|| lines().find(|(names, _)| names.is_empty())).map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "8:pids:/decores/a-1.container\n4:memory:/x/decores/a-1.container\n0::/\n";

    #[test]
    fn a_file_tree_that_can_be_written_to_is_noticed() {
        let task = crate::spec::tests::task();
        let held = "1 0 0:2 / / ro,relatime - tmpfs t rw\n2 1 0:2 /in /in ro,nosuid - tmpfs t rw\n";
        assert!(read_only(&task, held));
        assert!(!read_only(&task, &held.replace("ro,relatime", "rw,relatime")));
        assert!(!read_only(&task, &held.replace("/in /in ro", "/in /in rw")));
        assert!(!read_only(&task, &held.replace("/in /in", "/in /elsewhere")));
        assert!(!read_only(&task, &format!("{held}3 1 0:2 /in /in rw,nosuid - tmpfs t rw\n")), "the last one covers");
    }

    #[test]
    fn a_container_stays_in_or_below_its_group() {
        assert!(stays("pids", OWN, OWN));
        assert!(stays("pids", "8:pids:/decores/a-1.container/job\n", OWN));
        assert!(stays("io", OWN, OWN), "version 2 has one group for all");
        assert!(!stays("pids", "8:pids:/decores/a-1.container2\n", OWN));
        assert!(!stays("memory", "4:memory:/\n", OWN));
        assert!(!stays("memory", "", OWN));
    }
}
