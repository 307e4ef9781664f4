//! `apikey create`, `apikey list`, `apikey revoke`.

use crate::context::{Context, block_on};
use crate::failure::{Exit, Failure};
use crate::table::Table;
use crate::{output, units};
use clap::{Args, Subcommand, ValueEnum};
use decores_api::admin::{ApiKey, ApiKeyRequest};
use decores_telemetry::plain;
use decores_types::ApiKeyId;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(crate) enum ApiKeyCommand {
    /// Make a key and print it, this once
    #[command(after_help = "Example: decores apikey create --name ci --expires 30d")]
    Create(Create),
    /// List keys, without the keys themselves
    #[command(after_help = "Example: decores apikey list --json")]
    List,
    /// Revoke a key; it stops at once
    #[command(after_help = "Example: decores apikey revoke ak_0123…")]
    Revoke {
        /// The key's handle, from `apikey list`
        key: ApiKeyId,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What people call it
    #[arg(long)]
    name: String,
    /// What it may do
    #[arg(long, value_enum, default_value_t = Role::Consumer)]
    role: Role,
    /// How long it stays valid
    #[arg(long, value_name = "SPAN", value_parser = units::parse_span, default_value = "90d")]
    expires: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    /// Runs jobs
    Consumer,
    /// Looks after the node
    Operator,
}

impl ApiKeyCommand {
    pub(crate) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        match self {
            Self::Create(create) => {
                let request = create.request();
                let made = block_on(async { Ok(client.create_api_key(&request).await?) })?;
                if context.json {
                    output::json(&made)?;
                    return Ok(Exit::Done);
                }
                output::line(plain(&made.api_key))?;
                output::note(format!("{} until {}; it is not shown again", made.record.id, made.record.expires));
            }
            Self::List => {
                let keys = block_on(async { Ok(client.api_keys().await?) })?;
                if context.json { output::json(&keys)? } else { table(keys).print()? }
            }
            Self::Revoke { key } => {
                block_on(async { Ok(client.revoke_api_key(key).await?) })?;
                output::note(format!("{key} is revoked"));
            }
        }
        Ok(Exit::Done)
    }
}

impl Create {
    fn request(self) -> ApiKeyRequest {
        let role = match self.role {
            Role::Consumer => "consumer",
            Role::Operator => "operator",
        };
        ApiKeyRequest { name: self.name, role: role.to_owned(), expires_seconds: self.expires.as_secs() }
    }
}

fn table(keys: Vec<ApiKey>) -> Table {
    let mut table = Table::new(&["key", "role", "consumer", "created", "expires", "state", "name"]);
    for key in keys {
        table.row([
            key.id.to_string().into(),
            key.role.into(),
            key.consumer.to_string().into(),
            key.created.to_string().into(),
            key.expires.to_string().into(),
            if key.revoked { "revoked" } else { "in force" }.into(),
            key.name.into(),
        ]);
    }
    table
}
