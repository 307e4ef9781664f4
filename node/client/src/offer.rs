//! Asking for an offer and verifying it; without that nothing is sealed.

use crate::ClientError;
use crate::client::Client;
use decores_api::offers::{OfferRequest, OfferResponse};
use decores_api::paths;
use decores_keys::{Ed25519Public, OfferError, Requirements, VerifiedOffer, verify_offer};
use decores_types::{JobSpec, canonical};

impl Client {
    /// Asks for an offer and checks it against the pinned identity and what the spec asks for.
    pub async fn offer(&self, spec: &JobSpec) -> Result<VerifiedOffer, ClientError> {
        let request = OfferRequest { protection: spec.protection };
        let answer: OfferResponse = self.connection.post("offer", paths::OFFERS, &request).await?;
        let refused = |e: OfferError| ClientError::Refused { what: "the node's offer".to_owned(), source: Box::new(e) };
        let envelope = canonical::to_vec(&answer.envelope).map_err(|e| refused(OfferError::Document(e)))?;
        let wanted = Requirements {
            identity: &Ed25519Public::from_bytes(self.login.identity_key()?),
            consumer: self.login.consumer,
            protection: spec.protection,
            limits: &spec.limits,
        };
        verify_offer(&envelope, &wanted, self.clock.now()).map_err(refused)
    }
}
