//! `decores-helper`: the node's privileged program.

mod container;
mod serve;

use std::process::ExitCode;

const USAGE: &str = "\
usage: decores-helper serve --socket PATH --user UID [--config FILE]
       decores-helper container
       decores-helper probe-container libcontainer|runc|runsc|kata UID FIRST-ID

`serve` starts engines for a node that runs as this user and not as root.
`container` is started by the launcher, which leaves it the descriptors it works with.
`probe-container` runs a container of its own and says what held it, or why it cannot.";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let done = match (mode.as_str(), rest.as_slice()) {
        (decores_container::CONTAINER, []) => Some(container::run()),
        ("probe-container", rest) => container::probe(rest),
        ("serve", rest) => serve::Asked::parse(rest).map(|asked| match serve::run(&asked) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }),
        (decores_container::LOOK, []) => Some(container::look()),
        _ => None,
    };
    done.unwrap_or_else(|| {
        eprintln!("{USAGE}");
        ExitCode::from(2)
    })
}
