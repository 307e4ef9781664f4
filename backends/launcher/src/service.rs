//! A launcher that lives apart from its node: a service of root's for a node that is not root.
//!
//! One node at a time. Each conversation has a launcher process of its own, forked from the service and told the same
//! configuration each time, so that whatever a node says ends that process at most.

use crate::config::LauncherConfig;
use crate::error::LaunchError;
use crate::handle::{Launcher, become_launcher};
use crate::serve::serve;
use crate::socket::Socket;
use crate::syscall::{self, Side};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::Path;

/// Milliseconds that a service may take to greet.
const PATIENCE_MS: i32 = 10_000;
/// Times that a busy service is asked, and the pause between them, in milliseconds: a minute.
const TRIES: u32 = 600;
const PAUSE_MS: i32 = 100;
/// Seconds that a node may leave unread what it is told; deadlines wait as long at most.
const SEND_S: i64 = 10;

/// What whoever connects is told first.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Greeting {
    Welcome,
    /// Another node is served, or what the last one left is being wiped: it may be otherwise in a moment.
    Busy,
    Refused(String),
}

impl Launcher {
    /// Begins a conversation with the service that listens there. Nothing of it outlives this process. `patient`
    /// waits a minute at most for one that is busy: the service of a node that was just killed is still wiping.
    ///
    /// # Errors
    /// If nobody listens, or not root does, or the service refuses.
    pub fn connect_to(path: &Path, patient: bool) -> Result<Self, LaunchError> {
        for left in (0..if patient { TRIES } else { 1 }).rev() {
            if let Some(launcher) = Self::try_connect(path)? {
                return Ok(launcher);
            }
            if left > 0 {
                syscall::poll(&[], PAUSE_MS).map_err(LaunchError::Socket)?;
            }
        }
        Err(LaunchError::Refused("it serves another node, or still wipes what the last one left".to_owned()))
    }

    /// `None` from a service that is busy.
    fn try_connect(path: &Path) -> Result<Option<Self>, LaunchError> {
        let socket = Socket::connect(path).map_err(LaunchError::Socket)?;
        let peer = socket.peer().map_err(LaunchError::Socket)?;
        if peer.uid != 0 {
            return Err(LaunchError::Refused(format!("it is user {}'s, and not root's", peer.uid)));
        }
        let greeted = syscall::poll(&[socket.0.as_fd()], PATIENCE_MS).map_err(LaunchError::Socket)? == [true];
        let said = if greeted { socket.receive().map_err(LaunchError::Socket)? } else { None };
        match said.and_then(|(packet, _)| serde_json::from_slice(&packet).ok()) {
            Some(Greeting::Welcome) => Ok(Some(Self::beyond(socket, peer.pid))),
            Some(Greeting::Busy) => Ok(None),
            Some(Greeting::Refused(why)) => Err(LaunchError::Refused(why)),
            None => Err(LaunchError::Ended),
        }
    }
}

/// Serves nodes that run as this user until it is told to end by a signal; then every job of the one it serves ends.
///
/// # Errors
/// If the socket cannot be made, or the process has threads.
pub fn serve_at(path: &Path, uid: u32, config: &LauncherConfig) -> Result<(), LaunchError> {
    let threads = fs::read_dir("/proc/self/task").map_err(LaunchError::Fork)?.count();
    if threads != 1 {
        return Err(LaunchError::Threads);
    }
    let listener = listen(path, uid).map_err(LaunchError::Socket)?;
    let stop = syscall::signal_descriptor(&[libc::SIGTERM, libc::SIGINT]).map_err(LaunchError::Socket)?;
    let service = Service { listener, stop, uid, config };
    let result = service.run().map_err(LaunchError::Socket);
    // Nobody can be served any more; that it is gone already is fine.
    let _ = fs::remove_file(path);
    result
}

/// Listens where only this user, and root, may connect.
fn listen(path: &Path, uid: u32) -> io::Result<Socket> {
    if let Ok(found) = path.symlink_metadata()
        && found.file_type().is_socket()
    {
        if Socket::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another helper listens there"));
        }
        fs::remove_file(path)?;
    }
    // From the first moment on.
    syscall::file_mask(0o177);
    let listener = Socket::listen(path);
    syscall::file_mask(0o022);
    let listener = listener?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    chown(path, Some(uid), None)?;
    Ok(listener)
}

struct Service<'a> {
    listener: Socket,
    /// Readable when this process is to end.
    stop: OwnedFd,
    uid: u32,
    config: &'a LauncherConfig,
}

/// The launcher of a node that is being served.
struct Conversation {
    pid: i32,
    pidfd: OwnedFd,
    socket: Socket,
}

impl Service<'_> {
    fn run(&self) -> io::Result<()> {
        let mut current: Option<Conversation> = None;
        loop {
            let mut watched = vec![self.stop.as_fd(), self.listener.0.as_fd()];
            watched.extend(current.as_ref().map(|conversation| conversation.pidfd.as_fd()));
            let ready = syscall::poll(&watched, -1)?;
            let is_ready = |at: usize| ready.get(at).copied().unwrap_or(false);
            let (stop, asked, over) = (is_ready(0), is_ready(1), is_ready(2));
            if let Some(conversation) = current.take_if(|_| over || stop) {
                // It wipes what the node's jobs left, whether the node went first or is sent away.
                conversation.socket.shut();
                let _ = syscall::reap(conversation.pid);
            }
            if stop {
                return Ok(());
            }
            if asked {
                // One that is gone again before it was let in is nobody's trouble.
                let begun = self.listener.accept().and_then(|socket| self.begin(socket, current.is_some()));
                current = begun.ok().flatten().or(current);
            }
        }
    }

    /// Begins a conversation, or says why not.
    fn begin(&self, socket: Socket, is_busy: bool) -> io::Result<Option<Conversation>> {
        let peer = socket.peer()?;
        let greeting = match peer.uid {
            uid if uid != self.uid => Greeting::Refused(format!("it serves user {}, not user {uid}", self.uid)),
            _ if is_busy => Greeting::Busy,
            _ => Greeting::Welcome,
        };
        socket.send(&serde_json::to_vec(&greeting)?, &[])?;
        if greeting != Greeting::Welcome {
            return Ok(None);
        }
        socket.give_up_sending_after(SEND_S)?;
        match syscall::clone_into(0)? {
            Side::Child => {
                become_launcher(&socket, &self.config.holes);
                serve(socket, self.config.clone());
                syscall::exit_now(0)
            }
            Side::Parent { pid, pidfd } => Ok(Some(Conversation { pid, pidfd, socket })),
        }
    }
}
