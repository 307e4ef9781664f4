//! Taking a job: authenticate, authorise, limit, policy; store it sealed; queue it.

use super::jobs::wire;
use super::offers::refused;
use crate::admission::Place;
use crate::blobs::names;
use crate::life::{self, Live};
use crate::node::{Node, store_problem, unwritten};
use crate::offers;
use crate::records::{Held, JobRow, SubmissionRow, job_state};
use crate::service::taking::{Lookup, Turn};
use crate::wipe::{self, SEALED_INPUT};
use crate::{leftovers, summary};
use decores_access::{Permit, action};
use decores_api::jobs::{Job, Submission};
use decores_api::{Code, Problem};
use decores_audit::event::{Event, LABEL_SPEC};
use decores_audit::ports::{Change, StoreError};
use decores_blobs::BlobError;
use decores_detection::AlertKind;
use decores_http::{PayloadStream, Submitted};
use decores_keys::{OfferKey, Recipient};
use decores_sandbox::plan::plan;
use decores_sandbox::record::Step;
use decores_sandbox::{JobRecord, Stage};
use decores_types::ambient::random_bytes;
use decores_types::digest::log_commitment;
use decores_types::job::MAX_SPEC_BYTES;
use decores_types::{Attempt, Base64, ConsumerId, Digest, JobId, JobSpec, JobState, OfferId, Reason, canonical, chain};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// A submission that passed everything that can be said without its payload.
struct Admitted {
    place: Place,
    turn: Turn,
    lookup: Lookup,
    consumer: ConsumerId,
    offer: OfferId,
    spec: JobSpec,
    digest: Digest,
    earlier: Option<Held<JobRow>>,
}

pub(crate) async fn submit(
    node: &Arc<Node>,
    permit: &Permit<action::SubmitJob>,
    idempotency_key: &str,
    submission: Submission,
    payload: PayloadStream,
) -> Result<Submitted, Problem> {
    let consumer = permit.consumer();
    let Submission { offer, spec } = submission;
    let digest = check_spec(&spec)?;
    let lookup = lookup(node, consumer, idempotency_key);
    // Before the look at what there is: with the turn, nobody else changes it.
    let turn = node.taking.begin(lookup);
    let earlier = earlier(node, &lookup, &digest).await?;
    if let Some(held) = &earlier
        && !held.row.record.may_resubmit()
    {
        return Ok(Submitted { job: wire(&held.row, node.clock.now()), created: false });
    }
    let turn = turn.ok_or_else(being_taken)?;
    if *node.stopping.borrow() {
        return Err(stopping());
    }
    let place = node.admission.begin(consumer)?;
    let admitted = Admitted { place, turn, lookup, consumer, offer, spec, digest, earlier };
    // A client that goes away ends the request, but not what was begun for it: from here on a task of
    // its own either queues the job or cleans up after it.
    let node = Arc::clone(node);
    let taking = tokio::spawn(async move { take(&node, admitted, payload).await });
    let job = taking.await.map_err(|_| Problem::new(Code::Internal, "the node could not take the job"))??;
    Ok(Submitted { job, created: true })
}

fn lookup(node: &Node, consumer: ConsumerId, idempotency_key: &str) -> Lookup {
    node.index.lookup("submission", &[consumer.as_bytes(), idempotency_key.as_bytes()].concat())
}

/// Whether a submission under this key would be answered, though the node may be short of something: one that was
/// taken before gets its job back, whatever the node is short of.
pub(crate) async fn admits(
    node: &Node,
    permit: &Permit<action::SubmitJob>,
    idempotency_key: &str,
    payload: u64,
) -> Result<(), Problem> {
    let Err(problem) = node.health.admits_payload(payload) else { return Ok(()) };
    if is_taken(node, &lookup(node, permit.consumer(), idempotency_key)).await.unwrap_or(false) {
        return Ok(());
    }
    node.summary.count(summary::Cause::Degraded, node.clock.now());
    Err(problem)
}

/// Whether a job was taken under this key that would not be begun again.
async fn is_taken(node: &Node, lookup: &Lookup) -> Result<bool, StoreError> {
    let Some(known) = node.records.get::<SubmissionRow>(lookup).await? else { return Ok(false) };
    let held = node.records.get::<JobRow>(known.row.job.as_bytes()).await?;
    Ok(held.is_some_and(|held| !held.row.record.may_resubmit()))
}

