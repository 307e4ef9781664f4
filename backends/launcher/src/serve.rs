//! The launcher process: one thread, one loop.

use crate::cgroup::Cgroups;
use crate::check::{LiveJob, check};
use crate::config::LauncherConfig;
use crate::inspect::inspect;
use crate::job::Job;
use crate::message::{Answer, Ask, Message, Request, trace_name};
use crate::probe;
use crate::socket::Socket;
use crate::syscall;
use decores_sandbox::{HostCapabilities, IsolationPlan};
use decores_types::{Attempt, JobId};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Ended jobs whose process group is remembered for the inspection.
const REMEMBERED: usize = 256;
/// Descriptors that come with a launch.
const LAUNCH_FDS: usize = 5;

/// Serves until the node is gone.
pub(crate) fn serve(socket: Socket, config: LauncherConfig) {
    let cgroups = Cgroups::detect();
    let mut server = Server { socket, config, cgroups, host: None, live: Vec::new(), ended: VecDeque::new() };
    // Any end of the conversation is the end of every job.
    let _ = server.run();
    for job in std::mem::take(&mut server.live) {
        job.kill();
        job.finish();
    }
    server.cgroups.remove_folders();
}

struct Server {
    socket: Socket,
    config: LauncherConfig,
    cgroups: Cgroups,
    host: Option<HostCapabilities>,
    live: Vec<Job>,
    ended: VecDeque<(String, i32)>,
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
            self.ended.push_back((job.name.clone(), job.pid));
            if self.ended.len() > REMEMBERED {
                self.ended.pop_front();
            }
            let (job, attempt, exit) = job.finish();
            self.send(&Message::Exited { job, attempt, exit })?;
        }
        Ok(())
    }

    fn answer(&mut self, packet: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        // What is no request has no number to answer to; the node never sends such.
        let Ok(Request { id, ask }) = serde_json::from_slice(packet) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "unknown request"));
        };
        let answer = match ask {
            Ask::Probe => Answer::Probed(self.host()),
            Ask::Launch(plan) => self.launch(&plan, fds),
            Ask::Kill { job, attempt } => self.kill(job, attempt),
            Ask::Inspect { job, attempt } => self.inspect(job, attempt),
        };
        self.send(&Message::Reply { id, answer })
    }

    fn host(&mut self) -> HostCapabilities {
        let (cgroups, config) = (&self.cgroups, &self.config);
        self.host.get_or_insert_with(|| probe::probe(cgroups, config)).clone()
    }

    fn launch(&mut self, plan: &IsolationPlan, fds: &[OwnedFd]) -> Answer {
        let host = self.host();
        let name = trace_name(plan.job, plan.attempt);
        let live: Vec<LiveJob> = self.live.iter().map(|j| LiveJob { name: j.name.clone(), uid: j.uid }).collect();
        if fds.len() != LAUNCH_FDS {
            return Answer::Refused(format!("{LAUNCH_FDS} descriptors come with a launch, not {}", fds.len()));
        }
        if let Err(why) = check(plan, &name, &host, &self.config, &live) {
            return Answer::Refused(why);
        }
        match Job::start(plan, fds, &self.config, &self.cgroups) {
            Ok((job, given)) => {
                let pid = job.pid;
                self.live.push(job);
                Answer::Launched { pid, given }
            }
            Err(why) => Answer::Failed(why),
        }
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
        let live = self.live.iter().find(|j| j.name == name).map(|j| j.pid);
        let group = live.or_else(|| self.ended.iter().rev().find(|(n, _)| *n == name).map(|(_, pid)| *pid));
        Answer::Inspected(inspect(&name, group, &self.cgroups, &self.config.jails))
    }

    fn send(&self, message: &Message) -> io::Result<()> {
        self.socket.send(&serde_json::to_vec(message)?, &[])
    }
}
