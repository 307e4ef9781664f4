//! Appends by many writers at once, each waiting until its own is durable.

use crate::{ledger::Ledger, log, now, quantile, since};
use anyhow::{Context as _, Result};
use decores_audit::ports::{Change, Table};
use decores_system::SystemRandom;
use decores_types::{JobId, Random as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// One of so many appends of a writer is followed until there is a proof of it.
const FOLLOWED: usize = 64;
/// Bytes of a record that changes with an entry; what a job's row has.
const ROW: usize = 1024;

/// What one writer saw, in milliseconds.
#[derive(Default)]
struct Seen {
    durable: Vec<f64>,
    proofs: Vec<JoinHandle<Result<f64>>>,
}

pub(crate) async fn run(folder: &Path, writers: usize, during: Duration, with_change: bool) -> Result<()> {
    let ledger = Arc::new(log::ledger(folder).await?);
    let start = now();
    let write = |number| tokio::spawn(writer(Arc::clone(&ledger), number, during, with_change));
    let tasks: Vec<JoinHandle<Result<Seen>>> = (0..writers).map(write).collect();
    let (mut durable, mut followed) = (Vec::new(), Vec::new());
    for task in tasks {
        let seen = task.await??;
        durable.extend(seen.durable);
        followed.extend(seen.proofs);
    }
    let elapsed = since(start);
    let mut proofs = Vec::new();
    for proof in followed {
        proofs.push(proof.await??);
    }
    let figures = serde_json::json!({
        "bench": if with_change { "changes" } else { "appends" },
        "writers": writers,
        "perSecond": durable.len() as f64 / elapsed * 1e3,
        "durableP50": quantile(&mut durable, 0.5),
        "durableP99": quantile(&mut durable, 0.99),
        "proofP50": quantile(&mut proofs, 0.5),
        "proofP99": quantile(&mut proofs, 0.99),
    });
    println!("{figures}");
    Ok(())
}

async fn writer(ledger: Arc<Ledger>, number: usize, during: Duration, with_change: bool) -> Result<Seen> {
    let (start, mut seen) = (now(), Seen::default());
    while now().duration_since(start) < during {
        let began = now();
        let entries = ledger.entries(&[log::event()])?;
        let changes = if with_change { vec![row()] } else { Vec::new() };
        let bytes = entries.first().cloned().context("an event has an entry")?;
        let index = ledger.commit(changes, entries).await?.first_entry;
        seen.durable.push(since(began));
        // Writers take turns, so that proofs are asked for all the time.
        if (seen.durable.len() + number).is_multiple_of(FOLLOWED) {
            let ledger = Arc::clone(&ledger);
            seen.proofs.push(tokio::spawn(async move {
                ledger.integrated(index).await;
                let proof = tokio::task::spawn_blocking(move || {
                    log::prove(&*ledger.tiles, &ledger.key, index)?.verify(&bytes, &ledger.key).map_err(Into::into)
                });
                proof.await?.map(|_| since(began))
            }));
        }
    }
    Ok(seen)
}

fn row() -> Change {
    let mut value = vec![0; ROW];
    SystemRandom.fill(&mut value);
    let id = JobId::random(&SystemRandom).as_bytes().to_vec();
    Change::Insert { table: Table::Jobs, id, owner: vec![7; 16], state: 1, value }
}
