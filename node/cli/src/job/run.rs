//! `job run` and `job submit`.

use super::program::Program;
use super::read;
use super::what::What;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::progress::{Bytes, JobProgress};
use crate::{output, units, verify};
use clap::Args;
use decores_api::jobs::Job;
use decores_audit::verify::Require;
use decores_client::{Client, JobReceipt, JobRecord, Output, Prepared, files};
use decores_telemetry::plain;
use decores_types::JobState;
use decores_types::bundle::OutputManifest;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    what: What,
    /// Where standard output goes [default: our standard output]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Folder for everything: `stdout` and `files/…`
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Where the receipt goes
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Print how the node would isolate it; send nothing but the spec
    #[arg(long)]
    dry_run: bool,
    /// Submit it and come back at once
    #[arg(long, conflicts_with_all = ["output", "output_dir", "receipt"])]
    detach: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Submit {
    #[command(flatten)]
    what: What,
}

/// A job that is ready to be submitted.
struct Draft {
    record: JobRecord,
    input: Arc<Prepared>,
}

impl Submit {
    pub(super) async fn run(self, context: &Context, client: &Client) -> Result<Exit, Failure> {
        submit(context, client, draft(context, client, self.what).await?).await
    }
}

impl Run {
    pub(super) async fn run(self, context: &Context, client: &Client) -> Result<Exit, Failure> {
        let Self { what, output, output_dir, receipt, dry_run, detach } = self;
        let require = what.require.clone();
        let draft = draft(context, client, what).await?;
        if dry_run {
            output::json(&client.plan(&draft.record.spec).await?)?;
            return Ok(Exit::Done);
        }
        if detach {
            return submit(context, client, draft).await;
        }
        let targets = Targets { output, output_dir, receipt, require };
        let Draft { mut record, input } = draft;
        let progress = JobProgress::new();
        let ended = client.run(&mut record, &input, &|p| progress.note(&p)).await;
        progress.clear();
        targets.bring_back(context, client, &ended?).await
    }
}

async fn draft(context: &Context, client: &Client, what: What) -> Result<Draft, Failure> {
    let program = Program::find(&what.program, &what.image, context).await?;
    program.check(&what.require)?;
    let input = what.input(&program)?;
    let mut progress = Bytes::new("reading program and input");
    let bar = progress.clone();
    let prepared = read::blocking(move || input.prepare(&mut |n| progress.add(n))).await;
    bar.clear();
    let input = Arc::new(prepared?);
    let terms = what.terms(&program, input.input_size())?;
    let record = client.draft(&input, &terms)?;
    Ok(Draft { record, input })
}

async fn submit(context: &Context, client: &Client, draft: Draft) -> Result<Exit, Failure> {
    let Draft { mut record, input } = draft;
    let progress = JobProgress::new();
    let taken = client.submit(&mut record, &input, &|p| progress.note(&p)).await;
    progress.clear();
    let job = taken?;
    if context.json {
        output::json(&job)?;
    } else {
        output::line(job.job)?;
        output::note(format!(
            "{}: {}; fetch its output with: decores job result {}",
            job.state,
            plain(&job.explanation),
            job.job
        ));
    }
    Ok(Exit::Done)
}

/// Where things go.
struct Targets {
    output: Option<PathBuf>,
    output_dir: Option<PathBuf>,
    receipt: Option<PathBuf>,
    require: Vec<Require>,
}

impl Targets {
    /// Logs first: a bad receipt does not hide what the program said. The output goes nowhere before the node's
    /// signature answers for it.
    async fn bring_back(&self, context: &Context, client: &Client, job: &Job) -> Result<Exit, Failure> {
        if job.state == JobState::Done && !job.result {
            let text = format!("the node says that {} is done, but gives no output", job.job);
            return Err(Failure::new(Exit::Refused, text));
        }
        let output = if job.result { Some(read::fetch(client, job.job).await?) } else { None };
        if job.logs {
            read::show_logs(&client.logs(job.job).await?);
        }
        let trust = context.trust(None)?;
        let receipt = client.receipt(job, output.as_ref(), &trust, &self.require).await?;
        if let Some(path) = &self.receipt {
            files::replace(path, files::ORDINARY, &receipt.bytes)?;
        }
        let manifest = output.as_ref().map(|o| o.manifest().clone());
        if let Some(output) = output {
            read::vouched(&receipt)?;
            match self.save(context, output, job).await {
                // Whoever read our output has enough; the verdict is still wanted.
                Ok(()) | Err(Failure::PipeClosed) => {}
                Err(failure) => return Err(failure),
            }
        }
        if context.json {
            output::json(&summary(job, manifest.as_ref(), &receipt))?;
        }
        self.judge_receipt(job, &receipt)?;
        outcome(job)
    }

