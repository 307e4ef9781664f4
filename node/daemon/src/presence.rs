//! When the node was last alive: what a start can say of the run before it.

use crate::node::Node;
use crate::records::{Held, Records, Row};
use anyhow::{Context as _, Result};
use decores_audit::event::{Entry, Event};
use decores_audit::ports::{Change, Store, StoreError, Table};
use decores_detection::AlertKind;
use decores_types::{Timestamp, chain};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as AsyncMutex;

/// Row of the last sign of life.
const ROW: &[u8] = b"presence";
/// A random name that the kernel takes at each start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// How far the clock may lie behind the last sign of life without having been set back.
const TOLERANCE_MS: u64 = 5_000;

/// Whether there is a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Running,
    Stopped,
}

/// The last sign of life.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PresenceRow {
    state: State,
    /// Which start of the machine this was in.
    boot: String,
    last_seen: Timestamp,
    /// Whether what is over by the clock was kept all the same, since that had jumped.
    #[serde(default)]
    holds_expiry: bool,
}

impl Row for PresenceRow {
    const TABLE: Table = Table::Node;
}

/// One writer of the row at a time.
#[derive(Debug, Default)]
pub(crate) struct Presence(AsyncMutex<()>);

/// What a start says of the run before it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    pub(crate) events: Vec<Event>,
    pub(crate) alerts: Vec<(AlertKind, String)>,
    /// Whether the clock is not to be relied on: it was set back, or had jumped shortly before.
    pub(crate) doubts_clock: bool,
}

/// Reads what the last run left; gives back what to say of it, and what to write with the start.
pub(crate) async fn start(records: &Records, store: &dyn Store, now: Timestamp) -> Result<(Past, Change)> {
    let boot = std::fs::read_to_string(BOOT_ID).with_context(|| format!("failed to read `{BOOT_ID}`"))?;
    let boot = boot.trim().to_owned();
    let last: Option<Held<PresenceRow>> = records.get(ROW).await?;
    let past = judge(last.as_ref().map(|held| &held.row), newest(store).await?, &boot, now);
    let row = PresenceRow { state: State::Running, boot, last_seen: now, holds_expiry: past.doubts_clock };
    let change = match last {
        Some(held) => records.update(&Held { row, ..held }, 0)?,
        None => records.insert(ROW, None, 0, &row)?,
    };
    Ok((past, change))
}

/// When the newest entry of the log was made.
async fn newest(store: &dyn Store) -> Result<Option<Timestamp>> {
    let size = store.size().await?;
    let Some(last) = size.checked_sub(1) else { return Ok(None) };
    let entry = store.entries(last, 1).await?.pop().context("the log has no last entry")?;
    Ok(Some(Entry::parse(&entry).context("the log's last entry is damaged")?.time))
}

fn judge(last: Option<&PresenceRow>, newest: Option<Timestamp>, boot: &str, now: Timestamp) -> Past {
    let mut past = Past::default();
    let Some(last_seen) = last.map(|row| row.last_seen).max(newest) else { return past };
    if let Some(row) = last.filter(|row| row.state == State::Running) {
        let rebooted = row.boot != boot;
        past.events.push(Event::NodeCrashed { last_seen, rebooted });
        let machine = if rebooted { "the machine was started again since" } else { "the machine ran on" };
        let message =
            format!("the node was last seen at {last_seen} and had not been stopped; {machine}; it is back at {now}");
        past.alerts.push((AlertKind::NodeCrashed, message));
    }
    past.events.push(Event::NodeAbsent { from: last_seen, until: now });
    past.doubts_clock = last.is_some_and(|row| row.holds_expiry);
    if last_seen.since_ms(now) > TOLERANCE_MS {
        past.events.push(Event::ClockChanged { expected: last_seen, found: now });
        let message = format!("the clock says {now}, but the node was last seen at {last_seen}");
        past.alerts.push((AlertKind::ClockChanged, message));
        past.doubts_clock = true;
    }
    past
}