/// The job that this idempotency key stands for, if any; another spec under it is refused.
async fn earlier(node: &Node, lookup: &[u8], spec: &Digest) -> Result<Option<Held<JobRow>>, Problem> {
    let known: Option<Held<SubmissionRow>> = node.records.get(lookup).await.map_err(|e| store_problem(&e))?;
    let Some(known) = known else { return Ok(None) };
    if known.row.spec != *spec {
        return Err(Problem::new(Code::IdempotencyConflict, "this idempotency key was used for another spec")
            .hint("use a new key for a new job"));
    }
    node.records.get(known.row.job.as_bytes()).await.map_err(|e| store_problem(&e))
}

fn check_spec(spec: &JobSpec) -> Result<Digest, Problem> {
    let malformed = |detail: &str| Problem::new(Code::Malformed, detail);
    let bytes = canonical::to_vec(spec).map_err(|_| malformed("the spec cannot be written as canonical JSON"))?;
    if bytes.len() > MAX_SPEC_BYTES {
        return Err(Problem::new(Code::TooLarge, format!("a spec has at most {MAX_SPEC_BYTES} bytes")));
    }
    if Recipient::of_output_key(&spec.output_key).is_none() {
        return Err(malformed("the spec's `outputKey` is not an X-Wing key, or its id does not fit"));
    }
    Ok(Digest::of(&bytes))
}

/// Uses the offer up, stores the payload sealed as it came, and queues the job.
async fn take(node: &Arc<Node>, mut admitted: Admitted, mut payload: PayloadStream) -> Result<Job, Problem> {
    let earlier = admitted.earlier.as_ref().map(|held| &held.row.record);
    let job = earlier.map_or_else(|| JobId::random(&*node.random), |record| record.job);
    let attempt = earlier.map_or(Attempt(1), |record| Attempt(record.attempt().0.saturating_add(1)));
    plan(job, attempt, &admitted.spec, &node.host, &node.config.sandbox, 0).map_err(|refusal| refused(&refusal))?;
    let key = node.offers.take(admitted.offer, admitted.consumer, node.clock.now())?;
    // The key lives no longer than its offer, however slowly the payload arrives.
    let patience = Duration::from_millis(key.expires.since_ms(node.clock.now()));
    let stored =
        match tokio::time::timeout(patience, store(node, job, attempt, &mut admitted.place, &mut payload)).await {
            Ok(Ok(())) if *node.stopping.borrow() => Err(stopping()),
            Ok(stored) => stored.and_then(|()| node.health.admits()),
            Err(_) => Err(Problem::new(Code::RequestTimeout, "the offer ran out before the payload had arrived")
                .hint("the operator can make offers last longer: `jobs.offer_seconds`")),
        };
    if let Err(problem) = stored {
        offers::destroy(node, key);
        discard(node, admitted.turn, (job, attempt)).await;
        return Err(problem);
    }
    let mut place = admitted.place;
    let queued = match admitted.earlier {
        None => first(node, &admitted.lookup, job, admitted.consumer, admitted.spec, admitted.digest, &key).await,
        Some(held) => again(node, held, &key).await,
    };
    match queued {
        Ok(held) => {
            place.advance(Stage::Waiting);
            node.announce(job);
            let shown = wire(&held.row, node.clock.now());
            life::start(node, Live { place, held, key });
            Ok(shown)
        }
        Err(problem) => {
            offers::destroy(node, key);
            discard(node, admitted.turn, (job, attempt)).await;
            Err(problem)
        }
    }
}

/// Deletes a payload that was not taken. One that cannot be deleted is remembered, and the operator told, as soon as
/// that can be written: nobody waits for it, but the key's turn lasts until then.
async fn discard(node: &Arc<Node>, turn: Turn, (job, attempt): (JobId, Attempt)) {
    let deleted = match names(job, attempt) {
        Ok(names) => wipe::delete(node, names.payload).await,
        Err(error) => Err(chain(&error)),
    };
    let Err(cause) = deleted else { return };
    tracing::error!(%job, error = cause, "failed to delete a payload that was not taken");
    let node = Arc::clone(node);
    tokio::spawn(async move {
        let _turn = turn;
        match leftovers::remember_file(&node, (job, attempt), SEALED_INPUT, cause).await {
            Ok(true) => {}
            Ok(false) => {
                let message = format!("the payload of {job}, attempt {attempt}, was not taken, but cannot be deleted");
                node.alert(AlertKind::WipeIncomplete, message).await;
            }
            Err(error) => tracing::error!(%job, error = format!("{error:#}"), "failed to remember a leftover"),
        }
    });
}

fn stopping() -> Problem {
    Problem::new(Code::Unavailable, "the node is stopping").hint("submit again when it has started again")
}

