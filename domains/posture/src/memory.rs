//! What keeps job data and keys from disks.

use crate::check::{Check, State, boot_with};
use crate::facts::Facts;
use decores_types::Swap;

pub(crate) fn checks(facts: &Facts) -> Vec<Check> {
    [Some(swap(facts)), Some(scratch(facts)), Some(encrypted(facts)), core_dumps(facts), freed(facts)]
        .into_iter()
        .flatten()
        .collect()
}

fn swap(facts: &Facts) -> Check {
    let why = "what reaches a swap device stays there after the job and cannot be wiped";
    match facts.swap {
        Swap::None => Check::ok("swap", "no swap", why),
        Swap::Prevented => Check::ok("swap", "jobs cannot reach swap", why),
        Swap::Possible => Check::bad(
            "swap",
            "job data can be swapped to a disk",
            State::Weak,
            why,
            r"sudo swapoff -a && sudo sed -i '/\sswap\s/s/^#*/#/' /etc/fstab",
        ),
    }
}

fn scratch(facts: &Facts) -> Check {
    let why = "files of a job lie in memory; `noswap` keeps them there";
    if facts.tmpfs_noswap || facts.swap == Swap::None {
        return Check::ok("scratch", "the scratch never reaches a disk", why);
    }
    let mend = "sudo swapoff -a (or Linux 6.4 or newer, and: sudo decores up --home /var/lib/decores)";
    Check::bad("scratch", "the scratch may be swapped", State::Weak, why, mend)
}

fn encrypted(facts: &Facts) -> Check {
    let why = "a job with more scratch than memory keeps its files on disk, under a key that only memory holds; without it, such jobs are refused";
    if facts.encrypted_scratch {
        return Check::ok("encrypted-scratch", "scratches larger than memory are encrypted files", why);
    }
    let mend = "sudo apt-get install gocryptfs fuse3 (without root also: sudo chmod 0666 /dev/fuse)";
    Check::bad("encrypted-scratch", "no scratch larger than a job's memory", State::Weak, why, mend)
}

fn core_dumps(facts: &Facts) -> Option<Check> {
    let pattern = facts.core_pattern.as_deref()?.trim();
    let why = "the node and its engines forbid their own dumps; a collector is a second place that must honour it";
    if !pattern.starts_with('|') {
        return Some(Check::ok("core-dumps", "no program collects core dumps", why));
    }
    let mend = "sudo sysctl -w kernel.core_pattern=core";
    Some(Check::bad("core-dumps", format!("core dumps go to `{pattern}`"), State::Weak, why, mend))
}

fn freed(facts: &Facts) -> Option<Check> {
    let why = "without it, memory that a job gave back keeps its content until it is used again";
    if facts.init_on_free? {
        return Some(Check::ok(
            "init-on-free",
            "the kernel zeroes freed memory: init_on_free=1 is on its command line",
            why,
        ));
    }
    let title = "init_on_free=1 is not seen on the kernel's command line";
    Some(Check::bad("init-on-free", title, State::Weak, why, &boot_with("init_on_free=1")))
}
