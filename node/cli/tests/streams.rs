//! Standard output is data: where there is none, it stays empty, and the error is on standard error.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// Runs the program in an empty home; its exit code and what it wrote to each stream.
fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> (i32, String, String) {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_decores"));
    command.args(args).env_clear().env("DECORES_HOME", home.path()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn errors_go_to_standard_error_and_leave_standard_output_empty() {
    let job = "job_00112233445566778899aabbccddeeff";
    for line in [
        "status",
        "status --json",
        "job list --json",
        "job run /nowhere.wasm --json",
        &format!("job result {job}"),
        &format!("job logs {job} --json"),
        &format!("job receipt {job} --json"),
        "verify /nowhere --json",
        "log head",
        "log prove 0 --json",
        "key list",
        "alert list",
        "apikey list",
        "login https://127.0.0.1:1 --identity no",
        "up --json",
        "config check --json",
        "nonsense",
    ] {
        let (code, out, err) = run(line.split(' '));
        assert_eq!((code, out.as_str()), (2, ""), "{line}: {err}");
        assert!(err.starts_with("error: "), "{line}: {err}");
    }
}

#[test]
fn nobody_there_is_exit_code_4_with_a_hint() {
    let (code, out, err) = run(["login", "https://127.0.0.1:1"]);
    assert_eq!((code, out.as_str()), (4, ""), "{err}");
    assert!(err.starts_with("error: ") && err.contains("\n\nhint: "), "{err}");
}

#[test]
fn what_would_steer_a_terminal_is_escaped_in_errors() {
    let (code, out, err) = run(["verify", "/no\u{1b}[2J\u{9b}where\u{202e}", "--trust", "/dev/null"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(!err.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{err:?}");
    let folder = tempfile::tempdir().unwrap();
    let trust = folder.path().join("trust.json");
    std::fs::write(&trust, r#"{"nodes":[],"policy":{"insecure_accept_simulated_anchor":false,"insecure_accept_simulated_evidence":false,"require":[],"witnesses":0},"version":1}"#).unwrap();
    let trust = trust.to_str().unwrap();
    let (code, out, err) = run(["verify", "/no\u{1b}[2J\u{9b}where\u{202e}", "--trust", trust]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert_eq!(err.lines().next(), Some(r"error: there is no receipt at /no\u{1b}[2J\u{9b}where\u{202e}"));
}

#[test]
fn help_and_version_are_data() {
    for line in ["--help", "--version", "job run --help", "login --help"] {
        let (code, out, err) = run(line.split(' '));
        assert_eq!((code, err.as_str()), (0, ""), "{line}");
        assert!(!out.is_empty(), "{line}");
    }
    assert!(run(["login", "--help"]).1.contains("--api-key -"));
}
