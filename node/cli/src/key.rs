//! `key list`.

use crate::context::{Context, block_on};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::table::Table;
use clap::Subcommand;
use decores_telemetry::plain;

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// List the node's keys, without their secrets
    #[command(after_help = "Example: decores key list --json")]
    List,
}

impl KeyCommand {
    pub(crate) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let Self::List = self;
        let client = context.client()?;
        let keys = block_on(async { Ok(client.keys().await?) })?;
        if context.json {
            output::json(&keys)?;
            return Ok(Exit::Done);
        }
        let root = block_on(async { Ok(client.status().await?) })?.root_source;
        let mut table = Table::new(&["key", "purpose", "epoch", "algorithm", "state", "place", "created"]);
        for key in keys {
            table.row([
                key.id.to_string().into(),
                key.purpose.into(),
                key.epoch.to_string().into(),
                key.algorithm.into(),
                key.state.into(),
                key.place.into(),
                key.created.to_string().into(),
            ]);
        }
        table.print()?;
        output::note(format!("the root that wraps them: {}", plain(&root)));
        Ok(Exit::Done)
    }
}
