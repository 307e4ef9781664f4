//! Receipts: what anybody may hand to `decores verify`, and what a dishonest node may sign.

use crate::documents::one_form;
use crate::fixtures::{IDENTITY, LogPair, conformance, ed25519, envelope, trust};
use decores_audit::checkpoint::Checkpoint;
use decores_audit::event::Entry;
use decores_audit::proof::InclusionProof;
use decores_audit::receipt::{MAX_RECEIPT, Opening, PAYLOAD_TYPE, Predicate, Receipt, ReceiptFile, Statement, build};
use decores_audit::tree::leaf_hash;
use decores_audit::verify::{Claim, Report, Status, verify};
use decores_audit::{LogKey, Trust};
use decores_types::{JobState, canonical};
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// What the pinned node has signed: every payload of the vectors whose signature is good.
struct Known {
    trust: Trust,
    log: LogPair,
    payloads: BTreeSet<Vec<u8>>,
}

impl Known {
    fn get() -> &'static Self {
        static KNOWN: OnceLock<Known> = OnceLock::new();
        KNOWN.get_or_init(|| {
            let index: serde_json::Value = serde_json::from_slice(&conformance("receipt/index.json")).unwrap();
            let names = index.as_array().unwrap().iter().map(|case| case["file"].as_str().unwrap());
            let files = names.filter_map(|name| ReceiptFile::parse(&conformance(&format!("receipt/{name}"))).ok());
            let payloads = files.map(|file| file.envelope.payload.0).collect();
            Self { trust: trust(), log: LogPair::new(), payloads }
        })
    }
}

/// Reads and judges; says again what must hold of what is read and of what is accepted.
fn judge(bytes: &[u8], trust: &Trust) -> Option<(Report, Option<Receipt>)> {
    let receipt = Receipt::parse(bytes).ok();
    if let Some(receipt) = &receipt {
        assert!(bytes.len() <= MAX_RECEIPT);
        assert_eq!(receipt.file.to_bytes().unwrap(), bytes, "one form");
        assert_eq!(canonical::to_vec(&receipt.statement).unwrap(), receipt.file.envelope.payload.0, "one form");
        rebuilt(receipt);
    }
    let Ok(report) = verify(bytes, trust, None, &[]) else {
        assert!(receipt.is_none() && serde_json::from_slice::<serde_json::Value>(bytes).is_err());
        return None;
    };
    assert_eq!(report.claims.len(), Claim::ALL.len());
    let fails = report.claims.iter().any(|claim| claim.status == Status::DoesNotHold);
    assert!(!(report.is_accepted() && fails));
    if report.receipt.is_some() || report.is_accepted() {
        let receipt = receipt.as_ref().expect("what is judged was read");
        assert_eq!(report.status(Claim::Issuer), Status::Holds);
        if report.is_accepted() {
            accepted(receipt.predicate());
        }
    }
    Some((report, receipt))
}

/// What the predicate says, the node would write with the same bytes.
fn rebuilt(receipt: &Receipt) {
    let Ok(payload) = build::payload(receipt.predicate().clone()) else { return };
    let written: Statement = canonical::from_slice(&payload, MAX_RECEIPT).unwrap();
    assert_eq!(written.predicate, receipt.statement.predicate);
    assert_eq!(payload == receipt.file.envelope.payload.0, written == receipt.statement);
}

/// No receipt with these faults is accepted, whoever signed it.
fn accepted(p: &Predicate) {
    assert_eq!(p.result.reason.end(), Some(p.result.state));
    assert!(p.times.queued <= p.times.ended);
    assert!(p.wipe.checks.iter().all(|check| check.passed));
    assert!(p.wipe.complete || p.wipe.checks.is_empty());
    assert!(p.limits.is_none_or(|limits| limits == p.spec.limits));
    assert!(p.protection.is_none_or(|given| given >= p.spec.protection));
    if p.result.state == JobState::Done {
        assert!(p.output.is_some() && p.program == Some(p.spec.program) && p.input == Some(p.spec.input));
        assert_eq!(p.result.exit, Some(0));
    }
}

/// First byte `0`: a payload (and after a line break an opening), which the node signs and logs. Else a file as it came.
pub(crate) fn receipt(data: &[u8]) {
    let known = Known::get();
    let Some((0, payload)) = data.split_first() else {
        let Some((report, _)) = judge(data, &known.trust) else { return };
        if report.status(Claim::Issuer) == Status::Holds {
            let file = ReceiptFile::parse(data).unwrap();
            assert!(known.payloads.contains(&file.envelope.payload.0), "nobody signed this");
        }
        return;
    };
    let mut parts = payload.splitn(2, |b| *b == b'\n');
    let (payload, opening) = (parts.next().unwrap_or_default(), parts.next());
    one_form::<Statement>(payload, MAX_RECEIPT);
    let mut file = logged(known, payload);
    file.opening = opening.and_then(|bytes| canonical::from_json::<Opening>(bytes, MAX_RECEIPT).ok());
    let Ok(bytes) = file.to_bytes() else { return };
    let (report, receipt) = judge(&bytes, &known.trust).expect("it is JSON");
    if let Some(receipt) = receipt
        && report.receipt.is_some()
    {
        let log_fits = LogKey::name(&known.log.key) == receipt.predicate().node.log;
        assert_eq!(report.status(Claim::Log) == Status::Holds, log_fits);
    }
}

/// A file around a payload: signed by the pinned identity, and the only entry of the pinned log.
fn logged(known: &Known, payload: &[u8]) -> ReceiptFile {
    let statement = canonical::from_slice::<Statement>(payload, MAX_RECEIPT).ok();
    let entry = statement.and_then(|statement| {
        let key = statement.predicate.log_key.array()?;
        let event = build::ended(&statement.predicate, &key, payload);
        Entry::new(event, statement.predicate.times.ended).to_bytes().ok()
    });
    let entry = entry.unwrap_or_else(|| b"{}".to_vec());
    let checkpoint = Checkpoint { origin: known.log.key.name().to_owned(), size: 1, root: leaf_hash(&entry) };
    let note = checkpoint.sign(&known.log).unwrap();
    let proof = InclusionProof { index: 0, path: Vec::new(), checkpoint: note };
    ReceiptFile::new(envelope(PAYLOAD_TYPE, payload.to_vec(), &ed25519(IDENTITY)), entry, &proof)
}
