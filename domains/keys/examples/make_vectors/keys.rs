//! conformance/keys: ids, rows and offers. The keystore's are made by `backends/keystore-file`.

use crate::{Fixed, write};
use decores_keys::offer::{OFFER_PAYLOAD_TYPE, OfferDocument, SealingKey};
use decores_keys::{Algorithm, EPOCH_PAYLOAD_TYPE, Ed25519Key, Envelope, EpochCertificate, RowKey, XWingKey};
use decores_secrets::Secret;
use decores_types::{Base64, ConsumerId, KeyId, Limits, OfferId, Protection, Timestamp, canonical};
use serde_json::{Value, json};
use std::path::Path;

/// 2026-01-01T00:00:00Z.
const ISSUED: Timestamp = Timestamp::from_ms(1_767_225_600_000);
const MINUTE: u64 = 60_000;

pub(crate) fn make(folder: &Path) {
    write(folder, "ids.json", &ids());
    write(folder, "rows.json", &rows());
    write(folder, "offers.json", &offers());
}

fn ed25519(byte: u8) -> Ed25519Key {
    Ed25519Key::from_seed(Secret::from_slice(&[byte; 32]).unwrap()).unwrap()
}

fn x_wing(byte: u8) -> XWingKey {
    XWingKey::from_seed(Secret::from_slice(&[byte; 32]).unwrap(), 4).unwrap()
}

fn ids() -> Value {
    let ed = ed25519(1);
    let xw = x_wing(2);
    json!([
        {"algorithm": "ed25519", "seed": "01".repeat(32), "public": hex::encode(ed.public().as_bytes()), "id": ed.public().id()},
        {"algorithm": "x-wing", "seed": "02".repeat(32), "public": hex::encode(xw.recipient().public()), "id": xw.recipient().id()},
    ])
}

fn rows() -> Value {
    let key = RowKey::new(KeyId::from_bytes([5; 16]), 3, Secret::from_slice(&[6; 32]).unwrap());
    let seal = |value: &[u8]| hex::encode(key.seal("jobs", b"job_1", value, &Fixed::new("row")).unwrap());
    json!({
        "key": "06".repeat(32), "id": KeyId::from_bytes([5; 16]), "epoch": 3, "table": "jobs", "row": "job_1",
        "good": [{"value": "", "sealed": seal(b"")}, {"value": hex::encode("value"), "sealed": seal(b"value")}],
        "bad": [
            {"name": "another magic", "at": 0, "refused": "Magic"},
            {"name": "another key", "at": 4, "refused": "Key"},
            {"name": "another epoch", "at": 23, "refused": "Key"},
            {"name": "an altered nonce", "at": 24, "refused": "Refused"},
            {"name": "an altered value", "at": 36, "refused": "Refused"},
            {"name": "an altered tag", "at": 52, "refused": "Refused"},
        ],
    })
}

fn certificate() -> EpochCertificate {
    EpochCertificate {
        epoch: 4,
        id: ed25519(2).public().id(),
        node: ed25519(1).public().id(),
        not_after: ISSUED.plus_ms(90 * MINUTE),
        not_before: Timestamp::from_ms(ISSUED.as_ms() - 30 * 60_000),
        public: Base64::from(ed25519(2).public().as_bytes().as_slice()),
        version: 1,
    }
}

fn sign(payload_type: &str, document: &impl serde::Serialize, key: u8) -> Envelope {
    let key = ed25519(key);
    let payload = canonical::to_vec(document).unwrap();
    Envelope::sign(payload_type, payload, key.public().id(), |m| key.sign(m)).unwrap()
}

fn document(certificate: &EpochCertificate) -> OfferDocument {
    let key = x_wing(3);
    OfferDocument {
        version: 1,
        offer: OfferId::from_bytes([8; 16]),
        node: ed25519(1).public().id(),
        consumer: ConsumerId::from_bytes([9; 16]),
        key: SealingKey {
            algorithm: Algorithm::XWing,
            epoch: 4,
            id: key.recipient().id(),
            public: Base64::from(key.recipient().public()),
        },
        epoch_key: sign(EPOCH_PAYLOAD_TYPE, certificate, 1),
        protection: Protection::Process,
        limits: Limits::default(),
        insecure: vec!["insecure_a".into(), "insecure_b".into()],
        issued: ISSUED,
        expires: ISSUED.plus_ms(60 * MINUTE),
    }
}

fn offer(change: impl FnOnce(&mut OfferDocument)) -> String {
    let mut document = document(&certificate());
    change(&mut document);
    text(&sign(OFFER_PAYLOAD_TYPE, &document, 2))
}

/// An offer under a certificate that the identity did sign, however wrong it is.
fn under(change: impl FnOnce(&mut EpochCertificate)) -> String {
    let mut certificate = certificate();
    change(&mut certificate);
    text(&sign(OFFER_PAYLOAD_TYPE, &document(&certificate), 2))
}

fn text(envelope: &Envelope) -> String {
    String::from_utf8(canonical::to_vec(envelope).unwrap()).unwrap()
}

fn offers() -> Value {
    let now = ISSUED.plus_ms(MINUTE);
    let good = offer(|_| ());
    let mut bad = forged(&good);
    bad.extend(signed_but_wrong());
    json!({
        "identity": hex::encode(ed25519(1).public().as_bytes()),
        "consumer": ConsumerId::from_bytes([9; 16]),
        "protection": "process", "limits": Limits::default(), "now": now,
        "good": [
            {"name": "as it should be", "envelope": good},
            {"name": "nothing weakened", "envelope": offer(|d| d.insecure.clear())},
            {"name": "one millisecond before its end", "envelope": good, "now": Timestamp::from_ms(ISSUED.as_ms() + 3_599_999)},
            {"name": "a node's clock five minutes ahead", "envelope": good, "now": Timestamp::from_ms(ISSUED.as_ms() - 300_000)},
        ],
        "bad": bad,
    })
}

