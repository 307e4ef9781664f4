//! Offers and plans.

use crate::node::{KeyChange, Node, key_event};
use crate::offers::MAX_OPEN;
use decores_access::{Permit, action};
use decores_api::offers::{OfferRequest, OfferResponse, PlanRequest, PlanResponse};
use decores_api::{Code, Problem};
use decores_audit::event::Event;
use decores_keys::offer::MakeOfferError;
use decores_keys::{Algorithm, EpochKey, KeyError, OfferKey, OfferTerms, Purpose};
use decores_sandbox::plan::{Refusal, plan as isolate, strongest};
use decores_types::{Attempt, JobId, chain};
use std::sync::{Arc, PoisonError};

pub(crate) async fn make(
    node: &Node,
    permit: &Permit<action::AskOffer>,
    request: &OfferRequest,
) -> Result<OfferResponse, Problem> {
    let protection = strongest(&node.host);
    if request.protection > protection {
        return Err(refused(&Refusal::Protection { asked: request.protection, given: protection }));
    }
    node.offers.check_room(permit.consumer())?;
    let terms = OfferTerms {
        consumer: permit.consumer(),
        protection,
        limits: node.config.sandbox.max_limits,
        insecure: node.config.insecure.clone(),
    };
    let now = node.clock.now();
    let epoch = current_epoch(node).await?;
    let (envelope, key) =
        OfferKey::make(&epoch, &terms, now, node.config.offer_ms, &*node.random).map_err(|e| unmade(&e))?;
    let recipient = key.key.recipient();
    let issued =
        Event::OfferIssued { offer: key.offer, consumer: key.consumer, key: recipient.id(), expires: key.expires };
    let created = key_event(KeyChange::Created, recipient.id(), Purpose::Offer, recipient.epoch(), Algorithm::XWing);
    // Only what is in the log is handed out.
    node.persist(Vec::new(), vec![created, issued]).await;
    node.offers.add(key)?;
    let envelope = serde_json::to_value(&envelope)
        .map_err(|_| Problem::new(Code::Internal, "the node could not write the offer"))?;
    Ok(OfferResponse { envelope })
}

/// The epoch key that signs now; the next one where the hour is over.
async fn current_epoch(node: &Node) -> Result<Arc<EpochKey>, Problem> {
    let now = node.clock.now();
    let current = Arc::clone(&node.epoch.lock().unwrap_or_else(PoisonError::into_inner));
    if !current.is_due(now) {
        return Ok(current);
    }
    let number = current.certificate().epoch.saturating_add(1);
    let next = EpochKey::issue(number, &*node.keystore, node.identity.id, now, &*node.random);
    let next = Arc::new(next.map_err(|e| unmade(&MakeOfferError::Key(e)))?);
    {
        let mut epoch = node.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        if epoch.certificate().epoch != current.certificate().epoch {
            // Another request was first.
            return Ok(Arc::clone(&epoch));
        }
        *epoch = Arc::clone(&next);
    }
    let events = [(KeyChange::Retired, &current), (KeyChange::Created, &next)].map(|(change, key)| {
        let certificate = key.certificate();
        key_event(change, certificate.id, Purpose::Epoch, certificate.epoch, Algorithm::Ed25519)
    });
    node.persist(Vec::new(), events.to_vec()).await;
    Ok(next)
}

fn unmade(error: &MakeOfferError) -> Problem {
    tracing::error!(error = chain(error), "failed to make an offer");
    match error {
        MakeOfferError::Key(KeyError::Secret(_)) => {
            Problem::new(Code::Unavailable, "the node has no locked memory left for another offer")
                .hint(format!("a consumer may hold {MAX_OPEN} offers; try again when some have expired"))
        }
        _ => Problem::new(Code::Internal, "the node could not make an offer"),
    }
}

/// Plans for a job that does not exist.
pub(crate) fn plan(node: &Node, request: &PlanRequest) -> Result<PlanResponse, Problem> {
    let job = JobId::from_bytes([0; 16]);
    let plan = isolate(job, Attempt(1), &request.spec, &node.host, &node.config.sandbox, 0)
        .map_err(|refusal| refused(&refusal))?;
    let plan =
        serde_json::to_value(&plan).map_err(|_| Problem::new(Code::Internal, "the node could not write the plan"))?;
    Ok(PlanResponse { plan })
}

/// A refusal of the sandbox's, for the consumer.
pub(crate) fn refused(refusal: &Refusal) -> Problem {
    let problem = Problem::new(Code::Refused, refusal.to_string());
    match refusal {
        Refusal::Protection { .. } => {
            problem.hint("ask for less with `--require protection=…`, or choose another node")
        }
        Refusal::Limit { .. } => problem.hint("ask for less; the offer lists the largest limits"),
        Refusal::Host { .. } => problem.hint("the operator can run `decores doctor` to see what is missing"),
        Refusal::Unsupported { .. } => problem,
    }
}
