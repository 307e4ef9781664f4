//! Proofs from logs of several sizes, and what a start looks at.

use crate::{log, now, quantile, since};
use anyhow::{Context as _, Result};
use decores_audit::ports::{Batch, Store};
use decores_audit::recent::check_recent;
use decores_audit::{Entry, Sequencer};
use decores_system::SystemClock;
use decores_types::{Clock as _, Timestamp};
use std::path::Path;
use std::sync::Arc;

/// Proofs of each size.
const PROOFS: u64 = 1000;
/// Entries written at once.
const BATCH: u64 = 1000;
/// Time between two entries: a log of a million is then a day and more.
const APART_MS: u64 = 100;

/// The log of one size grows from the one before.
pub(crate) async fn run(folder: &Path, sizes: &[u64]) -> Result<()> {
    for size in sizes {
        let start = now();
        grow(folder, *size).await?;
        let built = since(start) / 1e3;
        let start = now();
        let (store, tiles) = log::parts(folder)?;
        let opened = since(start);
        let signer = log::signer(folder)?;
        let key = signer.key().clone();
        let from = check_recent(&*store, &*tiles, &key).await?;
        let checked = since(start) - opened;
        Sequencer::open(Arc::clone(&store), Arc::clone(&tiles), signer).await?;
        let (mut made, mut verified, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..PROOFS.min(*size) {
            // Spread over the whole log, in no order that a cache would know.
            let index = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % size;
            let entry = store.entries(index, 1).await?.pop().context("an entry is missing")?;
            let start = now();
            let proof = log::prove(&*tiles, &key, index)?;
            made.push(since(start) * 1e3);
            bytes.push(proof.to_bytes().len() as f64);
            let start = now();
            proof.verify(&entry, &key)?;
            verified.push(since(start) * 1e3);
        }
        let figures = serde_json::json!({
            "bench": "proofs", "entries": size, "buildSeconds": built, "openMs": opened, "checkMs": checked,
            "checkedEntries": size - from,
            "bytes": quantile(&mut bytes, 1.0),
            "makeP50": quantile(&mut made, 0.5), "makeP99": quantile(&mut made, 0.99),
            "verifyP50": quantile(&mut verified, 0.5), "verifyP99": quantile(&mut verified, 0.99),
        });
        println!("{figures}");
    }
    Ok(())
}

/// Appends entries until there are so many, all under a checkpoint.
async fn grow(folder: &Path, size: u64) -> Result<()> {
    let (store, tiles) = log::parts(folder)?;
    let mut sequencer = Sequencer::open(Arc::clone(&store), tiles, log::signer(folder)?).await?;
    let now = SystemClock::default().now();
    let mut written = store.size().await?;
    while sequencer.head().size < size {
        for _ in 0..8 {
            append(&*store, written, BATCH.min(size - written), now).await?;
            written += BATCH.min(size - written);
        }
        sequencer.integrate().await?;
    }
    Ok(())
}

async fn append(store: &dyn Store, from: u64, count: u64, now: Timestamp) -> Result<()> {
    let entry = |index: u64| Entry::new(log::event(), now.plus_ms(index * APART_MS)).to_bytes();
    let entries = (from..from + count).map(entry).collect::<Result<Vec<_>, _>>()?;
    store.commit(Batch { changes: Vec::new(), entries }).await?;
    Ok(())
}