fn forged(good: &str) -> Vec<Value> {
    let envelope: Envelope = serde_json::from_str(good).unwrap();
    let changed = |f: &dyn Fn(&mut Envelope)| {
        let mut envelope = envelope.clone();
        f(&mut envelope);
        text(&envelope)
    };
    let last = |b: &mut Base64| *b.0.last_mut().unwrap() ^= 1;
    let document = document(&certificate());
    let self_made = {
        let mut document = document.clone();
        document.epoch_key = sign(EPOCH_PAYLOAD_TYPE, &certificate(), 7);
        text(&sign(OFFER_PAYLOAD_TYPE, &document, 2))
    };
    let another_node = offer(|d| d.node = ed25519(7).public().id());
    vec![
        json!({"name": "not JSON", "envelope": "{", "refused": "Document"}),
        json!({"name": "with a space", "envelope": good.replacen(':', ": ", 1), "refused": "Document"}),
        json!({"name": "with an unknown member", "envelope": good.replacen("{\"payload\"", "{\"a\":1,\"payload\"", 1), "refused": "Document"}),
        json!({"name": "an altered payload", "envelope": good.replacen("\"payload\":\"ey", "\"payload\":\"fy", 1), "refused": "Document"}),
        json!({"name": "an altered signature", "envelope": changed(&|e| last(&mut e.signatures[0].sig)), "refused": "Envelope"}),
        json!({"name": "signed twice", "envelope": changed(&|e| e.signatures.push(e.signatures[0].clone())), "refused": "Envelope"}),
        json!({"name": "not signed", "envelope": changed(&|e| e.signatures.clear()), "refused": "Envelope"}),
        json!({"name": "another key named", "envelope": changed(&|e| e.signatures[0].keyid = KeyId::from_bytes([0; 16])), "refused": "Envelope"}),
        json!({"name": "another type", "envelope": changed(&|e| e.payload_type = EPOCH_PAYLOAD_TYPE.into()), "refused": "Envelope"}),
        json!({"name": "signed by the identity instead", "envelope": text(&sign(OFFER_PAYLOAD_TYPE, &document, 1)), "refused": "Envelope"}),
        json!({"name": "signed by a stranger", "envelope": text(&sign(OFFER_PAYLOAD_TYPE, &document, 7)), "refused": "Envelope"}),
        json!({"name": "an epoch key that a stranger vouches for", "envelope": self_made, "refused": "Epoch"}),
        json!({"name": "another node", "envelope": another_node, "refused": "Identity"}),
    ]
}

fn signed_but_wrong() -> Vec<Value> {
    let case =
        |name: &str, envelope: String, refused: &str| json!({"name": name, "envelope": envelope, "refused": refused});
    let at = |name: &str, now: i64, refused: &str| json!({"name": name, "envelope": offer(|_| ()), "now": Timestamp::from_ms(ISSUED.as_ms() + now), "refused": refused});
    vec![
        case("unknown version", offer(|d| d.version = 2), "Version"),
        case("an epoch certificate of an unknown version", under(|c| c.version = 2), "Epoch"),
        case("an epoch certificate for another node", under(|c| c.node = KeyId::from_bytes([0; 16])), "Epoch"),
        case("an epoch certificate with another key's id", under(|c| c.id = KeyId::from_bytes([0; 16])), "Epoch"),
        case(
            "an epoch certificate of three hours",
            under(|c| c.not_after = c.not_before.plus_ms(180 * MINUTE)),
            "Epoch",
        ),
        case("an epoch certificate that ends before it starts", under(|c| c.not_after = c.not_before), "Epoch"),
        case("issued after the epoch", under(|c| c.not_after = ISSUED), "NotCovered"),
        case("issued before the epoch", under(|c| c.not_before = ISSUED.plus_ms(1)), "NotCovered"),
        case("a sealing key of another epoch", offer(|d| d.key.epoch = 5), "Key"),
        case("a sealing key with another's id", offer(|d| d.key.id = KeyId::from_bytes([0; 16])), "Key"),
        case("a sealing key cut short", offer(|d| d.key.public.0.truncate(1215)), "Key"),
        case("a sealing key of another algorithm", offer(|d| d.key.algorithm = Algorithm::Ed25519), "Key"),
        case("another consumer", offer(|d| d.consumer = ConsumerId::from_bytes([0; 16])), "Consumer"),
        case("longer than an hour", offer(|d| d.expires = d.issued.plus_ms(60 * MINUTE + 1)), "Life"),
        case("ends before it starts", offer(|d| d.expires = d.issued), "Life"),
        at("expired", 3_600_000, "Expired"),
        at("from the future", -300_001, "NotYet"),
        json!({"name": "weaker protection", "envelope": offer(|_| ()), "protection": "enclave", "refused": "Protection"}),
        case("smaller limits", offer(|d| d.limits.memory_bytes -= 1), "Limit"),
        case("insecure settings unsorted", offer(|d| d.insecure.reverse()), "Insecure"),
        case("insecure settings repeated", offer(|d| d.insecure[1] = d.insecure[0].clone()), "Insecure"),
        case("insecure settings of another name", offer(|d| d.insecure[1] = "secure".into()), "Insecure"),
    ]
}
