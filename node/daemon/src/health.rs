//! Whether the node may promise anything new. It looks at itself every second; below its reserve, or when something it
//! stands on fails, it takes no offers and no jobs, says so, and goes on with what it has taken until that is over.

use crate::ledger::Faultiness;
use crate::node::{ALERT_OPEN, Node, alert_raised};
use decores_api::{Code, Problem};
use decores_audit::code::Code as LogCode;
use decores_audit::event::Event;
use decores_audit::ports::{Change, StoreError, Table};
use decores_detection::{Alert, AlertKind, Cause, ClockWatch, Faults, Jump, Pressure, Reading, Reserve};
use decores_http::HttpLimits;
use decores_system::{DiskRoom, descriptor_limit, descriptor_room, disk_room, memory_room, used_up};
use decores_types::{AlertId, Base64, Clock, Timestamp, chain};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Connections that are served however few descriptors there are.
const FEWEST_CONNECTIONS: u64 = 8;
/// Row that is written and removed again to learn whether the store works.
const PROBE: &[u8] = b"probe";

/// What the node knows of its own state.
pub(crate) struct Health {
    home: PathBuf,
    clock: Arc<dyn Clock>,
    store: Arc<Faultiness>,
    state: Mutex<State>,
}

struct State {
    pressure: Pressure,
    reading: Reading,
    clock: ClockWatch,
    /// Failed commits at the last look.
    failures: u64,
    telling: Telling,
}

/// What the log has to be told. A cause that comes and goes while nothing can be written is told as one.
#[derive(Debug, Default)]
struct Telling {
    /// Entered and not told yet, since when.
    entered: BTreeMap<Cause, Timestamp>,
    /// Told, and not yet over by the log.
    told: BTreeSet<Cause>,
}

/// One thing to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Degraded(Cause, Timestamp),
    Recovered(Cause),
}

impl Telling {
    /// Takes in what holds now; gives back what held not before.
    fn look(&mut self, before: &BTreeSet<Cause>, now: &BTreeSet<Cause>, time: Timestamp) -> Vec<Cause> {
        let new: Vec<Cause> = now.difference(before).copied().collect();
        for cause in new.iter().filter(|cause| !self.told.contains(cause)) {
            self.entered.entry(*cause).or_insert(time);
        }
        new
    }

    /// What to tell, beginnings first.
    fn news(&self, now: &BTreeSet<Cause>) -> Vec<News> {
        let entered = self.entered.iter().map(|(cause, since)| News::Degraded(*cause, *since));
        let over = self.told.difference(now).map(|cause| News::Recovered(*cause));
        entered.chain(over).collect()
    }

    fn told(&mut self, news: News) {
        match news {
            News::Degraded(cause, _) => {
                self.entered.remove(&cause);
                self.told.insert(cause);
            }
            News::Recovered(cause) => {
                self.told.remove(&cause);
            }
        }
    }
}

