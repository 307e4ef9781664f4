//! Judging a receipt, offline, with a trust file.
//!
//! [`verify`] takes bytes and says of each [`Claim`] what it found; it opens no file and knows no
//! time. First the issuer: only of a payload that a pinned identity signed is anything else judged.
//! Then what mathematics decides ([`proved`](self)): log, commitment, what the spec binds. Then the
//! node's word against itself and against the spec.

pub mod claim;
mod data;
mod proved;
mod report;
mod word;

pub use claim::{Claim, Require, RequireError, Status};
pub use report::{ClaimResult, NotJson, Report, Summary, Verdict};

use crate::receipt::{Receipt, ReceiptError, ReceiptFile};
use crate::trust::Trust;
use decores_types::bundle::{File, Item};
use decores_types::{Digest, Protection, chain};
use proved::Issued;
use std::collections::BTreeMap;

/// Digests of an output that lies before the verifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputEvidence {
    /// Standard output.
    pub stdout: Item,
    /// Output files, sorted by path.
    pub files: Vec<File>,
}

/// A status and why.
struct Finding {
    status: Status,
    detail: String,
}

impl Finding {
    fn holds(detail: impl Into<String>) -> Self {
        Self { status: Status::Holds, detail: detail.into() }
    }

    fn fails(detail: impl Into<String>) -> Self {
        Self { status: Status::DoesNotHold, detail: detail.into() }
    }

    fn not_checked(detail: impl Into<String>) -> Self {
        Self { status: Status::NotChecked, detail: detail.into() }
    }

    fn not_claimed(detail: impl Into<String>) -> Self {
        Self { status: Status::NotClaimed, detail: detail.into() }
    }
}

/// What must hold.
struct Demands {
    claims: Vec<Claim>,
    protection: Option<Protection>,
    images: Vec<Digest>,
}

impl Demands {
    fn new(trust: &Trust, output: bool, require: &[Require]) -> Self {
        let all = || trust.policy.require.iter().chain(require).copied();
        let mut claims: Vec<Claim> = all().map(Require::claim).collect();
        claims.push(Claim::Issuer);
        claims.extend(output.then_some(Claim::Output));
        claims.extend((trust.policy.witnesses > 0).then_some(Claim::Witnesses));
        let level = |r| if let Require::Protection(level) = r { Some(level) } else { None };
        let image = |r| if let Require::Image(digest) = r { Some(digest) } else { None };
        Self { claims, protection: all().filter_map(level).max(), images: all().filter_map(image).collect() }
    }

    fn results(&self, mut findings: BTreeMap<Claim, Finding>, otherwise: &str) -> Vec<ClaimResult> {
        let result = |claim: &Claim| {
            let finding = findings.remove(claim).unwrap_or_else(|| Finding::not_checked(otherwise));
            let (claim, demanded) = (*claim, self.claims.contains(claim));
            ClaimResult { claim, status: finding.status, strength: claim.strength(), detail: finding.detail, demanded }
        };
        Claim::ALL.iter().map(result).collect()
    }
}

/// Judges a receipt. `output` is what lies before the verifier, to be compared; `require` is demanded
/// beside what the trust file demands.
///
/// # Errors
/// Only for what is no JSON; everything else is a finding in the report.
pub fn verify(
    bytes: &[u8],
    trust: &Trust,
    output: Option<&OutputEvidence>,
    require: &[Require],
) -> Result<Report, NotJson> {
    let demands = Demands::new(trust, output.is_some(), require);
    let unreadable = |e: &ReceiptError| {
        let claims = demands.results(BTreeMap::new(), "the receipt cannot be read");
        Report::unreadable(claims, chain(e))
    };
    let not_issued = |why: String| {
        let issuer = BTreeMap::from([(Claim::Issuer, Finding::fails(why))]);
        Report::of(demands.results(issuer, "the issuer is not established"), None)
    };
    let file = match ReceiptFile::parse(bytes) {
        Ok(file) => file,
        Err(e) if e.is_not_json() => return Err(NotJson),
        Err(e) => return Ok(unreadable(&e)),
    };
    // Whose word it is comes before what it says: nothing unsigned is read any further.
    let node = match proved::issuer(&file, trust) {
        Ok(node) => node,
        Err(why) => return Ok(not_issued(why)),
    };
    let receipt = match Receipt::open(file) {
        Ok(receipt) => receipt,
        Err(e) => return Ok(unreadable(&e)),
    };
    let issued = match Issued::check(&receipt, node) {
        Ok(issued) => issued,
        Err(why) => return Ok(not_issued(why)),
    };
    let findings = Claim::ALL.iter().map(|claim| (*claim, judge(*claim, &issued, trust, output, &demands)));
    let claims = demands.results(findings.collect(), "not judged");
    Ok(Report::of(claims, Some(issued.summary())))
}

/// Exhaustive: a new claim must be decided here.
fn judge(
    claim: Claim,
    issued: &Issued<'_>,
    trust: &Trust,
    output: Option<&OutputEvidence>,
    demands: &Demands,
) -> Finding {
    let (receipt, predicate) = (issued.receipt, issued.receipt.predicate());
    match claim {
        Claim::Issuer => issued.finding(),
        Claim::Log => proved::log(issued),
        Claim::Commitment => proved::commitment(issued),
        Claim::Spec => proved::spec(issued),
        Claim::Witnesses => proved::witnesses(trust.policy.witnesses),
        Claim::Program => data::program(receipt),
        Claim::Image => data::image(receipt, &demands.images),
        Claim::Input => data::input(receipt),
        Claim::Output => data::output(receipt, output),
        Claim::Protection => word::protection(predicate, demands.protection),
        Claim::Isolation => word::isolation(predicate),
        Claim::Limits => word::limits(predicate),
        Claim::Result => word::result(predicate),
        Claim::Times => word::times(predicate),
        Claim::Wipe => word::wipe(predicate),
        Claim::Settings => word::settings(predicate),
        Claim::Evidence => word::evidence(predicate),
        Claim::Anchor => Finding::not_claimed("the receipt is anchored in no chain"),
    }
}
