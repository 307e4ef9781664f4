//! `verify`: judge a receipt, offline.

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output;
use crate::progress::Bytes;
use crate::table::{Cell, Table};
use clap::Args;
use console::Style;
use decores_audit::receipt::MAX_RECEIPT;
use decores_audit::verify::{OutputEvidence, Report, Require, Status, Verdict};
use decores_client::{Source, input, output as folder};
use decores_telemetry::plain;
use decores_types::bundle::{File, Item};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The receipt
    file: PathBuf,
    /// Whom to trust [default: the trust file of `decores login`]
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// The output to compare: the standard output, or a folder from `job result --dir`
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// A claim that must hold, protection=LEVEL or image=DIGEST; may be repeated
    #[arg(long, value_name = "CLAIM")]
    require: Vec<Require>,
}

impl Verify {
    pub(crate) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let trust = context.trust(self.trust.as_ref())?;
        let bytes = decores_client::files::read(&self.file, MAX_RECEIPT as u64 + 1)?;
        let bytes = bytes.ok_or_else(|| Failure::usage(format!("there is no receipt at {}", self.file.display())))?;
        let evidence = self.output.as_deref().map(evidence).transpose()?;
        let report = decores_audit::verify::verify(&bytes, &trust, evidence.as_ref(), &self.require)
            .map_err(|e| Failure::usage(e).hint(format!("is {} the right file?", self.file.display())))?;
        if context.json {
            output::json(&report)?;
        } else {
            table(&report).print()?;
            output::line("")?;
            output::bytes(verdict(&report).as_bytes())?;
        }
        Ok(if report.is_accepted() { Exit::Done } else { Exit::Refused })
    }
}

/// What lies at `path`: one file is the standard output, a folder is as `job result --dir` writes it.
fn evidence(path: &Path) -> Result<OutputEvidence, Failure> {
    let is_folder = std::fs::metadata(path).map_err(|e| Failure::file("read", path, e))?.is_dir();
    if !is_folder {
        let stdout = measure(&Source::File(path.to_owned()))?;
        return Ok(OutputEvidence { stdout, files: Vec::new() });
    }
    let stdout = measure(&Source::File(path.join(folder::STDOUT)))?;
    let mut files = Vec::new();
    for (path, source) in input::folder(&path.join(folder::FILES))? {
        let item = measure(&source)?;
        files.push(File { path, sha256: item.sha256, size: item.size });
    }
    Ok(OutputEvidence { stdout, files })
}

fn measure(source: &Source) -> Result<Item, Failure> {
    let mut progress = Bytes::new("reading the output");
    let item = source.measure(&mut |n| progress.add(n));
    progress.clear();
    Ok(item?)
}

/// One line per claim.
pub(crate) fn table(report: &Report) -> Table {
    let mut table = Table::new(&["claim", "status", "strength", "why"]);
    for result in &report.claims {
        let style = match result.status {
            Status::Holds => Style::new().green(),
            Status::DoesNotHold => Style::new().red().bold(),
            Status::NotChecked | Status::NotClaimed => Style::new().dim(),
        };
        let known = if result.status == Status::Holds { result.strength.to_string() } else { "-".to_owned() };
        table.row([
            result.claim.name().into(),
            Cell::styled(result.status.to_string(), style),
            known.into(),
            result.detail.as_str().into(),
        ]);
    }
    table
}

/// `12 hold, 1 not checked` and the like: of all claims, how many came out how.
pub(crate) fn counts(report: &Report) -> String {
    let count = |status| report.claims.iter().filter(|c| c.status == status).count();
    [Status::Holds, Status::DoesNotHold, Status::NotChecked, Status::NotClaimed]
        .into_iter()
        .map(|status| (count(status), status))
        .filter(|(n, status)| *n > 0 || *status == Status::Holds)
        .map(|(n, status)| match status {
            Status::Holds if n == 1 => "1 holds".to_owned(),
            Status::Holds => format!("{n} hold"),
            Status::DoesNotHold if n == 1 => "1 does not hold".to_owned(),
            Status::DoesNotHold => format!("{n} do not hold"),
            Status::NotChecked => format!("{n} not checked"),
            Status::NotClaimed => format!("{n} not claimed"),
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// The last lines: what it comes to, and each reason against it.
fn verdict(report: &Report) -> String {
    match &report.verdict {
        Verdict::Accepted => {
            let about = report.receipt.as_ref();
            let about =
                about.map_or_else(String::new, |r| format!(" of {}, attempt {}, {}", r.job, r.attempt, r.state));
            format!("accepted: the receipt{about} ({})\n", counts(report))
        }
        Verdict::Refused { why } => {
            let mut text = format!("refused: the receipt is not to be relied on ({})\n", counts(report));
            why.iter().for_each(|why| text.push_str(&format!("  {}\n", plain(why))));
            text
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use decores_audit::verify::{Claim, ClaimResult};

    fn result(claim: Claim, status: Status, detail: &str) -> ClaimResult {
        ClaimResult { claim, status, strength: claim.strength(), detail: detail.to_owned(), demanded: false }
    }

    fn report() -> Report {
        Report {
            claims: vec![
                result(Claim::Issuer, Status::Holds, "pinned as `attic`"),
                result(Claim::Wipe, Status::DoesNotHold, "a check did not pass"),
                result(Claim::Anchor, Status::NotClaimed, "in no chain"),
            ],
            receipt: None,
            verdict: Verdict::Refused { why: vec!["`wipe` does not hold: a check did not pass".to_owned()] },
        }
    }

    #[test]
    fn the_table_has_one_aligned_line_for_each_claim() {
        let expected = "claim   status         strength  why\n\
                        issuer  holds          proved    pinned as `attic`\n\
                        wipe    does not hold  -         a check did not pass\n\
                        anchor  not claimed    -         in no chain\n";
        assert_eq!(table(&report()).render(false), expected);
    }

    #[test]
    fn the_verdict_names_each_reason() {
        let expected = "refused: the receipt is not to be relied on (1 holds, 1 does not hold, 1 not claimed)\n  \
                        `wipe` does not hold: a check did not pass\n";
        assert_eq!(verdict(&report()), expected);
    }

    #[test]
    fn a_file_is_standard_output_and_a_folder_has_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        std::fs::create_dir_all(path.join("files/a")).unwrap();
        std::fs::write(path.join("stdout"), "hello").unwrap();
        std::fs::write(path.join("files/a/b"), "x").unwrap();
        let one = evidence(&path.join("stdout")).unwrap();
        assert_eq!((one.stdout.size, one.files.len()), (5, 0));
        let all = evidence(&path).unwrap();
        assert_eq!(all.stdout, one.stdout);
        assert_eq!(all.files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["a/b"]);
        assert!(evidence(&folder.path().join("absent")).is_err());
    }
}
