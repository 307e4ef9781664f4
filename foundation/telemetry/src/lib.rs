//! What programs say on standard error: their log, and the error they end with.
//!
//! `DECORES_LOG` filters (`info`, `decores_http=debug,warn` …); `DECORES_LOG_FORMAT=json` writes one
//! JSON object per line, for machines.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use tracing_subscriber::EnvFilter;

/// Environment variable that filters the log.
pub const LOG_ENV: &str = "DECORES_LOG";
/// Environment variable that chooses the log's format: `human` or `json`.
pub const LOG_FORMAT_ENV: &str = "DECORES_LOG_FORMAT";

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

impl Format {
    /// JSON if a flag or the value of [`LOG_FORMAT_ENV`] asks for it.
    pub fn resolve(json_flag: bool, env: Option<&str>) -> Self {
        if json_flag || env == Some("json") { Self::Json } else { Self::Human }
    }
}

/// Sends the program's log to standard error; `default` is the filter where [`LOG_ENV`] is unset.
///
/// A filter that does not parse is named on standard error, and `default` is used. A second call does nothing.
pub fn init(default: &str, format: Format) {
    let filter = match std::env::var(LOG_ENV) {
        Ok(text) => EnvFilter::try_new(&text).unwrap_or_else(|error| {
            warn(&format!("{LOG_ENV} is ignored: {error}"));
            EnvFilter::new(default)
        }),
        Err(_) => EnvFilter::new(default),
    };
    // A line that cannot be written is lost; to say so on the same standard error would panic.
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    // Fails only where a subscriber is set already, which then stays.
    let _ = match format {
        Format::Human => builder.try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// Text from outside as one line that cannot steer a terminal: control characters, and those that turn the direction
/// of writing, are shown as escapes such as `\u{1b}`.
pub fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// Whether a terminal does something else with this character than show it.
pub fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `error: …` with its causes, an empty line, and `hint: …` if there is one; both [`plain`].
pub fn render_error(error: &dyn Error, hint: Option<&str>) -> String {
    let mut text = format!("error: {}\n", plain(&decores_types::chain(error)));
    if let Some(hint) = hint {
        // Writing to a string cannot fail.
        let _ = write!(text, "\nhint: {}\n", plain(hint));
    }
    text
}

/// Prints an error on standard error; a closed standard error is ignored.
pub fn print_error(error: &dyn Error, hint: Option<&str>) {
    let _ = std::io::stderr().write_all(render_error(error, hint).as_bytes());
}

/// Prints `warning: …` on standard error; a closed standard error is ignored.
pub fn warn(message: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {}", plain(message));
}

#[cfg(test)]
mod tests {
    use super::{Format, plain, render_error};
    use std::fmt;

    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("failed to read the port")
        }
    }

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn errors_show_causes_and_hint() {
        let Err(cause) = "x".parse::<u16>() else { return };
        let text = render_error(&Outer(cause), Some("give a number"));
        assert_eq!(text, "error: failed to read the port: invalid digit found in string\n\nhint: give a number\n");
    }

    #[test]
    fn what_would_steer_a_terminal_is_escaped() {
        let outside = "a\u{1b}[2J\u{9b}1A\u{7f}\r\n\tb \u{202e}txt\u{2066}\u{2069}";
        let shown = r"a\u{1b}[2J\u{9b}1A\u{7f}\r\n\tb \u{202e}txt\u{2066}\u{2069}";
        assert_eq!(plain(outside), shown);
        assert_eq!(plain("größer: 3 µs — ok, 日本語"), "größer: 3 µs — ok, 日本語");
        let error = std::io::Error::other(outside);
        assert_eq!(render_error(&error, Some(outside)), format!("error: {shown}\n\nhint: {shown}\n"));
    }

    #[test]
    fn errors_without_hint_are_one_line() {
        let Err(cause) = "x".parse::<u16>() else { return };
        assert_eq!(render_error(&cause, None), "error: invalid digit found in string\n");
    }

    #[test]
    fn json_by_flag_or_environment() {
        assert_eq!(Format::resolve(true, None), Format::Json);
        assert_eq!(Format::resolve(false, Some("json")), Format::Json);
        assert_eq!(Format::resolve(false, Some("pretty")), Format::Human);
        assert_eq!(Format::resolve(false, None), Format::Human);
    }
}
