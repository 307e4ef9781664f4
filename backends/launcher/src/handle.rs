//! The node's side.

use crate::config::LauncherConfig;
use crate::error::LaunchError;
use crate::message::{Answer, Ask, Leftovers, Message, Request};
use crate::serve::serve;
use crate::socket::Socket;
use crate::syscall;
use decores_sandbox::protocol::{Exit, Given};
use decores_sandbox::{Hole, HostCapabilities, IsolationPlan};
use decores_types::{Attempt, JobId};
use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use tokio::sync::{oneshot, watch};

/// A launcher process that nobody talks to yet.
#[derive(Debug)]
pub struct Launcher {
    socket: Socket,
    pid: i32,
}

impl Launcher {
    /// Forks the launcher process. Call it first thing in `main`: before any thread, before any secret.
    ///
    /// # Errors
    /// If threads exist already, or the process cannot be made.
    pub fn fork(config: LauncherConfig) -> Result<Self, LaunchError> {
        let threads = fs::read_dir("/proc/self/task").map_err(LaunchError::Fork)?.count();
        if threads != 1 {
            return Err(LaunchError::Threads);
        }
        let (ours, theirs) = Socket::pair().map_err(LaunchError::Fork)?;
        match syscall::fork().map_err(LaunchError::Fork)? {
            0 => {
                become_launcher(&theirs, &config.holes);
                serve(theirs, config);
                syscall::exit_now(0)
            }
            pid => Ok(Self { socket: ours, pid }),
        }
    }

    /// One that is no child of this process.
    pub(crate) const fn beyond(socket: Socket, pid: i32) -> Self {
        Self { socket, pid }
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Starts the thread that reads answers; from here on there are threads.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn connect(self) -> Result<LauncherHandle, LaunchError> {
        let incoming = self.socket.try_clone().map_err(LaunchError::Socket)?;
        let waiting = Arc::new(Waiting::default());
        let theirs = Arc::clone(&waiting);
        let pid = self.pid;
        let read = move || {
            theirs.read_all(&incoming);
            // One that is a service's is reaped there.
            let _ = syscall::reap(pid);
        };
        thread::Builder::new().name("launcher-reader".to_owned()).spawn(read).map_err(LaunchError::Socket)?;
        let connection = Connection { socket: self.socket, waiting, next: AtomicU64::new(1) };
        Ok(LauncherHandle(Arc::new(connection)))
    }
}

/// Leaves everything of the node behind but the socket, whose end tells when the node is gone. A
/// parent-death signal would come first, and leave control groups and folders behind.
pub(crate) fn become_launcher(socket: &Socket, holes: &[Hole]) {
    syscall::set_process_name(c"decores-launch");
    syscall::signals(true);
    let fd = socket.0.as_raw_fd().unsigned_abs();
    // Without pid namespaces, what an engine leaves behind comes here.
    // A key of a scratch passes through here; of 1, even programs that collect dumps are told nothing.
    let may_dump = holes.contains(&Hole::ResourceLimits);
    let closed_to_dumps = if may_dump { Ok(()) } else { syscall::limit(libc::RLIMIT_CORE, 1) };
    let heir = syscall::process_control(libc::PR_SET_CHILD_SUBREAPER, 1);
    let null = fs::File::options().read(true).write(true).open("/dev/null");
    let closed = null.and_then(|null| {
        (0..3).try_for_each(|to| syscall::place(null.as_raw_fd(), to, false))?;
        drop(null);
        // Nothing of the node's may stay open here, nor pass to an engine.
        let below = if fd > 3 { syscall::close_range(3, fd - 1) } else { Ok(()) };
        below.and_then(|()| syscall::close_range(fd + 1, u32::MAX))
    });
    if closed_to_dumps.is_err() || heir.is_err() || closed.is_err() {
        syscall::exit_now(1);
    }
}

/// The descriptors an engine gets; see `decores_sandbox::protocol`.
#[derive(Debug)]
pub struct EngineDescriptors {
    /// The job, read by the engine.
    pub job: OwnedFd,
    /// Events, written by the engine.
    pub events: OwnedFd,
    /// The sealed payload, read by the engine.
    pub payload: OwnedFd,
    /// The sealed output, written by the engine.
    pub output: OwnedFd,
    /// The sealed logs, written by the engine.
    pub logs: OwnedFd,
    /// A compiled program that is kept, or the place for one.
    pub module: Option<OwnedFd>,
}

/// A started engine.
#[derive(Debug)]
pub struct Launched {
    /// Its process id, as the host sees it.
    pub pid: i32,
    /// What it was given, as the kernel says.
    pub given: Given,
    /// How it ended; awaited, or read with `blocking_recv`. An error means that the launcher died.
    pub exit: oneshot::Receiver<Exit>,
    /// What was left on the machine once all of it was removed; told with the exit.
    pub left: oneshot::Receiver<Leftovers>,
}

/// Talks to the launcher; every method blocks until the answer is there.
#[derive(Clone, Debug)]
pub struct LauncherHandle(Arc<Connection>);

impl LauncherHandle {
    /// What this machine can do; tried once, then remembered.
    ///
    /// # Errors
    /// If the launcher is gone.
    pub fn probe(&self) -> Result<HostCapabilities, LaunchError> {
        match self.0.ask(Ask::Probe, &[])? {
            Answer::Probed(host) => Ok(host),
            other => Err(unexpected(other)),
        }
    }

