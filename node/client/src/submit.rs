//! Submitting: ask for an offer, verify it, seal to it, send.
//!
//! Nothing leaves before the offer is verified. The payload is sealed while it is sent, by a thread of
//! its own that feeds a bounded channel, so that memory stays the same for any size. A submission that
//! got lost, or met a busy node, is made again under the same idempotency key with a new offer.

use crate::client::Client;
use crate::connection::{MAX_ANSWER, SILENCE, parse, pause};
use crate::input::Prepared;
use crate::watch::{MAX_LOSSES, backoff};
use crate::{ClientError, JobRecord, Progress};
use bytes::Bytes;
use decores_api::jobs::{Job, Submission};
use decores_api::{Code, headers, paths};
use decores_keys::VerifiedOffer;
use decores_keys::payload::{JobBinding, StreamSealer, seal_job, sealed_len};
use decores_types::{CommitmentKey, Random, Reason, canonical};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Method, Response};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Attempts at one job while the node keeps losing it.
const MAX_ATTEMPTS: u32 = 5;
/// Attempts at one job while its engine keeps ending early: the program may be the cause.
const MAX_ENGINES: u32 = 2;
/// Longest we wait, all in all, for a busy node to take a job.
const MAX_BUSY: Duration = Duration::from_secs(600);
/// Pieces sealed ahead of the network.
const AHEAD: usize = 8;
/// How often progress is told while sending.
const TICK: Duration = Duration::from_millis(250);

