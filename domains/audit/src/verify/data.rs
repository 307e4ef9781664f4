//! Program, image, input and output: the node's commitments against the spec's, and against an opening.

use crate::receipt::{Opening, Predicate, Receipt};
use crate::verify::{Finding, OutputEvidence};
use decores_types::bundle::{Manifest as _, OutputManifest};
use decores_types::job::EngineKind;
use decores_types::{Commitment, CommitmentKey, Digest, JobState, chain};

pub(super) fn program(receipt: &Receipt) -> Finding {
    let p = receipt.predicate();
    let opened = receipt.file.opening.as_ref().map(|o| (o, o.program.0));
    measured(receipt, "program", p.program, p.spec.program, opened)
}

pub(super) fn input(receipt: &Receipt) -> Finding {
    let p = receipt.predicate();
    let opened = receipt.file.opening.as_ref().map(|o| (o, o.input.0));
    measured(receipt, "input", p.input, p.spec.input, opened)
}

fn measured(
    receipt: &Receipt,
    label: &str,
    measured: Option<Commitment>,
    asked: Commitment,
    opened: Option<(&Opening, Digest)>,
) -> Finding {
    if let Some((opening, digest)) = opened
        && key_of(opening, receipt).is_none_or(|key| key.commit(label, &digest) != asked)
    {
        return Finding::fails(format!("the opening does not open the spec's commitment to the {label}"));
    }
    let Some(measured) = measured else {
        return if has_run(receipt.predicate()) {
            Finding::fails(format!("it ran, but the engine names no {label}"))
        } else {
            Finding::not_claimed(format!("the engine opened no {label}"))
        };
    };
    if measured != asked {
        return Finding::fails(format!("the engine opened another {label} than the spec names"));
    }
    match opened {
        Some((_, digest)) => Finding::holds(format!("{digest}, by the node's signed word")),
        None => Finding::holds("the spec's commitment, by the node's signed word; not opened"),
    }
}

/// The spec commits to the program the image lies in; which image that is stands in the opening only.
pub(super) fn image(receipt: &Receipt, demanded: &[Digest]) -> Finding {
    let p = receipt.predicate();
    let opening = receipt.file.opening.as_ref();
    let opened = opening.and_then(|o| o.image.map(|digest| (o, digest.0)));
    let Some(measured) = p.image else {
        return if p.spec.engine == EngineKind::Container && has_run(p) {
            Finding::fails("a container ran, but the engine names no image")
        } else if opened.is_some() && has_run(p) {
            Finding::fails("the opening names an image, but none ran")
        } else {
            Finding::not_claimed("the engine opened no image")
        };
    };
    if p.spec.engine != EngineKind::Container {
        return Finding::fails("the engine names an image, but the spec asks for no container");
    }
    let Some((opening, digest)) = opened else {
        return Finding::not_checked("signed, not opened");
    };
    if key_of(opening, receipt).is_none_or(|key| key.commit("image", &digest) != measured) {
        return Finding::fails("the engine opened another image than the opening names");
    }
    match demanded.iter().find(|wanted| **wanted != digest) {
        Some(wanted) => Finding::fails(format!("it was {digest}, {wanted} is demanded")),
        None => Finding::holds(format!("{digest}, by the node's signed word")),
    }
}

pub(super) fn output(receipt: &Receipt, evidence: Option<&OutputEvidence>) -> Finding {
    let opening = receipt.file.opening.as_ref();
    let manifest = opening.and_then(|o| o.output.as_ref());
    let Some(committed) = receipt.predicate().output else {
        return if receipt.predicate().result.state == JobState::Done {
            Finding::fails("the attempt is done, but has no output")
        } else if manifest.is_some() || evidence.is_some() {
            Finding::fails("the attempt has no output")
        } else {
            Finding::not_claimed("the attempt has no output")
        };
    };
    match (opening.zip(manifest), evidence) {
        (Some((opening, manifest)), _) => match opens(receipt, committed, opening, manifest) {
            Ok(()) => compared(manifest, evidence),
            Err(why) => Finding::fails(why),
        },
        (None, Some(_)) => Finding::not_checked("signed, but the receipt has no opening to compare the file with"),
        (None, None) => Finding::not_checked("signed, file not compared"),
    }
}

fn opens(receipt: &Receipt, committed: Commitment, opening: &Opening, manifest: &OutputManifest) -> Result<(), String> {
    manifest.check().map_err(|e| chain(&e))?;
    let digest = manifest.digest().map_err(|e| chain(&e))?;
    if key_of(opening, receipt).is_none_or(|key| key.commit("output", &digest) != committed) {
        return Err("the opening does not open the commitment to the output".to_owned());
    }
    if receipt.predicate().result.exit != Some(manifest.exit) {
        return Err("the output names another exit code than the receipt".to_owned());
    }
    Ok(())
}

fn compared(manifest: &OutputManifest, evidence: Option<&OutputEvidence>) -> Finding {
    match evidence {
        None => Finding::not_checked("signed, file not compared"),
        Some(given) if given.stdout != manifest.stdout => Finding::fails("the standard output is another"),
        Some(given) if given.files.is_empty() && !manifest.files.is_empty() => {
            Finding::fails(format!("the output also has {} files, which were not given", manifest.files.len()))
        }
        Some(given) if given.files != manifest.files => Finding::fails("the output files are others"),
        Some(_) => Finding::holds("the file is the output the node signed"),
    }
}

/// The opening's key, if it is the one the spec was made with.
fn key_of(opening: &Opening, receipt: &Receipt) -> Option<CommitmentKey> {
    opening.commitment_key().filter(|key| key.check() == receipt.predicate().spec.key_check)
}

fn has_run(p: &Predicate) -> bool {
    p.result.exit.is_some() || p.result.state == JobState::Done
}