impl Health {
    /// Looks for the first time.
    pub(crate) fn new(home: &Path, reserve: Reserve, clock: Arc<dyn Clock>, store: Arc<Faultiness>) -> Self {
        let (now, monotonic) = (clock.now(), clock.monotonic_ms());
        let this = Self {
            home: home.to_owned(),
            clock,
            store,
            state: Mutex::new(State {
                pressure: Pressure::new(reserve),
                reading: Reading::default(),
                clock: ClockWatch::new(now, monotonic),
                failures: 0,
                telling: Telling::default(),
            }),
        };
        this.take_in(machine(home, &Reading::default()), Faults::default());
        this
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything new may be promised.
    ///
    /// # Errors
    /// If not: which causes hold, and that it goes on by itself.
    pub(crate) fn admits(&self) -> Result<(), Problem> {
        let causes = self.causes();
        if causes.is_empty() { Ok(()) } else { Err(refusal(&causes)) }
    }

    /// Like [`Self::admits`], and whether a payload of this length fits beside the reserve.
    pub(crate) fn admits_payload(&self, bytes: u64) -> Result<(), Problem> {
        self.admits()?;
        let state = self.state();
        if state.pressure.fits(bytes, &state.reading) {
            return Ok(());
        }
        let detail = format!("a payload of {bytes} bytes does not fit on the node's disk now (disk)");
        Err(Problem::new(Code::Unavailable, detail).hint("send it again after `Retry-After`, or send less"))
    }

    /// Why nothing new is taken, sorted.
    pub(crate) fn causes(&self) -> BTreeSet<Cause> {
        let mut causes: BTreeSet<Cause> = self.state().pressure.causes().collect();
        if self.store.is_failing() {
            // A failed commit counts at once, not at the next look.
            causes.insert(Cause::Store);
        }
        causes
    }

    /// A start found that the clock was set.
    pub(crate) fn clock_jumped(&self) {
        self.state().clock.jumped(self.clock.monotonic_ms());
    }

    /// Whether what is over by the clock is to be kept all the same, since the clock jumped not long ago.
    pub(crate) fn holds_expiry(&self) -> bool {
        self.state().clock.holds_expiry(self.clock.monotonic_ms())
    }

    /// Compares the clocks and takes in a reading.
    fn take_in(&self, reading: Reading, faults: Faults) -> (Vec<Cause>, Option<Jump>) {
        let (now, monotonic, failures) = (self.clock.now(), self.clock.monotonic_ms(), self.store.failures());
        let mut state = self.state();
        let jump = state.clock.look(now, monotonic);
        let faults = Faults {
            clock: state.clock.is_unsteady(monotonic),
            store: self.store.is_failing() || failures != state.failures,
            ..faults
        };
        state.failures = failures;
        state.reading = Reading { faults, ..reading };
        let before = state.pressure.causes().collect();
        let reading = state.reading;
        state.pressure.look(&reading);
        let after = state.pressure.causes().collect();
        (state.telling.look(&before, &after, now), jump)
    }

    fn news(&self) -> Vec<News> {
        let state = self.state();
        state.telling.news(&state.pressure.causes().collect())
    }
}

fn refusal(causes: &BTreeSet<Cause>) -> Problem {
    let why: Vec<String> = causes.iter().map(|cause| format!("{} ({})", cause.explain(), cause.as_str())).collect();
    Problem::new(Code::Unavailable, format!("the node takes nothing new for now: {}", why.join("; ")))
        .hint("it goes on by itself when that is over; ask again after `Retry-After`")
}

/// What could not be read for want of descriptors is as it was: they are what is short.
fn measured<T>(read: io::Result<T>, last: Option<T>) -> Option<T> {
    match read {
        Ok(read) => Some(read),
        Err(error) if used_up(&error) => last,
        Err(_) => None,
    }
}

/// What the machine has left. Blocks.
fn machine(home: &Path, last: &Reading) -> Reading {
    let last_disk = last.disk_bytes.zip(last.disk_files).map(|(bytes, files)| DiskRoom { bytes, files });
    let disk = measured(disk_room(home), last_disk);
    Reading {
        disk_bytes: disk.map(|disk| disk.bytes),
        disk_files: disk.map(|disk| disk.files),
        memory_bytes: measured(memory_room(), last.memory_bytes),
        descriptors: descriptor_room().ok(),
        faults: Faults::default(),
    }
}

/// As many connections as leave half of the reserve to the store, the sealed files and the engines.
pub(crate) fn bound_connections(limits: HttpLimits, reserve: Reserve) -> HttpLimits {
    let used = descriptor_limit().and_then(|limit| Ok(limit.saturating_sub(descriptor_room()?)));
    match (descriptor_limit(), used) {
        (Ok(limit), Ok(used)) => HttpLimits { connections: connections(limits, reserve, limit, used), ..limits },
        _ => limits,
    }
}

fn connections(limits: HttpLimits, reserve: Reserve, limit: u64, used: u64) -> usize {
    let room = limit.saturating_sub(used).saturating_sub(reserve.descriptors / 2).max(FEWEST_CONNECTIONS);
    limits.connections.min(usize::try_from(room).unwrap_or(usize::MAX))
}

/// Looks every second, until the node stops. Waits for nothing that the store must do.
pub(crate) async fn watch(node: Arc<Node>, jumps: watch::Sender<Option<Jump>>, mut stopping: watch::Receiver<bool>) {
    let mut period = tokio::time::interval(LOOK);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = period.tick() => {}
            _ = stopping.changed() => return,
        }
        let (home, last) = (node.health.home.clone(), node.health.state().reading);
        let reading = tokio::task::spawn_blocking(move || machine(&home, &last)).await.unwrap_or_default();
        let faults = Faults {
            launcher: *node.launcher.ended().borrow(),
            log: node.ledger.is_stalled(),
            places: node.slots.all_blocked(),
            ..Faults::default()
        };
        let (new, jump) = node.health.take_in(reading, faults);
        for cause in new {
            tracing::warn!(cause = cause.as_str(), "the node takes nothing new: {}", cause.explain());
        }
        if jump.is_some() {
            jumps.send_replace(jump);
        }
    }
}

/// Tells the log what the watch saw as soon as the log can take it, until the node stops.
pub(crate) async fn tell(node: Arc<Node>, mut stopping: watch::Receiver<bool>) {
    let mut period = tokio::time::interval(LOOK);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = period.tick() => {}
            _ = stopping.changed() => return,
        }
        let news = node.health.news();
        if news.is_empty() && node.health.store.is_failing() {
            // Nobody else may be writing, and only a write that succeeds ends the cause.
            if let Err(error) = probe(&node).await {
                tracing::warn!(error = chain(&error), "the store does not take a write yet");
            }
        }
        for news in news {
            match write(&node, news).await {
                Ok(()) => node.health.state().telling.told(news),
                Err(error) => {
                    tracing::warn!(error = chain(&error), "the log cannot be told yet what the node is short of");
                    break;
                }
            }
        }
    }
}

