//! The engine's request: received with its descriptors, and checked as what a stranger sent.

use crate::stop::{Stop, at};
use crate::syscall;
use decores_sandbox::container::{MAX_REQUEST, RANGE, RunRequest, RunTask};
use decores_types::canonical;
use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Arguments and variables at most, each.
const MOST_STRINGS: usize = 4096;
/// The kernel takes no longer string.
const LONGEST_STRING: usize = (128 << 10) - 1;
const LONGEST_PATH: usize = 4095;

/// The program's standard input, output and error.
pub(crate) type Standard = [OwnedFd; 3];

/// Receives a request; `None` if the engine closed its side without one.
///
/// # Errors
/// [`Stop::Refused`] for anything but a request.
pub(crate) fn receive(engine: &OwnedFd) -> Result<Option<(RunRequest, Standard)>, Stop> {
    let mut length = [0; 4];
    let Some((got, fds)) =
        syscall::receive::<3>(engine.as_fd(), &mut length).map_err(|e| Stop::refused(format!("the request: {e}")))?
    else {
        return Ok(None);
    };
    let fds: Standard = fds.try_into().map_err(|_| Stop::refused("the request came without three descriptors"))?;
    let mut rest = File::from(engine.try_clone().map_err(at("copying a descriptor"))?);
    let cut = |_| Stop::refused("the request is cut off");
    rest.read_exact(length.get_mut(got..).unwrap_or_default()).map_err(cut)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_REQUEST {
        return Err(Stop::refused(format!("the request has {length} bytes, at most {MAX_REQUEST} are read")));
    }
    let mut bytes = vec![0; length];
    rest.read_exact(&mut bytes).map_err(cut)?;
    let request = canonical::from_json(&bytes, MAX_REQUEST).map_err(|e| Stop::refused(format!("the request: {e}")))?;
    Ok(Some((request, fds)))
}

