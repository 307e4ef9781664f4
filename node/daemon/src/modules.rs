//! Compiled programs that are kept for their consumers: sealed files, whose keys nothing holds but this process's
//! locked memory.
//!
//! A consumer's program is kept under a name that the consumer gave it, from which the node learns nothing. Only an
//! engine seals and opens it, and only for the same consumer; the node hands over file and key. With the node's memory
//! the keys go, so a start deletes every such file that it finds.

use crate::blobs::names;
use crate::leftovers;
use crate::node::Node;
use crate::wipe::{self, SEALED_MODULE};
use decores_audit::code::Code;
use decores_audit::event::Event;
use decores_blobs::BlobWriter;
use decores_detection::AlertKind;
use decores_sandbox::protocol::{ModuleEnd, ModuleJob};
use decores_secrets::Secret;
use decores_types::{Attempt, Commitment, ConsumerId, JobId, JobSpec, Timestamp, chain};
use std::collections::HashMap;
use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most programs that are kept, all in all; each has a place in locked memory.
const MOST: usize = 1024;
/// Of these, most of one consumer.
const MOST_PER_CONSUMER: usize = MOST / 8;
/// Bytes of a key.
const KEY: usize = 32;

/// How much may be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModuleLimits {
    /// Bytes, all in all.
    pub(crate) bytes: u64,
    /// Bytes of one consumer.
    pub(crate) bytes_per_consumer: u64,
}

/// Whose it is, and what it is called.
type Name = (ConsumerId, Commitment);

/// One that is kept.
#[derive(Debug)]
struct Module {
    /// The attempt that made it; its file is named after that.
    by: (JobId, Attempt),
    key: Secret,
    bytes: u64,
    until: Timestamp,
}

/// Those that are kept.
#[derive(Debug)]
pub(crate) struct Modules {
    limits: ModuleLimits,
    table: Mutex<HashMap<Name, Module>>,
}

/// What an engine gets: a file, and the key that opens or seals it.
#[derive(Debug)]
pub(crate) struct Access {
    name: Name,
    pub(crate) key: Secret,
    place: Place,
    seconds: u32,
}

#[derive(Debug)]
enum Place {
    Load(File),
    Store(BlobWriter, u64),
}

/// Why one is not kept any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Expired,
    ByConsumer,
    /// Another took its place.
    Replaced,
    /// Its file was altered.
    Damaged,
}

impl Why {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::ByConsumer => "by-consumer",
            Self::Replaced => "replaced",
            Self::Damaged => "damaged",
        }
    }
}

impl Access {
    /// What the engine is to do.
    pub(crate) const fn job(&self) -> ModuleJob {
        match &self.place {
            Place::Load(_) => ModuleJob::Load,
            Place::Store(_, most) => ModuleJob::Store { most: *most },
        }
    }

    /// The engine's descriptor.
    pub(crate) fn file(&self) -> std::io::Result<File> {
        match &self.place {
            Place::Load(file) => file.try_clone(),
            Place::Store(writer, _) => writer.file().try_clone(),
        }
    }

    /// Whether an engine may say this of it.
    pub(crate) const fn may_end(&self, end: ModuleEnd) -> bool {
        match &self.place {
            Place::Load(_) => !matches!(end, ModuleEnd::Stored),
            Place::Store(..) => matches!(end, ModuleEnd::Stored),
        }
    }
}

