//! Offers: a one-use sealing key, signed, with what the node promises for it.
//!
//! The node makes one with [`OfferKey::make`] and keeps the [`OfferKey`] in locked memory until the
//! job's wipe or the offer's end. The consumer's side is [`verify_offer`]: only a [`VerifiedOffer`]
//! gives a recipient, so nothing can be sealed to an offer that was not checked.

use crate::dsse::{DsseError, Envelope};
use crate::ed25519::Ed25519Public;
use crate::epoch::{EpochCertificate, EpochError, EpochKey};
use crate::error::KeyError;
use crate::key::Algorithm;
use crate::x_wing::{Recipient, XWingKey};
use decores_types::canonical::{self, CanonicalError};
use decores_types::{Base64, ConsumerId, Digest, KeyId, Limits, OfferId, Protection, Random, Timestamp};
use serde::{Deserialize, Serialize};

/// Media type of an offer.
pub const OFFER_PAYLOAD_TYPE: &str = "application/vnd.decores.offer+json";
/// The longest life of an offer.
pub const MAX_OFFER_LIFE_MS: u64 = 3_600_000;
/// How far a node's clock may be ahead of the consumer's.
pub const MAX_AHEAD_MS: u64 = 300_000;
/// The largest offer that is read, in bytes.
pub const MAX_OFFER_BYTES: usize = 16 * 1024;

