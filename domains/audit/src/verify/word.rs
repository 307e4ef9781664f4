//! The node's word: possible in itself, and at least what the spec asks.

use crate::code::Code;
use crate::event::ends_with;
use crate::receipt::Predicate;
use crate::receipt::predicate::{Container, User, strengths};
use crate::verify::Finding;
use decores_keys::RootSource;
use decores_types::{JobState, Protection, Reason, Swap};

const WORD: &str = "by the node's signed word";

/// What an attempt that ran must say, and one that did not need not.
fn absent(p: &Predicate, what: &str) -> Finding {
    if p.result.state == JobState::Done || p.output.is_some() || p.times.started.is_some() {
        Finding::fails(format!("an engine started, but the receipt does not say {what}"))
    } else {
        Finding::not_claimed("no engine started")
    }
}

pub(super) fn protection(p: &Predicate, demanded: Option<Protection>) -> Finding {
    let Some(given) = p.protection else { return absent(p, "how it was protected") };
    if given < p.spec.protection {
        return Finding::fails(format!("`{given}` was given, the spec asks for `{}`", p.spec.protection));
    }
    if let Some(finding) = contained(p, given) {
        return finding;
    }
    match demanded {
        Some(least) if given < least => Finding::fails(format!("`{given}` was given, `{least}` is demanded")),
        _ => Finding::holds(format!("`{given}`, {WORD}")),
    }
}

/// What stands against a word that only a container can keep.
fn contained(p: &Predicate, given: Protection) -> Option<Finding> {
    if !matches!(given, Protection::Container | Protection::Vm) {
        return None;
    }
    match p.isolation.as_ref().and_then(|i| i.container.as_ref()) {
        Some(held) if held.protection() < given => {
            Some(Finding::fails(format!("`{given}` is said to be given, but `{}` gives less", held.runtime)))
        }
        Some(_) => None,
        None if p.result.exit.is_some() || p.result.state == JobState::Done || p.output.is_some() => {
            Some(Finding::fails(format!("`{given}` is said to be given, but not what held the container")))
        }
        None if p.times.started.is_some() => {
            Some(Finding::not_claimed("the attempt was lost, and with it what held its container"))
        }
        None => None,
    }
}

pub(super) fn isolation(p: &Predicate) -> Finding {
    let Some(i) = &p.isolation else { return absent(p, "how it was isolated") };
    if !i.seccomp {
        return Finding::fails("no seccomp filter was in force");
    }
    if i.landlock == 0 && !i.namespaces.iter().any(|n| n.as_str() == "mount") {
        return Finding::fails("neither Landlock nor a mount namespace kept it from files");
    }
    if let Some(container) = &i.container
        && !(container.seccomp && container.powerless || container.own_kernel())
    {
        return Finding::fails("the container had no seccomp filter, or capabilities");
    }
    let weak = [
        (i.user == User::Shared, "it shared the node's user"),
        (i.landlock == 0, "no Landlock"),
        (i.cgroup.is_empty(), "no cgroup limits"),
        (i.swap == Swap::Possible, "pages could reach swap"),
        (i.container.as_ref().is_some_and(|c| !c.own_ids && !c.own_kernel()), "the container's users are others' too"),
        (i.container.as_ref().is_some_and(|c| c.cgroup.is_empty()), "the container has no cgroup limits"),
        (
            i.container.as_ref().is_some_and(Container::own_kernel),
            "what its own kernel holds the container with cannot be seen",
        ),
    ];
    let weak: Vec<&str> = weak.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect();
    let but = if weak.is_empty() { String::new() } else { format!("; but {}", weak.join(", ")) };
    let list = |what: &str, words: &[Code]| match words {
        [] => String::new(),
        words => format!(", {what} {}", words.iter().map(Code::as_str).collect::<Vec<_>>().join(" ")),
    };
    let own = if i.user == User::Own { ", own user" } else { "" };
    let landlock = if i.landlock > 0 { ", Landlock" } else { "" };
    let (namespaces, cgroup) = (list("namespaces", &i.namespaces), list("cgroup", &i.cgroup));
    let container = i.container.as_ref().map_or_else(String::new, |c| {
        let held = if c.seccomp && c.powerless { ", seccomp, no capabilities" } else { "" };
        format!("; container by {}{held}{}", c.runtime, list("namespaces", &c.namespaces))
    });
    Finding::holds(format!("no network, seccomp{landlock}{own}{namespaces}{cgroup}{container}; {WORD}{but}"))
}

