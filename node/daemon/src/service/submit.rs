//! Taking a job: authenticate, authorise, limit, policy; store it sealed; queue it.

use super::jobs::wire;
use super::offers::refused;
use crate::blobs::names;
use crate::life::{self, Live};
use crate::node::{KeyChange, Node, key_event, store_problem};
use crate::records::{Held, JobRow, SubmissionRow, job_state};
use decores_access::{Permit, action};
use decores_api::jobs::Submission;
use decores_api::{Code, Problem};
use decores_audit::event::{Event, LABEL_SPEC};
use decores_audit::ports::{Change, StoreError};
use decores_http::{PayloadStream, Submitted};
use decores_keys::{Algorithm, OfferKey, Purpose, Recipient};
use decores_sandbox::JobRecord;
use decores_sandbox::plan::plan;
use decores_sandbox::record::Step;
use decores_types::ambient::random_bytes;
use decores_types::digest::log_commitment;
use decores_types::job::MAX_SPEC_BYTES;
use decores_types::{Attempt, Base64, ConsumerId, Digest, JobId, JobSpec, JobState, Reason, canonical, chain};
use std::io::Write as _;
use std::sync::Arc;

pub(crate) async fn submit(
    node: &Arc<Node>,
    permit: &Permit<action::SubmitJob>,
    idempotency_key: &str,
    submission: Submission,
    mut payload: PayloadStream,
) -> Result<Submitted, Problem> {
    let consumer = permit.consumer();
    let Submission { offer, spec } = submission;
    let digest = check_spec(&spec)?;
    let lookup = node.index.lookup("submission", &[consumer.as_bytes(), idempotency_key.as_bytes()].concat());
    let earlier = earlier(node, &lookup, &digest).await?;
    let now = node.clock.now();
    if let Some(held) = &earlier
        && !held.row.record.may_resubmit()
    {
        return Ok(Submitted { job: wire(&held.row, now), created: false });
    }
    if *node.stopping.borrow() || node.live_jobs() >= node.config.sandbox.queue + node.config.sandbox.slots {
        return Err(Problem::new(Code::Unavailable, "the queue is full").hint("submit again after `Retry-After`"));
    }
    let job = earlier.as_ref().map_or_else(|| JobId::random(&*node.random), |held| held.row.record.job);
    let attempt = earlier.as_ref().map_or(Attempt(1), |held| Attempt(held.row.record.attempt().0.saturating_add(1)));
    plan(job, attempt, &spec, &node.host, &node.config.sandbox, 0).map_err(|refusal| refused(&refusal))?;
    let key = node.offers.take(offer, consumer, now)?;
    let key = take(node, job, attempt, key, &mut payload).await?;
    let queued = match earlier {
        None => first(node, &lookup, job, consumer, spec, digest, key).await,
        Some(held) => again(node, held, key).await,
    };
    let (live, job) = queued?;
    life::start(node, live);
    Ok(Submitted { job, created: true })
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

/// Stores the payload, sealed as it came. If that fails the offer is spent all the same.
async fn take(
    node: &Node,
    job: JobId,
    attempt: Attempt,
    key: OfferKey,
    payload: &mut PayloadStream,
) -> Result<OfferKey, Problem> {
    match store(node, job, attempt, payload).await {
        Ok(()) => Ok(key),
        Err(problem) => {
            spend(node, key).await;
            Err(problem)
        }
    }
}

async fn store(node: &Node, job: JobId, attempt: Attempt, payload: &mut PayloadStream) -> Result<(), Problem> {
    let unwritten = |error: std::io::Error| {
        tracing::error!(%job, error = chain(&error), "failed to store a sealed payload");
        Problem::new(Code::Unavailable, "the node could not store the payload")
    };
    let name = names(job, attempt).map_err(|e| unwritten(std::io::Error::other(e)))?.payload;
    let blob = node.blobs.create(&name, node.config.http.payload_bytes);
    let mut blob = blob.map_err(|e| unwritten(std::io::Error::other(e)))?;
    while let Some(piece) = payload.next().await? {
        // Pieces are small and go to the page cache; the one slow call is the commit below.
        blob.write_all(&piece).map_err(unwritten)?;
    }
    let committed = tokio::task::spawn_blocking(move || blob.commit()).await;
    committed.map_err(std::io::Error::other).and_then(|r| r.map_err(std::io::Error::other)).map_err(unwritten)
}

/// Destroys an offer key that will open nothing.
async fn spend(node: &Node, key: OfferKey) {
    let (id, epoch) = (key.key.recipient().id(), key.key.recipient().epoch());
    key.key.destroy();
    let event = key_event(KeyChange::Destroyed, id, Purpose::Offer, epoch, Algorithm::XWing);
    node.persist(Vec::new(), vec![event]).await;
}

type Queued = Result<(Live, decores_api::jobs::Job), Problem>;

async fn first(
    node: &Node,
    lookup: &[u8],
    job: JobId,
    consumer: ConsumerId,
    spec: JobSpec,
    digest: Digest,
    key: OfferKey,
) -> Queued {
    let now = node.clock.now();
    let step = Step { attempt: Attempt(1), state: JobState::Queued, reason: Reason::Accepted, time: now };
    let record =
        JobRecord { job, consumer, offer: key.offer, offer_digest: key.digest, spec: digest, steps: vec![step] };
    let log_key = Base64(random_bytes::<32>(&*node.random).to_vec());
    let row = JobRow {
        record,
        spec,
        log_key,
        result_until: None,
        logs_until: None,
        engine: None,
        results_removed: None,
        receipt_attempt: None,
    };
    let changes = (|| -> Result<Vec<Change>, StoreError> {
        Ok(vec![
            node.records.insert(lookup, Some(consumer), 0, &SubmissionRow { job, spec: digest })?,
            node.records.insert(job.as_bytes(), Some(consumer), job_state(&row), &row)?,
        ])
    })();
    let held = Held { row, id: job.as_bytes().to_vec(), version: 1, sequence: 0, entry: 0 };
    queue(node, held, changes, key).await
}

async fn again(node: &Node, mut held: Held<JobRow>, key: OfferKey) -> Queued {
    let resubmitted = held.row.record.resubmit(key.offer, key.digest, node.clock.now());
    if let Err(error) = resubmitted {
        spend(node, key).await;
        return Err(Problem::new(Code::StateConflict, error.to_string()));
    }
    held.row.result_until = None;
    held.row.logs_until = None;
    held.row.results_removed = None;
    held.row.engine = None;
    let state = job_state(&held.row);
    let changes = node.records.update(&mut held, state).map(|change| vec![change]);
    queue(node, held, changes, key).await
}

/// Writes a queued attempt; durable before it is acknowledged.
async fn queue(node: &Node, held: Held<JobRow>, changes: Result<Vec<Change>, StoreError>, key: OfferKey) -> Queued {
    let record = &held.row.record;
    let written = match (changes, queued_event(&held.row)) {
        (Ok(changes), Some(event)) => match node.ledger.entries(&[event]) {
            Ok(entries) => node.ledger.commit(changes, entries).await.map(drop),
            Err(source) => Err(StoreError::Failed { during: "composing an entry", source: source.into() }),
        },
        (Err(error), _) => Err(error),
        (Ok(_), None) => Err(StoreError::Failed { during: "composing an entry", source: "bad log key".into() }),
    };
    if let Err(error) = written {
        spend(node, key).await;
        let name = names(record.job, record.attempt());
        if let Err(left) = name.and_then(|names| node.blobs.delete(&names.payload)) {
            tracing::error!(error = chain(&left), "failed to delete a payload that was not taken");
        }
        return Err(match error {
            // The same submission came twice at once; the other was first.
            StoreError::Exists(_) | StoreError::Stale(_) => {
                Problem::new(Code::StateConflict, "the same submission is being taken").hint("ask again")
            }
            error => store_problem(&error),
        });
    }
    node.announce(record.job);
    let job = wire(&held.row, node.clock.now());
    Ok((Live { held, key }, job))
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