/// A payload of the same attempt is there though nobody is taking it: an earlier try could not delete it.
fn stuck() -> Problem {
    Problem::new(Code::Unavailable, "an earlier payload of this job is in the way, since it could not be deleted")
        .hint("the operator was told; submit again later, or as a new job")
}

async fn store(
    node: &Node,
    job: JobId,
    attempt: Attempt,
    place: &mut Place,
    payload: &mut PayloadStream,
) -> Result<(), Problem> {
    let unwritten = |error: &dyn std::error::Error| {
        tracing::error!(%job, error = chain(error), "failed to store a sealed payload");
        Problem::new(Code::Unavailable, "the node could not store the payload")
            .hint("submit again after `Retry-After`; the node's own log says why")
    };
    let name = names(job, attempt).map_err(|e| unwritten(&e))?.payload;
    let mut blob = match node.blobs.create(&name, node.config.http.payload_bytes) {
        Ok(blob) => blob,
        Err(BlobError::Exists(_)) => return Err(stuck()),
        Err(error) => return Err(unwritten(&error)),
    };
    while let Some(piece) = payload.next().await? {
        // What was announced when it began to arrive says nothing of what others have written since.
        node.health.admits()?;
        place.grow(piece.len() as u64)?;
        // Pieces are small and go to the page cache; the one slow call is the commit below.
        blob.write_all(&piece).map_err(|e| unwritten(&e))?;
    }
    match tokio::task::spawn_blocking(move || blob.commit()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(unwritten(&error)),
        Err(error) => Err(unwritten(&error)),
    }
}

/// The same submission came twice at once; the other was first.
fn being_taken() -> Problem {
    Problem::new(Code::StateConflict, "the same submission is being taken").hint("ask again")
}

async fn first(
    node: &Node,
    lookup: &[u8],
    job: JobId,
    consumer: ConsumerId,
    spec: JobSpec,
    digest: Digest,
    key: &OfferKey,
) -> Result<Held<JobRow>, Problem> {
    let now = node.clock.now();
    let step = Step { attempt: Attempt(1), state: JobState::Queued, reason: Reason::Accepted, time: now };
    let record =
        JobRecord { job, consumer, offer: key.offer, offer_digest: key.digest, spec: digest, steps: vec![step] };
    let row = JobRow {
        record,
        spec,
        log_key: Base64(random_bytes::<32>(&*node.random).to_vec()),
        result_until: None,
        logs_until: None,
        module_until: None,
        result_removed: None,
        logs_removed: None,
        receipt_until: None,
        submission: Base64(lookup.to_vec()),
        engine: None,
        receipt_attempt: None,
    };
    let changes = (|| -> Result<Vec<Change>, StoreError> {
        Ok(vec![
            node.records.insert(lookup, Some(consumer), 0, &SubmissionRow { job, spec: digest })?,
            node.records.insert(job.as_bytes(), Some(consumer), job_state(&row), &row)?,
        ])
    })();
    write(node, changes, &row).await?;
    Ok(Held { row, id: job.as_bytes().to_vec(), version: 1, sequence: 0, entry: 0 })
}

async fn again(node: &Node, mut held: Held<JobRow>, key: &OfferKey) -> Result<Held<JobRow>, Problem> {
    let resubmitted = held.row.record.resubmit(key.offer, key.digest, node.clock.now());
    resubmitted.map_err(|error| Problem::new(Code::StateConflict, error.to_string()))?;
    held.row.result_until = None;
    held.row.logs_until = None;
    held.row.module_until = None;
    held.row.result_removed = None;
    held.row.logs_removed = None;
    held.row.engine = None;
    let change = node.records.update(&held, job_state(&held.row)).map(|change| vec![change]);
    write(node, change, &held.row).await?;
    held.version += 1;
    Ok(held)
}

/// Writes a queued attempt; durable before it is acknowledged.
async fn write(node: &Node, changes: Result<Vec<Change>, StoreError>, row: &JobRow) -> Result<(), Problem> {
    let event = queued_event(row).ok_or_else(|| Problem::new(Code::Internal, "the job's log key is damaged"))?;
    node.write(changes.map_err(|e| store_problem(&e))?, vec![event]).await.map_err(|error| match error {
        StoreError::Exists(_) | StoreError::Stale(_) => being_taken(),
        error => unwritten(&error),
    })
}

fn queued_event(row: &JobRow) -> Option<Event> {
    let record = &row.record;
    Some(Event::JobState {
        job: record.job,
        attempt: record.attempt(),
        consumer: record.consumer,
        state: JobState::Queued,
        reason: Reason::Accepted,
        offer: Some(record.offer),
        spec: Some(log_commitment(&row.log_key.array()?, LABEL_SPEC, record.spec.as_bytes())),
    })
}
