//! The launcher process: one thread, one loop.

use crate::cgroup::Cgroups;
use crate::check::check;
use crate::config::LauncherConfig;
use crate::group::PATIENCE;
use crate::inspect::inspect;
use crate::jails;
use crate::job::{Job, Traces};
use crate::message::{Answer, Ask, Leftovers, Message, Request, trace_name};
use crate::probe;
use crate::socket::Socket;
use crate::syscall;
use decores_sandbox::{HostCapabilities, IsolationPlan};
use decores_types::{Attempt, JobId};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Ended jobs whose process group is remembered for the inspection.
const REMEMBERED: usize = 256;
/// Descriptors that come with a launch.
const LAUNCH_FDS: usize = 5;
/// Pauses that a launcher waits for the one before it: ten seconds in all.
const CLAIM_TRIES: u32 = 100;

/// Serves until the node is gone.
pub(crate) fn serve(socket: Socket, config: LauncherConfig) {
    let cgroups = Cgroups::detect();
    let claimed = config.owner.then(|| jails::claim(&config.jails, &cgroups, CLAIM_TRIES)).transpose();
    let unclaimed = claimed.as_ref().err().map(ToString::to_string);
    let mut server = Server {
        unclaimed,
        socket,
        config,
        cgroups,
        host: None,
        live: Vec::new(),
        ended: VecDeque::new(),
        blocked: HashMap::new(),
    };
    // Any end of the conversation is the end of every job.
    let _ = server.run();
    for job in std::mem::take(&mut server.live) {
        job.kill();
        let (_, traces) = job.finish();
        server.clear(traces);
    }
    server.cgroups.remove_folders();
    // The folder is ours until all of that is done.
    drop(claimed);
}

struct Server {
    /// Why the folder of jails is not ours, where it should be: then nothing is served.
    unclaimed: Option<String>,
    socket: Socket,
    config: LauncherConfig,
    cgroups: Cgroups,
    host: Option<HostCapabilities>,
    live: Vec<Job>,
    ended: VecDeque<(String, i32)>,
    /// User ids that are not given out, and the job that left something under each.
    blocked: HashMap<u32, Traces>,
}

impl Server {
    fn run(&mut self) -> io::Result<()> {
        loop {
            let mut watched = vec![self.socket.0.as_fd()];
            watched.extend(self.live.iter().map(Job::ended));
            let ready = syscall::poll(&watched, self.timeout())?;
            let (asked, over) = ready.split_first().unwrap_or((&false, &[]));
            let over: Vec<bool> = over.to_vec();
            if *asked {
                let Some((packet, fds)) = self.socket.receive()? else { return Ok(()) };
                self.reap(&over)?;
                self.answer(&packet, &fds)?;
            } else {
                self.reap(&over)?;
            }
            let now = syscall::monotonic_ms();
            self.live.iter_mut().filter(|j| j.deadline <= now).for_each(Job::kill_late);
        }
    }

    /// Milliseconds to the next deadline.
    fn timeout(&self) -> i32 {
        let next = self.live.iter().map(|j| j.deadline).filter(|d| *d != u64::MAX).min();
        let left = next.map(|d| d.saturating_sub(syscall::monotonic_ms()).saturating_add(1));
        left.map_or(-1, |ms| i32::try_from(ms).unwrap_or(i32::MAX))
    }

    fn reap(&mut self, over: &[bool]) -> io::Result<()> {
        let mut over = over.iter();
        let (ended, live) = std::mem::take(&mut self.live).into_iter().partition(|_| over.next() == Some(&true));
        self.live = live;
        for job in ended {
            let (job, attempt, (exit, traces)) = (job.job, job.attempt, job.finish());
            self.clear(traces);
            self.send(&Message::Exited { job, attempt, exit })?;
        }
        Ok(())
    }

