//! What operators look at.

use crate::health;
use crate::leftovers;
use crate::node::{ALERT_ACKNOWLEDGED, ALERT_OPEN, Node, store_problem};
use crate::records::Held;
use decores_access::{Permit, Role, action};
use decores_api::admin::{Alert as WireAlert, Key, Mended};
use decores_api::node::Status;
use decores_api::{Code, Problem};
use decores_audit::code::Code as LogCode;
use decores_audit::event::Event;
use decores_audit::ports::Select;
use decores_detection::Alert;
use decores_keys::KeyState;
use decores_sandbox::plan::strongest;
use decores_types::{AlertId, KeyId, Timestamp, chain};

pub(crate) async fn status(node: &Node, permit: &Permit<action::ReadStatus>) -> Result<Status, Problem> {
    let principal = permit.principal();
    let (alerts, leftovers) = match principal.role() {
        Role::Operator => {
            let left = leftovers::list(node).await.map_err(|e| store_problem(&e))?;
            (Some(open_alerts(node).await?), Some(left))
        }
        Role::Consumer => (None, None),
    };
    let (running, live) = (node.slots.taken(), node.live_jobs());
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        name: node.config.name.clone(),
        identity: node.identity.id,
        started: node.started,
        now: node.clock.now(),
        protection: strongest(&node.host),
        queued: live.saturating_sub(running) as u64,
        running: running as u64,
        offers: node.offers.len() as u64,
        log_size: node.ledger.size(),
        alerts,
        leftovers,
        degraded: node.health.causes().into_iter().map(|cause| cause.as_str().to_owned()).collect(),
        insecure: node.config.insecure.clone(),
        root_source: node.keystore.root_source().to_string(),
        consumer: principal.consumer(),
        role: principal.role().to_string(),
    })
}

async fn open_alerts(node: &Node) -> Result<u64, Problem> {
    let select = Select { states: vec![ALERT_OPEN], limit: 1000, ..Select::default() };
    let open: Vec<Held<Alert>> = node.records.list(select).await.map_err(|e| store_problem(&e))?;
    Ok(open.len() as u64)
}

/// Gauges are read at the moment they are asked for.
pub(crate) fn metrics(node: &Node) -> String {
    metrics::gauge!("decores_jobs_live").set(node.live_jobs() as f64);
    metrics::gauge!("decores_slots_taken").set(node.slots.taken() as f64);
    metrics::gauge!("decores_slots_blocked").set(node.slots.blocked() as f64);
    metrics::gauge!("decores_offers_open").set(node.offers.len() as f64);
    metrics::gauge!("decores_log_entries").set(node.ledger.size() as f64);
    metrics::gauge!("decores_log_stalled").set(f64::from(u8::from(node.ledger.is_stalled())));
    health::gauges(node);
    node.metrics.render()
}

pub(crate) fn keys(node: &Node) -> Result<Vec<Key>, Problem> {
    let stored = node.keystore.list().map_err(|error| {
        tracing::error!(error = chain(&error), "failed to read the keystore");
        Problem::new(Code::Internal, "the node could not read its keystore")
    })?;
    let key = |id: KeyId, purpose: String, epoch, algorithm: &str, created: Timestamp, state: &str, place: &str| Key {
        id,
        purpose,
        epoch,
        algorithm: algorithm.to_owned(),
        created,
        state: state.to_owned(),
        place: place.to_owned(),
    };
    let mut out: Vec<Key> = stored
        .into_iter()
        .map(|k| {
            key(k.id, k.purpose.to_string(), k.epoch, k.algorithm.name(), k.created, state_name(k.state), "keystore")
        })
        .collect();
    let epoch = node.epochs.current();
    let c = epoch.certificate();
    out.push(key(c.id, "epoch".to_owned(), c.epoch, "ed25519", c.not_before, "active", "memory"));
    Ok(out)
}

const fn state_name(state: KeyState) -> &'static str {
    match state {
        KeyState::Active => "active",
        KeyState::Retired => "retired",
        KeyState::Destroyed => "destroyed",
    }
}

pub(crate) async fn alerts(node: &Node) -> Result<Vec<WireAlert>, Problem> {
    let select = Select { limit: 1000, ..Select::default() };
    let alerts: Vec<Held<Alert>> = node.records.list(select).await.map_err(|e| store_problem(&e))?;
    Ok(alerts.into_iter().map(|held| wire(held.row)).collect())
}

pub(crate) async fn acknowledge(node: &Node, alert: AlertId) -> Result<WireAlert, Problem> {
    let held: Option<Held<Alert>> = node.records.get(alert.as_bytes()).await.map_err(|e| store_problem(&e))?;
    let mut held = held.ok_or_else(|| Problem::new(Code::NotFound, "not found"))?;
    if held.row.acknowledged.is_none() {
        held.row.acknowledged = Some(node.clock.now());
        let kind = LogCode::parse(held.row.kind.as_str());
        let severity = LogCode::parse(held.row.kind.severity().as_str());
        let (Ok(kind), Ok(severity)) = (kind, severity) else {
            return Err(Problem::new(Code::Internal, "the alert's kind has no name in the log"));
        };
        let change = node.records.update(&held, ALERT_ACKNOWLEDGED).map_err(|e| store_problem(&e))?;
        let event = Event::AlertAcknowledged { alert, kind, severity };
        node.persist(vec![change], vec![event]).await.map_err(|e| store_problem(&e))?;
    }
    Ok(wire(held.row))
}

pub(crate) async fn mend(node: &Node) -> Result<Mended, Problem> {
    leftovers::mend(node).await.map_err(|error| {
        tracing::error!(error = format!("{error:#}"), "failed to mend unfinished wipes");
        Problem::new(Code::Internal, "the node could not write what it mended")
            .hint("what is left stays blocked; try again")
    })
}

fn wire(alert: Alert) -> WireAlert {
    WireAlert {
        id: alert.id,
        kind: alert.kind.as_str().to_owned(),
        severity: alert.kind.severity().as_str().to_owned(),
        message: alert.message,
        hint: alert.kind.hint().to_owned(),
        raised: alert.raised,
        acknowledged: alert.acknowledged,
    }
}
