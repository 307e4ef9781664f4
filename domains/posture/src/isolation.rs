//! What keeps jobs from each other and from the host.

use crate::check::{Check, State};
use crate::facts::Facts;

/// Namespaces that a job should have.
const WANTED: [&str; 6] = ["cgroup", "ipc", "mount", "net", "pid", "uts"];
const CONTROLLERS: [&str; 4] = ["cpu", "io", "memory", "pids"];

pub(crate) fn checks(facts: &Facts) -> Vec<Check> {
    vec![seccomp(facts), landlock(facts), users(facts), namespaces(facts), cgroup(facts)]
}

fn seccomp(facts: &Facts) -> Check {
    let why = "engines may make only the system calls on a short list; no job runs without";
    if facts.seccomp {
        return Check::ok("seccomp", "system call filters work", why);
    }
    let mend = "no command; the kernel needs CONFIG_SECCOMP_FILTER, and a container the option `--security-opt seccomp=unconfined`";
    Check::bad("seccomp", "system call filters cannot be loaded", State::Missing, why, mend)
}

fn landlock(facts: &Facts) -> Check {
    let why = "a guest that breaks out of its engine still opens no file, connects nowhere and signals nobody";
    match facts.landlock_abi {
        6.. => Check::ok("landlock", format!("Landlock ABI {}", facts.landlock_abi), why),
        0 => {
            // Unless the present list could be read, the new one would switch the other modules off.
            let mend = "lsm=$(cat /sys/kernel/security/lsm) && printf 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX lsm=landlock,%s\"\\n' \"$lsm\" | sudo tee /etc/default/grub.d/landlock.cfg && sudo update-grub && sudo reboot";
            Check::bad("landlock", "no Landlock", State::Missing, why, mend)
        }
        abi => {
            let title = format!("Landlock ABI {abi}: without networks or scopes that newer kernels have");
            let mend = "sudo apt update && sudo apt full-upgrade && sudo reboot (Linux 6.12 or newer: Debian 13, Ubuntu 25.04)";
            Check::bad("landlock", title, State::Weak, why, mend)
        }
    }
}

fn users(facts: &Facts) -> Check {
    let why = "processes of one user can disturb each other; with a user each, the kernel keeps jobs apart even when all else fails";
    if facts.own_users {
        return Check::ok("users", "each job has a user of its own", why);
    }
    let mend = "sudo decores up --home /var/lib/decores";
    Check::bad("users", "jobs share the node's user", State::Weak, why, mend)
}

fn namespaces(facts: &Facts) -> Check {
    let why = "a job sees no other process, file tree, host name or network";
    let missing: Vec<&str> =
        WANTED.iter().filter(|name| !facts.namespaces.iter().any(|n| n == *name)).copied().collect();
    if missing.is_empty() {
        return Check::ok("namespaces", "each job has its own namespaces", why);
    }
    let state = if missing.len() == WANTED.len() { State::Missing } else { State::Weak };
    let mend = "sudo decores up --home /var/lib/decores, or for user namespaces: sudo sysctl -e -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000 kernel.apparmor_restrict_unprivileged_userns=0";
    Check::bad("namespaces", format!("not available: {}", missing.join(", ")), state, why, mend)
}

fn cgroup(facts: &Facts) -> Check {
    let why = "the kernel itself limits a job's memory, processes and share of the processor, whatever its engine does";
    let missing: Vec<&str> =
        CONTROLLERS.iter().filter(|name| !facts.cgroup.iter().any(|c| c == *name)).copied().collect();
    if missing.is_empty() {
        return Check::ok("cgroup", "control groups limit memory, processes and processor", why);
    }
    let state = if missing.contains(&"memory") { State::Missing } else { State::Weak };
    let mend =
        "sudo decores up --home /var/lib/decores (in a container also: --privileged, for a writable /sys/fs/cgroup)";
    Check::bad("cgroup", format!("no limits for: {}", missing.join(", ")), state, why, mend)
}
