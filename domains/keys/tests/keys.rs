//! Ids, rows and offers against conformance/keys.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use decores_keys::private_key::{fits, next_key};
use decores_keys::{
    Ed25519Key, Ed25519Public, EpochKey, KeyStore, MemoryKeyStore, OfferKey, OfferTerms, Purpose, Recipient,
    Requirements, RootSource, RowKey, XWingKey, verify_offer,
};
use decores_secrets::Secret;
use decores_types::{Base64, ConsumerId, KeyId, Limits, Protection, Random, Timestamp, canonical};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

fn read(name: &str) -> Value {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance/keys");
    serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn from<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn variant(error: &dyn std::fmt::Debug) -> String {
    format!("{error:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
}

#[test]
fn ids_follow_from_public_keys() {
    for case in read("ids.json").as_array().unwrap() {
        let (seed, public) = (Secret::from_slice(&hex(&case["seed"])).unwrap(), hex(&case["public"]));
        let algorithm = case["algorithm"].as_str().unwrap();
        let made = match algorithm {
            "ed25519" => Ed25519Key::from_seed(seed).unwrap().public().as_bytes().to_vec(),
            "x-wing" => XWingKey::from_seed(seed, 1).unwrap().recipient().public().to_vec(),
            other => panic!("unknown algorithm {other}"),
        };
        assert_eq!(made, public);
        assert_eq!(KeyId::of_public(algorithm, &public).to_string(), case["id"]);
    }
}

#[test]
fn rows_open_or_are_refused_by_name() {
    let file = read("rows.json");
    let secret = Secret::from_slice(&hex(&file["key"])).unwrap();
    let key = RowKey::new(from(&file["id"]), from(&file["epoch"]), secret);
    let row = file["row"].as_str().unwrap().as_bytes();
    let good: Vec<_> = file["good"].as_array().unwrap().iter().map(|c| (hex(&c["sealed"]), hex(&c["value"]))).collect();
    for (sealed, value) in &good {
        assert_eq!(key.open("jobs", row, sealed).unwrap().as_slice(), value);
        assert_eq!(variant(&key.open("jobs", b"job_2", sealed).unwrap_err()), "Refused");
        assert_eq!(variant(&key.open("offers", row, sealed).unwrap_err()), "Refused");
    }
    for case in file["bad"].as_array().unwrap() {
        let mut sealed = good[1].0.clone();
        sealed[case["at"].as_u64().unwrap() as usize] ^= 1;
        assert_eq!(variant(&key.open("jobs", row, &sealed).unwrap_err()), case["refused"].as_str().unwrap());
    }
}

#[test]
fn offers_are_accepted_or_refused_by_name() {
    let file = read("offers.json");
    let identity = Ed25519Public::from_bytes(hex(&file["identity"]).try_into().unwrap());
    let limits: Limits = from(&file["limits"]);
    let check = |case: &Value| {
        let or_default = |name: &str| case.get(name).unwrap_or(&file[name]).clone();
        let protection = from(&or_default("protection"));
        let wanted =
            Requirements { identity: &identity, consumer: from(&file["consumer"]), protection, limits: &limits };
        verify_offer(case["envelope"].as_str().unwrap().as_bytes(), &wanted, from(&or_default("now")))
    };
    for case in file["good"].as_array().unwrap() {
        check(case).unwrap_or_else(|e| panic!("{}: {e}", case["name"]));
    }
    for case in file["bad"].as_array().unwrap() {
        let refused = check(case).expect_err(case["name"].as_str().unwrap());
        assert_eq!(variant(&refused), case["refused"].as_str().unwrap(), "{}", case["name"]);
    }
}

/// Other bytes at every call.
struct Counting(AtomicU8);

impl Random for Counting {
    fn fill(&self, out: &mut [u8]) {
        out.fill(self.0.fetch_add(1, Ordering::Relaxed));
    }
}

#[test]
fn an_offer_that_was_made_is_verified_and_its_key_opens() {
    let random = Arc::new(Counting(AtomicU8::new(1)));
    let store = MemoryKeyStore::new(random.clone());
    let start = Timestamp::from_ms(1_767_225_600_000);
    let identity = store.create(Purpose::Identity, start).unwrap();
    let public = Ed25519Public::from_base64(&identity.public.unwrap()).unwrap();
    let epoch = EpochKey::issue(9, &store, identity.id, start, &*random).unwrap();
    let consumer = ConsumerId::from_bytes([1; 16]);
    let insecure = vec!["insecure_b".to_owned(), "insecure_a".to_owned()];
    let terms = OfferTerms { consumer, protection: Protection::Container, limits: Limits::default(), insecure };
    let (envelope, key) = OfferKey::make(&epoch, &terms, start.plus_ms(5), 3_600_000, &*random).unwrap();

    let wanted =
        Requirements { identity: &public, consumer, protection: Protection::Process, limits: &Limits::default() };
    let bytes = canonical::to_vec(&envelope).unwrap();
    let offer = verify_offer(&bytes, &wanted, start.plus_ms(6)).unwrap();
    assert_eq!((offer.digest(), offer.document().offer), (key.digest, key.offer));
    assert_eq!(offer.recipient(), key.key.recipient());
    assert_eq!(offer.document().insecure, ["insecure_a", "insecure_b"]);
    assert!(key.key.destroy());

    for life in [0, 3_600_001] {
        assert_eq!(variant(&OfferKey::make(&epoch, &terms, start, life, &*random).unwrap_err()), "Life");
    }
    let over = start.plus_ms(decores_keys::EPOCH_LIFE_MS);
    assert_eq!(variant(&OfferKey::make(&epoch, &terms, over, 1, &*random).unwrap_err()), "Epoch");
    assert!(!epoch.is_due(start) && epoch.is_due(start.plus_ms(decores_keys::EPOCH_ROTATION_MS)));
}

const NOW: Timestamp = Timestamp::from_ms(1_767_225_600_000);
const STORED: [Purpose; 5] = [Purpose::Identity, Purpose::Log, Purpose::Ca, Purpose::Storage, Purpose::Index];

#[test]
fn a_private_key_is_refused_beside_what_is_said_of_another() {
    let random = Counting(AtomicU8::new(1));
    for purpose in STORED {
        let [one, other] = [(); 2].map(|()| next_key(purpose, &[], NOW, &random).unwrap());
        assert!(fits(&one.info, &one.private), "{purpose}");
        assert!(!fits(&one.info, &Secret::from_slice(&[1; 31]).unwrap()), "{purpose}: a byte is missing");
        let mut info = one.info.clone();
        info.purpose = if purpose == Purpose::Storage { Purpose::Index } else { Purpose::Storage };
        assert!(!fits(&info, &one.private), "{purpose}: of another purpose");
        let mut info = one.info.clone();
        info.public = if info.public.is_some() { None } else { Some(Base64(vec![4; 32])) };
        assert!(!fits(&info, &one.private), "{purpose}: with a public key too many or too few");
        if one.info.public.is_some() {
            assert!(!fits(&one.info, &other.private), "{purpose}: of another key");
            let mut info = one.info.clone();
            info.id = other.info.id;
            assert!(!fits(&info, &one.private), "{purpose}: under another id");
        }
    }
}

#[test]
fn names_for_people_are_those_of_the_format() {
    for purpose in [STORED.as_slice(), &[Purpose::Epoch, Purpose::Offer]].concat() {
        assert_eq!(Value::String(purpose.to_string()), serde_json::to_value(purpose).unwrap());
        let algorithm = purpose.algorithm();
        assert_eq!(Value::String(algorithm.to_string()), serde_json::to_value(algorithm).unwrap());
    }
    for source in [RootSource::Passphrase, RootSource::Credential, RootSource::BesideData] {
        assert_eq!(Value::String(source.to_string()), serde_json::to_value(source).unwrap());
    }
}

#[test]
fn an_output_key_is_a_recipient_of_epoch_one_and_refused_under_another_id() {
    let key = XWingKey::from_seed(Secret::from_slice(&[3; 32]).unwrap(), 1).unwrap();
    let mut output = key.recipient().to_output_key();
    assert_eq!(Recipient::of_output_key(&output).as_ref(), Some(key.recipient()));
    output.id = KeyId::of_public("x-wing", b"another");
    assert_eq!(Recipient::of_output_key(&output), None);
}