    async fn save(&self, context: &Context, mut output: Output, job: &Job) -> Result<(), Failure> {
        let left = output.manifest().files.len();
        let (file, folder, to_stdout) = (self.output.clone(), self.output_dir.clone(), !context.json);
        read::blocking(move || {
            if let Some(folder) = &folder {
                output.save_folder(folder)?;
            }
            match &file {
                Some(file) => output.save_stdout(file)?,
                None if folder.is_none() && to_stdout => output.write_stdout(&mut std::io::stdout())?,
                None => {}
            }
            Ok(())
        })
        .await?;
        if left > 0 && self.output_dir.is_none() {
            output::note(format!(
                "{} of the output not fetched: decores job result {} --dir DIR",
                units::count(left, "file"),
                job.job
            ));
        }
        Ok(())
    }

    fn judge_receipt(&self, job: &Job, receipt: &JobReceipt) -> Result<(), Failure> {
        let counts = verify::counts(&receipt.report);
        if receipt.report.is_accepted() {
            let how = self
                .receipt
                .as_ref()
                .map_or("decores job receipt".to_owned(), |f| format!("decores verify {}", f.display()));
            output::note(format!("the receipt holds: {counts}; see {how}"));
            return Ok(());
        }
        output::note(verify::table(&receipt.report).render(false).trim_end());
        output::note(format!("{} {}: {} ({})", job.job, job.state, job.reason, plain(&job.explanation)));
        Err(Failure::new(Exit::Refused, format!("the receipt is not to be relied on: {counts}"))
            .hint("keep it: it is signed, and can be held against the node"))
    }
}

fn summary(job: &Job, output: Option<&OutputManifest>, receipt: &JobReceipt) -> serde_json::Value {
    json!({
        "job": job.job,
        "attempt": job.attempt,
        "state": job.state,
        "reason": job.reason,
        "explanation": job.explanation,
        "output": output,
        "receipt": receipt.report,
    })
}

/// The exit code of a job that has ended, and what to do about it.
pub(super) fn outcome(job: &Job) -> Result<Exit, Failure> {
    let exit = match job.state {
        JobState::Done => return Ok(Exit::Done),
        JobState::Refused => Exit::Refused,
        _ => Exit::Failed,
    };
    let text = format!("{} {}: {} ({})", job.job, job.state, job.reason, job.explanation);
    let failure = Failure::new(exit, text);
    Err(match hint(job) {
        Some(hint) => failure.hint(hint),
        None => failure,
    })
}

fn hint(job: &Job) -> Option<String> {
    use decores_types::Reason;
    let text = match job.reason {
        Reason::LimitMemory => "give it more memory: --limit-memory SIZE",
        Reason::LimitTime => "give it more time: --limit-time SPAN",
        Reason::LimitOutput => "let it write more: --limit-output SIZE",
        Reason::LimitScratch => "give its files more room: --limit-scratch SIZE",
        Reason::ProgramInvalid => "build it for wasm32-wasip1, as a command (with `_start`)",
        Reason::Limits => "the node's largest limits are in its offer: decores job run … --dry-run",
        Reason::Protection => "ask for less (--require protection=process), or choose another node",
        Reason::Resubmit | Reason::QueueExpired => "the node keeps losing or delaying it; submit it again later",
        Reason::EngineLost => "the node has raised an alert for its operator; try again, or on another node",
        Reason::Trap | Reason::ExitNonzero if job.logs => {
            return Some(format!("what it said: decores job logs {}", job.job));
        }
        _ => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "tests")]
    use super::*;
    use decores_types::{Attempt, ConsumerId, JobId, Reason};

    fn job(state: JobState, reason: Reason) -> Job {
        Job {
            job: JobId::from_bytes([1; 16]),
            consumer: ConsumerId::from_bytes([2; 16]),
            attempt: Attempt(1),
            state,
            reason,
            explanation: reason.explain().to_owned(),
            steps: Vec::new(),
            result: false,
            logs: true,
            receipt: true,
            resubmit: false,
        }
    }

    fn exit(state: JobState, reason: Reason) -> Exit {
        match outcome(&job(state, reason)) {
            Ok(exit) | Err(Failure::Told { exit, .. }) => exit,
            Err(Failure::PipeClosed) => panic!("told"),
        }
    }

    #[test]
    fn each_end_has_its_exit_code() {
        assert_eq!(exit(JobState::Done, Reason::Completed), Exit::Done);
        assert_eq!(exit(JobState::Failed, Reason::Trap), Exit::Failed);
        assert_eq!(exit(JobState::Cancelled, Reason::ByConsumer), Exit::Failed);
        assert_eq!(exit(JobState::Refused, Reason::Policy), Exit::Refused);
    }

    #[test]
    fn limits_say_what_to_give() {
        assert!(hint(&job(JobState::Failed, Reason::LimitMemory)).is_some_and(|h| h.contains("--limit-memory")));
        assert!(hint(&job(JobState::Failed, Reason::Trap)).is_some_and(|h| h.contains("decores job logs job_01")));
        assert_eq!(hint(&job(JobState::Cancelled, Reason::ByConsumer)), None);
    }
}
