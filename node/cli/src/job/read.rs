//! Reading jobs: list, show, logs, result, receipt; and cancelling.

use super::{ReceiptArgs, ResultArgs, WaitFor, run};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::progress::{Bytes, JobProgress};
use crate::table::{Cell, Table};
use crate::{output, units, verify};
use console::Style;
use decores_api::jobs::Job;
use decores_client::{Client, ClientError, JobReceipt, Output, PageRequest, files};
use decores_telemetry::plain;
use decores_types::job::EngineKind;
use decores_types::{JobId, JobState};
use serde_json::{Value, json};
use std::io::IsTerminal as _;

/// Jobs on a page of the node's listing.
const PAGE: usize = 100;

pub(super) async fn list(context: &Context, client: &Client, lines: usize) -> Result<Exit, Failure> {
    let mut jobs: Vec<Job> = Vec::new();
    let mut cursor = None;
    loop {
        let limit = Some((lines - jobs.len()).min(PAGE));
        let page = client.jobs(&PageRequest { cursor, limit }).await?;
        let is_empty = page.items.is_empty();
        jobs.extend(page.items);
        jobs.truncate(lines);
        cursor = page.next;
        if cursor.is_none() || is_empty || jobs.len() == lines {
            break;
        }
    }
    if context.json {
        output::json(&jobs.iter().map(|job| told(context, job)).collect::<Result<Vec<_>, _>>()?)?;
    } else {
        table(context, &jobs)?.print()?;
    }
    Ok(Exit::Done)
}

/// What the node says of a job, and what only we know of it: `engine` and `image`.
fn told(context: &Context, job: &Job) -> Result<Value, Failure> {
    let mut told = serde_json::to_value(job).map_err(|e| Failure::new(Exit::Failed, e))?;
    if let Some(record) = context.home.job(job.job)?
        && let Some(members) = told.as_object_mut()
    {
        members.insert("engine".to_owned(), json!(record.spec.engine));
        if let Some(image) = &record.image {
            members.insert("image".to_owned(), json!({"digest": image.digest.0, "name": image.name}));
        }
    }
    Ok(told)
}

/// `wasm`, or `container` and the image; nothing of a job that was submitted from elsewhere.
fn engine(context: &Context, job: JobId) -> Result<String, Failure> {
    let Some(record) = context.home.job(job)? else { return Ok(String::new()) };
    Ok(match (record.spec.engine, record.image) {
        (EngineKind::Wasm, _) => "wasm".to_owned(),
        (EngineKind::Container, Some(image)) => format!("container {}", image.name),
        (EngineKind::Container, None) => "container".to_owned(),
    })
}

fn table(context: &Context, jobs: &[Job]) -> Result<Table, Failure> {
    let mut table = Table::new(&["job", "attempt", "state", "since", "engine", "why"]);
    for job in jobs {
        table.row([
            job.job.to_string().into(),
            job.attempt.to_string().into(),
            Cell::styled(job.state.to_string(), style(job.state)),
            job.steps.last().map_or_else(String::new, |s| s.time.to_string()).into(),
            engine(context, job.job)?.into(),
            job.explanation.as_str().into(),
        ]);
    }
    Ok(table)
}

fn style(state: JobState) -> Style {
    match state {
        JobState::Done => Style::new().green(),
        JobState::Failed | JobState::Refused => Style::new().red(),
        _ => Style::new(),
    }
}

pub(super) async fn show(context: &Context, client: &Client, job: JobId) -> Result<Exit, Failure> {
    let job = client.job(job).await?;
    if context.json {
        output::json(&told(context, &job)?)?;
        return Ok(Exit::Done);
    }
    output::line(format!("{}, attempt {}: {} ({})", job.job, job.attempt, job.state, plain(&job.explanation)))?;
    if let Some(image) = context.home.job(job.job)?.and_then(|record| record.image) {
        output::line(format!("container of {}, image {}", plain(&image.name), image.digest.0))?;
    }
    let mut table = Table::new(&["time", "attempt", "state", "reason"]);
    for step in &job.steps {
        table.row([
            step.time.to_string().into(),
            step.attempt.to_string().into(),
            Cell::styled(step.state.to_string(), style(step.state)),
            step.reason.as_str().into(),
        ]);
    }
    table.print()?;
    for (there, what, command) in
        [(job.result, "output", "result"), (job.logs, "logs", "logs"), (job.receipt, "receipt", "receipt")]
    {
        if there {
            output::note(format!("its {what}: decores job {command} {}", job.job));
        }
    }
    Ok(Exit::Done)
}

