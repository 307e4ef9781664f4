//! The launcher process: one thread, one loop.

use crate::cgroup::Cgroups;
use crate::check::check;
use crate::config::LauncherConfig;
use crate::group::{JobCgroup, PATIENCE};
use crate::holes::leave_out;
use crate::inspect::inspect;
use crate::jails;
use crate::job::{ENGINE_FDS, Job, Traces};
use crate::message::{Answer, Ask, Leftovers, Message, Request, trace_name};
use crate::probe;
use crate::process::{Users, end_all_of, processes_of};
use crate::socket::Socket;
use crate::syscall;
use decores_sandbox::{HostCapabilities, IsolationPlan};
use decores_types::{Attempt, JobId};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Ended jobs whose traces are remembered for the inspection.
const REMEMBERED: usize = 256;
/// Milliseconds between two looks at what the scratches on disk take.
const LOOK_MS: u64 = 1000;
/// Pauses that a launcher waits for the one before it: a minute in all.
const CLAIM_TRIES: u32 = 600;

/// Serves until the node is gone.
pub(crate) fn serve(socket: Socket, config: LauncherConfig) {
    let cgroups = Cgroups::detect(&config.scratch);
    let claimed = match config.owner {
        true if !config.holes.is_empty() => Err(std::io::Error::other("a node's launcher leaves no mechanism out")),
        true => jails::claim(&config, &cgroups, CLAIM_TRIES).map(Some),
        false => Ok(None),
    };
    let unclaimed = claimed.as_ref().err().map(ToString::to_string);
    let mut server = Server {
        unclaimed,
        socket,
        config,
        cgroups,
        host: None,
        live: Vec::new(),
        ended: VecDeque::new(),
        blocked: Vec::new(),
        next_look: 0,
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
    ended: VecDeque<Traces>,
    /// Attempts that left something; their users are not given out.
    blocked: Vec<Traces>,
    /// When the scratches on disk are looked at again.
    next_look: u64,
}

impl Server {
    fn run(&mut self) -> io::Result<()> {
        loop {
            let mut watched = vec![self.socket.0.as_fd()];
            watched.extend(self.live.iter().flat_map(|job| [job.ended(), job.server_ended()]));
            let ready = syscall::poll(&watched, self.timeout())?;
            let (asked, over) = ready.split_first().unwrap_or((&false, &[]));
            let over: Vec<[bool; 2]> = over.as_chunks().0.to_vec();
            // Without the server of its scratch an engine cannot go on.
            let lost = over.iter().zip(&self.live).filter(|([engine, server], _)| *server && !engine);
            lost.for_each(|(_, job)| job.kill());
            if *asked {
                let Some((packet, fds)) = self.socket.receive()? else { return Ok(()) };
                self.reap(&over)?;
                self.answer(&packet, &fds)?;
            } else {
                self.reap(&over)?;
            }
            self.look();
        }
    }

    /// Ends what is past its deadline, or takes too much of the disk.
    fn look(&mut self) {
        let now = syscall::monotonic_ms();
        self.live.iter_mut().filter(|j| j.deadline <= now).for_each(Job::kill_late);
        if now >= self.next_look {
            self.live.iter().filter(|j| j.is_too_large()).for_each(Job::kill);
            self.next_look = syscall::monotonic_ms().saturating_add(LOOK_MS);
        }
    }

    /// Milliseconds to the next deadline or look.
    fn timeout(&self) -> i32 {
        let look = self.live.iter().any(Job::is_on_disk).then_some(self.next_look);
        let next = self.live.iter().map(|j| j.deadline).filter(|d| *d != u64::MAX).chain(look).min();
        let left = next.map(|d| d.saturating_sub(syscall::monotonic_ms()).saturating_add(1));
        left.map_or(-1, |ms| i32::try_from(ms).unwrap_or(i32::MAX))
    }

    fn reap(&mut self, over: &[[bool; 2]]) -> io::Result<()> {
        let mut over = over.iter();
        let (ended, live) =
            std::mem::take(&mut self.live).into_iter().partition(|_| over.next().is_some_and(|[engine, _]| *engine));
        self.live = live;
        for job in ended {
            let (job, attempt, (exit, traces)) = (job.job, job.attempt, job.finish());
            let left = self.clear(traces);
            self.send(&Message::Exited { job, attempt, exit, left })?;
        }
        Ok(())
    }

    /// Removes what an attempt of this launcher's made; a user under whom something stays is not given out again.
    fn clear(&mut self, mut traces: Traces) -> Leftovers {
        let cgroup = self.cgroups.existing(&traces.name);
        let left = self.settle(&mut traces, &cgroup);
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back(traces);
        left
    }

    /// Tries to remove all traces, and blocks or frees their user by what is left.
    fn settle(&mut self, traces: &mut Traces, cgroup: &JobCgroup) -> Leftovers {
        // Whether it worked, the machine tells.
        let _ = jails::remove(&self.config, &traces.name, cgroup, PATIENCE);
        // The number of a group that has ended may come to stand for another.
        traces.group = traces.group.filter(|group| syscall::group_exists(*group));
        let left = inspect(traces, &cgroup.what_exists(), &self.config);
        self.blocked.retain(|other| other.name != traces.name);
        if traces.users.is_some() && left != Leftovers::default() {
            self.blocked.push(traces.clone());
        }
        left
    }

    /// Refuses users under whom anything runs, or whose former job has left something that cannot be removed.
    fn check_blocked(&mut self, users: Users, name: &str) -> Result<(), String> {
        let (uid, meets) = (users.uid, |t: &Traces| t.users.is_some_and(|theirs| theirs.meet(users)));
        let (theirs, others) = std::mem::take(&mut self.blocked).into_iter().partition(meets);
        self.blocked = others;
        for mut former in theirs {
            let cgroup = self.cgroups.everywhere(&former.name);
            self.settle(&mut former, &cgroup);
        }
        if let Some(former) = self.blocked.iter().find(|t| meets(t)) {
            return Err(format!("user {uid} still has something left of `{}`", former.name));
        }
        match processes_of(users, name).as_deref() {
            Ok([]) => Ok(()),
            Ok([pid, ..]) => Err(format!("user {uid} still has something left: process {pid}")),
            Err(e) => Err(format!("user {uid} may still have something left: looking for its processes: {e}")),
        }
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
            Ask::Remove(plan) => self.remove(&plan),
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
        if !self.config.runs_engines() {
            return Answer::Refused("this launcher only probes".to_owned());
        }
        if let Err(why) = self.admit(plan, fds) {
            return Answer::Refused(why);
        }
        let plan = &leave_out(plan.clone(), &self.config.holes);
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
        // A kept program may come as one more.
        if !(ENGINE_FDS..=ENGINE_FDS + 1).contains(&fds.len()) {
            return Err(format!("{ENGINE_FDS} descriptors come with a launch, not {}", fds.len()));
        }
        let traces = Traces::of(plan);
        let live: Vec<&Traces> = self.live.iter().map(|j| &j.traces).collect();
        check(plan, &traces.name, &host, &self.config, &live)?;
        traces.users.map_or(Ok(()), |users| self.check_blocked(users, &traces.name))
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
        let live = self.live.iter().map(|j| &j.traces).find(|t| t.name == name);
        let known = live.or_else(|| self.ended.iter().rev().chain(&self.blocked).find(|t| t.name == name));
        let cgroup = match known {
            Some(_) => self.cgroups.existing(&name),
            None => self.cgroups.everywhere(&name),
        };
        let traces = known.cloned().unwrap_or(Traces { name, users: None, group: None });
        Answer::Inspected(inspect(&traces, &cgroup, &self.config))
    }

    /// Tries again to remove what an attempt left; what stays blocks its user.
    fn remove(&mut self, plan: &IsolationPlan) -> Answer {
        if !self.config.owner {
            return Answer::Refused("this launcher only probes".to_owned());
        }
        if let Some(why) = &self.unclaimed {
            return Answer::Refused(why.clone());
        }
        let mut traces = Traces::of(plan);
        if self.live.iter().any(|j| j.traces.name == traces.name) {
            return Answer::Refused("this attempt is running".to_owned());
        }
        // The node may name any; only a job's are ended.
        if let Some(users) = traces.users.filter(|users| self.config.are_jobs(*users)) {
            // What stays is seen below.
            let _ = end_all_of(users, &traces.name);
        }
        let known = self.ended.iter().rev().chain(&self.blocked).find(|t| t.name == traces.name);
        traces.group = known.and_then(|t| t.group);
        let cgroup = self.cgroups.everywhere(&traces.name);
        Answer::Inspected(self.settle(&mut traces, &cgroup))
    }

    fn send(&self, message: &Message) -> io::Result<()> {
        self.socket.send(&serde_json::to_vec(message)?, &[])
    }
}