/// Sends a request, as an engine does.
///
/// # Errors
/// If it cannot be sent.
pub(crate) fn send(helper: &OwnedFd, request: &RunRequest, standard: [BorrowedFd<'_>; 3]) -> Result<(), Stop> {
    let body = canonical::to_vec(request).map_err(at("writing a request"))?;
    let length = u32::try_from(body.len()).map_err(at("writing a request"))?;
    syscall::send(helper.as_fd(), &length.to_be_bytes(), &standard).map_err(at("sending a request"))?;
    let mut rest = File::from(helper.try_clone().map_err(at("copying a descriptor"))?);
    rest.write_all(&body).map_err(at("sending a request"))
}

/// Checks a request against its task.
///
/// # Errors
/// [`Stop::Refused`], with what is wrong.
pub(crate) fn check(request: &RunRequest, task: &RunTask) -> Result<(), Stop> {
    let refuse = |why: &str| Err(Stop::refused(why));
    let strings = || request.args.iter().chain(&request.env);
    if request.args.first().is_none_or(String::is_empty) {
        return refuse("there is no program to run: the image names none, and no arguments were given");
    }
    if request.args.len() > MOST_STRINGS || request.env.len() > MOST_STRINGS {
        return refuse("more than 4096 arguments or variables");
    }
    if strings().any(|s| s.len() > LONGEST_STRING) {
        return refuse("an argument or variable of 128 KiB or more");
    }
    if strings().any(|s| s.contains('\0')) {
        return refuse("an argument or variable with a NUL in it");
    }
    if request.env.iter().any(|variable| variable.find('=').is_none_or(|at| at == 0)) {
        return refuse("a variable that is not `NAME=value`");
    }
    let mut names = HashSet::new();
    if !request.env.iter().filter_map(|variable| variable.split('=').next()).all(|name| names.insert(name)) {
        return refuse("a variable that is there twice");
    }
    if ["proc", "sys", "dev"].iter().any(|kernels| request.cwd.split('/').nth(1) == Some(kernels)) {
        return refuse("a working folder of the kernel's");
    }
    if !is_normal(&request.cwd) {
        return refuse("the working folder is not an absolute path without `.`, `..` and empty parts");
    }
    if request.uid >= RANGE || request.gid >= RANGE {
        return refuse("a user or group id of 65536 or more");
    }
    if task.ids.is_none() && (request.uid, request.gid) != (0, 0) {
        return refuse("without root a container has one user: 0");
    }
    Ok(())
}

fn is_normal(path: &str) -> bool {
    let parts = path.strip_prefix('/').filter(|_| path.len() <= LONGEST_PATH && !path.contains('\0'));
    parts.is_some_and(|parts| parts.is_empty() || parts.split('/').all(|part| !["", ".", ".."].contains(&part)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::spec::tests::{request, task};

    fn refused(change: impl FnOnce(&mut RunRequest)) -> String {
        let mut request = request();
        change(&mut request);
        match check(&request, &task()) {
            Err(Stop::Refused(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_plain_request_is_carried_out() {
        check(&request(), &task()).unwrap();
        let root = RunRequest { cwd: "/".to_owned(), uid: 0, gid: 0, ..request() };
        check(&root, &RunTask { ids: None, ..task() }).unwrap();
    }

    #[test]
    fn what_no_program_is_started_with_is_refused() {
        assert!(refused(|r| r.args.clear()).contains("no program"));
        assert!(refused(|r| r.args = vec![String::new()]).contains("no program"));
        assert!(refused(|r| r.args = vec!["a".to_owned(); 4097]).contains("4096"));
        assert!(refused(|r| r.args.push("a".repeat(128 << 10))).contains("128 KiB"));
        assert!(refused(|r| r.args.push("a\0b".to_owned())).contains("NUL"));
        assert!(refused(|r| r.env.push("A=\0".to_owned())).contains("NUL"));
        assert!(refused(|r| r.env.push("PATH".to_owned())).contains("NAME=value"));
        assert!(refused(|r| r.env.push("=x".to_owned())).contains("NAME=value"));
        assert!(refused(|r| r.env = vec!["HOME=/x".to_owned(), "HOME=".to_owned()]).contains("twice"));
    }

    #[test]
    fn folders_that_lead_elsewhere_are_refused() {
        for cwd in ["", "tmp", "/tmp/..", "/./tmp", "//", "/tmp/", "/a\0"] {
            assert!(refused(|r| r.cwd = cwd.to_owned()).contains("working folder"), "{cwd:?}");
        }
        for cwd in ["/proc/self/fd/6", "/dev", "/sys"] {
            assert!(refused(|r| r.cwd = cwd.to_owned()).contains("kernel"), "{cwd:?}");
        }
        assert!(refused(|r| r.cwd = format!("/{}", "a".repeat(4095))).contains("working folder"));
    }

    #[test]
    fn users_outside_of_the_range_are_refused() {
        assert!(refused(|r| r.uid = 65536).contains("65536"));
        assert!(refused(|r| r.gid = u32::MAX).contains("65536"));
        let alone = RunTask { ids: None, ..task() };
        assert!(check(&RunRequest { uid: 1, ..request() }, &alone).is_err());
        assert!(check(&RunRequest { uid: 0, gid: 1, ..request() }, &alone).is_err());
    }

    fn sent(bytes: &[u8], fds: usize) -> Result<Option<(RunRequest, Standard)>, Stop> {
        let (ours, theirs) = syscall::socket_pair().unwrap();
        let null = File::open("/dev/null").unwrap();
        syscall::send(theirs.as_fd(), bytes, &vec![null.as_fd(); fds]).unwrap();
        drop(theirs);
        receive(&ours)
    }

    fn message(body: &[u8]) -> Vec<u8> {
        [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
    }

    #[test]
    fn a_request_comes_with_its_descriptors() {
        let body = canonical::to_vec(&request()).unwrap();
        let (got, _) = sent(&message(&body), 3).unwrap().unwrap();
        assert_eq!(got, request());
        let (ours, theirs) = syscall::socket_pair().unwrap();
        drop(theirs);
        assert!(receive(&ours).unwrap().is_none());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let body = canonical::to_vec(&request()).unwrap();
        let why = |bytes: &[u8], fds| match sent(bytes, fds) {
            Err(Stop::Refused(why)) => why,
            _ => panic!("not refused"),
        };
        assert!(why(&message(&body), 2).contains("three descriptors"));
        assert!(why(&message(&body), 4).contains("more descriptors"));
        assert!(why(&message(&body)[..20], 3).contains("cut off"));
        assert!(why(&[0, 0], 3).contains("cut off"));
        assert!(why(&[255, 255, 255, 255], 3).contains("at most"));
        assert!(why(&message(b"{}"), 3).contains("not the expected"));
        let more = String::from_utf8(body).unwrap().replacen('{', "{\"x\":1,", 1);
        assert!(why(&message(more.as_bytes()), 3).contains("not the expected"));
    }
}
