//! What a client does with the answers of a node it does not trust yet.

use crate::fixtures::{Counter, Numbers, altered, ed25519, envelope};
use decores_api::admin::{Alert, ApiKey, ApiKeyCreated, Key};
use decores_api::jobs::Job;
use decores_api::log::LogEntries;
use decores_api::node::{NODE_STATEMENT_TYPE, NodeStatement, Status};
use decores_api::offers::{OfferResponse, PlanResponse};
use decores_api::{Page, Problem};
use decores_client::{NodeUrl, Output, fuzzing};
use decores_keys::XWingKey;
use decores_keys::payload::{SectionKind, StreamSealer, seal_single};
use decores_secrets::Secret;
use decores_types::bundle::{Manifest as _, OutputManifest};
use decores_types::{Base64, CommitmentKey, Digest, Timestamp, canonical};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{Seek as _, Write as _};

/// A JSON answer of this shape is shown and written as it was read.
fn shown<T: Serialize + DeserializeOwned>(body: &[u8]) {
    let Ok(value) = fuzzing::answer::<T>(body) else { return };
    let written = serde_json::to_vec(&value).unwrap();
    let read: T = fuzzing::answer(&written).expect("what is written is read");
    assert_eq!(serde_json::to_vec(&read).unwrap(), written);
}

/// First byte `0`: a statement that a node signs. Else an answer as it came.
pub(crate) fn client_answers(data: &[u8]) {
    if let Some((0, statement)) = data.split_first() {
        let node = ed25519(1);
        let signed = envelope(NODE_STATEMENT_TYPE, statement.to_vec(), &node);
        statement_of(&serde_json::to_vec(&serde_json::json!({ "envelope": signed })).unwrap());
        return;
    }
    shown::<Job>(data);
    shown::<Page<Job>>(data);
    shown::<Status>(data);
    shown::<OfferResponse>(data);
    shown::<PlanResponse>(data);
    shown::<LogEntries>(data);
    shown::<Vec<Key>>(data);
    shown::<Vec<Alert>>(data);
    shown::<Vec<ApiKey>>(data);
    shown::<ApiKeyCreated>(data);
    shown::<Problem>(data);
    statement_of(data);
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(url) = NodeUrl::parse(text)
    {
        assert!(url.as_str().starts_with("https://") && !url.as_str().ends_with('/'));
        assert_eq!(NodeUrl::parse(url.as_str()).unwrap(), url);
    }
}

fn statement_of(body: &[u8]) {
    let Ok(card) = fuzzing::statement(body) else { return };
    let statement = card.statement();
    assert_eq!(statement.version, 1);
    let signed = canonical::to_vec(statement).unwrap();
    assert_eq!(card.envelope().payload.0, signed, "one form");
    let key = decores_keys::Ed25519Public::from_base64(&statement.identity_public).unwrap();
    assert_eq!(key.id(), statement.identity);
    card.envelope().verify(NODE_STATEMENT_TYPE, &key).expect("the identity in it signed it");
}

/// A statement that is good; inputs start from it.
pub(crate) fn good_statement() -> Vec<u8> {
    let node = ed25519(1);
    let statement = NodeStatement {
        version: 1,
        name: "attic".to_owned(),
        identity: node.public().id(),
        identity_public: Base64::from(node.public().as_bytes().as_slice()),
        log_origin: "node.example/log".to_owned(),
        log_key: "key".to_owned(),
        tls_ca: Base64(vec![1]),
        issued: Timestamp::from_ms(0),
    };
    canonical::to_vec(&statement).unwrap()
}

/// An output that a node sealed to us: the input is how it was altered (first byte `0`) or what is in it.
pub(crate) fn client_output(data: &[u8]) {
    let key = XWingKey::from_seed(Secret::from_slice(&[0x22; 32]).unwrap(), 1).unwrap();
    match data.split_first() {
        Some((0, how)) => {
            let good = good_output();
            let plain = altered(&good, &mut Numbers(how));
            let opened = open(&key, &plain);
            assert!(opened.is_some() || plain != good);
            if let Some(output) = opened {
                fits(output, &plain);
            }
        }
        _ => drop(open(&key, data).map(|output| fits(output, data))),
    }
}

/// A bundle with standard output and two files.
pub(crate) fn good_output() -> Vec<u8> {
    let item = |bytes: &[u8]| format!(r#""sha256":"{}","size":{}"#, &Digest::of(bytes).to_string()[7..], bytes.len());
    let manifest = format!(
        r#"{{"exit":0,"files":[{{"path":"a/b",{}}},{{"path":"c",{}}}],"stdout":{{{}}}}}"#,
        item(b"first"),
        item(b""),
        item(b"out")
    );
    let manifest = OutputManifest::parse(manifest.as_bytes()).unwrap();
    [manifest.prelude().unwrap().as_slice(), b"outfirst"].concat()
}

fn open(key: &XWingKey, plain: &[u8]) -> Option<Output> {
    let binding = Digest::of(b"binding");
    let length = Some(plain.len() as u64);
    let sealed = seal_single(SectionKind::Output, key.recipient(), length, &binding, &Counter::default()).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&sealed.head).unwrap();
    let mut sealer = StreamSealer::new(&sealed.key, length, file).unwrap();
    sealer.write_all(plain).unwrap();
    let mut file = sealer.finish().unwrap();
    file.rewind().unwrap();
    fuzzing::output(file, key, &binding, &CommitmentKey::from_bytes([3; 32])).ok()
}

/// Every part of an output that is accepted has the digest that its manifest names, and nothing follows.
fn fits(mut output: Output, plain: &[u8]) {
    let manifest = output.manifest().clone();
    let mut parts = Vec::new();
    output
        .each(&mut |_, content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).unwrap();
            parts.push(bytes);
            Ok(())
        })
        .unwrap();
    let items = std::iter::once(manifest.stdout.sha256).chain(manifest.files.iter().map(|file| file.sha256));
    assert!(items.eq(parts.iter().map(|bytes| Digest::of(bytes).into())));
    assert_eq!([manifest.prelude().unwrap(), parts.concat()].concat(), plain, "one form");
}
