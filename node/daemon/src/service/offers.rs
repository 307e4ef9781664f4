//! Offers and plans.

use crate::epochs;
use crate::node::{KeyChange, Node, key_event, store_problem, unwritten};
use crate::offers::{MAX_OPEN, too_many};
use decores_access::{Permit, action};
use decores_api::offers::{OfferRequest, OfferResponse, PlanRequest, PlanResponse};
use decores_api::{Code, Problem};
use decores_audit::event::Event;
use decores_keys::offer::MakeOfferError;
use decores_keys::{Algorithm, Envelope, KeyError, OfferKey, OfferTerms, Purpose};
use decores_sandbox::plan::{Refusal, plan as isolate, strongest};
use decores_types::{Attempt, JobId, chain};
use std::sync::Arc;

pub(crate) async fn make(
    node: &Arc<Node>,
    permit: &Permit<action::AskOffer>,
    request: &OfferRequest,
) -> Result<OfferResponse, Problem> {
    let protection = strongest(&node.host);
    if request.protection > protection {
        return Err(refused(&Refusal::Protection { asked: request.protection, given: protection }));
    }
    node.offers.check_room(permit.consumer())?;
    // Whoever could not submit now would only hold the offer's key.
    node.admission.check(permit.consumer())?;
    let terms = OfferTerms {
        consumer: permit.consumer(),
        protection,
        limits: node.config.sandbox.max_limits,
        insecure: node.config.insecure.clone(),
    };
    // A client that goes away does not leave a key behind that the log knows and the table does not.
    let node = Arc::clone(node);
    let making = tokio::spawn(async move { issue(&node, &terms).await });
    let envelope = making.await.map_err(|_| Problem::new(Code::Internal, "the node could not make an offer"))??;
    let envelope = serde_json::to_value(&envelope);
    let envelope = envelope.map_err(|_| Problem::new(Code::Internal, "the node could not write the offer"))?;
    Ok(OfferResponse { envelope })
}

async fn issue(node: &Arc<Node>, terms: &OfferTerms) -> Result<Envelope, Problem> {
    let epoch = epochs::current(node).await.map_err(|e| store_problem(&e))?;
    let made = OfferKey::make(&epoch, terms, node.clock.now(), node.config.offer_ms, &*node.random);
    let (envelope, key) = made.map_err(|e| unmade(&e))?;
    drop(epoch);
    let recipient = key.key.recipient();
    let issued =
        Event::OfferIssued { offer: key.offer, consumer: key.consumer, key: recipient.id(), expires: key.expires };
    let created = key_event(KeyChange::Created, recipient.id(), Purpose::Offer, recipient.epoch(), Algorithm::XWing);
    // Only what is in the log is handed out; an offer that cannot be written now is not worth a wait.
    if let Err(error) = node.write(Vec::new(), vec![created, issued]).await {
        crate::offers::destroy(node, key);
        return Err(unwritten(&error));
    }
    if *node.stopping.borrow() {
        crate::offers::destroy(node, key);
        return Err(Problem::new(Code::Unavailable, "the node is stopping"));
    }
    match node.offers.add(key) {
        None => Ok(envelope),
        Some(key) => {
            crate::offers::destroy(node, key);
            Err(too_many())
        }
    }
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
        Refusal::Cache { .. } => problem.hint("ask for less with `--cache SPAN`, or leave it out"),
        Refusal::NoContainers { .. } | Refusal::Host { .. } => {
            problem.hint("the operator can run `decores doctor` to see what is missing")
        }
        Refusal::Scratch | Refusal::ContainerScratch | Refusal::Unsupported { .. } => problem,
    }
}
