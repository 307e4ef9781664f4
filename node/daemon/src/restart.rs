//! What a start has to finish of the runs before it, before anything is served.

use crate::blobs;
use crate::ending;
use crate::leftovers;
use crate::life::Verdict;
use crate::modules;
use crate::node::Node;
use crate::records::{Held, JobRow};
use crate::wipe;
use anyhow::Result;
use decores_audit::ports::Select;
use decores_blobs::{BlobName, BlobStore};
use decores_detection::AlertKind;
use decores_types::{JobState, Reason, chain};

/// Deletes all payloads: the keys that open them went with the process that held them. It needs no record, and
/// on a full disk it gives room to write some. What cannot be deleted is tried again, and remembered, further on.
pub(crate) async fn drop_payloads(store: &BlobStore) -> Result<()> {
    let store = store.clone();
    tokio::task::spawn_blocking(move || -> Result<()> {
        for blob in store.list()?.iter().filter(|blob| wipe::check_of(blob) == wipe::SEALED_INPUT) {
            match store.delete(blob) {
                Ok(_) => tracing::info!(%blob, "deleted a payload that nothing can open any more"),
                Err(error) => tracing::error!(%blob, error = chain(&error), "failed to delete a payload"),
            }
        }
        Ok(())
    })
    .await?
}

/// Ends what was open, tries again what was left, and deletes what nobody keeps.
pub(crate) async fn finish(node: &Node) -> Result<()> {
    leftovers::block_places(node).await?;
    end_interrupted(node).await?;
    match leftovers::mend(node).await {
        Ok(mended) if mended.left.is_empty() => {}
        Ok(mended) => {
            tracing::warn!(left = mended.left.len(), "some wipes are still unfinished; `decores status` names them");
        }
        // Their places stay blocked; the others serve.
        Err(error) => tracing::error!(error = format!("{error:#}"), "failed to finish every unfinished wipe"),
    }
    sweep(node).await
}

/// The numbers by which records of jobs that have not ended are selected.
pub(crate) fn open_states() -> Vec<i64> {
    use JobState::{Attesting, Queued, Running, Sealing, Starting, Wiping};
    [Queued, Attesting, Starting, Running, Sealing, Wiping].map(|state| state as i64).to_vec()
}

/// Ends what a stop or a crash cut off. Offer keys lived in memory, so nothing of it can be opened any more:
/// the client submits again by itself.
async fn end_interrupted(node: &Node) -> Result<()> {
    let mut before = None;
    loop {
        let select = Select { states: open_states(), before, limit: 100, ..Select::default() };
        let jobs: Vec<Held<JobRow>> = node.records.list(select).await?;
        let Some(last) = jobs.last() else { return Ok(()) };
        before = Some(last.sequence);
        for held in jobs {
            let (job, attempt, reason) = (held.row.record.job, held.row.record.attempt(), reason(&held.row));
            tracing::info!(%job, %attempt, %reason, "ending an attempt that the last stop cut off");
            if let Err(error) = ending::end_interrupted(node, held, Verdict::of(reason)).await {
                tracing::error!(%job, error = format!("{error:#}"), "failed to end an attempt; the next start tries again");
                node.alert(AlertKind::WipeIncomplete, format!("the end of {job} could not be written")).await;
            }
        }
    }
}

/// Why an attempt ends that was cut off.
fn reason(row: &JobRow) -> Reason {
    let launched = row.engine.as_ref().is_some_and(|engine| engine.locked.is_some());
    if launched { Reason::EngineLost } else { Reason::Resubmit }
}

/// Deletes sealed files that no record keeps: a crash may fall between a file and its record.
async fn sweep(node: &Node) -> Result<()> {
    let store = node.blobs.clone();
    let whole = tokio::task::spawn_blocking(move || store.list()).await??;
    for blob in whole.into_iter().chain(node.blobs.stuck().iter().cloned()) {
        let held = match blobs::attempt_of(&blob) {
            Some((job, _)) => node.records.get::<JobRow>(job.as_bytes()).await,
            None => Ok(None),
        };
        match held {
            Ok(held) if held.as_ref().is_some_and(|held| blobs::is_kept(&blob, &held.row)) => {}
            Ok(_) => drop_file(node, blob).await?,
            Err(error) => {
                tracing::error!(%blob, error = chain(&error), "a sealed file is left alone: its record does not open");
            }
        }
    }
    Ok(())
}

async fn drop_file(node: &Node, blob: BlobName) -> Result<()> {
    tracing::info!(%blob, "deleting a sealed file that no record keeps");
    let Err(cause) = wipe::delete(node, blob.clone()).await else {
        let kept = blobs::attempt_of(&blob).filter(|_| wipe::check_of(&blob) == wipe::SEALED_MODULE);
        // A receipt may say that it is kept still; its key went with the process that held it.
        if let Some(event) = kept.and_then(|by| modules::removed(by, "restart")) {
            node.note(vec![event]).await;
        }
        return Ok(());
    };
    tracing::error!(%blob, error = cause, "failed to delete a sealed file");
    let known = match blobs::attempt_of(&blob) {
        Some(attempt) => leftovers::remember_file(node, attempt, wipe::check_of(&blob), cause).await?,
        None => false,
    };
    if !known {
        node.alert(AlertKind::WipeIncomplete, format!("the sealed file {blob} could not be deleted")).await;
    }
    Ok(())
}
