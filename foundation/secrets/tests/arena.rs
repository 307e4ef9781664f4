//! The arena as a process sees it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![expect(unsafe_code, reason = "forks, to see what a child may do")]

use decores_secrets::{ARENA_BYTES, Arena, ArenaKind, MAX_SECRET, Secret, SecretError, forbid_core_dumps};
use std::sync::{Mutex, MutexGuard};

/// Tests that fill the arena must not starve the others.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[test]
fn a_secret_keeps_its_bytes_and_prints_as_stars() {
    let _turn = turn();
    let mut plain = *b"a very secret value";
    let secret = Secret::absorb(&mut plain).unwrap();
    assert_eq!(secret.expose(), b"a very secret value");
    assert_eq!(plain, [0; 19], "the original is wiped");
    assert_eq!(format!("{secret} {secret:?}"), "*** ***");
    assert_eq!((secret.expose_array::<19>().is_some(), secret.expose_array::<18>().is_some()), (true, false));
}

#[test]
fn destroying_reads_back_zeroes_and_a_reused_slot_is_empty() {
    let _turn = turn();
    let free = Arena::global().unwrap().free_bytes();
    assert!(Secret::from_slice(&[0xaa; 200]).unwrap().destroy());
    assert_eq!(Arena::global().unwrap().free_bytes(), free, "the room came back");
    for len in [0, 1, 64, 65, MAX_SECRET] {
        drop(Secret::filled(len, |out| out.fill(0x55)).unwrap());
        assert!(Secret::zeroed(len).unwrap().expose().iter().all(|b| *b == 0));
    }
}

#[test]
fn refuses_what_is_too_long_and_what_finds_no_room() {
    let _turn = turn();
    assert!(matches!(Secret::zeroed(MAX_SECRET + 1), Err(SecretError::TooLong(_))));
    let mut held = Vec::new();
    let full = loop {
        match Secret::zeroed(MAX_SECRET) {
            Ok(secret) => held.push(secret),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, SecretError::Full));
    assert!(held.len() > ARENA_BYTES / MAX_SECRET - 8);
    drop(held);
    Secret::zeroed(MAX_SECRET).unwrap();
}

#[test]
fn threads_never_share_a_slot() {
    let _turn = turn();
    std::thread::scope(|scope| {
        for mark in 1..=8_u8 {
            scope.spawn(move || {
                for round in 0..200 {
                    let secrets: Vec<_> = (0..8)
                        .map(|i| Secret::from_slice(&vec![mark; 1 + (round * 7 + i * 31) % 300]).unwrap())
                        .collect();
                    assert!(secrets.iter().all(|s| s.expose().iter().all(|b| *b == mark)));
                }
            });
        }
    });
}

#[test]
fn the_mapping_is_locked_undumped_and_unforked() {
    let _turn = turn();
    let secret = Secret::from_slice(b"find my mapping").unwrap();
    let flags = flags_at(secret.expose().as_ptr() as usize);
    for flag in ["lo", "dd", "dc"] {
        assert!(flags.iter().any(|f| f == flag), "{flag} is missing in {flags:?}");
    }
    assert!(matches!(Arena::global().unwrap().kind(), ArenaKind::MemfdSecret | ArenaKind::Mlock));
}

/// The kernel's flags of the mapping around an address.
fn flags_at(address: usize) -> Vec<String> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in smaps.lines() {
        if let Some((low, rest)) = line.split_once('-')
            && let (Ok(low), Some(Ok(high))) =
                (usize::from_str_radix(low, 16), rest.split(' ').next().map(|h| usize::from_str_radix(h, 16)))
        {
            inside = (low..high).contains(&address);
        } else if let Some(flags) = line.strip_prefix("VmFlags: ").filter(|_| inside) {
            return flags.split_whitespace().map(str::to_owned).collect();
        }
    }
    panic!("no mapping around {address:x}");
}

#[test]
fn refuses_secrets_in_a_forked_child() {
    let _turn = turn();
    let secret = Secret::from_slice(b"the parent's").unwrap();
    // SAFETY: the child calls nothing that may take another thread's lock, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = matches!(Arena::global(), Err(SecretError::Forked));
        drop(secret);
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(!refused)) };
    }
    let mut status = -1;
    // SAFETY: waits for the child just made and writes one integer of ours.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child was refused and ended well");
    assert_eq!(secret.expose(), b"the parent's");
}

#[test]
fn core_dumps_are_off() {
    let _turn = turn();
    forbid_core_dumps().unwrap();
    // SAFETY: takes integers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) }, 0);
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}
