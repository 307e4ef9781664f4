//! Why an image is not unpacked.

use rustix::io::Errno;
use std::io;

/// Why an image is not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It is not an image that is unpacked here.
    #[error("{0}")]
    Image(String),
    /// It does not fit.
    #[error("{0}")]
    Full(String),
    /// It could not be read to its end: what was sealed does not authenticate.
    #[error("the sealed image does not open")]
    Source(#[source] io::Error),
    /// By no fault of its own.
    #[error("failed while {0}")]
    Machine(&'static str, #[source] io::Error),
}

impl Refusal {
    pub(crate) fn image(why: impl Into<String>) -> Self {
        Self::Image(why.into())
    }

    /// Says where it came from.
    pub(crate) fn within(self, place: &str) -> Self {
        match self {
            Self::Image(why) => Self::Image(format!("{place}: {why}")),
            Self::Full(why) => Self::Full(format!("{place}: {why}")),
            other => other,
        }
    }
}

/// Sorts what the kernel said: a file system without room is the image's fault, all else is ours.
pub(crate) fn doing(what: &'static str) -> impl Fn(Errno) -> Refusal {
    move |e| match e {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::NOMEM => {
            Refusal::Full("the image does not fit the scratch".to_owned())
        }
        e => Refusal::Machine(what, e.into()),
    }
}

/// As [`doing`], of the standard library's errors.
pub(crate) fn doing_io(what: &'static str) -> impl Fn(io::Error) -> Refusal {
    move |e| match Errno::from_io_error(&e) {
        Some(number) => doing(what)(number),
        None => Refusal::Machine(what, e),
    }
}

/// A name of the image's as it stands in a message.
pub(crate) fn shown(name: &[u8]) -> String {
    const MOST: usize = 200;
    let text = String::from_utf8_lossy(name);
    let mut quoted: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        quoted.push('…');
    }
    format!("`{quoted}`")
}
