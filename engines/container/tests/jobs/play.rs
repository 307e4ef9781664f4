//! A stand-in for the helper: it speaks the real messages, and runs a function where the real one runs a container.

use decores_sandbox::container::{MAX_REQUEST, RunAnswer, RunRequest};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// A container's program: its three streams, and the scratch.
pub struct Container {
    pub request: RunRequest,
    pub stdin: File,
    pub stdout: Option<File>,
    pub stderr: Option<File>,
    pub scratch: PathBuf,
}

/// What is played; each answer is sent as a line.
pub type Play = Box<dyn FnOnce(&mut Container) -> Vec<u8> + Send>;

pub fn line(answer: &RunAnswer) -> Vec<u8> {
    let mut line = serde_json::to_vec(answer).unwrap();
    line.push(b'\n');
    line
}

pub fn ended(code: i32) -> Vec<u8> {
    line(&RunAnswer::Ended { code: Some(code), signal: None, late: false, wall_ms: 12 })
}

/// Takes one request, says that it started, plays, and gives what the play says; true if there was a request.
pub fn serve(mut engine: UnixStream, scratch: PathBuf, play: Play) -> bool {
    let Some((request, streams)) = receive(&mut engine) else { return false };
    let [stdin, stdout, stderr]: [File; 3] = streams.try_into().unwrap();
    engine.write_all(&line(&RunAnswer::Started)).unwrap();
    let mut container = Container { request, stdin, stdout: Some(stdout), stderr: Some(stderr), scratch };
    let said = play(&mut container);
    drop((container.stdout.take(), container.stderr.take()));
    // Where the engine has had enough it listens no more.
    let _ = engine.write_all(&said);
    true
}

fn receive(engine: &mut UnixStream) -> Option<(RunRequest, Vec<File>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut first = [0];
    let got = recvmsg(&*engine, &mut [IoSliceMut::new(&mut first)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    if got.bytes == 0 {
        return None;
    }
    let streams = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => fds.map(File::from).collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    let streams: Vec<File> = streams.collect();
    let mut rest = [0; 3];
    engine.read_exact(&mut rest).unwrap();
    let length = u32::from_be_bytes([first[0], rest[0], rest[1], rest[2]]) as usize;
    assert!(length <= MAX_REQUEST);
    let mut document = vec![0; length];
    engine.read_exact(&mut document).unwrap();
    Some((serde_json::from_slice(&document).unwrap(), streams))
}
