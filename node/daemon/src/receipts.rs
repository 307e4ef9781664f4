//! From an ended attempt to its receipt.

use crate::attempt::Attempted;
use crate::node::Node;
use crate::records::{EngineRow, Held, JobRow, ReceiptRow};
use anyhow::{Context as _, Result};
use decores_audit::checkpoint::{Checkpoint, LogKey};
use decores_audit::code::{Code, Version};
use decores_audit::event::Event;
use decores_audit::ports::TileStore;
use decores_audit::proof::InclusionProof;
use decores_audit::receipt::predicate::{self, Predicate};
use decores_audit::receipt::{ReceiptFile, build};
use decores_keys::Envelope;
use decores_sandbox::container::RunReport;
use decores_sandbox::{Namespace, WipeRecord};
use decores_types::{Attempt, Base64, JobId, JobState, Reason, Timestamp};

/// Characters of an engine's name, and of a runtime's version, that stand in a receipt.
const MAX_NAME: usize = 64;

/// A signed payload and the event that commits to it.
pub(crate) struct Sealed {
    pub(crate) envelope: Envelope,
    pub(crate) event: Event,
}

/// The id of a receipt's record.
pub(crate) fn row_id(job: JobId, attempt: Attempt) -> Vec<u8> {
    [job.as_bytes().as_slice(), &attempt.0.to_be_bytes()].concat()
}

/// Signs what is said of an attempt.
pub(crate) fn sign(node: &Node, predicate: Predicate, log_key: &Base64) -> Result<Sealed> {
    let log_key = log_key.array().context("the job's log key has not 32 bytes")?;
    let payload = build::payload(predicate.clone())?;
    let event = build::ended(&predicate, &log_key, &payload);
    let envelope = build::sign(&*node.keystore, &node.identity.id, payload)?;
    Ok(Sealed { envelope, event })
}

/// The receipt as it is handed out: with a proof under the newest checkpoint. Reads files.
pub(crate) fn file(tiles: &dyn TileStore, key: &LogKey, receipt: &Held<ReceiptRow>) -> Result<Vec<u8>> {
    let proof = proof(tiles, key, receipt.index())?;
    let file = ReceiptFile::new(receipt.row.envelope.clone(), receipt.row.entry.0.clone(), &proof);
    Ok(file.to_bytes()?)
}

/// A proof of one entry under the newest checkpoint. Reads files.
pub(crate) fn proof(tiles: &dyn TileStore, key: &LogKey, index: u64) -> Result<InclusionProof> {
    let note = tiles.checkpoint()?.context("the log has no checkpoint yet")?;
    let head = Checkpoint::open_strict(&note, key)?.head();
    let fetch = |path: &str| tiles.get(path);
    Ok(InclusionProof::make(&fetch, head, note, index)?)
}

/// What the receipt says.
pub(crate) fn predicate(node: &Node, row: &JobRow, attempted: &Attempted, wipe: &WipeRecord) -> Result<Predicate> {
    let record = &row.record;
    let finished = attempted.finished.as_ref();
    // An engine that never said how it is locked in was told nothing, and nothing is said of how it was held.
    let engine = row.engine.as_ref().filter(|engine| engine.given.is_some() && engine.locked.is_some());
    let plan = engine.map(|engine| &engine.plan);
    Ok(Predicate {
        node: predicate::Node {
            identity: node.identity.id,
            version: version()?,
            log: node.ledger.key.name().to_owned(),
        },
        consumer: record.consumer,
        job: record.job,
        attempt: record.attempt(),
        offer: record.offer,
        spec: row.spec.clone(),
        program: finished.and_then(|f| f.program),
        image: finished.and_then(|f| f.image),
        input: finished.and_then(|f| f.input),
        output: finished.and_then(|f| f.output).filter(|_| row.result_until.is_some()),
        logs: finished.and_then(|f| f.logs).filter(|_| row.logs_until.is_some()),
        protection: plan.map(|plan| plan.protection),
        isolation: engine.map(|engine| isolation(engine, attempted)).transpose()?.flatten(),
        limits: plan.map(|plan| plan.limits),
        result: predicate::Outcome {
            state: attempted.verdict.state,
            reason: attempted.verdict.reason,
            exit: finished.and_then(|f| f.exit),
            usage: usage(attempted),
        },
        wipe: wipe_record(wipe)?,
        retained: retained(row)?,
        insecure: node.config.insecure.iter().map(|name| Code::parse(name)).collect::<Result<_, _>>()?,
        root_source: node.keystore.root_source(),
        times: times(row, node.clock.now()),
        strength: predicate::strengths(row.spec.engine),
        log_key: row.log_key.clone(),
    })
}