async fn write(node: &Node, news: News) -> Result<(), StoreError> {
    let failed = |source| StoreError::Failed { during: "naming a cause", source };
    let (mut changes, mut events) = (Vec::new(), Vec::new());
    match news {
        News::Degraded(cause, since) => {
            let message = format!("the node takes nothing new since {since}: {} ({})", cause.explain(), cause.as_str());
            let alert = Alert::new(AlertId::random(&*node.random), AlertKind::NodeDegraded, message, node.clock.now());
            changes.push(node.records.insert(alert.id.as_bytes(), None, ALERT_OPEN, &alert)?);
            let cause = LogCode::parse(cause.as_str()).map_err(|error| failed(error.into()))?;
            events.push(Event::NodeDegraded { cause });
            events.extend(alert_raised(&alert));
        }
        News::Recovered(cause) => {
            tracing::info!(cause = cause.as_str(), "over: {}", cause.explain());
            let cause = LogCode::parse(cause.as_str()).map_err(|error| failed(error.into()))?;
            events.push(Event::NodeRecovered { cause });
        }
    }
    let entries = node.ledger.entries(&events).map_err(|error| failed(error.into()))?;
    node.ledger.commit(changes, entries).await?;
    if matches!(news, News::Degraded(..)) {
        metrics::counter!("decores_alerts_total", "kind" => AlertKind::NodeDegraded.as_str()).increment(1);
    }
    Ok(())
}

/// Writes, and leaves nothing behind.
async fn probe(node: &Node) -> Result<(), StoreError> {
    let insert = node.records.insert(PROBE, None, 0, &crate::records::NodeRow(Base64(Vec::new())))?;
    let delete = Change::Delete { table: Table::Node, id: PROBE.to_vec() };
    node.ledger.commit(vec![insert, delete], Vec::new()).await.map(drop)
}

