//! What was acknowledged must still be so, and what was shown must still be shown.

use super::super::client::{Book, Client};
use super::super::{Finding, Wrong};
use decores_api::admin::ApiKey;
use decores_api::paths;
use decores_audit::receipt::Receipt;
use decores_audit::trust::Trust;
use decores_audit::verify::{Claim, ClaimResult, Status, verify};
use decores_tests::consumer::path;
use decores_types::{ApiKeyId, JobState};
use std::collections::BTreeSet;

/// Asks a node that has come to rest for everything in the book; receipts are verified from the `first` job on.
pub fn look(client: &Client, book: &mut Book, first: usize, wipe_may_fail: bool) -> Result<Vec<Finding>, String> {
    let listed: Vec<ApiKey> = client.get(paths::API_KEYS)?;
    let mut found = keys(&book.keys, &listed.iter().map(|key| key.id).collect());
    for at in 0..book.jobs.len() {
        if book.jobs[at].id.is_some() {
            // That steps which were shown are still there is seen in looking.
            client.look(book, at, 0)?;
            found.extend(results(client, book, at)?);
        }
    }
    let trust = client.trust();
    for job in &book.jobs[first..] {
        found.extend(
            job.receipts.iter().flat_map(|(attempt, receipt)| verified(receipt, *attempt, &trust, wipe_may_fail)),
        );
        let ended_done = job.steps.iter().any(|s| Some(s.attempt.0) == job.cancelled && s.state == JobState::Done);
        if ended_done {
            found.push(Finding::new(Wrong::Loss, format!("{:?} was cancelled, and is done", job.id)));
        }
    }
    found.append(&mut book.findings);
    Ok(found)
}

/// API keys that were made and are not there.
pub fn keys(made: &BTreeSet<ApiKeyId>, listed: &BTreeSet<ApiKeyId>) -> Vec<Finding> {
    let lost = made.difference(listed);
    lost.map(|key| Finding::new(Wrong::Loss, format!("API key {key} was acknowledged, and does not exist"))).collect()
}

/// The newest receipt and the output must be what they were.
fn results(client: &Client, book: &mut Book, at: usize) -> Result<Vec<Finding>, String> {
    let mut found = Vec::new();
    let (Some(job), Some((_, receipt))) = (book.jobs[at].id, book.jobs[at].receipts.last_key_value()) else {
        return Ok(found);
    };
    let newest = book.jobs[at].steps.last().map(|step| step.attempt.0);
    if newest == book.jobs[at].receipts.keys().last().copied() {
        let now = client.fetch(&path(paths::JOB_RECEIPT, job))?;
        let statement =
            |bytes: &[u8]| Receipt::parse(bytes).map(|r| r.file.envelope.payload).map_err(|e| e.to_string());
        if statement(&now)? != statement(receipt)? {
            found.push(Finding::new(Wrong::Fork, format!("two receipts for the last attempt of {job}")));
        }
    }
    if let Some(output) = &book.jobs[at].output {
        match client.fetch(&path(paths::JOB_RESULT, job)) {
            Ok(now) if now == *output => {}
            Ok(_) => found.push(Finding::new(Wrong::Loss, format!("the output of {job} is another than before"))),
            Err(error) => found.push(Finding::new(Wrong::Loss, format!("the output of {job} is gone: {error}"))),
        }
    }
    Ok(found)
}

/// Whether a receipt holds, and is of the attempt that it was taken for. One that says itself what was not done,
/// and is refused for that alone, is a good one.
fn verified(receipt: &[u8], attempt: u32, trust: &Trust, wipe_may_fail: bool) -> Vec<Finding> {
    let failed = |what: String| vec![Finding::new(Wrong::Failure, what)];
    let (report, receipt) = match (verify(receipt, trust, None, &[]), Receipt::parse(receipt)) {
        (Ok(report), Ok(receipt)) => (report, receipt),
        (Err(error), _) => return failed(error.to_string()),
        (_, Err(error)) => return failed(error.to_string()),
    };
    let predicate = receipt.predicate();
    let said = |claim: Claim| match claim {
        Claim::Wipe => wipe_may_fail && !predicate.wipe.complete,
        _ => false,
    };
    let untrue = |result: &&ClaimResult| result.status == Status::DoesNotHold && !said(result.claim);
    match report.claims.iter().find(untrue) {
        _ if predicate.attempt.0 != attempt => failed(format!("the receipt of attempt {attempt} is of another")),
        Some(result) => failed(format!("a receipt does not hold: {:?}: {}", result.claim, result.detail)),
        None => Vec::new(),
    }
}
