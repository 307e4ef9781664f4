//! Offers: read before anything is sealed, so nothing that a node sends may mislead.

use crate::fixtures::{Counter, IDENTITY, conformance, ed25519, envelope};
use decores_keys::offer::{MAX_OFFER_BYTES, MAX_OFFER_LIFE_MS, OFFER_PAYLOAD_TYPE, OfferDocument, SealingKey};
use decores_keys::{
    Algorithm, EPOCH_PAYLOAD_TYPE, Ed25519Public, EpochCertificate, Requirements, XWingKey, verify_offer,
};
use decores_types::{Base64, ConsumerId, Digest, Limits, OfferId, Protection, Timestamp, canonical};
use serde_json::Value;
use std::sync::OnceLock;

/// Seed of the epoch key.
const EPOCH: u8 = 9;
const NOW: Timestamp = Timestamp::from_ms(1_767_225_600_000);
const CONSUMER: ConsumerId = ConsumerId::from_bytes([9; 16]);

/// A good offer, and what a node signs for it.
pub(crate) struct Good {
    certificate: EpochCertificate,
    document: OfferDocument,
    /// Every offer that the identity has signed: its own, and those of the vectors, which are of the same key.
    known: Vec<Vec<u8>>,
}

impl Good {
    pub(crate) fn get() -> &'static Self {
        static GOOD: OnceLock<Good> = OnceLock::new();
        GOOD.get_or_init(Self::make)
    }

    fn make() -> Self {
        let (identity, epoch) = (ed25519(IDENTITY), ed25519(EPOCH));
        let certificate = EpochCertificate {
            epoch: 4,
            id: epoch.public().id(),
            node: identity.public().id(),
            not_after: NOW.plus_ms(3_600_000),
            not_before: Timestamp::from_ms(NOW.as_ms() - 1000),
            public: Base64::from(epoch.public().as_bytes().as_slice()),
            version: 1,
        };
        let key = XWingKey::generate(4, &Counter::default()).unwrap();
        let recipient = key.recipient();
        let document = OfferDocument {
            version: 1,
            offer: OfferId::from_bytes([5; 16]),
            node: identity.public().id(),
            consumer: CONSUMER,
            key: SealingKey {
                algorithm: Algorithm::XWing,
                epoch: 4,
                id: recipient.id(),
                public: Base64::from(recipient.public()),
            },
            epoch_key: envelope(EPOCH_PAYLOAD_TYPE, canonical::to_vec(&certificate).unwrap(), &identity),
            protection: Protection::Process,
            limits: Limits::default(),
            insecure: vec!["insecure_a".to_owned()],
            issued: NOW,
            expires: NOW.plus_ms(60_000),
        };
        let bytes = signed(canonical::to_vec(&document).unwrap());
        let vectors: Value = serde_json::from_slice(&conformance("keys/offers.json")).unwrap();
        let envelopes = vectors["good"].as_array().unwrap().iter().map(|case| case["envelope"].as_str().unwrap());
        let known: Vec<_> = envelopes.map(|text| text.as_bytes().to_vec()).chain([bytes]).collect();
        assert!(known.iter().all(|bytes| read(bytes)), "good offers are good");
        Self { certificate, document, known }
    }

    /// An offer; inputs start from it.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.known.last().unwrap()
    }

    /// The parts that inputs start from: document and certificate.
    pub(crate) fn parts(&self) -> [Vec<u8>; 2] {
        [canonical::to_vec(&self.document).unwrap(), canonical::to_vec(&self.certificate).unwrap()]
    }
}

fn signed(document: Vec<u8>) -> Vec<u8> {
    canonical::to_vec(&envelope(OFFER_PAYLOAD_TYPE, document, &ed25519(EPOCH))).unwrap()
}

/// Verifies, and says again what must hold of an offer that is accepted.
fn read(bytes: &[u8]) -> bool {
    let limits = Limits { wall_ms: 1000, ..Limits::default() };
    let identity = Ed25519Public::from_bytes(*ed25519(IDENTITY).public().as_bytes());
    let wanted =
        Requirements { identity: &identity, consumer: CONSUMER, protection: Protection::Process, limits: &limits };
    let Ok(offer) = verify_offer(bytes, &wanted, NOW) else { return false };
    let document = offer.document();
    assert!(bytes.len() <= MAX_OFFER_BYTES);
    assert_eq!((document.version, document.node, document.consumer), (1, identity.id(), CONSUMER));
    assert!(document.expires > NOW && document.expires.since_ms(document.issued) <= MAX_OFFER_LIFE_MS);
    assert!(document.issued.since_ms(NOW) <= 300_000 && document.issued < document.expires);
    assert!(document.protection >= Protection::Process && limits.exceeds(&document.limits).is_none());
    assert!(document.insecure.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(offer.recipient().public(), document.key.public.0);
    assert_eq!((offer.recipient().id(), offer.recipient().epoch()), (document.key.id, document.key.epoch));
    assert_eq!(offer.digest(), Digest::of(&canonical::to_vec(document).unwrap()), "one form");
    true
}

/// First byte `0`: a document that the epoch key signs; `1`: the same with good keys put in; `2`: a certificate that
/// the identity signs. Else the offer as it came.
pub(crate) fn offer(data: &[u8]) {
    let good = Good::get();
    match data.split_first() {
        Some((0, document)) => {
            read(&signed(document.to_vec()));
        }
        Some((1, document)) => {
            let Ok(mut document) = canonical::from_json::<OfferDocument>(document, MAX_OFFER_BYTES) else { return };
            document.epoch_key = good.document.epoch_key.clone();
            document.key = good.document.key.clone();
            read(&signed(canonical::to_vec(&document).unwrap()));
        }
        Some((2, certificate)) => {
            let mut document = good.document.clone();
            document.epoch_key = envelope(EPOCH_PAYLOAD_TYPE, certificate.to_vec(), &ed25519(IDENTITY));
            if read(&signed(canonical::to_vec(&document).unwrap())) {
                let certificate: EpochCertificate = canonical::from_slice(certificate, 4096).unwrap();
                assert!(certificate.covers(NOW) && certificate.id == ed25519(EPOCH).public().id());
            }
        }
        _ => {
            if read(data) {
                assert!(good.known.iter().any(|known| known == data), "nobody signed another offer");
            }
        }
    }
}
