//! The modes around one container.

use decores_container::Stop;
use decores_sandbox::container::Runtime;
use std::process::ExitCode;

/// `decores-helper container`: runs the container that the launcher's descriptors tell of.
pub(crate) fn run() -> ExitCode {
    match decores_container::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            eprintln!("decores-helper: {stop}");
            ExitCode::FAILURE
        }
    }
}

/// `decores-helper probe-container RUNTIME UID FIRST-ID`: one line of JSON with `report` or `why`.
pub(crate) fn probe(arguments: &[String]) -> Option<ExitCode> {
    let [runtime, uid, first] = arguments else { return None };
    let runtime: Runtime = serde_json::from_value(runtime.as_str().into()).ok()?;
    let (uid, first) = (uid.parse().ok()?, first.parse().ok()?);
    let found = decores_container::probe(runtime, uid, first);
    let line = match &found {
        Ok(report) => serde_json::json!({ "report": report }),
        Err(Stop::Refused(why) | Stop::Failed(why)) => serde_json::json!({ "why": why }),
    };
    println!("{line}");
    Some(if found.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `decores-helper look`: what the probe runs inside its container.
pub(crate) fn look() -> ExitCode {
    match decores_container::look() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
