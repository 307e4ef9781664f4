//! One run: jobs, the moment, the damage, and what is looked at afterwards.

use super::checks::{acknowledged, leftovers, log, plaintext};
use super::client::{Book, Client, Watched};
use super::nest::{Nest, is_root};
use super::plan::{Cut, Damage, Dice, Fault, Full, Moment, Program, Run, Victim};
use super::record;
use super::strace::{Strace, delay, stands_still};
use super::tail::Disk;
use super::{Finding, Wrong};
use decores_system::{SystemClock, SystemRandom};
use decores_tests::node::signal_all;
use decores_tests::wait::{pause, within};
use decores_types::ambient::random_bytes;
use decores_types::{Clock as _, JobId, JobState, Reason, Timestamp};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// How long a job holds its secret, in milliseconds.
const HOLD_MS: u64 = 1200;
/// How long a job may take to come to its moment, and to its end after the damage.
const PATIENCE_MS: u64 = 60_000;
/// How long a node whose launcher is gone has to say so, before it is started again.
const NOTICE_MS: u64 = 2_000;
/// Longer than offers, heads and bodies may last in a campaign's settings.
const STOPPED_MS: u64 = 6_500;
/// How long the disk stays full, and system calls fail.
const TROUBLE_MS: u64 = 1_500;
/// How long a node is waited for that is started on a full disk.
const FULL_START_MS: u64 = 4_000;
/// By how much syncs are slowed down where a short state is to be met.
const SLOW_MS: u64 = 30;
/// API keys that are made in the background of a run.
const KEYS: usize = 25;

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// The state in which the job was struck, as its record says afterwards.
    pub struck: Option<JobState>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// What was done in detail.
    pub note: String,
}

/// Does a run on a home.
pub fn execute(run: &Run, nest: &mut Nest, book: &mut Book) -> Outcome {
    let secret = random_bytes::<64>(&SystemRandom);
    let mut scene = Scene {
        run,
        dice: Dice::new(run.dice),
        first: book.jobs.len(),
        at: book.jobs.len(),
        since: SystemClock::new().now(),
        secret,
        struck: None,
        crashed: false,
        findings: Vec::new(),
        note: String::new(),
        nest,
        book,
    };
    if let Err(error) = scene.play() {
        scene.findings.push(Finding::new(Wrong::Failure, error));
    }
    scene.findings.append(&mut scene.book.findings);
    let mut known = Vec::new();
    scene.findings.retain(|finding| {
        !known.contains(finding) && {
            known.push(finding.clone());
            true
        }
    });
    let struck = scene.struck.and_then(|when| {
        let steps = scene.book.jobs.get(scene.at).map(|job| job.steps.as_slice()).unwrap_or_default();
        steps.iter().take_while(|step| step.time <= when).last().map(|step| step.state)
    });
    Outcome { struck, findings: scene.findings, note: scene.note }
}

struct Scene<'a> {
    run: &'a Run,
    dice: Dice,
    nest: &'a mut Nest,
    book: &'a mut Book,
    secret: [u8; 64],
    since: Timestamp,
    /// The first job of this run, and the one that is struck.
    first: usize,
    at: usize,
    struck: Option<Timestamp>,
    crashed: bool,
    findings: Vec<Finding>,
    note: String,
}

