//! Where keys lie.

use crate::check::{Check, State, boot_with};
use crate::facts::{Facts, RootPlace};

pub(crate) fn checks(facts: &Facts) -> Vec<Check> {
    [Some(root(facts)), Some(arena(facts)), memlock(facts), tracing(facts)].into_iter().flatten().collect()
}

fn root(facts: &Facts) -> Check {
    let why = "whoever takes the disk takes what is on it; the root opens every other key";
    match facts.root {
        RootPlace::Passphrase => Check::ok("root", "the keystore's root comes from a passphrase", why),
        RootPlace::Credential => Check::ok("root", "the keystore's root is a systemd credential", why),
        RootPlace::BesideData => {
            let mend = "set keys.root in config.toml before the first start (a new home); an existing home cannot change its root by command yet";
            Check::bad("root", "the keystore's root lies beside the data", State::Weak, why, mend)
        }
    }
}

fn arena(facts: &Facts) -> Check {
    let why = "secrets in memfd_secret are out of reach of debuggers and of the kernel's own map of memory";
    if facts.secret_memory {
        return Check::ok("secret-memory", "secrets lie in memfd_secret", why);
    }
    let title = "secrets lie in locked, but ordinary memory";
    Check::bad("secret-memory", title, State::Weak, why, &boot_with("secretmem.enable=1"))
}

fn memlock(facts: &Facts) -> Option<Check> {
    let why = "secrets are locked in memory; when the limit is reached the node refuses to start";
    let limit = facts.memlock_bytes?;
    if limit >= facts.arena_bytes {
        return Some(Check::ok("memlock", "enough memory may be locked", why));
    }
    let title = format!("only {limit} bytes may be locked, {} are needed", facts.arena_bytes);
    let mend =
        format!("sudo prlimit --pid $$ --memlock={0}:{0}, then start the node from this shell", facts.arena_bytes);
    Some(Check::bad("memlock", title, State::Missing, why, &mend))
}

fn tracing(facts: &Facts) -> Option<Check> {
    let why = "a process that may trace others of its user can read their memory; the node forbids it for itself too";
    if facts.ptrace_scope? > 0 {
        return Some(Check::ok("tracing", "processes may not trace others of their user", why));
    }
    let mend = "sudo sysctl -w kernel.yama.ptrace_scope=1";
    Some(Check::bad("tracing", "processes may trace others of their user", State::Weak, why, mend))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use crate::{Check, Containers, Facts, RootPlace, State, checks, worst};
    use decores_types::{Protection, Swap};

    fn good() -> Facts {
        let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Facts {
            own_users: true,
            namespaces: names(&["cgroup", "ipc", "mount", "net", "pid", "uts"]),
            cgroup: names(&["cpu", "io", "memory", "pids"]),
            landlock_abi: 7,
            seccomp: true,
            tmpfs_noswap: true,
            encrypted_scratch: true,
            swap: Swap::None,
            containers: Some(Containers {
                runtime: "runc".to_owned(),
                protection: Protection::Container,
                version: Some("1".to_owned()),
                why: None,
            }),
            secret_memory: true,
            memlock_bytes: Some(8 << 20),
            arena_bytes: 4 << 20,
            root: RootPlace::Passphrase,
            core_pattern: Some("core\n".to_owned()),
            init_on_free: Some(true),
            ptrace_scope: Some(1),
        }
    }

    fn found(id: &str, change: impl FnOnce(&mut Facts)) -> Check {
        let mut facts = good();
        change(&mut facts);
        checks(&facts).into_iter().find(|c| c.id == id).unwrap()
    }

    #[test]
    fn a_good_machine_has_nothing_to_mend() {
        let all = checks(&good());
        assert_eq!(worst(&all), State::Ok, "{all:?}");
        assert!(all.iter().all(|c| c.mend.is_none()));
    }

    #[test]
    fn each_weakness_is_found_and_can_be_mended() {
        type Change = fn(&mut Facts);
        let cases: [(&str, State, Change); 18] = [
            ("seccomp", State::Missing, |f| f.seccomp = false),
            ("landlock", State::Missing, |f| f.landlock_abi = 0),
            ("landlock", State::Weak, |f| f.landlock_abi = 3),
            ("users", State::Weak, |f| f.own_users = false),
            ("namespaces", State::Weak, |f| f.namespaces.retain(|n| n != "net")),
            ("namespaces", State::Missing, |f| f.namespaces.clear()),
            ("cgroup", State::Missing, |f| f.cgroup.clear()),
            ("cgroup", State::Weak, |f| f.cgroup.retain(|c| c != "pids")),
            ("containers", State::Weak, |f| f.own_users = false),
            ("containers", State::Weak, |f| f.containers.iter_mut().for_each(|c| c.version = None)),
            ("swap", State::Weak, |f| f.swap = Swap::Possible),
            ("encrypted-scratch", State::Weak, |f| f.encrypted_scratch = false),
            ("core-dumps", State::Weak, |f| f.core_pattern = Some("|/usr/bin/collect %p".to_owned())),
            ("init-on-free", State::Weak, |f| f.init_on_free = Some(false)),
            ("root", State::Weak, |f| f.root = RootPlace::BesideData),
            ("secret-memory", State::Weak, |f| f.secret_memory = false),
            ("memlock", State::Missing, |f| f.memlock_bytes = Some(64 << 10)),
            ("tracing", State::Weak, |f| f.ptrace_scope = Some(0)),
        ];
        for (id, state, change) in cases {
            let check = found(id, change);
            assert_eq!(check.state, state, "{id}");
            assert!(!check.why.is_empty(), "{id}");
            let mend = check.mend.unwrap();
            assert!(mend.contains("sudo ") || ["seccomp", "root"].contains(&id), "{id}: {mend}");
        }
    }

    #[test]
    fn what_could_not_be_observed_is_not_claimed() {
        let mut facts = good();
        facts.core_pattern = None;
        facts.init_on_free = None;
        facts.containers = None;
        assert!(!checks(&facts).iter().any(|c| ["core-dumps", "init-on-free", "containers"].contains(&c.id.as_str())));
    }
}