/// This program's version.
pub(crate) fn version() -> Result<Version> {
    Ok(Version::parse(env!("CARGO_PKG_VERSION"))?)
}

fn isolation(engine: &EngineRow, attempted: &Attempted) -> Result<Option<predicate::Isolation>> {
    let (Some(given), Some(locked)) = (&engine.given, &engine.locked) else { return Ok(None) };
    let container = attempted.exit.as_ref().and_then(|exit| exit.container.as_ref());
    Ok(Some(predicate::Isolation {
        user: if given.own_user { predicate::User::Own } else { predicate::User::Shared },
        namespaces: namespaces(&given.namespaces)?,
        seccomp: locked.seccomp,
        landlock: locked.landlock_abi,
        cgroup: controllers(&given.cgroup)?,
        swap: given.swap,
        network: predicate::Network::None,
        engine: locked.engine.chars().take(MAX_NAME).collect(),
        scratch: given.scratch,
        container: container.map(held).transpose()?,
    }))
}

fn held(report: &RunReport) -> Result<predicate::Container> {
    Ok(predicate::Container {
        runtime: Code::parse(&report.runtime.to_string())?,
        version: report.version.chars().take(MAX_NAME).collect(),
        namespaces: namespaces(&report.namespaces)?,
        seccomp: report.seccomp,
        powerless: report.powerless,
        own_ids: report.own_ids,
        cgroup: controllers(&report.cgroup)?,
    })
}

fn namespaces(list: &[Namespace]) -> Result<Vec<Code>> {
    Ok(list.iter().map(|n| Code::parse(&n.to_string())).collect::<Result<_, _>>()?)
}

fn controllers(list: &[String]) -> Result<Vec<Code>> {
    Ok(list.iter().map(|c| Code::parse(c)).collect::<Result<_, _>>()?)
}

fn usage(attempted: &Attempted) -> Option<predicate::Usage> {
    let exit = attempted.exit.as_ref()?;
    let finished = attempted.finished.as_ref();
    Some(predicate::Usage {
        wall_ms: finished.map(|f| f.wall_ms),
        compile_ms: finished.map(|f| f.compile_ms),
        cpu_ms: exit.cpu_ms,
        memory_bytes: exit.memory_bytes,
    })
}

fn wipe_record(wipe: &WipeRecord) -> Result<predicate::Wipe> {
    let checks = wipe.checks.iter().map(|check| {
        let what = Code::parse(&check.what)?;
        Ok(predicate::WipeCheck { what, category: check.category, passed: check.passed })
    });
    Ok(predicate::Wipe {
        standard: wipe.standard.clone(),
        category: wipe.category(),
        checks: checks.collect::<Result<_>>()?,
        complete: wipe.complete,
        not_covered: wipe.not_covered.clone(),
    })
}

fn retained(row: &JobRow) -> Result<Vec<predicate::Retained>> {
    let mut out = vec![
        predicate::Retained { what: Code::parse("log-entries")?, until: None },
        predicate::Retained { what: Code::parse("receipt")?, until: row.receipt_until },
    ];
    let sealed =
        [("sealed-logs", row.logs_until), ("sealed-module", row.module_until), ("sealed-output", row.result_until)];
    for (what, until) in sealed {
        if until.is_some() {
            out.push(predicate::Retained { what: Code::parse(what)?, until });
        }
    }
    Ok(out)
}

fn times(row: &JobRow, now: Timestamp) -> predicate::Times {
    let attempt = row.record.attempt();
    let steps = || row.record.steps.iter().filter(move |s| s.attempt == attempt);
    predicate::Times {
        queued: steps().find(|s| s.state == JobState::Queued).map_or(now, |s| s.time),
        started: steps().find(|s| s.reason == Reason::Started).map(|s| s.time),
        ended: steps().next_back().map_or(now, |s| s.time),
    }
}
