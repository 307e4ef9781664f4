//! `log head|tail|show|prove|check`.

use crate::context::{Context, block_on};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::progress;
use crate::table::Table;
use clap::Subcommand;
use decores_api::log::LogEntry;
use decores_client::{Client, files};
use decores_telemetry::plain;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Entries asked for at once.
const PAGE: u64 = 100;

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Show the newest signed checkpoint
    #[command(after_help = "Example: decores log head")]
    Head,
    /// Show the newest entries
    #[command(after_help = "Example: decores log tail -n 50 --json")]
    Tail {
        /// How many
        #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=PAGE))]
        lines: u64,
    },
    /// Show one entry
    #[command(after_help = "Example: decores log show 0")]
    Show {
        /// Its index, from 0
        index: u64,
    },
    /// Prove that an entry stands in the log
    #[command(after_help = "Example: decores log prove 7 --out entry7.tlog-proof")]
    Prove {
        /// Its index, from 0
        index: u64,
        /// Where the proof goes [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Read and check the whole log, and that it continues what was seen before
    #[command(after_help = "Example: decores log check")]
    Check,
}

impl LogCommand {
    pub(crate) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        block_on(async {
            match self {
                Self::Head => head(context, &client).await?,
                Self::Tail { lines } => tail(context, &client, lines).await?,
                Self::Show { index } => output::json(&document(&entry(&client, index).await?)?)?,
                Self::Prove { index, out } => prove(context, &client, index, out).await?,
                Self::Check => check(context, &client).await?,
            }
            Ok(Exit::Done)
        })
    }
}

async fn head(context: &Context, client: &Client) -> Result<(), Failure> {
    let key = client.log_key(&context.trust(None)?)?;
    let (checkpoint, note) = client.checkpoint(&key).await?;
    if context.json {
        return output::json(&json!({"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root}));
    }
    output::text(&note)
}

async fn tail(context: &Context, client: &Client, lines: u64) -> Result<(), Failure> {
    let entries = client.entries(None, lines).await?.entries;
    let documents = entries.iter().map(document).collect::<Result<Vec<_>, _>>()?;
    if context.json {
        return output::json(&documents);
    }
    let mut table = Table::new(&["index", "time", "type", "what"]);
    for document in &documents {
        let text = |name: &str| document.pointer(&format!("/entry/{name}")).and_then(Value::as_str).unwrap_or("?");
        let index = document.get("index").map(Value::to_string).unwrap_or_default();
        table.row([index.into(), text("time").into(), text("type").into(), rest(document).into()]);
    }
    table.print()
}

/// The members that have no column of their own, as `name=value`.
fn rest(document: &Value) -> String {
    let members = document.get("entry").and_then(Value::as_object).into_iter().flatten();
    let members = members.filter(|(name, _)| !matches!(name.as_str(), "v" | "time" | "type"));
    let shown = members.map(|(name, value)| match value {
        Value::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    });
    shown.collect::<Vec<_>>().join(" ")
}

async fn entry(client: &Client, index: u64) -> Result<LogEntry, Failure> {
    let answer = client.entries(Some(index), 1).await?;
    answer.entries.into_iter().find(|e| e.index == index).ok_or_else(|| {
        Failure::new(Exit::Failed, format!("the log has {} entries, there is none at {index}", answer.size))
    })
}

fn document(entry: &LogEntry) -> Result<Value, Failure> {
    let malformed = |e| Failure::new(Exit::Failed, format!("entry {} is not JSON: {e}", entry.index));
    let value: Value = serde_json::from_slice(&entry.entry.0).map_err(malformed)?;
    Ok(json!({"index": entry.index, "entry": value}))
}

async fn prove(context: &Context, client: &Client, index: u64, out: Option<PathBuf>) -> Result<(), Failure> {
    let key = client.log_key(&context.trust(None)?)?;
    let entry = entry(client, index).await?;
    let (checkpoint, proof) = client.proof(&key, index, &entry.entry.0).await?;
    if let Some(path) = &out {
        files::replace(path, files::ORDINARY, &proof)?;
    }
    if context.json {
        let proof = String::from_utf8_lossy(&proof);
        let (origin, size, root) = (&checkpoint.origin, checkpoint.size, checkpoint.root);
        return output::json(
            &json!({"index": index, "entry": entry.entry, "origin": origin, "size": size, "root": root, "proof": proof}),
        );
    }
    if out.is_none() {
        output::text(&proof)?;
    }
    output::note(format!("entry {index} stands in {} of {} entries", plain(&checkpoint.origin), checkpoint.size));
    Ok(())
}

async fn check(context: &Context, client: &Client) -> Result<(), Failure> {
    let key = client.log_key(&context.trust(None)?)?;
    let bar = progress::Count::new("entries checked");
    let shown = bar.clone();
    let checked = client.check_log(&key, move |done, all| shown.set(done, all)).await;
    bar.clear();
    let checked = checked?;
    let before = checked.before.as_ref().map(|c| c.size);
    if context.json {
        let now = &checked.checkpoint;
        return output::json(&json!({"origin": now.origin, "size": now.size, "root": now.root, "continues": before}));
    }
    let before =
        before.map_or("nothing was seen before".to_owned(), |n| format!("it continues the {n} entries seen before"));
    output::line(format!("the log holds: {} entries, every one checked; {before}", checked.checkpoint.size))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use decores_types::Base64;

    #[test]
    fn entries_are_shown_with_their_members() {
        let text = br#"{"reason":"started","time":"2026-01-01T00:00:00.000Z","type":"job.state","v":1}"#;
        let document = document(&LogEntry { index: 3, entry: Base64(text.to_vec()) }).unwrap();
        assert_eq!(rest(&document), "reason=started");
        assert_eq!(document.get("index"), Some(&json!(3)));
    }

    #[test]
    fn an_entry_that_is_no_json_is_told_by_its_index() {
        assert!(document(&LogEntry { index: 3, entry: Base64(b"{".to_vec()) }).is_err());
    }
}