impl Client {
    /// Submits a job and stays with it to its end; submits again what the node lost.
    pub async fn run(
        &self,
        record: &mut JobRecord,
        input: &Arc<Prepared>,
        note: &dyn Fn(Progress<'_>),
    ) -> Result<Job, ClientError> {
        let mut seen = 0;
        let mut attempts = 0;
        loop {
            let job = self.submit(record, input, note).await?;
            let job = self.wait(job.job, &mut seen, note).await?;
            attempts += 1;
            if attempts >= attempts_worth(&job) {
                return Ok(job);
            }
            pause(backoff(attempts)).await;
        }
    }

    /// Submits a job, and keeps its record before and after.
    pub async fn submit(
        &self,
        record: &mut JobRecord,
        input: &Arc<Prepared>,
        note: &dyn Fn(Progress<'_>),
    ) -> Result<Job, ClientError> {
        self.home.save_job(record)?;
        let mut uncertain = false;
        let job = match self.submit_until_taken(record, input, note, &mut uncertain).await {
            Ok(job) => job,
            Err(error) => {
                // Where any try may have reached the node it may have the job; otherwise nobody will ask for these keys.
                if record.job.is_none() && !uncertain {
                    self.home.forget_pending(record)?;
                }
                return Err(error);
            }
        };
        if job.consumer != self.login.consumer {
            return Err(ClientError::Mismatch(format!("{}: the node gave it to another consumer", job.job)));
        }
        if record.job.is_some_and(|known| known != job.job) {
            return Err(ClientError::Mismatch(format!("{}: the node gave the next attempt another job id", job.job)));
        }
        record.job = Some(job.job);
        self.home.save_job(record)?;
        Ok(job)
    }

    async fn submit_until_taken(
        &self,
        record: &JobRecord,
        input: &Arc<Prepared>,
        note: &dyn Fn(Progress<'_>),
        uncertain: &mut bool,
    ) -> Result<Job, ClientError> {
        let (mut reached, mut losses, mut waited) = (false, 0, Duration::ZERO);
        loop {
            let error = match self.submit_once(record, input, note, &mut reached).await {
                Ok(job) => return Ok(job),
                Err(error) => error,
            };
            *uncertain |= error.is_connection_loss() || is_being_taken(&error);
            let wait = match error.busy() {
                Some(wait) if waited + wait <= MAX_BUSY => {
                    waited += wait;
                    wait
                }
                // An offer that ran out or was lost with the node's memory is replaced by a new one.
                None if reached
                    && losses < MAX_LOSSES
                    && (error.is_connection_loss() || is_stale_offer(&error) || is_being_taken(&error)) =>
                {
                    losses += 1;
                    backoff(losses - 1)
                }
                _ => return Err(error),
            };
            note(Progress::Again { why: &error, wait });
            pause(wait).await;
        }
    }

    async fn submit_once(
        &self,
        record: &JobRecord,
        input: &Arc<Prepared>,
        note: &dyn Fn(Progress<'_>),
        reached: &mut bool,
    ) -> Result<Job, ClientError> {
        note(Progress::Offer);
        let offer = self.offer(&record.spec).await?;
        *reached = true;
        let sealing = self.begin(record, input, &offer)?;
        let answer = self.upload(sealing, &record.idempotency_key, note).await?;
        parse("submission", &self.connection.body(answer, MAX_ANSWER).await?)
    }

    fn begin(&self, record: &JobRecord, input: &Arc<Prepared>, offer: &VerifiedOffer) -> Result<Sealing, ClientError> {
        let bound = |e: canonical::CanonicalError| sealing("bind the payload", e);
        let binding = JobBinding {
            consumer: self.login.consumer,
            offer: offer.digest(),
            output_key: record.spec.output_key.id,
            spec: record.spec.digest().map_err(bound)?,
        };
        let submission = canonical::to_vec(&Submission { offer: offer.document().offer, spec: record.spec.clone() })
            .map_err(bound)?;
        let mut head = (submission.len() as u32).to_be_bytes().to_vec();
        head.extend_from_slice(&submission);
        Ok(Sealing {
            head,
            recipient: offer.recipient().clone(),
            binding: binding.digest().map_err(bound)?,
            commitment: record.commitment_key()?,
            input: Arc::clone(input),
            random: Arc::clone(&self.random),
        })
    }

    /// Seals and sends at the same time.
    async fn upload(
        &self,
        sealing: Sealing,
        idempotency_key: &str,
        note: &dyn Fn(Progress<'_>),
    ) -> Result<Response, ClientError> {
        let (to_network, from_sealer) = mpsc::channel(AHEAD);
        let sent = Arc::new(AtomicU64::new(0));
        let pieces = Pieces { to_network, sent: Arc::clone(&sent) };
        let (head, total) = sealing.seal_head()?;
        let worker = tokio::task::spawn_blocking(move || head.write(pieces));
        let request = self
            .connection
            .request(Method::POST, paths::JOBS)
            .header(headers::IDEMPOTENCY_KEY, idempotency_key)
            .header(CONTENT_TYPE, headers::SUBMISSION)
            .header(CONTENT_LENGTH, total)
            .body(body(from_sealer));
        let answer = self.watch_upload(request.send(), &sent, total, note).await;
        match answer {
            Ok(answer) => self.connection.accept(answer).await,
            // The channel is closed by now, so the worker ends; its own error says more than the network's.
            Err(lost) => match tokio::time::timeout(SILENCE, worker).await {
                Ok(Ok(Err(error))) => Err(error),
                _ => Err(lost),
            },
        }
    }

    /// Tells of progress while `send` runs, and gives up when nothing moves.
    async fn watch_upload(
        &self,
        send: impl Future<Output = reqwest::Result<Response>>,
        sent: &AtomicU64,
        total: u64,
        note: &dyn Fn(Progress<'_>),
    ) -> Result<Response, ClientError> {
        let mut send = std::pin::pin!(send);
        let (mut last, mut still) = (0, Duration::ZERO);
        loop {
            tokio::select! {
                answer = &mut send => return answer.map_err(|source| self.connection.lost(source)),
                () = pause(TICK) => {
                    let now = sent.load(Ordering::Relaxed);
                    still = if now == last { still + TICK } else { Duration::ZERO };
                    last = now;
                    note(Progress::Upload { sent: now.min(total), total });
                    if still >= SILENCE {
                        return Err(self.connection.timeout(SILENCE));
                    }
                }
            }
        }
    }
}

/// How many attempts an end like this one is worth.
fn attempts_worth(job: &Job) -> u32 {
    match job.reason {
        _ if !job.resubmit => 1,
        Reason::Resubmit | Reason::QueueExpired => MAX_ATTEMPTS,
        Reason::EngineLost => MAX_ENGINES,
        _ => 1,
    }
}

/// An earlier try of ours is still being taken in: asking again finds the job.
fn is_being_taken(error: &ClientError) -> bool {
    error.code() == Some(Code::StateConflict)
}

fn is_stale_offer(error: &ClientError) -> bool {
    error.code() == Some(Code::OfferInvalid)
}

fn sealing(doing: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> ClientError {
    ClientError::Sealing { doing, source: Box::new(source) }
}

fn body(mut from_sealer: mpsc::Receiver<io::Result<Bytes>>) -> Body {
    Body::wrap_stream(futures_util::stream::poll_fn(move |context| from_sealer.poll_recv(context)))
}

/// What it takes to seal a submission.
struct Sealing {
    head: Vec<u8>,
    recipient: decores_keys::Recipient,
    binding: decores_types::Digest,
    commitment: CommitmentKey,
    input: Arc<Prepared>,
    random: Arc<dyn Random>,
}

/// A submission whose data keys are sealed; what is left is to stream the sections.
struct SealedHead {
    head: Vec<u8>,
    program: decores_keys::payload::SectionKey,
    section: decores_keys::payload::SectionKey,
    input: Arc<Prepared>,
}

impl Sealing {
    /// Seals the data keys; the head, and how many bytes the submission has in all.
    fn seal_head(self) -> Result<(SealedHead, u64), ClientError> {
        let (program_size, input_size) = (self.input.program_size(), self.input.input_size());
        let random = self.random.as_ref();
        let sealed = seal_job(&self.recipient, &self.binding, program_size, Some(input_size), &self.commitment, random)
            .map_err(|e| sealing("seal the job", e))?;
        let mut head = self.head;
        head.extend_from_slice(&sealed.head);
        let total = sealed_len(program_size).saturating_add(sealed_len(input_size)).saturating_add(head.len() as u64);
        Ok((SealedHead { head, program: sealed.program, section: sealed.input, input: self.input }, total))
    }
}

impl SealedHead {
    /// Writes everything. An end of the channel is no error of ours: the answer says why.
    fn write(self, mut pieces: Pieces) -> Result<(), ClientError> {
        let result = self.write_sections(&mut pieces);
        match result {
            Ok(()) => Ok(()),
            Err(_) if pieces.to_network.is_closed() => Ok(()),
            Err(error) => {
                // The request must fail too: half a payload is none. Its receiver may be gone already.
                let _ = pieces.to_network.blocking_send(Err(io::ErrorKind::InvalidData.into()));
                Err(error)
            }
        }
    }

    fn write_sections(&self, pieces: &mut Pieces) -> Result<(), ClientError> {
        let failed = |e: io::Error| sealing("seal the job", e);
        pieces.write_all(&self.head).map_err(failed)?;
        let length = Some(self.input.program_size());
        let mut sealer = StreamSealer::new(&self.program, length, &mut *pieces).map_err(|e| failed(e.into()))?;
        self.input.read_program(|bytes| sealer.write_all(bytes).map_err(failed))?;
        sealer.finish().map_err(failed)?;
        let length = Some(self.input.input_size());
        let mut sealer = StreamSealer::new(&self.section, length, &mut *pieces).map_err(|e| failed(e.into()))?;
        self.input.read_input(|bytes| sealer.write_all(bytes).map_err(failed))?;
        sealer.finish().map_err(failed)?;
        Ok(())
    }
}

/// Hands sealed pieces from the sealing thread to the network; waits when the network is slower.
struct Pieces {
    to_network: mpsc::Sender<io::Result<Bytes>>,
    sent: Arc<AtomicU64>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Ok(Bytes::copy_from_slice(bytes));
        self.to_network.blocking_send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