/// A gauge for each cause.
pub(crate) fn gauges(node: &Node) {
    let causes = node.health.causes();
    for cause in Cause::ALL {
        let holds = f64::from(u8::from(causes.contains(&cause)));
        metrics::gauge!("decores_degraded", "cause" => cause.as_str()).set(holds);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

    const RESERVE: Reserve = Reserve { disk_bytes: 1000, disk_files: 10, memory_bytes: 1000, descriptors: 100 };
    const GOOD: Reading = Reading {
        disk_bytes: Some(5000),
        disk_files: Some(500),
        memory_bytes: Some(5000),
        descriptors: Some(500),
        faults: Faults { clock: false, launcher: false, log: false, places: false, store: false },
    };
    const FULL: Reading = Reading { disk_bytes: Some(10), ..GOOD };

    /// A clock that goes where it is told.
    #[derive(Debug, Default)]
    struct Hands {
        wall: AtomicI64,
        monotonic: AtomicU64,
    }

    impl Hands {
        fn pass(&self, ms: u32) {
            self.wall.fetch_add(ms.into(), Ordering::Relaxed);
            self.monotonic.fetch_add(ms.into(), Ordering::Relaxed);
        }
    }

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            Timestamp::from_ms(1_767_225_600_000 + self.wall.load(Ordering::Relaxed))
        }

        fn monotonic_ms(&self) -> u64 {
            self.monotonic.load(Ordering::Relaxed)
        }
    }

    /// A node's health with a clock of its own, after a first good look.
    fn health() -> (Health, Arc<Hands>, Arc<Faultiness>) {
        let (clock, store) = (Arc::new(Hands::default()), Arc::new(Faultiness::default()));
        let home = std::env::temp_dir();
        // Whatever this machine is short of, the looks that follow say otherwise.
        let tiny = Reserve { disk_bytes: 0, disk_files: 0, memory_bytes: 0, descriptors: 0 };
        let health = Health::new(&home, tiny, Arc::clone(&clock) as Arc<dyn Clock>, Arc::clone(&store));
        health.state().pressure = Pressure::new(RESERVE);
        look(&health, &clock, GOOD);
        (health, clock, store)
    }

    fn look(health: &Health, clock: &Hands, reading: Reading) -> Option<Jump> {
        clock.pass(1000);
        health.take_in(reading, Faults::default()).1
    }

    fn names(health: &Health) -> Vec<&'static str> {
        health.causes().into_iter().map(Cause::as_str).collect()
    }

    #[test]
    fn a_full_disk_refuses_by_name_and_is_over_by_itself() {
        let (health, clock, _) = health();
        health.admits().unwrap();
        look(&health, &clock, FULL);
        let problem = health.admits().unwrap_err();
        assert_eq!((problem.status, problem.code), (503, Code::Unavailable));
        assert!(problem.detail.contains("(disk)") && problem.hint.unwrap().contains("by itself"));
        for _ in 0..decores_detection::CALM {
            look(&health, &clock, GOOD);
        }
        health.admits().unwrap();
    }

    #[test]
    fn a_payload_that_does_not_fit_beside_the_reserve_is_refused() {
        let (health, _, _) = health();
        health.admits_payload(4000).unwrap();
        let problem = health.admits_payload(4001).unwrap_err();
        assert_eq!(problem.code, Code::Unavailable);
        assert!(problem.detail.contains("(disk)"), "{problem}");
        health.admits().unwrap();
    }

    #[test]
    fn a_failed_commit_counts_at_once_and_a_good_one_soon_ends_it() {
        let (health, clock, store) = health();
        store.failed();
        assert_eq!(names(&health), ["store"]);
        store.worked();
        // It was a failure all the same: the next look sees it.
        look(&health, &clock, GOOD);
        assert_eq!(names(&health), ["store"]);
        for _ in 0..decores_detection::CALM {
            look(&health, &clock, GOOD);
        }
        assert!(names(&health).is_empty());
    }

    #[test]
    fn a_clock_that_is_set_stops_admission_for_moments_and_expiry_for_an_hour() {
        let (health, clock, _) = health();
        assert!(!health.holds_expiry());
        clock.wall.fetch_add(86_400_000, Ordering::Relaxed);
        let jump = look(&health, &clock, GOOD).unwrap();
        assert_eq!(jump.found.since_ms(jump.expected), 86_400_000);
        assert_eq!(names(&health), ["clock"]);
        assert!(health.holds_expiry());
        for _ in 0..10 {
            assert_eq!(look(&health, &clock, GOOD), None);
        }
        assert!(names(&health).is_empty() && health.holds_expiry());
        clock.pass(3_600_000);
        assert!(!health.holds_expiry());
    }

    #[test]
    fn what_cannot_be_told_at_once_is_told_later_and_never_twice() {
        let (health, clock, _) = health();
        assert!(health.news().is_empty());
        look(&health, &clock, FULL);
        let since = clock.now();
        for _ in 0..20 {
            look(&health, &clock, GOOD);
            look(&health, &clock, GOOD);
            look(&health, &clock, GOOD);
            look(&health, &clock, FULL);
        }
        assert_eq!(health.news(), [News::Degraded(Cause::Disk, since)]);
        let began = health_news(&health);
        health.state().telling.told(began);
        assert!(health.news().is_empty());
        for _ in 0..decores_detection::CALM {
            look(&health, &clock, GOOD);
        }
        assert_eq!(health.news(), [News::Recovered(Cause::Disk)]);
        // It comes again before its end could be told: as far as the log goes it never ended.
        look(&health, &clock, FULL);
        assert!(health.news().is_empty());
        for _ in 0..decores_detection::CALM {
            look(&health, &clock, GOOD);
        }
        let over = health_news(&health);
        assert_eq!(over, News::Recovered(Cause::Disk));
        health.state().telling.told(over);
        assert!(health.news().is_empty());
    }

    fn health_news(health: &Health) -> News {
        *health.news().first().unwrap()
    }

    #[test]
    fn what_began_and_ended_untold_is_told_from_beginning_to_end() {
        let (health, clock, _) = health();
        look(&health, &clock, FULL);
        for _ in 0..decores_detection::CALM {
            look(&health, &clock, GOOD);
        }
        let began = health_news(&health);
        assert!(matches!(began, News::Degraded(Cause::Disk, _)));
        health.state().telling.told(began);
        assert_eq!(health.news(), [News::Recovered(Cause::Disk)]);
    }

    #[test]
    fn what_cannot_be_read_for_want_of_descriptors_is_not_called_short() {
        const EMFILE: i32 = 24;
        const EIO: i32 = 5;
        assert_eq!(measured(Ok(1), Some(2)), Some(1));
        assert_eq!(measured(Err(io::Error::from_raw_os_error(EMFILE)), Some(2)), Some(2));
        assert_eq!(measured(Err(io::Error::from_raw_os_error(EIO)), Some(2)), None, "nobody knows");
    }

    #[test]
    fn connections_leave_half_of_the_reserve() {
        let limits = HttpLimits { connections: 512, ..HttpLimits::DEFAULT };
        assert_eq!(connections(limits, RESERVE, 100_000, 40), 512);
        assert_eq!(connections(limits, RESERVE, 256, 40), 166);
        assert_eq!(connections(limits, RESERVE, 64, 40), 8);
        assert_eq!(connections(HttpLimits { connections: 3, ..limits }, RESERVE, 64, 40), 3);
    }
}