    /// Removes what an attempt made; a user id under which something stays is not given out again.
    fn clear(&mut self, traces: Traces) {
        // Whether it worked, the machine tells.
        let _ = jails::remove(&self.config.jails, &traces.name, &self.cgroups, PATIENCE);
        if let Some(group) = traces.group {
            self.ended.push_back((traces.name.clone(), group));
            if self.ended.len() > REMEMBERED {
                self.ended.pop_front();
            }
        }
        if let Some(uid) = traces.uid
            && self.left_of(&traces.name, traces.group) != Leftovers::default()
        {
            self.blocked.insert(uid, traces);
        }
    }

    fn left_of(&self, name: &str, group: Option<i32>) -> Leftovers {
        inspect(name, group, &self.cgroups, &self.config.jails)
    }

    /// Refuses a user id whose former job has left something, after one more try to remove it.
    fn check_blocked(&mut self, uid: u32) -> Result<(), String> {
        let Some(former) = self.blocked.get(&uid) else { return Ok(()) };
        let _ = jails::remove(&self.config.jails, &former.name, &self.cgroups, 1);
        if self.left_of(&former.name, former.group) != Leftovers::default() {
            return Err(format!("user {uid} still has something left of `{}`", former.name));
        }
        self.blocked.remove(&uid);
        Ok(())
    }

    fn answer(&mut self, packet: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        // What is no request has no number to answer to; the node never sends such.
        let Ok(Request { id, ask }) = serde_json::from_slice(packet) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "unknown request"));
        };
        let answer = match ask {
            Ask::Probe => self.host().map_or_else(Answer::Failed, Answer::Probed),
            Ask::Launch(plan) => self.launch(&plan, fds),
            Ask::Kill { job, attempt } => self.kill(job, attempt),
            Ask::Inspect { job, attempt } => self.inspect(job, attempt),
        };
        self.send(&Message::Reply { id, answer })
    }

    fn host(&mut self) -> Result<HostCapabilities, String> {
        if let Some(why) = &self.unclaimed {
            return Err(why.clone());
        }
        if let Some(host) = &self.host {
            return Ok(host.clone());
        }
        let host = probe::probe(&self.cgroups, &self.config).map_err(|e| format!("making a jail's folder: {e}"))?;
        Ok(self.host.insert(host).clone())
    }

    fn launch(&mut self, plan: &IsolationPlan, fds: &[OwnedFd]) -> Answer {
        if !self.config.owner {
            return Answer::Refused("this launcher only probes".to_owned());
        }
        if let Err(why) = self.admit(plan, fds) {
            return Answer::Refused(why);
        }
        match Job::start(plan, fds, &self.config, &self.cgroups) {
            Ok((job, given)) => {
                let pid = job.pid();
                self.live.push(job);
                Answer::Launched { pid, given }
            }
            Err(why) => {
                self.clear(Traces::of(plan));
                Answer::Failed(why)
            }
        }
    }

    fn admit(&mut self, plan: &IsolationPlan, fds: &[OwnedFd]) -> Result<(), String> {
        let host = self.host()?;
        if fds.len() != LAUNCH_FDS {
            return Err(format!("{LAUNCH_FDS} descriptors come with a launch, not {}", fds.len()));
        }
        let traces = Traces::of(plan);
        let live: Vec<&Traces> = self.live.iter().map(|j| &j.traces).collect();
        check(plan, &traces.name, &host, &self.config, &live)?;
        traces.uid.map_or(Ok(()), |uid| self.check_blocked(uid))
    }

    fn kill(&self, job: JobId, attempt: Attempt) -> Answer {
        match self.live.iter().find(|j| j.job == job && j.attempt == attempt) {
            Some(live) => {
                live.kill();
                Answer::Killed
            }
            None => Answer::Refused("this attempt is not running".to_owned()),
        }
    }

    fn inspect(&self, job: JobId, attempt: Attempt) -> Answer {
        let name = trace_name(job, attempt);
        let live = self.live.iter().find(|j| j.traces.name == name).map(Job::pid);
        let group = live.or_else(|| self.ended.iter().rev().find(|(n, _)| *n == name).map(|(_, pid)| *pid));
        Answer::Inspected(self.left_of(&name, group))
    }

    fn send(&self, message: &Message) -> io::Result<()> {
        self.socket.send(&serde_json::to_vec(message)?, &[])
    }
}
