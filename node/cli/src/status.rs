//! `status`.

use crate::context::{Context, block_on};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::table::Table;

pub(crate) fn run(context: &Context) -> Result<Exit, Failure> {
    let client = context.client()?;
    let status = block_on(async { Ok(client.status().await?) })?;
    if context.json {
        output::json(&status)?;
        return Ok(Exit::Done);
    }
    let insecure = if status.insecure.is_empty() { "none".to_owned() } else { status.insecure.join(", ") };
    let mut table = Table::new(&["node", &status.name]);
    for (name, value) in [
        ("url", client.login().url.to_string()),
        ("identity", status.identity.to_string()),
        ("version", status.version),
        ("up since", status.started.to_string()),
        ("protection", status.protection.to_string()),
        ("jobs", format!("{} queued, {} running, {} offers open", status.queued, status.running, status.offers)),
        ("log", format!("{} entries", status.log_size)),
        ("alerts", status.alerts.map_or("not shown to this role".to_owned(), |n| format!("{n} open"))),
        ("weakened", insecure),
        ("root of keys", status.root_source),
        ("you", format!("{}, {}", status.consumer, status.role)),
    ] {
        table.row([name.into(), value.into()]);
    }
    table.print()?;
    Ok(Exit::Done)
}
