//! The grammar: nouns, then verbs.

use crate::context::{Context, Globals};
use crate::failure::{Exit, Failure};
use crate::{alert, apikey, daemon, doctor, job, key, log, login, status, verify};
use clap::{Parser, Subcommand};

/// Run programs on machines you do not own, and keep a receipt that anyone can check.
#[derive(Debug, Parser)]
#[command(name = "decores", version, disable_help_subcommand = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 the work failed, 2 wrong usage or unreadable file, 3 refused, 4 unreachable"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of these, for the length of the program")]
enum Command {
    /// Run a node on this machine, in the foreground
    #[command(after_help = "Example: decores up --listen 127.0.0.1:7443")]
    Up(daemon::Up),
    /// Say what this machine can do, what it cannot, and what mends it
    #[command(after_help = "Example: decores doctor")]
    Doctor(doctor::Doctor),
    /// Look at a node's configuration
    Config {
        #[command(subcommand)]
        command: daemon::ConfigCommand,
    },
    /// Pin a node's identity and keep an API key for it
    #[command(after_help = "Example: decores login https://127.0.0.1:7443 --identity key_0123… --api-key - < key-file")]
    Login(login::Login),
    /// Say what the node is doing
    #[command(after_help = "Example: decores status --json")]
    Status,
    /// Run jobs and fetch what they leave
    Job {
        #[command(subcommand)]
        command: job::JobCommand,
    },
    /// Judge a receipt, offline
    #[command(after_help = "Example: decores verify receipt.json --output out --require wipe")]
    Verify(verify::Verify),
    /// Read and check the node's log
    Log {
        #[command(subcommand)]
        command: log::LogCommand,
    },
    /// Look at the node's keys
    Key {
        #[command(subcommand)]
        command: key::KeyCommand,
    },
    /// Look at what needs a person
    Alert {
        #[command(subcommand)]
        command: alert::AlertCommand,
    },
    /// Hand out and revoke API keys
    Apikey {
        #[command(subcommand)]
        command: apikey::ApiKeyCommand,
    },
}

impl Cli {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let context = Context::resolve(&self.globals)?;
        match self.command {
            Command::Up(args) => args.run(&context),
            Command::Doctor(args) => args.run(&context),
            Command::Config { command } => command.run(&context),
            Command::Login(args) => args.run(&context),
            Command::Status => status::run(&context),
            Command::Job { command } => command.run(&context),
            Command::Verify(args) => args.run(&context),
            Command::Log { command } => command.run(&context),
            Command::Key { command } => command.run(&context),
            Command::Alert { command } => command.run(&context),
            Command::Apikey { command } => command.run(&context),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use clap::CommandFactory as _;

    fn parses(line: &str) -> bool {
        Cli::try_parse_from(line.split(' ')).is_ok()
    }

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_documented_form_parses() {
        for line in [
            "decores up --listen 127.0.0.1:7443 --name attic",
            "decores --home /h doctor --json",
            "decores doctor --mend",
            "decores config check node.toml",
            "decores login https://h:1 --identity key_00112233445566778899aabbccddeeff --api-key -",
            "decores status --json",
            "decores job run p.wasm -i data -o out --receipt r.json",
            "decores job run p.wasm -i a -i b --file x/y=z --arg 1 --env A=b --limit-memory 64MiB --limit-time 30s",
            "decores job run p.wasm --require protection=process --dry-run --json -- --flag value",
            "decores job submit p.wasm -i -",
            "decores job list -n 5",
            "decores job result job_00112233445566778899aabbccddeeff --dir out",
            "decores job receipt job_00112233445566778899aabbccddeeff --out r.json --wait logged",
            "decores verify r.json --trust t.json --output out --require wipe --json",
            "decores log tail -n 5",
            "decores log prove 7 --out p",
            "decores key list",
            "decores alert ack alr_00112233445566778899aabbccddeeff",
            "decores apikey create --name ci --role consumer --expires 90d",
            "decores apikey revoke ak_00112233445566778899aabbccddeeff",
        ] {
            assert!(parses(line), "{line}");
        }
    }

    #[test]
    fn malformed_ids_sizes_and_demands_are_refused_as_usage() {
        for line in [
            "decores job show 7",
            "decores job show job_XX",
            "decores job run p.wasm --limit-memory lots",
            "decores job run p.wasm --limit-time -1",
            "decores job run p.wasm --require courage",
            "decores job run p.wasm --file x",
            "decores job run p.wasm --env x",
            "decores login ftp://h",
            "decores log show first",
            "decores verify",
            "decores apikey create --name a --role king",
        ] {
            let Err(error) = Cli::try_parse_from(line.split(' ')) else { panic!("{line}") };
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