/// Writes that the node is alive; without an entry in the log. The next minute tries again.
pub(crate) async fn refresh(node: &Node) {
    let _one = node.presence.0.lock().await;
    if *node.stopping.borrow() {
        // It may have said goodbye already.
        return;
    }
    let written = match sign(node, State::Running).await {
        Ok(change) => node.write(vec![change], Vec::new()).await,
        Err(error) => Err(error),
    };
    if let Err(error) = written {
        tracing::warn!(error = chain(&error), "failed to write a sign of life");
    }
}

/// Writes that the node stops, with the last events.
pub(crate) async fn goodbye(node: &Node, events: Vec<Event>) {
    let _one = node.presence.0.lock().await;
    let written = match sign(node, State::Stopped).await {
        Ok(change) => node.persist(vec![change], events).await,
        Err(error) => Err(error),
    };
    if let Err(error) = written {
        tracing::error!(error = chain(&error), "failed to write that the node stops; the next start calls it a crash");
    }
}

async fn sign(node: &Node, state: State) -> Result<Change, StoreError> {
    let held: Option<Held<PresenceRow>> = node.records.get(ROW).await?;
    let mut held = held.ok_or(StoreError::Stale(Table::Node))?;
    held.row.state = state;
    held.row.last_seen = node.clock.now();
    held.row.holds_expiry = node.health.holds_expiry();
    node.records.update(&held, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "a";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_ms(1_767_225_600_000 + seconds * 1000)
    }

    fn row(state: State, seen: i64) -> PresenceRow {
        PresenceRow { state, boot: BOOT.to_owned(), last_seen: at(seen), holds_expiry: false }
    }

    fn kinds(past: &Past) -> Vec<AlertKind> {
        past.alerts.iter().map(|(kind, _)| *kind).collect()
    }

    #[test]
    fn of_a_first_start_nothing_is_said() {
        assert_eq!(judge(None, None, BOOT, at(0)), Past::default());
    }

    #[test]
    fn a_run_that_was_stopped_was_only_away() {
        let past = judge(Some(&row(State::Stopped, 10)), Some(at(9)), "b", at(20));
        assert_eq!(past.events, [Event::NodeAbsent { from: at(10), until: at(20) }]);
        assert!(past.alerts.is_empty());
    }

    #[test]
    fn a_run_without_a_goodbye_crashed_and_was_last_seen_by_the_later_of_two_signs() {
        for (boot, rebooted) in [(BOOT, false), ("b", true)] {
            let past = judge(Some(&row(State::Running, 10)), Some(at(15)), boot, at(20));
            let crashed = Event::NodeCrashed { last_seen: at(15), rebooted };
            assert_eq!(past.events, [crashed, Event::NodeAbsent { from: at(15), until: at(20) }]);
            assert_eq!(kinds(&past), [AlertKind::NodeCrashed]);
        }
        let past = judge(Some(&row(State::Running, 18)), Some(at(15)), BOOT, at(20));
        assert!(past.events.contains(&Event::NodeAbsent { from: at(18), until: at(20) }));
    }

    #[test]
    fn a_clock_that_was_set_back_is_told_and_one_that_is_a_little_behind_is_not() {
        let past = judge(Some(&row(State::Stopped, 100)), Some(at(100)), BOOT, at(40));
        let changed = Event::ClockChanged { expected: at(100), found: at(40) };
        assert_eq!(past.events, [Event::NodeAbsent { from: at(100), until: at(40) }, changed]);
        assert_eq!(kinds(&past), [AlertKind::ClockChanged]);
        assert!(judge(Some(&row(State::Stopped, 100)), None, BOOT, at(96)).alerts.is_empty());
    }

    #[test]
    fn a_clock_that_jumped_before_the_last_stop_is_not_relied_on() {
        let held = PresenceRow { holds_expiry: true, ..row(State::Stopped, 100) };
        assert!(judge(Some(&held), None, BOOT, at(120)).doubts_clock);
        assert!(!judge(Some(&row(State::Stopped, 100)), None, BOOT, at(120)).doubts_clock);
        assert!(judge(Some(&row(State::Stopped, 100)), None, BOOT, at(40)).doubts_clock);
    }

    #[test]
    fn a_log_without_a_sign_of_life_says_when_but_not_how() {
        let past = judge(None, Some(at(5)), BOOT, at(20));
        assert_eq!(past.events, [Event::NodeAbsent { from: at(5), until: at(20) }]);
    }
}
