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
        let causes: Vec<String> = status.degraded.iter().map(|cause| explained(cause)).collect();
        format!("nothing new for now: {}", causes.join("; "))
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
    output::text(status.leftovers.iter().flatten().map(tell).collect::<String>().as_bytes())?;
    Ok(Exit::Done)
}

/// A cause by its name, and what it means.
fn explained(cause: &str) -> String {
    let meaning = match cause {
        "clock" => "its clock jumped a moment ago",
        "descriptors" => "it has few descriptors left",
        "disk" => "its disk is nearly full",
        "launcher" => "its launcher is gone, and it stops; the operator must start it again",
        "log" => "its log cannot be extended",
        "memory" => "its memory is nearly used up",
        "places" => "every place is blocked by a wipe that failed",
        "store" => "its store does not take what is written",
        // A newer node's.
        other => return other.to_owned(),
    };
    format!("{meaning} ({cause})")
}

fn tell(left: &Leftover) -> String {
    let what = left.what.join(", ");
    let mut text = format!("left      {}, attempt {}: {what}, since {}\n", left.job, left.attempt, left.since);
    text.extend(left.causes.iter().map(|cause| format!("          why:  {cause}\n")));
    text + "          mend: decores doctor --mend\n"
}

fn wipes(left: &[Leftover]) -> String {
    match left.len() {
        0 => "all finished".to_owned(),
        n => format!("{n} unfinished; `decores doctor --mend` tries again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use decores_detection::Cause;
    use decores_types::{Attempt, JobId, Timestamp};

    #[test]
    fn every_cause_is_explained_as_the_node_explains_it() {
        for cause in Cause::ALL {
            assert_eq!(explained(cause.as_str()), format!("{} ({})", cause.explain(), cause.as_str()));
        }
        assert_eq!(explained("other"), "other");
    }

    #[test]
    fn what_is_left_is_told_with_its_cause_and_the_next_step() {
        let text = tell(&Leftover {
            job: JobId::from_bytes([1; 16]),
            attempt: Attempt(2),
            what: vec!["sealed-input".to_owned()],
            causes: vec!["not permitted".to_owned()],
            since: Timestamp::from_ms(0),
        });
        assert!(text.contains("attempt 2: sealed-input"), "{text}");
        assert!(text.contains("why:  not permitted\n") && text.contains("mend: decores doctor --mend\n"), "{text}");
    }
}