impl Scene<'_> {
    fn play(&mut self) -> Result<(), String> {
        if !self.nest.is_up() {
            self.nest.start()?;
        }
        let client = Client::of(self.nest)?;
        let (trace, tail) = self.prepare()?;
        let chatter = Chatter::start(&client);
        let come = self.come(&client);
        // A job that did not come to its moment is struck wherever it is; why, is told.
        if let Err(error) = come {
            self.findings.push(Finding::new(Wrong::Failure, error));
        }
        self.struck = Some(SystemClock::new().now());
        let strike = self.strike(&client, chatter, tail);
        if let Some(trace) = trace {
            trace.detach();
        }
        strike?;
        self.look_at_disk();
        self.recover()
    }

    /// What must be in place before the jobs are.
    fn prepare(&mut self) -> Result<(Option<Strace>, Option<Tail>), String> {
        let pid = self.nest.pid().ok_or("the node is gone")?;
        if self.run.damage == Damage::Power(Cut::Tail) {
            return Ok((None, Some(Tail::begin(self.nest, pid)?)));
        }
        // One process can be traced once.
        let traced_later = matches!(self.run.damage, Damage::Inject(_));
        let short = matches!(self.run.moment, Moment::Sealing | Moment::Wiping);
        let slow = (short && !traced_later && is_root()).then(|| Strace::slow_down(pid, SLOW_MS)).transpose()?;
        Ok((slow, None))
    }

    fn submit(&mut self, client: &Client, program: Program) -> Result<usize, String> {
        self.book.jobs.push(Watched::new(program, &self.secret, HOLD_MS));
        let at = self.book.jobs.len() - 1;
        client.submit(self.book, at)?;
        Ok(at)
    }

    /// Submits the jobs, and waits for the moment.
    fn come(&mut self, client: &Client) -> Result<(), String> {
        let others =
            if self.run.moment == Moment::Queued { self.nest.slots() as usize } else { self.dice.below(2) as usize };
        for _ in 0..others {
            self.submit(client, Program::Patient)?;
        }
        self.at = self.submit(client, self.run.program)?;
        if self.run.cancels && others > 0 {
            // It may have ended already.
            let _ = client.cancel(self.book, self.first);
        }
        let reached = |state: JobState| match self.run.moment {
            Moment::Queued | Moment::Instant => true,
            Moment::Starting => state >= JobState::Starting,
            Moment::Running => state >= JobState::Running,
            Moment::Sealing => state >= JobState::Sealing,
            Moment::Wiping => state >= JobState::Wiping,
            Moment::Done => state.is_final(),
        };
        if self.run.moment == Moment::Instant {
            pause(self.run.instant_ms);
        }
        let mut last = Err("it was not looked at".to_owned());
        within(PATIENCE_MS, || {
            last = client.look(self.book, self.at, 2).map(|view| view.state);
            last.as_ref().is_ok_and(|state| reached(*state)).then_some(())
        });
        match last {
            Ok(state) if reached(state) => {}
            last => return Err(format!("the job does not come to its moment: {last:?}")),
        }
        if self.run.moment == Moment::Done {
            client.pursue(self.book, self.at, PATIENCE_MS)?;
        }
        if self.run.program == Program::Heavy && self.run.moment == Moment::Starting {
            // Its engine is there a moment later, and its compile process another.
            within(2_000, || (!self.nest.victims(Victim::Compile).is_empty()).then_some(()));
        }
        Ok(())
    }

    /// Does the damage. Afterwards either the node is down, or it has had its time to recover.
    fn strike(&mut self, client: &Client, chatter: Chatter, tail: Option<Tail>) -> Result<(), String> {
        match self.run.damage {
            Damage::Kill(victim) => self.kill(client, victim, chatter),
            Damage::Power(Cut::Image) => self.cut_image(chatter),
            Damage::Power(Cut::Tail) => {
                self.crash();
                chatter.end(self.book);
                let said = tail.ok_or("nothing was recorded")?.alter(self.nest, &mut self.dice)?;
                self.note = said;
                Ok(())
            }
            Damage::Disk(full) => self.fill(client, full, chatter),
            Damage::Inject(fault) => self.inject(client, fault, chatter),
            Damage::Stop(victim) => self.stop(client, victim, chatter),
        }
    }

    fn crash(&mut self) {
        // A node that ended by itself has said goodbye.
        self.crashed |= self.nest.is_up();
        self.nest.kill_all();
        self.end_of_family();
    }

    fn end_of_family(&mut self) {
        let left = self.nest.wait_for_end();
        if !left.is_empty() {
            self.findings
                .push(Finding::new(Wrong::Leftover, format!("processes {left:?} outlive the node that was killed")));
        }
    }

    fn kill(&mut self, client: &Client, victim: Victim, chatter: Chatter) -> Result<(), String> {
        let mut pids = self.nest.victims(victim);
        if pids.is_empty() {
            // It was gone before it could be struck.
            self.note = format!("no {victim:?}, so all");
            pids = self.nest.victims(Victim::All);
        }
        let node = self.nest.pid().filter(|pid| pids.contains(pid));
        self.nest.kill(&pids);
        chatter.end(self.book);
        if node.is_some() {
            self.crashed = true;
            self.end_of_family();
            return Ok(());
        }
        if victim == Victim::Launcher {
            // Without it no job runs until the next start.
            let _ = client.pursue(self.book, self.at, NOTICE_MS);
        } else {
            // Of a service that is killed the process stays that serves this node.
            self.carry_on(client)?;
        }
        self.look_at_disk();
        self.crash();
        Ok(())
    }

    /// A node that lives must bring its jobs to their ends.
    fn carry_on(&mut self, client: &Client) -> Result<(), String> {
        (self.first..self.book.jobs.len()).try_for_each(|at| client.pursue(self.book, at, PATIENCE_MS))
    }

    fn cut_image(&mut self, chatter: Chatter) -> Result<(), String> {
        let all = self.nest.victims(Victim::All);
        signal_all("STOP", &all);
        within(2_000, || all.iter().all(|pid| stands_still(*pid)).then_some(()));
        let copy = self.nest.folder().join(format!("image.{}", self.run.index));
        let image = self.nest.image().ok_or("the home lies on no image")?;
        let copied = image.copy(&copy);
        self.crash();
        chatter.end(self.book);
        copied?;
        // The look at the disk as it was comes before that at the copy.
        self.look_at_disk();
        self.nest.image().ok_or("the home lies on no image")?.swap(&copy)
    }

    fn fill(&mut self, client: &Client, full: Full, chatter: Chatter) -> Result<(), String> {
        let image = self.nest.image().ok_or("the home lies on no image")?;
        image.fill()?;
        pause(TROUBLE_MS);
        let started = match full {
            Full::Ridden => Ok(()),
            Full::Killed => {
                self.crash();
                self.look_at_disk();
                self.nest.start_within(FULL_START_MS)
            }
        };
        self.note = match (full, &started) {
            (Full::Ridden, _) => String::new(),
            (Full::Killed, Ok(())) => "started on the full disk".to_owned(),
            (Full::Killed, Err(_)) => "did not start on the full disk".to_owned(),
        };
        self.nest.image().ok_or("the home lies on no image")?.free()?;
        chatter.end(self.book);
        match (full, started) {
            (Full::Ridden, _) => {
                self.carry_on(client)?;
                self.look_at_disk();
                self.crash();
            }
            // It was told to run, and may still be waiting for space: the next look is at a fresh start.
            (Full::Killed, Ok(())) => {
                let client = Client::of(self.nest)?;
                self.carry_on(&client)?;
                self.crash();
            }
            (Full::Killed, Err(_)) => self.crash(),
        }
        Ok(())
    }

    fn inject(&mut self, client: &Client, fault: Fault, chatter: Chatter) -> Result<(), String> {
        let pid = match fault.launcher {
            true => self.nest.victims(Victim::Launcher).first().copied(),
            false => self.nest.pid(),
        };
        let pid = pid.ok_or("there is nobody to trace")?;
        let (Fault { calls, error, .. }, from) = (fault, 1 + self.dice.below(4));
        let inject = format!("inject={calls}:error={error}:when={from}+{}", 1 + self.dice.below(3));
        let failed = self.nest.folder().join("failed");
        let mut words = vec!["-o".to_owned(), failed.display().to_string()];
        words.extend(["-e".to_owned(), format!("trace={calls}"), "-e".to_owned(), inject.clone()]);
        if calls == "write" {
            // Threads wake each other by `write`, too; a disk that fails does not touch that.
            let files = [self.nest.home().join("log/.tmp"), self.nest.folder().join("stderr")];
            words.extend(files.iter().flat_map(|file| ["-P".to_owned(), file.display().to_string()]));
        }
        let trace = Strace::attach(pid, words)?;
        if fault.launcher {
            // What is to fail for an engine must be in force before it starts.
            let _ = self.submit(client, Program::Files);
        }
        pause(TROUBLE_MS);
        trace.detach();
        chatter.end(self.book);
        let failed = std::fs::read_to_string(&failed).unwrap_or_default();
        self.note = format!("{inject}: {} calls failed", failed.matches("(INJECTED)").count());
        if self.nest.is_up() {
            match self.carry_on(client) {
                // A node may say that it takes nothing more: then it has not lied.
                Err(error) if error.contains(": 503 ") => self.note.push_str("; answers 503"),
                Err(error) if self.nest.is_up() => return Err(format!("it neither carries on nor ends: {error}")),
                _ => {}
            }
        } else {
            self.note.push_str("; ended");
        }
        self.look_at_disk();
        self.crash();
        Ok(())
    }

    fn stop(&mut self, client: &Client, victim: Victim, chatter: Chatter) -> Result<(), String> {
        let pids = self.nest.victims(victim);
        signal_all("STOP", &pids);
        pause(STOPPED_MS);
        signal_all("CONT", &pids);
        chatter.end(self.book);
        self.carry_on(client)?;
        self.look_at_disk();
        self.crash();
        Ok(())
    }

    fn look_at_disk(&mut self) {
        let mut found = plaintext::in_folder(self.nest.folder(), &self.secret);
        let since = SystemTime::UNIX_EPOCH + Duration::from_millis(self.since.as_ms().unsigned_abs());
        found.extend(plaintext::in_shared_folders(&self.secret, since));
        self.findings.extend(found.into_iter().filter(|f| !self.findings.contains(f)).collect::<Vec<_>>());
    }

    /// Starts the node again and looks at everything.
    fn recover(&mut self) -> Result<(), String> {
        if !self.nest.is_up() {
            self.nest.start()?;
        }
        let client = Client::of(self.nest)?;
        self.carry_on(&client)?;
        // After all of that the node does its work.
        self.book.jobs.push(Watched::new(Program::Quick, &self.secret, 0));
        self.carry_on(&client)?;
        self.ended_well();
        self.leftovers();
        // A wipe that nobody could finish stands in its receipt for good, and is finished later.
        let wipe_may_fail = matches!(self.run.damage, Damage::Kill(Victim::Launcher) | Damage::Inject(_));
        let found = acknowledged::look(&client, self.book, self.first, wipe_may_fail)?;
        self.findings.extend(found);
        let found = log::look(&client, self.book, self.crashed)?;
        self.findings.extend(found);
        self.look_at_disk();
        Ok(())
    }

    /// Every job that was not cancelled came to a good end.
    fn ended_well(&mut self) {
        for job in &self.book.jobs[self.first..] {
            let Some(last) = job.steps.last() else { continue };
            if last.state != JobState::Done && job.cancelled.is_none() && !self.is_due(last.reason) {
                let what = format!("{:?} ended as {} ({})", job.id, last.state, last.reason);
                self.findings.push(Finding::new(Wrong::Failure, what));
            }
        }
    }

    /// Whether a bad end is what the damage had to come to, and no other attempt would help.
    fn is_due(&self, reason: Reason) -> bool {
        match self.run.damage {
            Damage::Stop(_) => matches!(reason, Reason::LimitTime | Reason::LimitCompile),
            // The engine cannot tell who killed its compile process; what goes beyond its limits is killed, too.
            Damage::Kill(Victim::Compile) => reason == Reason::LimitCompile,
            // It is its own program that ended so.
            Damage::Kill(Victim::Contained) => matches!(reason, Reason::Trap | Reason::ExitNonzero),
            // What a program does whose scratch fails, or is as full as the disk that it lies on, is its own.
            Damage::Kill(Victim::Server) => reason == Reason::Trap,
            Damage::Disk(_) => self.run.program == Program::LargeScratch && reason == Reason::Trap,
            Damage::Kill(_) | Damage::Power(_) | Damage::Inject(_) => false,
        }
    }

    fn leftovers(&mut self) {
        let family: Vec<u32> = self.nest.victims(Victim::All);
        let image = self.nest.image().map(|image| image.file().to_owned());
        let jobs: Vec<JobId> = self.book.jobs.iter().filter_map(|job| job.id).collect();
        let home = self.nest.home();
        let places = [Some(home.as_path()), self.nest.service()].into_iter().flatten().collect::<Vec<_>>();
        let (image, uids) = (image.as_deref(), &self.nest.uids());
        let idle = leftovers::Idle {
            home: &home,
            places: &places,
            states: &leftovers::STATES.map(Path::new),
            image,
            uids,
            family: &family,
            jobs: &jobs,
        };
        self.findings.extend(leftovers::look(&idle));
    }
}

