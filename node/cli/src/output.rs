//! Writing to standard output and standard error.

use crate::failure::{Exit, Failure};
use decores_telemetry::{plain, steers};
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};

/// A line of data.
pub(crate) fn line(text: impl Display) -> Result<(), Failure> {
    bytes(format!("{text}\n").as_bytes())
}

/// Data as it is.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(failed)
}

/// Text from outside: as it is for programs and files; on a terminal, what would steer it is escaped.
pub(crate) fn text(text: &[u8]) -> Result<(), Failure> {
    if !io::stdout().is_terminal() {
        return bytes(text);
    }
    bytes(plain_lines(text).as_bytes())
}

fn plain_lines(text: &[u8]) -> String {
    String::from_utf8_lossy(text).lines().map(|line| plain(line) + "\n").collect()
}

/// Data for programs.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::new(Exit::Failed, e))?;
    line(escaped(&text))
}

/// JSON lets some characters stand that steer a terminal; they stand in strings, where an escape means the same.
fn escaped(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && steers(c) { shown.push_str(&format!("\\u{:04x}", u32::from(c))) } else { shown.push(c) }
    }
    shown
}

/// A line for people; nobody listening is fine.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn failed(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::PipeClosed,
        _ => Failure::new(Exit::Failed, error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn json_steers_no_terminal_and_means_the_same() {
        let value = serde_json::json!({"name": "a\u{1b}[2J\u{9b}1A\u{7f}\u{202e}\nb", "more": ["ü"]});
        let text = escaped(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!text.chars().any(|c| c != '\n' && steers(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        assert!(text.contains("ü"));
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(plain_lines(b"a\x1b[2J\nb\xff\n"), "a\\u{1b}[2J\nb\u{fffd}\n");
    }
}