impl Modules {
    pub(crate) fn new(limits: ModuleLimits) -> Self {
        Self { limits, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Name, Module>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The attempt and the key of one that is kept still.
    fn find(&self, name: &Name, now: Timestamp) -> Option<((JobId, Attempt), Secret)> {
        let table = self.table();
        let module = table.get(name).filter(|module| now < module.until)?;
        Some((module.by, Secret::from_slice(module.key.expose()).ok()?))
    }

    /// Until when one is kept.
    fn until(&self, name: &Name) -> Option<Timestamp> {
        self.table().get(name).map(|module| module.until)
    }

    /// Adds one; gives back what has to go for it: what had its name, and its consumer's oldest beyond the room that
    /// one consumer has. `Err` gives it back itself where there is no room at all: nobody else's goes for it.
    fn add(&self, name: Name, module: Module) -> Result<Vec<(Name, Module)>, Module> {
        let mut table = self.table();
        let others = || table.iter().filter(|(n, _)| n.0 != name.0).map(|(_, m)| m.bytes);
        let (count, bytes) = (others().count(), others().sum::<u64>());
        if count >= MOST || bytes.saturating_add(module.bytes) > self.limits.bytes {
            return Err(module);
        }
        let places = MOST_PER_CONSUMER.min(MOST - count);
        let room = self.limits.bytes_per_consumer.min(self.limits.bytes - bytes);
        let mut gone: Vec<(Name, Module)> = table.remove(&name).map(|old| (name, old)).into_iter().collect();
        let mut own: Vec<(Name, u64, Timestamp)> =
            table.iter().filter(|(n, _)| n.0 == name.0).map(|(n, m)| (*n, m.bytes, m.until)).collect();
        own.sort_by_key(|(_, _, until)| *until);
        let mut taken = own.iter().fold(module.bytes, |sum, (_, bytes, _)| sum.saturating_add(*bytes));
        let mut left = own.len();
        for (oldest, bytes, _) in own {
            if taken <= room && left < places {
                break;
            }
            taken -= bytes;
            left -= 1;
            gone.extend(table.remove(&oldest).map(|old| (oldest, old)));
        }
        table.insert(name, module);
        Ok(gone)
    }

    /// Takes out all that have no time left.
    fn expired(&self, now: Timestamp) -> Vec<(Name, Module)> {
        self.table().extract_if(|_, module| now >= module.until).collect()
    }

    fn take(&self, name: &Name) -> Option<(Name, Module)> {
        self.table().remove_entry(name)
    }
}

/// Looks for what a spec's consumer has kept under its name, or for a place to keep it; `None` where nothing is to be
/// kept, or cannot be: then the program is compiled as always.
pub(crate) fn begin(node: &Node, consumer: ConsumerId, spec: &JobSpec, attempt: (JobId, Attempt)) -> Option<Access> {
    let name = (consumer, spec.cache_id?);
    let seconds = spec.cache_seconds;
    if let Some((by, key)) = node.modules.find(&name, node.clock.now()) {
        let file = names(by.0, by.1).and_then(|names| node.blobs.open_blob(&names.module));
        if let Ok(Some(file)) = file {
            return Some(Access { name, key, place: Place::Load(file), seconds });
        }
        tracing::warn!(job = %by.0, "a kept program cannot be opened; the program is compiled");
        return None;
    }
    let key = Secret::filled(KEY, |out| node.random.fill(out)).ok()?;
    let most = node.modules.limits.bytes_per_consumer;
    let names = names(attempt.0, attempt.1).ok()?;
    // What sealing adds is less than one part in a thousand.
    let writer = node.blobs.create(&names.module, most.saturating_add(most / 1000)).ok()?;
    Some(Access { name, key, place: Place::Store(writer, most), seconds })
}

/// Acts on what an engine did: keeps what it sealed, drops what does not open. Until when its program is kept.
pub(crate) async fn end(
    node: &Node,
    access: Access,
    said: Option<ModuleEnd>,
    by: (JobId, Attempt),
) -> Option<Timestamp> {
    let Access { name, key, place, seconds } = access;
    match (place, said?) {
        (Place::Load(_), ModuleEnd::Loaded) => node.modules.until(&name),
        (Place::Load(_), ModuleEnd::Damaged) => {
            let (job, attempt) = by;
            let message =
                format!("the compiled program that was kept for {job}, attempt {attempt}, was altered on disk");
            node.alert(AlertKind::FileDamaged, message).await;
            remove(node, node.modules.take(&name).into_iter().collect(), Why::Damaged).await;
            None
        }
        (Place::Load(_), ModuleEnd::Foreign | ModuleEnd::Stored) => None,
        (Place::Store(writer, _), ModuleEnd::Stored) => {
            let bytes = writer.file().metadata().ok()?.len();
            // Its key goes with this process, so it need not outlive a crash.
            writer.commit_unsynced().ok()?;
            let until = node.clock.now().plus_ms(u64::from(seconds) * 1000);
            match node.modules.add(name, Module { by, key, bytes, until }) {
                Ok(gone) => {
                    remove(node, gone, Why::Replaced).await;
                    Some(until)
                }
                Err(module) => {
                    remove_file(node, module.by).await;
                    None
                }
            }
        }
        (Place::Store(..), _) => None,
    }
}

/// Removes what has no time left.
pub(crate) async fn expire(node: &Node) {
    remove(node, node.modules.expired(node.clock.now()), Why::Expired).await;
}

/// Removes what a consumer has kept under this name, if anything.
pub(crate) async fn forget(node: &Node, consumer: ConsumerId, id: Commitment) {
    remove(node, node.modules.take(&(consumer, id)).into_iter().collect(), Why::ByConsumer).await;
}

/// Destroys keys first: what they open is gone with them. Then the files, and the log is told.
async fn remove(node: &Node, gone: Vec<(Name, Module)>, why: Why) {
    let gone: Vec<(JobId, Attempt)> = gone
        .into_iter()
        .map(|(_, module)| {
            if !module.key.destroy() {
                tracing::error!(job = %module.by.0, "the key of a kept program did not read back as zero");
            }
            module.by
        })
        .collect();
    let mut events = Vec::new();
    for by in gone {
        remove_file(node, by).await;
        events.extend(removed(by, why.as_str()));
    }
    if !events.is_empty() {
        node.note(events).await;
    }
}

/// The event of one that is kept no more.
pub(crate) fn removed((job, attempt): (JobId, Attempt), why: &str) -> Option<Event> {
    let what = vec![Code::parse(SEALED_MODULE).ok()?];
    Some(Event::JobRemoved { job, attempt, reason: Code::parse(why).ok()?, what })
}

/// A file that cannot be deleted is remembered, and tried again by a mend.
async fn remove_file(node: &Node, (job, attempt): (JobId, Attempt)) {
    let deleted = match names(job, attempt) {
        Ok(names) => wipe::delete(node, names.module).await,
        Err(error) => Err(chain(&error)),
    };
    let Err(cause) = deleted else { return };
    tracing::error!(%job, error = cause, "failed to delete a kept program");
    match leftovers::remember_file(node, (job, attempt), SEALED_MODULE, cause).await {
        Ok(true) => {}
        Ok(false) => {
            let message = format!("the compiled program that was kept of {job}, attempt {attempt}, cannot be deleted");
            node.alert(AlertKind::WipeIncomplete, message).await;
        }
        Err(error) => tracing::error!(%job, error = format!("{error:#}"), "failed to remember a leftover"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const LIMITS: ModuleLimits = ModuleLimits { bytes: 100, bytes_per_consumer: 60 };

    fn name(consumer: u8, id: usize) -> Name {
        (ConsumerId::from_bytes([consumer; 16]), Commitment::parse(&format!("{id:064x}")).unwrap())
    }

    fn module(bytes: u64, until: i64) -> Module {
        let by = (JobId::from_bytes([1; 16]), Attempt(1));
        Module { by, key: Secret::from_slice(&[1; 32]).unwrap(), bytes, until: Timestamp::from_ms(until) }
    }

    fn ids(gone: &[(Name, Module)]) -> Vec<Name> {
        gone.iter().map(|(name, _)| *name).collect()
    }

    #[test]
    fn a_consumers_oldest_go_for_its_newest_and_nobody_elses() {
        let modules = Modules::new(LIMITS);
        assert!(modules.add(name(1, 1), module(30, 10)).unwrap().is_empty());
        assert!(modules.add(name(1, 2), module(30, 20)).unwrap().is_empty());
        assert!(modules.add(name(2, 1), module(40, 5)).unwrap().is_empty());
        assert_eq!(ids(&modules.add(name(1, 3), module(30, 30)).unwrap()), [name(1, 1)]);
        assert!(modules.add(name(3, 1), module(1, 5)).is_err(), "another consumer's is not taken for it");
        assert_eq!(ids(&modules.add(name(1, 3), module(20, 40)).unwrap()), [name(1, 3)], "its own name's goes");
    }

    #[test]
    fn a_consumer_who_keeps_many_small_ones_leaves_the_others_places() {
        let modules = Modules::new(LIMITS);
        for id in 0..MOST {
            let gone = modules.add(name(1, id), module(0, id.try_into().unwrap())).unwrap();
            let oldest = id.checked_sub(MOST_PER_CONSUMER).map(|oldest| name(1, oldest));
            assert_eq!(ids(&gone), oldest.into_iter().collect::<Vec<_>>());
        }
        assert!(modules.add(name(2, 1), module(1, 5)).unwrap().is_empty());
        assert_eq!(modules.table().len(), MOST_PER_CONSUMER + 1);
    }

    #[test]
    fn where_every_place_is_anothers_one_more_is_not_kept() {
        let modules = Modules::new(LIMITS);
        for consumer in 0..8 {
            for id in 0..MOST_PER_CONSUMER {
                modules.add(name(consumer, id), module(0, 10)).unwrap();
            }
        }
        assert!(modules.add(name(9, 0), module(0, 10)).is_err());
        assert_eq!(modules.add(name(1, MOST), module(0, 20)).unwrap().len(), 1, "its own oldest goes");
        assert_eq!(modules.table().len(), MOST);
    }

    #[test]
    fn another_consumer_and_a_later_time_find_nothing() {
        let modules = Modules::new(LIMITS);
        modules.add(name(1, 1), module(1, 10)).unwrap();
        let at = Timestamp::from_ms;
        assert!(modules.find(&name(1, 1), at(9)).is_some());
        assert!(modules.find(&name(2, 1), at(9)).is_none());
        assert!(modules.find(&name(1, 2), at(9)).is_none());
        assert!(modules.find(&name(1, 1), at(10)).is_none());
        assert_eq!(ids(&modules.expired(at(10))), [name(1, 1)]);
        assert!(modules.until(&name(1, 1)).is_none());
    }
}