    /// Starts an engine. The descriptors are closed on this side in every case.
    ///
    /// # Errors
    /// If the plan is refused or a step fails; nothing is left then.
    pub fn launch(&self, plan: &IsolationPlan, fds: EngineDescriptors) -> Result<Launched, LaunchError> {
        let key = (plan.job, plan.attempt);
        let (sender, exit) = oneshot::channel();
        let (finder, left) = oneshot::channel();
        // Told before it is asked for: the engine may end before its start is answered. An attempt
        // that runs already is refused by the launcher and keeps its own receiver.
        let entered = self.0.waiting.add_exit(key, (sender, finder));
        let list = [&fds.job, &fds.events, &fds.payload, &fds.output, &fds.logs];
        let list: Vec<BorrowedFd<'_>> = list.into_iter().chain(&fds.module).map(AsFd::as_fd).collect();
        let refused = match self.0.ask(Ask::Launch(Box::new(plan.clone())), &list) {
            Ok(Answer::Launched { pid, given }) => return Ok(Launched { pid, given, exit, left }),
            Ok(other) => unexpected(other),
            Err(e) => e,
        };
        if entered {
            self.0.waiting.lock().exits.remove(&key);
        }
        Err(refused)
    }

    /// Ends every process of an attempt; its exit is told as usual.
    ///
    /// # Errors
    /// If it is not running, or the launcher is gone.
    pub fn kill(&self, job: JobId, attempt: Attempt) -> Result<(), LaunchError> {
        match self.0.ask(Ask::Kill { job, attempt }, &[])? {
            Answer::Killed => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Looks at the machine for what an attempt has left.
    ///
    /// # Errors
    /// If the launcher is gone.
    pub fn inspect(&self, job: JobId, attempt: Attempt) -> Result<Leftovers, LaunchError> {
        match self.0.ask(Ask::Inspect { job, attempt }, &[])? {
            Answer::Inspected(leftovers) => Ok(leftovers),
            other => Err(unexpected(other)),
        }
    }

    /// Tries again to remove all that an attempt under this plan may have left, whichever launcher ran it, and looks
    /// at the machine. While something is left the plan's user is not given out; once nothing is, it is free again.
    ///
    /// # Errors
    /// If the attempt is running, or the launcher is gone.
    pub fn remove(&self, plan: &IsolationPlan) -> Result<Leftovers, LaunchError> {
        match self.0.ask(Ask::Remove(Box::new(plan.clone())), &[])? {
            Answer::Inspected(leftovers) => Ok(leftovers),
            other => Err(unexpected(other)),
        }
    }

    /// Becomes true once the launcher process is gone; every engine is then, too.
    pub fn ended(&self) -> watch::Receiver<bool> {
        self.0.waiting.ended.subscribe()
    }
}

fn unexpected(answer: Answer) -> LaunchError {
    match answer {
        Answer::Refused(why) => LaunchError::Refused(why),
        Answer::Failed(why) => LaunchError::Failed(why),
        _ => LaunchError::Failed("the launcher gave another answer than asked for".to_owned()),
    }
}

#[derive(Debug)]
struct Connection {
    socket: Socket,
    waiting: Arc<Waiting>,
    next: AtomicU64,
}

impl Connection {
    fn ask(&self, ask: Ask, fds: &[BorrowedFd<'_>]) -> Result<Answer, LaunchError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let packet = serde_json::to_vec(&Request { id, ask }).map_err(|e| LaunchError::Socket(e.into()))?;
        let (sender, receiver) = mpsc::channel();
        {
            let mut tables = self.waiting.lock();
            if tables.ended {
                return Err(LaunchError::Ended);
            }
            tables.replies.insert(id, sender);
        }
        if let Err(e) = self.socket.send(&packet, fds) {
            self.waiting.lock().replies.remove(&id);
            return Err(LaunchError::Socket(e));
        }
        receiver.recv().map_err(|_| LaunchError::Ended)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The launcher ends every job and itself; the reader then reaps it.
        self.socket.shut();
    }
}

/// Who is told of an engine's end, and of what it left.
type Ending = (oneshot::Sender<Exit>, oneshot::Sender<Leftovers>);

/// Who waits for what.
#[derive(Debug, Default)]
struct Waiting {
    tables: Mutex<Tables>,
    ended: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Tables {
    replies: HashMap<u64, mpsc::Sender<Answer>>,
    exits: HashMap<(JobId, Attempt), Ending>,
    ended: bool,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_exit(&self, key: (JobId, Attempt), sender: Ending) -> bool {
        let mut tables = self.lock();
        if tables.exits.contains_key(&key) {
            return false;
        }
        tables.exits.insert(key, sender);
        true
    }

    /// Hands every message to whoever waits for it, until the launcher is gone.
    fn read_all(&self, socket: &Socket) {
        while let Ok(Some((packet, _))) = socket.receive() {
            match serde_json::from_slice(&packet) {
                Ok(Message::Reply { id, answer }) => {
                    let waiting = self.lock().replies.remove(&id);
                    // Nobody may be left who wants to know.
                    let _ = waiting.map(|w| w.send(answer));
                }
                Ok(Message::Exited { job, attempt, exit, left }) => {
                    let waiting = self.lock().exits.remove(&(job, attempt));
                    let _ = waiting.map(|(ended, found)| (found.send(left), ended.send(exit)));
                }
                Err(_) => break,
            }
        }
        let mut tables = self.lock();
        tables.ended = true;
        tables.replies.clear();
        tables.exits.clear();
        drop(tables);
        self.ended.send_replace(true);
    }
}