pub(super) fn limits(p: &Predicate) -> Finding {
    match p.limits {
        None => absent(p, "its limits"),
        Some(limits) if limits == p.spec.limits => Finding::holds(format!("the spec's limits, {WORD}")),
        Some(_) => Finding::fails("other limits were enforced than the spec asks for"),
    }
}

pub(super) fn result(p: &Predicate) -> Finding {
    let r = &p.result;
    if !ends_with(r.state, r.reason) {
        return Finding::fails(format!("an attempt does not end `{}` for `{}`", r.state, r.reason));
    }
    let exit_fits = match r.reason {
        Reason::Completed => r.exit == Some(0),
        Reason::ExitNonzero => r.exit.is_some_and(|code| code != 0),
        // These can come after the program ended by itself.
        Reason::LimitOutput | Reason::LimitTime | Reason::ByConsumer | Reason::ByOperator | Reason::EngineLost => true,
        // The program never began, or was stopped; the others are no end, which `ends_with` has refused.
        Reason::Trap
        | Reason::LimitMemory
        | Reason::LimitCompile
        | Reason::LimitScratch
        | Reason::ProgramInvalid
        | Reason::PayloadInvalid
        | Reason::Resubmit
        | Reason::QueueExpired
        | Reason::WipeIncomplete
        | Reason::Protection
        | Reason::Limits
        | Reason::Policy
        | Reason::Accepted
        | Reason::NotRequired
        | Reason::SlotFree
        | Reason::Compiling
        | Reason::Started
        | Reason::ProgramEnded
        | Reason::Ended => r.exit.is_none(),
    };
    if !exit_fits {
        return Finding::fails(format!("the exit code does not fit `{}`", r.reason));
    }
    Finding::holds(format!("`{}`, {}: {WORD}", r.state, r.reason.explain()))
}

pub(super) fn times(p: &Predicate) -> Finding {
    let t = &p.times;
    let ordered = t.started.map_or(t.queued <= t.ended, |started| t.queued <= started && started <= t.ended);
    if !ordered {
        return Finding::fails("it was queued, started and ended in an impossible order");
    }
    if t.started.is_none() && (p.output.is_some() || p.result.state == JobState::Done) {
        return Finding::fails("it has an output, but never started");
    }
    Finding::holds(format!("queued {}, ended {}, by the node's own clock", t.queued, t.ended))
}

/// What every attempt holds, and so what must be looked for afterwards.
const HELD: [&str; 2] = ["offer-key", "sealed-input"];
/// What an engine holds besides.
const HELD_BY_ENGINE: [&str; 4] = ["processes", "cgroup", "mounts", "scratch"];

pub(super) fn wipe(p: &Predicate) -> Finding {
    let w = &p.wipe;
    let engine = p.isolation.is_some() || p.times.started.is_some();
    if w.checks.is_empty() && !engine {
        return Finding::not_claimed("nothing had to be destroyed");
    }
    let held = HELD.iter().chain(if engine { HELD_BY_ENGINE.as_slice() } else { &[] });
    for what in held {
        if !w.checks.iter().any(|c| c.what.as_str() == *what) {
            return Finding::fails(format!("nobody looked whether `{what}` was destroyed"));
        }
    }
    if let Some(check) = w.checks.iter().find(|c| !c.passed) {
        return Finding::fails(format!("the check of `{}` did not pass", check.what));
    }
    if !w.complete || w.checks.is_empty() || w.category != w.checks.iter().map(|c| c.category).min() {
        return Finding::fails("the wipe is not complete, or contradicts its own checks");
    }
    Finding::holds(format!("{} checks passed, {WORD}; what none covers stands in the receipt", w.checks.len()))
}

/// Weakened settings are no lie; whoever demands the claim does not accept them.
pub(super) fn settings(p: &Predicate) -> Finding {
    let mut weak: Vec<String> = p.insecure.iter().map(|name| format!("`{name}` is in force")).collect();
    if p.root_source == RootSource::BesideData {
        weak.push("the root key lies beside the data".to_owned());
    }
    if weak.is_empty() {
        Finding::holds(format!("nothing was weakened, {WORD}"))
    } else {
        Finding::not_claimed(format!("weakened: {}", weak.join(", ")))
    }
}

pub(super) fn evidence(p: &Predicate) -> Finding {
    if p.strength != strengths(p.spec.engine) {
        Finding::fails("the receipt calls members stronger or weaker than they are")
    } else if p.protection == Some(Protection::Enclave) {
        Finding::fails("`enclave` is said to be given, but there is no hardware evidence")
    } else {
        Finding::not_claimed("below `enclave` there is no hardware evidence")
    }
}