pub(super) async fn logs(context: &Context, client: &Client, job: JobId) -> Result<Exit, Failure> {
    let logs = client.logs(job).await?;
    if context.json {
        output::json(&json!({"job": job, "logs": String::from_utf8_lossy(&logs)}))?;
    } else {
        output::text(&logs)?;
    }
    Ok(Exit::Done)
}

pub(super) async fn cancel(client: &Client, job: JobId) -> Result<Exit, Failure> {
    client.cancel(job).await?;
    output::note(format!("{job} is cancelled"));
    Ok(Exit::Done)
}

pub(super) async fn result(context: &Context, client: &Client, args: ResultArgs) -> Result<Exit, Failure> {
    let job = ended(client, args.job).await?;
    if !job.result {
        run::outcome(&job)?;
        return Err(Failure::new(Exit::Failed, format!("{} has no output", args.job)));
    }
    let mut opened = fetch(client, args.job).await?;
    let receipt = client.receipt(&job, Some(&opened), &context.trust(None)?, &[]).await?;
    vouched(&receipt)?;
    let manifest = opened.manifest().clone();
    let (file, folder, json) = (args.output, args.dir, context.json);
    let to_folder = folder.is_some();
    blocking(move || match (&folder, &file) {
        (Some(folder), _) => opened.save_folder(folder),
        (None, Some(file)) => opened.save_stdout(file),
        (None, None) if json => Ok(()),
        (None, None) => opened.write_stdout(&mut std::io::stdout()),
    })
    .await?;
    if context.json {
        output::json(&manifest)?;
    }
    if !to_folder && !manifest.files.is_empty() {
        let files = units::count(manifest.files.len(), "file");
        output::note(format!("{files} of the output not fetched: decores job result {} --dir DIR", args.job));
    }
    run::outcome(&job)
}

/// A job's output, opened.
pub(super) async fn fetch(client: &Client, job: JobId) -> Result<Output, Failure> {
    let mut progress = Bytes::new("fetching the output");
    let output = client.output(job, &mut |n| progress.add(n)).await;
    progress.clear();
    Ok(output?)
}

/// Refuses an output that nobody answers for: whoever knows its public key could have sealed it.
pub(super) fn vouched(receipt: &JobReceipt) -> Result<(), Failure> {
    if receipt.is_authentic() {
        return Ok(());
    }
    output::note(verify::table(&receipt.report).render(false).trim_end());
    Err(Failure::new(Exit::Refused, "nobody answers for this output: its receipt is not the node's, or not in its log"))
}

/// The job, once it has ended; what it did before we came is not told again.
async fn ended(client: &Client, job: JobId) -> Result<Job, Failure> {
    let now = client.job(job).await?;
    if now.state.is_final() {
        return Ok(now);
    }
    let progress = JobProgress::new();
    let ended = client.wait(job, &mut now.steps.len(), &|p| progress.note(&p)).await;
    progress.clear();
    Ok(ended?)
}

pub(super) async fn receipt(context: &Context, client: &Client, args: ReceiptArgs) -> Result<Exit, Failure> {
    let WaitFor::Logged = args.wait;
    let job = client.job(args.job).await?;
    let receipt = client.receipt(&job, None, &context.trust(None)?, &[]).await?;
    if let Some(path) = &args.out {
        files::replace(path, files::ORDINARY, &receipt.bytes)?;
    }
    if context.json {
        let document: Value = serde_json::from_slice(&receipt.bytes).map_err(|e| Failure::new(Exit::Failed, e))?;
        output::json(&json!({"job": args.job, "receipt": document, "report": receipt.report}))?;
    } else if args.out.is_none() {
        output::text(&receipt.bytes)?;
    }
    let counts = verify::counts(&receipt.report);
    if receipt.report.is_accepted() {
        output::note(format!("the receipt holds: {counts}"));
        return Ok(Exit::Done);
    }
    output::note(verify::table(&receipt.report).render(false).trim_end());
    Err(Failure::new(Exit::Refused, format!("the receipt is not to be relied on: {counts}")))
}

/// What the program wrote to its standard error, to ours; on a terminal marked as the program's, and tamed.
pub(super) fn show_logs(logs: &[u8]) {
    use std::io::Write as _;
    let mut stderr = std::io::stderr();
    // Nobody listening is fine.
    let _ = if stderr.is_terminal() {
        String::from_utf8_lossy(logs).lines().try_for_each(|line| writeln!(stderr, "program: {}", plain(line)))
    } else {
        stderr.write_all(logs)
    };
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClientError> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|e| Failure::new(Exit::Failed, e))??)
}
