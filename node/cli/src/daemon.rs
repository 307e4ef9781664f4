//! `up`, `config check`: the node's own program does the work.

use crate::context::{CONFIG_ENV, Context};
use crate::failure::{Exit, Failure};
use clap::{Args, Subcommand};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The node's program, which lies beside ours.
const PROGRAM: &str = "decoresd";
/// The program that makes the escape table.
const ESCAPE: &str = "decores-escape";

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Address and port to listen at
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Configuration file
    #[arg(long, env = CONFIG_ENV, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What the node calls itself
    #[arg(long)]
    name: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a configuration file
    #[command(after_help = "Example: decores config check node.toml")]
    Check {
        /// The file [default: config.toml in the node's folder]
        #[arg(env = CONFIG_ENV)]
        file: Option<PathBuf>,
    },
}

impl Up {
    pub(crate) fn run(self, context: &Context) -> Result<Exit, Failure> {
        no_json("up", context)?;
        let mut args = common("run", context, self.config);
        args.extend(self.listen.into_iter().flat_map(|a| ["--listen".into(), a.to_string().into()]));
        args.extend(self.name.into_iter().flat_map(|n| ["--name".into(), n.into()]));
        exec(args)
    }
}

impl ConfigCommand {
    pub(crate) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let Self::Check { file } = self;
        no_json("config check", context)?;
        exec(common("config-check", context, file))
    }
}

/// The folder of a node of one's own.
pub(crate) fn folder(context: &Context) -> PathBuf {
    context.home.root().join("node")
}

/// A command of the node's program, on the node's folder.
pub(crate) fn common(command: &str, context: &Context, config: Option<PathBuf>) -> Vec<OsString> {
    let mut args = vec![command.into(), "--home".into(), folder(context).into_os_string()];
    args.extend(config.into_iter().flat_map(|file| ["--config".into(), file.into_os_string()]));
    args
}

/// Refuses what would have no effect.
fn no_json(command: &str, context: &Context) -> Result<(), Failure> {
    match context.json {
        true => Err(Failure::usage(format!("`decores {command}` has no JSON to print")).hint("leave --json away")),
        false => Ok(()),
    }
}

/// Becomes the node's program; returns only if that fails.
pub(crate) fn exec(args: Vec<OsString>) -> Result<Exit, Failure> {
    exec_beside(PROGRAM, "decores-daemon", args)
}

/// Becomes the program that makes the escape table; returns only if that fails.
pub(crate) fn exec_escape(args: Vec<OsString>) -> Result<Exit, Failure> {
    exec_beside(ESCAPE, "decores-escape", args)
}

fn exec_beside(name: &str, package: &str, args: Vec<OsString>) -> Result<Exit, Failure> {
    let own = std::env::current_exe().map_err(|e| Failure::new(Exit::Failed, e))?;
    let program = own.parent().unwrap_or(Path::new("/")).join(name);
    let error = Command::new(&program).args(args).exec();
    if error.kind() == std::io::ErrorKind::NotFound {
        let text = format!("the program is missing: {}", program.display());
        let hint = format!("build it: cargo build -p {package}; or install it beside `decores`");
        return Err(Failure::usage(text).hint(hint));
    }
    Err(Failure::file("run", &program, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use decores_client::Home;

    #[test]
    fn flags_are_passed_on_under_the_nodes_folder() {
        let context = Context {
            home: Home::new("/h".into()),
            json: true,
            url: None,
            api_key: None,
            registries: decores_client::image::RegistryAccess::default(),
        };
        let args = common("run", &context, Some("c.toml".into()));
        assert_eq!(args, ["run", "--home", "/h/node", "--config", "c.toml"]);
    }

    #[test]
    fn json_where_there_is_none_is_refused() {
        let context = |json| Context {
            home: Home::new("/h".into()),
            json,
            url: None,
            api_key: None,
            registries: decores_client::image::RegistryAccess::default(),
        };
        assert!(no_json("up", &context(true)).is_err());
        assert!(no_json("up", &context(false)).is_ok());
    }
}
