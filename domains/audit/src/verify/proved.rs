//! What signatures, digests and Merkle proofs decide.

use crate::event::{Entry, Event};
use crate::proof::InclusionProof;
use crate::receipt::{PAYLOAD_TYPE, Receipt, ReceiptFile, build};
use crate::trust::{Trust, TrustedNode};
use crate::verify::{Finding, Summary};
use decores_keys::Ed25519Public;
use decores_types::job::MAX_SPEC_BYTES;
use decores_types::{KeyId, canonical, chain};

/// The pinned node whose identity signed the payload.
pub(super) fn issuer<'a>(file: &ReceiptFile, trust: &'a Trust) -> Result<&'a TrustedNode, String> {
    let envelope = &file.envelope;
    let signer = envelope.signatures.first().map(|s| s.keyid).ok_or("there is no signature")?;
    let node = trust.node(&signer).ok_or_else(|| format!("unknown issuer: {signer} is not in the trust file"))?;
    let key = Ed25519Public::from_base64(&node.identity.public).ok_or("the pinned identity is not a key")?;
    envelope.verify(PAYLOAD_TYPE, &key).map_err(|e| chain(&e))?;
    Ok(node)
}

/// A receipt that a pinned identity signed; only [`Issued::check`] makes one.
pub(super) struct Issued<'a> {
    pub(super) receipt: &'a Receipt,
    node: &'a TrustedNode,
}

impl<'a> Issued<'a> {
    /// `node` is what [`issuer`] found for the receipt's file.
    pub(super) fn check(receipt: &'a Receipt, node: &'a TrustedNode) -> Result<Self, String> {
        if receipt.predicate().node.identity != node.identity.id {
            return Err("the payload names another identity than its signer's".to_owned());
        }
        Ok(Self { receipt, node })
    }

    pub(super) fn finding(&self) -> Finding {
        Finding::holds(format!("signed by {}, pinned as `{}`", self.node.identity.id, self.node.name))
    }

    pub(super) fn summary(&self) -> Summary {
        let p = self.receipt.predicate();
        Summary {
            job: p.job,
            attempt: p.attempt,
            consumer: p.consumer,
            node: self.node.name.clone(),
            identity: p.node.identity,
            state: p.result.state,
            reason: p.result.reason,
            ended: p.times.ended,
        }
    }
}

pub(super) fn log(issued: &Issued<'_>) -> Finding {
    let file = &issued.receipt.file;
    let Some(key) = issued.node.log_key() else {
        return Finding::fails("the trust file pins no usable log key");
    };
    if issued.receipt.predicate().node.log != key.name() {
        return Finding::fails(format!("the payload names another log than the pinned `{}`", key.name()));
    }
    let proof = match InclusionProof::parse(file.proof.as_bytes()) {
        Ok(proof) => proof,
        Err(e) => return Finding::fails(chain(&e)),
    };
    match proof.verify(&file.entry.0, &key) {
        Ok(checkpoint) => Finding::holds(format!(
            "entry {} of {} in log `{}`, under a checkpoint of its pinned key",
            proof.index, checkpoint.size, checkpoint.origin
        )),
        Err(e) => Finding::fails(chain(&e)),
    }
}

pub(super) fn commitment(issued: &Issued<'_>) -> Finding {
    let (receipt, predicate) = (issued.receipt, issued.receipt.predicate());
    let entry = match Entry::parse(&receipt.file.entry.0) {
        Ok(entry) => entry,
        Err(e) => return Finding::fails(chain(&e)),
    };
    let Event::JobEnded { job, attempt, state, reason, receipt: committed } = entry.event else {
        return Finding::fails("the log entry is not the end of an attempt");
    };
    if (job, attempt) != (predicate.job, predicate.attempt) {
        return Finding::fails("the log entry is of another attempt");
    }
    if (state, reason) != (predicate.result.state, predicate.result.reason) {
        return Finding::fails(format!("the log says the attempt ended `{state}` for `{reason}`"));
    }
    if committed != build::commitment(&receipt.log_key, &receipt.file.envelope.payload.0) {
        return Finding::fails("the log entry commits to another receipt");
    }
    Finding::holds("the log entry commits to this receipt and names the same attempt and end")
}

pub(super) fn spec(issued: &Issued<'_>) -> Finding {
    let (receipt, spec) = (issued.receipt, &issued.receipt.predicate().spec);
    let size = match canonical::to_vec(spec) {
        Ok(bytes) => bytes.len(),
        Err(e) => return Finding::fails(chain(&e)),
    };
    if spec.version != 1 || size > MAX_SPEC_BYTES {
        return Finding::fails("the spec is of another version, or too large to have been accepted");
    }
    if spec.output_key.id != KeyId::of_public("x-wing", &spec.output_key.public.0) {
        return Finding::fails("the spec's output key does not fit its id");
    }
    match build::subject(receipt.predicate()) {
        Ok(subject) if receipt.statement.subject.as_slice() == std::slice::from_ref(&subject) => {}
        _ => return Finding::fails("the statement is about something else than the output or the spec"),
    }
    if let Some(opening) = &receipt.file.opening
        && opening.commitment_key().is_none_or(|key| key.check() != spec.key_check)
    {
        return Finding::fails("the opening's key is not the one the spec was made with");
    }
    Finding::holds("the spec that the node accepted, by its signed word; subject, key and commitments fit it")
}

/// Cosignatures are refused in receipts until witnesses exist, so none can count.
pub(super) fn witnesses(demanded: u32) -> Finding {
    match demanded {
        0 => Finding::not_claimed("no witness has signed the checkpoint"),
        n => Finding::fails(format!("the trust file demands {n} witnesses, none has signed the checkpoint")),
    }
}