/// A record of what a node writes, from a copy of its home on.
struct Tail {
    trace: Strace,
    record: std::path::PathBuf,
    copy: std::path::PathBuf,
    begins: usize,
}

impl Tail {
    fn begin(nest: &Nest, pid: u32) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("failed to copy the home: {e}");
        let (record, copy) = (nest.folder().join("record"), nest.folder().join("copy"));
        let _ = std::fs::remove_dir_all(&copy);
        let mut words = vec!["-y".to_owned(), "-xx".to_owned(), "-s".to_owned(), (8 << 20).to_string()];
        words.extend(["-o".to_owned(), record.display().to_string()]);
        words.extend(["-e".to_owned(), format!("trace={}", record::CALLS), "-e".to_owned(), delay(SLOW_MS)]);
        let trace = Strace::attach(pid, words)?;
        // What stands still is copied whole; the record goes on from there.
        signal_all("STOP", &[pid]);
        within(2_000, || stands_still(pid).then_some(()));
        let begins = std::fs::read(&record).map_err(failed)?.len();
        let copied = std::process::Command::new("cp").arg("-a").arg(nest.home()).arg(&copy).status();
        signal_all("CONT", &[pid]);
        if copied.map_err(failed)?.success() {
            Ok(Self { trace, record, copy, begins })
        } else {
            Err("failed to copy the home".to_owned())
        }
    }

    /// Puts a home in place that has lost some of what the dead node had not synced.
    fn alter(self, nest: &Nest, dice: &mut Dice) -> Result<String, String> {
        self.trace.detach();
        let failed = |e: std::io::Error| format!("failed to alter the home: {e}");
        let text = std::fs::read_to_string(&self.record).map_err(failed)?;
        let calls = record::read(text.get(self.begins..).ok_or("the record was cut")?)?;
        let mut disk = Disk::of(&nest.home(), &self.copy)?;
        disk.follow(&calls)?;
        let (last, altered) = (nest.home().with_extension("last"), nest.home());
        std::fs::rename(&altered, &last).map_err(failed)?;
        std::fs::create_dir(&altered).map_err(failed)?;
        std::fs::set_permissions(&altered, std::os::unix::fs::PermissionsExt::from_mode(0o700)).map_err(failed)?;
        let lost = disk.after_a_cut(&last, &altered, dice).map_err(failed)?;
        std::fs::remove_dir_all(&last).map_err(failed)?;
        std::fs::remove_dir_all(&self.copy).map_err(failed)?;
        std::fs::remove_file(&self.record).map_err(failed)?;
        let super::tail::Lost { changes, altered, names, undone } = lost;
        Ok(format!("{} calls; {altered} of {changes} unsynced writes lost, {undone} of {names} names", calls.len()))
    }
}

/// Somebody who has small things acknowledged all the time, up to the moment of the damage.
struct Chatter {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Book>,
}

impl Chatter {
    fn start(client: &Client) -> Self {
        let (client, over) = (client.clone(), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut book = Book::default();
            let mut made = 0;
            while !told.load(Ordering::Relaxed) {
                // A node that is struck answers nothing, or says that it cannot.
                if made < KEYS {
                    made += usize::from(client.make_key(&mut book).is_ok());
                }
                let _ = client.checkpoint(&mut book);
                pause(40);
            }
            book
        });
        Self { over, thread }
    }

    /// Takes over what was acknowledged.
    fn end(self, book: &mut Book) {
        self.over.store(true, Ordering::Relaxed);
        let Ok(mut heard) = self.thread.join() else { return };
        book.keys.append(&mut heard.keys);
        book.findings.append(&mut heard.findings);
        for (size, root) in heard.checkpoints {
            book.saw_root(size, root);
        }
    }
}
