//! What runs containers, and what of its protection this machine lacks.

use crate::check::{Check, State};
use crate::facts::{Containers, Facts};

const WHY: &str =
    "a job in an image runs as a user that exists nowhere else, among files, processes and limits of its own";

pub(crate) fn check(facts: &Facts) -> Option<Check> {
    let containers = facts.containers.as_ref()?;
    let Containers { runtime, protection, .. } = containers;
    let Some(version) = &containers.version else { return Some(none(containers)) };
    let title = format!("`{runtime}` {version} runs containers: protection `{protection}`");
    let lacks = lacks(facts);
    if lacks.is_empty() {
        return Some(Check::ok("containers", title, WHY));
    }
    let mend = "sudo decores up --home /var/lib/decores, or `sudo decores-helper serve` beside a node that is not root";
    Some(Check::bad("containers", format!("{title}, but {}", lacks.join(" and ")), State::Weak, WHY, mend))
}

/// What one without root, or without control groups, does not have.
fn lacks(facts: &Facts) -> Vec<&'static str> {
    let limited = |name| facts.cgroup.iter().any(|controller| controller == name);
    let users = (!facts.own_users).then_some("with one user only, which is the node's");
    let limits = (!(limited("memory") && limited("pids"))).then_some("without limits on its memory and tasks");
    users.into_iter().chain(limits).collect()
}

fn none(containers: &Containers) -> Check {
    let why = containers.why.as_deref().unwrap_or("none was started");
    let mend = match containers.runtime.as_str() {
        "runc" | "runsc" => format!("sudo apt-get install {}", containers.runtime),
        "kata" => "install Kata Containers, on a machine with KVM, and: sudo kata-runtime check".to_owned(),
        _ => "install decores-engine-container and decores-helper beside decoresd, and: sudo decores up --home /var/lib/decores"
            .to_owned(),
    };
    let mend = format!("{mend} (or, for a node without: `runtime = \"none\"` under `[container]`)");
    Check::bad("containers", format!("no containers: {why}"), State::Weak, WHY, &mend)
}
