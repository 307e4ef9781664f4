//! `status`.

use crate::context::{Context, block_on};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::table::Table;
use decores_api::admin::Leftover;

const HIDDEN: &str = "not shown to this role";

pub(crate) fn run(context: &Context) -> Result<Exit, Failure> {
    let client = context.client()?;
    let status = block_on(async { Ok(client.status().await?) })?;
    if context.json {
        output::json(&status)?;
        return Ok(Exit::Done);
    }
    let takes = if status.degraded.is_empty() {
        "new jobs".to_owned()
    } else {
        format!("nothing new for now: {}", status.degraded.join(", "))
    };
    let insecure = if status.insecure.is_empty() { "none".to_owned() } else { status.insecure.join(", ") };
    let mut table = Table::new(&["node", &status.name]);
    for (name, value) in [
        ("url", client.login().url.to_string()),
        ("identity", status.identity.to_string()),
        ("version", status.version),
        ("up since", status.started.to_string()),
        ("protection", status.protection.to_string()),
        ("takes", takes),
        ("jobs", format!("{} queued, {} running, {} offers open", status.queued, status.running, status.offers)),
        ("log", format!("{} entries", status.log_size)),
        ("alerts", status.alerts.map_or(HIDDEN.to_owned(), |n| format!("{n} open"))),
        ("wipes", status.leftovers.as_deref().map_or(HIDDEN.to_owned(), wipes)),
        ("weakened", insecure),
        ("root of keys", status.root_source),
        ("you", format!("{}, {}", status.consumer, status.role)),
    ] {
        table.row([name.into(), value.into()]);
    }
    table.print()?;
    for left in status.leftovers.iter().flatten() {
        let what = left.what.join(", ");
        output::text(
            format!("left      {}, attempt {}: {what}, since {}\n", left.job, left.attempt, left.since).as_bytes(),
        )?;
    }
    Ok(Exit::Done)
}

fn wipes(left: &[Leftover]) -> String {
    match left.len() {
        0 => "all finished".to_owned(),
        n => format!("{n} unfinished; `decores doctor --mend` tries again"),
    }
}