/// Why an offer was not made.
#[derive(Debug, thiserror::Error)]
pub enum MakeOfferError {
    /// The epoch key's time is over.
    #[error("the epoch key is not valid now; issue the next one")]
    Epoch,
    /// Longer than [`MAX_OFFER_LIFE_MS`], or nothing.
    #[error("an offer lives at most an hour, and not no time at all")]
    Life,
    /// A key could not be made or did not sign.
    #[error("failed to make or sign the offer's key")]
    Key(#[from] KeyError),
    /// The document does not serialise.
    #[error("failed to write the offer")]
    Document(#[from] CanonicalError),
}

/// Why an offer was refused. Nothing is sent then.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// Not an offer.
    #[error("failed to read the offer")]
    Document(#[source] CanonicalError),
    /// A version that is not known here.
    #[error("offer of version {0}, only 1 is known")]
    Version(u32),
    /// From a node whose identity is not the pinned one.
    #[error("the offer is from {found}, not from the pinned identity {pinned}")]
    Identity {
        /// The node it names.
        found: KeyId,
        /// The node that is trusted.
        pinned: KeyId,
    },
    /// Its epoch certificate is not good.
    #[error("the offer's epoch key is refused")]
    Epoch(#[from] EpochError),
    /// Issued outside the certificate's time.
    #[error("the epoch certificate does not cover the moment the offer was issued")]
    NotCovered,
    /// Not signed by the epoch key.
    #[error("the offer is not signed by its epoch key")]
    Envelope(#[source] DsseError),
    /// The sealing key is no X-Wing key of this epoch, or its id is another's.
    #[error("the offer's sealing key does not fit")]
    Key,
    /// Made for somebody else.
    #[error("the offer is for another consumer")]
    Consumer,
    /// It ends before it starts, or lives longer than an hour.
    #[error("the offer's life is not allowed")]
    Life,
    /// Over.
    #[error("the offer expired at {0}; ask for a new one")]
    Expired(Timestamp),
    /// From the future: one of the two clocks is wrong.
    #[error("the offer is issued at {0}, which is yet to come; check the clocks")]
    NotYet(Timestamp),
    /// Weaker protection than is asked for.
    #[error("the node gives protection `{offered}`, `{required}` is required")]
    Protection {
        /// What it gives.
        offered: Protection,
        /// What is asked for.
        required: Protection,
    },
    /// A limit is smaller than is asked for.
    #[error("the node accepts less {0} than the job asks for")]
    Limit(&'static str),
    /// The list of weakened settings is unsorted, repeats itself or holds other names.
    #[error("the offer's list of insecure settings is malformed")]
    Insecure,
}

/// The document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OfferDocument {
    /// Format version: 1.
    pub version: u32,
    /// Its id.
    pub offer: OfferId,
    /// Id of the identity key.
    pub node: KeyId,
    /// Whom it was made for.
    pub consumer: ConsumerId,
    /// The one-use sealing key.
    pub key: SealingKey,
    /// The epoch key's certificate.
    pub epoch_key: Envelope,
    /// The strongest the node can give.
    pub protection: Protection,
    /// The largest limits it accepts.
    pub limits: Limits,
    /// Names of the `insecure_…` settings in force, sorted.
    pub insecure: Vec<String>,
    /// When it was made.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

/// The sealing key in an offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealingKey {
    /// Always `x-wing`.
    pub algorithm: Algorithm,
    /// The epoch of the key that signed the offer.
    pub epoch: u32,
    /// Its id.
    pub id: KeyId,
    /// The raw public key.
    pub public: Base64,
}

/// What a node offers, and to whom.
#[derive(Clone, Debug)]
pub struct OfferTerms {
    /// Whom it is for.
    pub consumer: ConsumerId,
    /// The strongest protection.
    pub protection: Protection,
    /// The largest limits.
    pub limits: Limits,
    /// Names of the `insecure_…` settings in force.
    pub insecure: Vec<String>,
}

/// The node's side of an offer: the key that opens one job.
#[derive(Debug)]
pub struct OfferKey {
    /// The offer.
    pub offer: OfferId,
    /// Digest of the offer's payload, which the job is bound to.
    pub digest: Digest,
    /// Whom it was made for.
    pub consumer: ConsumerId,
    /// When it ends.
    pub expires: Timestamp,
    /// Opens the job.
    pub key: XWingKey,
}

impl OfferKey {
    /// Draws a one-use key and signs an offer of it.
    pub fn make(
        epoch: &EpochKey,
        terms: &OfferTerms,
        now: Timestamp,
        life_ms: u64,
        random: &dyn Random,
    ) -> Result<(Envelope, Self), MakeOfferError> {
        let certificate = epoch.certificate();
        if !certificate.covers(now) {
            return Err(MakeOfferError::Epoch);
        }
        if life_ms == 0 || life_ms > MAX_OFFER_LIFE_MS {
            return Err(MakeOfferError::Life);
        }
        let key = XWingKey::generate(certificate.epoch, random).map_err(KeyError::from)?;
        let offer = OfferId::random(random);
        let expires = now.plus_ms(life_ms);
        let mut insecure = terms.insecure.clone();
        insecure.sort_unstable();
        insecure.dedup();
        let document = OfferDocument {
            version: 1,
            offer,
            node: certificate.node,
            consumer: terms.consumer,
            key: SealingKey {
                algorithm: Algorithm::XWing,
                epoch: certificate.epoch,
                id: key.recipient().id(),
                public: Base64::from(key.recipient().public()),
            },
            epoch_key: epoch.envelope().clone(),
            protection: terms.protection,
            limits: terms.limits,
            insecure,
            issued: now,
            expires,
        };
        let payload = canonical::to_vec(&document)?;
        let digest = Digest::of(&payload);
        let envelope = Envelope::sign(OFFER_PAYLOAD_TYPE, payload, certificate.id, |m| epoch.sign(m))?;
        Ok((envelope, Self { offer, digest, consumer: terms.consumer, expires, key }))
    }
}

/// What a consumer demands of an offer.
#[derive(Clone, Copy, Debug)]
pub struct Requirements<'a> {
    /// The pinned identity of the node.
    pub identity: &'a Ed25519Public,
    /// Who asks.
    pub consumer: ConsumerId,
    /// The weakest protection that will do.
    pub protection: Protection,
    /// What the job needs.
    pub limits: &'a Limits,
}

/// An offer that was checked; only [`verify_offer`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedOffer {
    document: OfferDocument,
    digest: Digest,
    recipient: Recipient,
}

impl VerifiedOffer {
    /// What it says.
    pub const fn document(&self) -> &OfferDocument {
        &self.document
    }

    /// Digest of its payload, which the job is bound to.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The key to seal the job to.
    pub const fn recipient(&self) -> &Recipient {
        &self.recipient
    }
}

/// Checks an offer (an envelope in canonical JSON) from the outside in; the first thing that is wrong is named.
pub fn verify_offer(bytes: &[u8], wanted: &Requirements<'_>, now: Timestamp) -> Result<VerifiedOffer, OfferError> {
    let envelope: Envelope = canonical::from_slice(bytes, MAX_OFFER_BYTES).map_err(OfferError::Document)?;
    // Read before its signature is checked: the key that signed is vouched for inside.
    let document: OfferDocument =
        canonical::from_slice(&envelope.payload.0, MAX_OFFER_BYTES).map_err(OfferError::Document)?;
    let recipient = check_origin(&envelope, &document, wanted)?;
    check_time(&document, now)?;
    check_terms(&document, wanted)?;
    let digest = Digest::of(&envelope.payload.0);
    Ok(VerifiedOffer { document, digest, recipient })
}

/// Who made it: pinned identity, epoch key, signature, sealing key.
fn check_origin(
    envelope: &Envelope,
    document: &OfferDocument,
    wanted: &Requirements<'_>,
) -> Result<Recipient, OfferError> {
    if document.version != 1 {
        return Err(OfferError::Version(document.version));
    }
    let pinned = wanted.identity.id();
    if document.node != pinned {
        return Err(OfferError::Identity { found: document.node, pinned });
    }
    let (certificate, epoch_key) = EpochCertificate::verify(&document.epoch_key, wanted.identity)?;
    envelope.verify(OFFER_PAYLOAD_TYPE, &epoch_key).map_err(OfferError::Envelope)?;
    if !certificate.covers(document.issued) {
        return Err(OfferError::NotCovered);
    }
    let key = &document.key;
    if key.algorithm != Algorithm::XWing || key.epoch != certificate.epoch {
        return Err(OfferError::Key);
    }
    Recipient::new(key.id, key.epoch, &key.public.0).ok_or(OfferError::Key)
}

fn check_time(document: &OfferDocument, now: Timestamp) -> Result<(), OfferError> {
    let life = document.expires.since_ms(document.issued);
    if life == 0 || life > MAX_OFFER_LIFE_MS {
        return Err(OfferError::Life);
    }
    if now >= document.expires {
        return Err(OfferError::Expired(document.expires));
    }
    if document.issued.since_ms(now) > MAX_AHEAD_MS {
        return Err(OfferError::NotYet(document.issued));
    }
    Ok(())
}

fn check_terms(document: &OfferDocument, wanted: &Requirements<'_>) -> Result<(), OfferError> {
    if document.consumer != wanted.consumer {
        return Err(OfferError::Consumer);
    }
    if document.protection < wanted.protection {
        return Err(OfferError::Protection { offered: document.protection, required: wanted.protection });
    }
    if let Some(name) = wanted.limits.exceeds(&document.limits) {
        return Err(OfferError::Limit(name));
    }
    let sorted = document.insecure.is_sorted_by(|a, b| a < b);
    if !sorted || document.insecure.iter().any(|name| !name.starts_with("insecure_")) {
        return Err(OfferError::Insecure);
    }
    Ok(())
}
