//! Rights that a job has given up, and the clocks and names that are the machine's.

use super::mounts::c_path;
use super::plain;
use crate::probe::{NAME, PRIVILEGE, Place, Probe, Stop, Stops, Tried, World, at, permitted, through};
use crate::syscall::{address, address_mut, call, signed, text};
use decores_sandbox::Hole::{Landlock, Root, Seccomp, User};
use std::fs;
use std::io;

pub(super) const PROBES: &[Probe] = &[
    plain("become-root", "sets its user to root", Stops { wasm: PRIVILEGE.wasm, container: &[User] }, become_root),
    plain("take-capabilities", "takes capabilities", PRIVILEGE, take_capabilities),
    plain("take-groups", "joins the group of root", PRIVILEGE, take_groups),
    plain(
        "set-user-id-program",
        "runs a program that becomes root",
        Stops { wasm: &[Seccomp, Landlock, Root, User], container: &[Root, User] },
        set_user_id,
    ),
    plain("run-program", "runs a program", Stops { wasm: &[Seccomp, Landlock], container: &[] }, |world| {
        run_program(&world.program)
    }),
    plain("set-clock", "sets the clock", PRIVILEGE, set_clock),
    plain("adjust-clock", "changes the clock's speed", PRIVILEGE, adjust_clock),
    plain("host-name", "renames the host", NAME, host_name),
    plain(
        "disk-first",
        "has the disk before all others",
        Stops { wasm: PRIVILEGE.wasm, container: &[User] },
        disk_first,
    ),
    plain("go-first", "has the processor before all others", PRIVILEGE, go_first),
];

fn become_root(world: &World) -> Tried {
    call(libc::SYS_setresuid, [0, 0, 0]).map_err(at("setresuid"))?;
    // The root of a user namespace of its own is another user to the host.
    let map = if world.place.is_container() { fs::read_to_string("/proc/self/uid_map") } else { Ok("0 0 1".into()) };
    let map = map.map_err(at("reading whom it stands for"))?;
    if !world.root || map.split_whitespace().nth(1) != Some("0") {
        return Err(Stop::Refused("becoming the host's root", io::Error::from_raw_os_error(libc::EPERM)));
    }
    through("it is root")
}

fn take_capabilities(_: &World) -> Tried {
    const VERSION_3: u32 = 0x2008_0522;
    const SYS_ADMIN: u32 = 1 << 21;
    let header = [VERSION_3, 0];
    let mut sets = [0_u32; 6];
    sets.iter_mut().zip([SYS_ADMIN, SYS_ADMIN]).for_each(|(place, set)| *place = set);
    call(libc::SYS_capset, [address(&header), address(&sets)]).map_err(at("capset"))?;
    through("it may administer the machine")
}

fn take_groups(_: &World) -> Tried {
    let groups = [0_u32];
    call(libc::SYS_setgroups, [groups.len(), address(&groups)]).map_err(at("setgroups"))?;
    through("it is of root's group")
}

fn set_user_id(world: &World) -> Tried {
    if world.place == Place::Outside {
        // Root shows by it that the program makes anybody root.
        call(libc::SYS_setresuid, [65_534, 65_534, 65_534]).map_err(at("setresuid"))?;
    }
    run_program(&world.on_host(&world.setuid_program))
}

/// The program tells in this one's place what it has become; see `main`.
fn run_program(program: &std::path::Path) -> Tried {
    let path = c_path(program).map_err(at("naming the program"))?;
    let role = if program.ends_with("set-user-id") { c"as-root" } else { c"as-is" };
    let (arguments, nothing) = ([text(&path), text(role), 0], [0_usize]);
    let failed = call(libc::SYS_execve, [text(&path), address(&arguments), address(&nothing)]);
    Err(match failed {
        Err(error) => Stop::Refused("execve", error),
        Ok(_) => Stop::Unclear("execve returned".to_owned()),
    })
}

fn set_clock(_: &World) -> Tried {
    // Who may is told that there is no such time zone.
    let zone = [100_000_i32, 0];
    permitted("settimeofday", call(libc::SYS_settimeofday, [0, address(&zone)]), &[libc::EINVAL])
}

fn adjust_clock(_: &World) -> Tried {
    // ADJ_TICK with ticks of no length.
    let mut order = [0_u64; 26];
    if let Some(modes) = order.first_mut() {
        *modes = 0x4000;
    }
    permitted("adjtimex", call(libc::SYS_adjtimex, [address_mut(&mut order)]), &[libc::EINVAL])
}

fn host_name(world: &World) -> Tried {
    const NAME_BYTES: usize = 65;
    let mut names = [0_u8; 6 * NAME_BYTES];
    call(libc::SYS_uname, [address_mut(&mut names)]).map_err(at("uname"))?;
    let node: Vec<u8> = names.iter().skip(NAME_BYTES).take_while(|byte| **byte != 0).copied().collect();
    if node != world.host_name.as_bytes() {
        return Err(Stop::Refused("looking for the host's name", io::ErrorKind::NotFound.into()));
    }
    // A name that is longer than any.
    permitted("sethostname", call(libc::SYS_sethostname, [address(&names), names.len()]), &[libc::EINVAL])
}

fn disk_first(_: &World) -> Tried {
    // The class of real time, of its own process.
    let (process, class) = (1, 1 << 13);
    call(libc::SYS_ioprio_set, [process, 0, class]).map_err(at("ioprio_set"))?;
    through("others wait for it")
}

fn go_first(_: &World) -> Tried {
    call(libc::SYS_setpriority, [libc::PRIO_PROCESS as usize, 0, signed(-10)]).map_err(at("setpriority"))?;
    through("others wait for it")
}
