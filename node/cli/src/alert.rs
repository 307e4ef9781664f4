//! `alert list`, `alert ack`.

use crate::context::{Context, block_on};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::table::{Cell, Table};
use clap::Subcommand;
use console::Style;
use decores_api::admin::Alert;
use decores_types::AlertId;

#[derive(Debug, Subcommand)]
pub(crate) enum AlertCommand {
    /// List alerts, newest first
    #[command(after_help = "Example: decores alert list")]
    List,
    /// Take note of an alert
    #[command(after_help = "Example: decores alert ack alr_0123…")]
    Ack {
        /// The alert
        alert: AlertId,
    },
}

impl AlertCommand {
    pub(crate) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        match self {
            Self::List => {
                let alerts = block_on(async { Ok(client.alerts().await?) })?;
                if context.json { output::json(&alerts)? } else { table(alerts).print()? }
            }
            Self::Ack { alert } => {
                block_on(async { Ok(client.acknowledge(alert).await?) })?;
                output::note(format!("{alert} is acknowledged"));
            }
        }
        Ok(Exit::Done)
    }
}

fn table(alerts: Vec<Alert>) -> Table {
    let mut table = Table::new(&["alert", "severity", "kind", "raised", "state", "what happened, and what to do"]);
    for alert in alerts {
        let style = if alert.acknowledged.is_some() { Style::new() } else { Style::new().red() };
        table.row([
            alert.id.to_string().into(),
            Cell::styled(alert.severity, style),
            alert.kind.into(),
            alert.raised.to_string().into(),
            if alert.acknowledged.is_some() { "acknowledged" } else { "open" }.into(),
            format!("{}; {}", alert.message, alert.hint).into(),
        ]);
    }
    table
}
