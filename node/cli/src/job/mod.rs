//! `job run|submit|list|show|logs|cancel|result|receipt`.

mod program;
mod read;
mod run;
mod what;

use crate::context::{Context, block_on};
use crate::failure::{Exit, Failure};
use clap::{Args, Subcommand, ValueEnum};
use decores_types::JobId;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Run a program on the node and bring back its output and a verified receipt
    #[command(
        after_help = "Examples: decores job run stats.wasm -i data.csv -o out --receipt receipt.json\n          \
                      decores job run oci:image:tag --file data=data.csv -- sh -c 'sha256sum /in/data'"
    )]
    Run(run::Run),
    /// Submit a job and come back; its id goes to standard output
    #[command(after_help = "Example: decores job submit stats.wasm -i data.csv")]
    Submit(run::Submit),
    /// List your jobs, newest first
    #[command(after_help = "Example: decores job list --json")]
    List {
        /// How many
        #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
        lines: u16,
    },
    /// Show a job and its steps
    #[command(after_help = "Example: decores job show job_0123…")]
    Show {
        /// The job
        job: JobId,
    },
    /// Print what the program wrote to its standard error
    #[command(after_help = "Example: decores job logs job_0123…")]
    Logs {
        /// The job
        job: JobId,
    },
    /// Stop a job
    #[command(after_help = "Example: decores job cancel job_0123…")]
    Cancel {
        /// The job
        job: JobId,
    },
    /// Fetch a job's output, waiting for its end
    #[command(after_help = "Example: decores job result job_0123… --dir out")]
    Result(ResultArgs),
    /// Fetch a job's receipt, verify it, and open its commitments with your keys
    #[command(after_help = "Example: decores job receipt job_0123… --out receipt.json --wait logged")]
    Receipt(ReceiptArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ResultArgs {
    /// The job
    job: JobId,
    /// Where standard output goes [default: our standard output]
    #[arg(short, long, value_name = "PATH", conflicts_with = "dir")]
    output: Option<PathBuf>,
    /// Folder for `stdout` and `files/…`
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ReceiptArgs {
    /// The job
    job: JobId,
    /// Where it goes [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// What to wait for: `logged` is when its entry stands in the log
    #[arg(long, value_enum, default_value_t = WaitFor::Logged)]
    wait: WaitFor,
}

/// How complete a receipt must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WaitFor {
    /// Its entry stands in the log
    Logged,
}

impl JobCommand {
    pub(crate) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        block_on(async {
            match self {
                Self::Run(args) => args.run(context, &client).await,
                Self::Submit(args) => args.run(context, &client).await,
                Self::List { lines } => read::list(context, &client, usize::from(lines)).await,
                Self::Show { job } => read::show(context, &client, job).await,
                Self::Logs { job } => read::logs(context, &client, job).await,
                Self::Cancel { job } => read::cancel(&client, job).await,
                Self::Result(args) => read::result(context, &client, args).await,
                Self::Receipt(args) => read::receipt(context, &client, args).await,
            }
        })
    }
}
