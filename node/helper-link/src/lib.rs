//! How a node that is not root gets to the helper that starts engines in its place.
//!
//! The helper (`decores-helper serve`) is root and listens on a Unix socket that only the node's user may use. What is said
//! there is what a node's own launcher is told, in the same words; the helper checks each plan against a configuration
//! that only root can change. When the conversation ends, so do all jobs that were started in it.

use decores_launcher::{LaunchError, Launcher};
use std::io;
use std::path::{Path, PathBuf};

/// Why there is no conversation.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody listens there.
    #[error("nobody listens at `{0}`; start the helper: `sudo decores-helper serve --socket {0} --user UID`")]
    Absent(PathBuf),
    /// The socket is another user's.
    #[error("`{0}` is not for this user; the helper's `--user` must be the one that the node runs as")]
    NotOurs(PathBuf),
    /// The helper does not want to, or is none.
    #[error("the helper at `{0}` cannot be used")]
    Refused(PathBuf, #[source] LaunchError),
}

/// Begins the conversation. To be called where [`Launcher::fork`] would be. `patient` waits for a helper that is busy.
///
/// # Errors
/// If nobody listens there who is root, or the helper refuses: it serves one node at a time.
pub fn connect(socket: &Path, patient: bool) -> Result<Launcher, LinkError> {
    Launcher::connect_to(socket, patient).map_err(|error| match &error {
        LaunchError::Socket(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            LinkError::Absent(socket.to_owned())
        }
        LaunchError::Socket(e) if e.kind() == io::ErrorKind::PermissionDenied => LinkError::NotOurs(socket.to_owned()),
        _ => LinkError::Refused(socket.to_owned(), error),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_socket_that_nobody_listens_at_is_told_with_what_starts_one() {
        let error = connect(Path::new("/nonexistent/helper.sock"), true).unwrap_err();
        assert!(matches!(error, LinkError::Absent(_)));
        assert!(error.to_string().contains("decores-helper serve --socket /nonexistent/helper.sock"));
    }
}
