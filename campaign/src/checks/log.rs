//! The log: whole, one history, and of each attempt one end and one finished wipe.

use super::super::client::{Book, Client};
use super::super::{Finding, Wrong};
use decores_api::paths;
use decores_audit::check::{CheckError, check_log};
use decores_audit::event::{Entry, Event};
use decores_audit::tree::{Fetch, bundle_of, split_bundle};
use decores_audit::{Checkpoint, LogKey};
use decores_types::{Attempt, Digest, JobId, JobState};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io;

/// Checks the log of a node that has come to rest, against every checkpoint that was ever shown.
pub fn look(client: &Client, book: &mut Book, crashed: bool) -> Result<Vec<Finding>, String> {
    let newest = client.checkpoint(book)?;
    let tiles = RefCell::new(HashMap::new());
    let fetch = |path: &str| {
        if let Some(known) = tiles.borrow().get(path) {
            return Ok(Option::clone(known));
        }
        let answer =
            client.ask("GET", &paths::LOG_TILE.replace("tile/{*path}", path), &[], b"").map_err(io::Error::other)?;
        let tile = match answer.status {
            200 => Some(answer.body),
            404 => None,
            status => return Err(io::Error::other(format!("`{path}`: {status}"))),
        };
        tiles.borrow_mut().insert(path.to_owned(), tile.clone());
        Ok(tile)
    };
    let mut found = history(&fetch, &newest, &book.checkpoints, client.log());
    if found.is_empty() {
        found.extend(attempts(&entries(&fetch, newest.size)?, crashed));
    }
    Ok(found)
}

/// Whether the log is whole, and continues every checkpoint that was shown.
pub fn history(fetch: &Fetch<'_>, newest: &Checkpoint, shown: &BTreeMap<u64, Digest>, key: &LogKey) -> Vec<Finding> {
    let mut found = Vec::new();
    for (size, root) in shown {
        let before = Checkpoint { origin: key.name().to_owned(), size: *size, root: *root };
        if let Err(error) = check_log(fetch, newest, Some(&before), &mut |_, _| {}) {
            let kind = match error {
                CheckError::Rewritten(_) => Wrong::Fork,
                CheckError::Shrunk { .. } => Wrong::Loss,
                _ => Wrong::Failure,
            };
            let what = format!("the log of {} entries, held against that of {size}: {error}", newest.size);
            found.push(Finding::new(kind, what));
        }
    }
    found
}

/// Every entry.
pub fn entries(fetch: &Fetch<'_>, size: u64) -> Result<Vec<Event>, String> {
    let mut events = Vec::new();
    while let Some((path, _, width)) = bundle_of(size, events.len() as u64) {
        // A bundle that is full has taken the place of its partial forms.
        let full = path.split_once(".p/").map_or("", |(full, _)| full).to_owned();
        let read = |path: &str| fetch(path).map_err(|e| e.to_string());
        let bytes = match read(&path)? {
            None if !full.is_empty() => read(&full)?,
            found => found,
        };
        let bytes = bytes.ok_or_else(|| format!("`{path}` is missing"))?;
        for entry in split_bundle(&bytes, width).ok_or("a bundle is damaged")? {
            events.push(Entry::parse(entry).map_err(|e| e.to_string())?.event);
        }
    }
    Ok(events)
}

/// What the log says of one attempt.
#[derive(Default)]
struct Told {
    ends: Vec<JobState>,
    wipes: Vec<bool>,
}

/// Each attempt of a node at rest has ended exactly once and was wiped in the end; of each job at most one is done.
/// A crash is told before anything else of the next run is.
pub fn attempts(events: &[Event], crashed: bool) -> Vec<Finding> {
    let mut told: BTreeMap<(JobId, Attempt), Told> = BTreeMap::new();
    for event in events {
        match event {
            Event::JobState { job, attempt, .. } => drop(told.entry((*job, *attempt)).or_default()),
            Event::JobEnded { job, attempt, state, .. } => told.entry((*job, *attempt)).or_default().ends.push(*state),
            Event::JobWiped { job, attempt, complete, .. } => {
                told.entry((*job, *attempt)).or_default().wipes.push(*complete);
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    let mut done: BTreeMap<JobId, u32> = BTreeMap::new();
    for ((job, attempt), Told { ends, wipes }) in told {
        if ends.len() != 1 {
            found.push(Finding::new(
                Wrong::Failure,
                format!("{job}, attempt {attempt}, has ended {} times", ends.len()),
            ));
        }
        if wipes.last() != Some(&true) {
            let what = format!("{job}, attempt {attempt}: its wipe is not finished ({wipes:?})");
            found.push(Finding::new(Wrong::Leftover, what));
        }
        *done.entry(job).or_default() += ends.iter().filter(|state| **state == JobState::Done).count() as u32;
    }
    let often = done.into_iter().filter(|(_, times)| *times > 1);
    found.extend(often.map(|(job, times)| Finding::new(Wrong::Failure, format!("{job} is done {times} times"))));
    if crashed && !tells_of_crash(events) {
        found.push(Finding::new(Wrong::Failure, "the log does not tell of the last crash"));
    }
    found
}

/// Whether the newest run of the node begins with how the one before it ended.
fn tells_of_crash(events: &[Event]) -> bool {
    let Some(started) = events.iter().rposition(|e| matches!(e, Event::NodeStarted { .. })) else { return false };
    let before = events[..started].iter().rposition(|e| matches!(e, Event::NodeStarted { .. })).unwrap_or(0);
    events[before..].iter().any(|e| matches!(e, Event::NodeCrashed { .. }))
}
