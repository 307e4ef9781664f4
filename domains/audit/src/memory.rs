//! A store and tiles in memory: what tests of other crates run on.

use crate::event::MAX_ENTRY;
use crate::ports::{Batch, Change, Committed, PortFuture, Record, Select, Store, StoreError, Table, TileStore};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Records and entries that end with the process.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Contents>);

#[derive(Clone, Debug, Default)]
struct Contents {
    records: BTreeMap<(Table, Vec<u8>), Record>,
    entries: Vec<Vec<u8>>,
    sequence: u64,
}

impl Contents {
    fn apply(&mut self, change: Change) -> Result<(), StoreError> {
        match change {
            Change::Insert { table, id, owner, state, value } => {
                if self.records.contains_key(&(table, id.clone())) {
                    return Err(StoreError::Exists(table));
                }
                self.sequence += 1;
                let (sequence, entry) = (self.sequence, self.entries.len() as u64);
                let record = Record { id: id.clone(), owner, state, version: 1, sequence, entry, value };
                self.records.insert((table, id), record);
            }
            Change::Update { table, id, expected, state, value } => {
                let record = self.records.get_mut(&(table, id)).filter(|r| r.version == expected);
                let record = record.ok_or(StoreError::Stale(table))?;
                record.entry = self.entries.len() as u64;
                record.version += 1;
                record.state = state;
                record.value = value;
            }
            Change::Delete { table, id } => {
                self.records.remove(&(table, id));
            }
        }
        Ok(())
    }
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, batch: Batch) -> Result<Committed, StoreError> {
        if let Some(entry) = batch.entries.iter().find(|e| e.len() > MAX_ENTRY) {
            return Err(StoreError::EntryTooLarge(entry.len()));
        }
        let mut contents = self.lock();
        let mut next = contents.clone();
        batch.changes.into_iter().try_for_each(|change| next.apply(change))?;
        let first_entry = next.entries.len() as u64;
        next.entries.extend(batch.entries);
        *contents = next;
        Ok(Committed { first_entry })
    }
}

impl Store for MemoryStore {
    fn commit(&self, batch: Batch) -> PortFuture<'_, Committed> {
        Box::pin(async { self.write(batch) })
    }

    fn get(&self, table: Table, id: Vec<u8>) -> PortFuture<'_, Option<Record>> {
        Box::pin(async move { Ok(self.lock().records.get(&(table, id)).cloned()) })
    }

    fn list(&self, table: Table, select: Select) -> PortFuture<'_, Vec<Record>> {
        Box::pin(async move {
            let contents = self.lock();
            let wanted = |r: &&Record| {
                select.owner.as_ref().is_none_or(|owner| r.owner == *owner)
                    && (select.states.is_empty() || select.states.contains(&r.state))
                    && select.before.is_none_or(|before| r.sequence < before)
            };
            let of_table = contents.records.iter().filter(|((t, _), _)| *t == table).map(|(_, r)| r);
            let mut found: Vec<Record> = of_table.filter(wanted).cloned().collect();
            found.sort_by_key(|r| std::cmp::Reverse(r.sequence));
            found.truncate(select.limit.min(1000));
            Ok(found)
        })
    }

    fn entries(&self, from: u64, limit: usize) -> PortFuture<'_, Vec<Vec<u8>>> {
        Box::pin(async move {
            let from = usize::try_from(from).unwrap_or(usize::MAX);
            Ok(self.lock().entries.iter().skip(from).take(limit.min(1000)).cloned().collect())
        })
    }

    fn size(&self) -> PortFuture<'_, u64> {
        Box::pin(async { Ok(self.lock().entries.len() as u64) })
    }
}

/// Tiles that end with the process.
#[derive(Debug, Default)]
pub struct MemoryTiles(Mutex<BTreeMap<String, Vec<u8>>>);

const CHECKPOINT: &str = "checkpoint";

impl MemoryTiles {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TileStore for MemoryTiles {
    fn put(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut tiles = self.lock();
        match tiles.get(path) {
            Some(old) if old == bytes => Ok(()),
            Some(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "the tile exists with other content")),
            None => {
                tiles.insert(path.to_owned(), bytes.to_vec());
                Ok(())
            }
        }
    }

    fn replace(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut tiles = self.lock();
        if let Some((full, _)) = path.split_once(".p/") {
            tiles.remove(full);
        }
        tiles.insert(path.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn get(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.lock().get(path).cloned())
    }

    fn drop_partials(&self, path: &str) -> io::Result<()> {
        let partial = format!("{path}.p/");
        self.lock().retain(|path, _| !path.starts_with(&partial));
        Ok(())
    }

    fn put_checkpoint(&self, bytes: &[u8]) -> io::Result<()> {
        self.lock().insert(CHECKPOINT.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn checkpoint(&self) -> io::Result<Option<Vec<u8>>> {
        self.get(CHECKPOINT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn store_keeps_the_contract() {
        crate::contract::check_store(&MemoryStore::default()).await;
    }

    #[test]
    fn tiles_keep_the_contract() {
        crate::contract::check_tiles(&MemoryTiles::default());
    }
}
