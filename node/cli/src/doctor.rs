//! `doctor`: the node's own program looks at the machine; a node that runs is asked for its unfinished wipes.

use crate::context::{CONFIG_ENV, Context, block_on};
use crate::daemon::{common, exec, exec_escape, folder};
use crate::failure::{Exit, Failure};
use crate::output;
use clap::Args;
use decores_api::admin::{Leftover, Mended};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

/// What begins the origin of a node's log; its identity follows.
const ORIGIN: &str = "decores.local/";
/// Bytes of the log's newest checkpoint that are read for its origin.
const MAX_ORIGIN: u64 = 256;

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Configuration file
    #[arg(long, env = CONFIG_ENV, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Have the node that you are logged in to try its unfinished wipes again
    #[arg(long, conflicts_with = "config")]
    mend: bool,
    /// Try to get out of the jails that jobs run in, and print what stopped it; needs no node
    #[arg(long, conflicts_with = "mend")]
    escape: bool,
    /// With --escape: the jail of one engine only, `wasm` or `container`
    #[arg(long, requires = "escape", value_name = "ENGINE")]
    engine: Option<String>,
    /// With --escape: leave a mechanism out, to see that the table notices
    #[arg(long = "hole", requires = "escape", value_name = "NAME")]
    holes: Vec<String>,
    /// With --escape: run this probe only
    #[arg(long = "probe", requires = "escape", value_name = "NAME")]
    probes: Vec<String>,
}

impl Doctor {
    pub(crate) fn run(self, context: &Context) -> Result<Exit, Failure> {
        if self.mend {
            return mend(context);
        }
        if self.escape {
            return exec_escape(self.escape_arguments(context.json));
        }
        let mut args = common("doctor", context, self.config);
        args.extend(context.json.then(|| "--json".into()));
        args.extend(unfinished(context).into_iter().flat_map(|n| ["--unfinished".into(), n.to_string().into()]));
        exec(args)
    }

    fn escape_arguments(self, json: bool) -> Vec<OsString> {
        let named = |flag: &'static str, value: String| [flag.into(), value.into()];
        let mut args: Vec<OsString> = json.then(|| "--json".into()).into_iter().collect();
        args.extend(self.engine.into_iter().flat_map(|engine| named("--engine", engine)));
        args.extend(self.holes.into_iter().flat_map(|hole| named("--hole", hole)));
        args.extend(self.probes.into_iter().flat_map(|probe| named("--probe", probe)));
        args
    }
}

/// How many wipes the node of this folder has not finished, where it runs and tells us.
fn unfinished(context: &Context) -> Option<usize> {
    let client = context.client().ok()?;
    let mut checkpoint = Vec::new();
    let file = File::open(folder(context).join("log/checkpoint")).ok()?;
    file.take(MAX_ORIGIN).read_to_end(&mut checkpoint).ok()?;
    let own = format!("{ORIGIN}{}\n", client.login().identity);
    if !checkpoint.starts_with(own.as_bytes()) {
        return None;
    }
    let status = block_on(async { Ok(client.status().await?) }).ok()?;
    status.leftovers.map(|left| left.len())
}

fn mend(context: &Context) -> Result<Exit, Failure> {
    let client = context.client()?;
    let mended = block_on(async { Ok(client.mend().await?) }).map_err(unreachable)?;
    if context.json {
        output::json(&mended)?;
    } else {
        output::text(tell(&mended).as_bytes())?;
    }
    Ok(if mended.left.is_empty() { Exit::Done } else { Exit::Failed })
}

/// Where nobody can be asked, waiting for the next start is an answer.
fn unreachable(failure: Failure) -> Failure {
    match failure {
        Failure::Told { exit: Exit::Unreachable, .. } => {
            failure.hint("a node tries unfinished wipes again by itself when it starts: `decores up`")
        }
        failure => failure,
    }
}

fn tell(mended: &Mended) -> String {
    if mended.cleared.is_empty() && mended.left.is_empty() {
        return "every wipe is finished\n".to_owned();
    }
    let mut text = String::new();
    for item in &mended.cleared {
        text += &format!("cleared  {}, attempt {}: {}\n", item.job, item.attempt, item.what.join(", "));
    }
    for item in &mended.left {
        text += &format!("left     {}, attempt {}: {}\n", item.job, item.attempt, item.what.join(", "));
        text.extend(item.causes.iter().map(|cause| format!("         why:  {cause}\n")));
        text.extend(holders(item).iter().map(|how| format!("         mend: {how}\n")));
    }
    text + &format!("\n{} cleared, {} left\n", mended.cleared.len(), mended.left.len())
}

/// How to find what holds a leftover.
fn holders(item: &Leftover) -> Vec<String> {
    let name = format!("{}-{}", item.job, item.attempt);
    let hold = |what: &str| match what {
        "processes" | "cgroup" => Some(format!("find what runs in its group: grep -ls {name} /proc/[0-9]*/cgroup")),
        "mounts" | "scratch" => Some(format!("find what holds its mounts: grep -ls {name} /proc/[0-9]*/mountinfo")),
        what if what.starts_with("sealed-") => Some(format!("look at the node's folder: lsattr blobs/{name}.*")),
        _ => None,
    };
    let mut found: Vec<String> = item.what.iter().filter_map(|what| hold(what)).collect();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use decores_types::{Attempt, JobId, Timestamp};

    fn leftover(what: &[&str]) -> Leftover {
        Leftover {
            job: JobId::from_bytes([1; 16]),
            attempt: Attempt(2),
            what: what.iter().map(|w| (*w).to_owned()).collect(),
            causes: vec!["it is busy".to_owned()],
            since: Timestamp::from_ms(0),
        }
    }

    #[test]
    fn what_is_left_is_told_with_its_cause_and_how_to_find_its_holder() {
        let text =
            tell(&Mended { cleared: vec![leftover(&["sealed-input"])], left: vec![leftover(&["mounts", "scratch"])] });
        assert!(text.contains("cleared  job_0101"), "{text}");
        assert!(text.contains("why:  it is busy"), "{text}");
        assert_eq!(text.matches("/mountinfo").count(), 1, "{text}");
        assert!(text.ends_with("1 cleared, 1 left\n"), "{text}");
    }

    #[test]
    fn where_nothing_is_unfinished_one_line_says_so() {
        assert_eq!(tell(&Mended::default()), "every wipe is finished\n");
    }
}
