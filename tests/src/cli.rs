//! The real `decores`.

use crate::node::Node;
use crate::programs::program;
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A command line with a home of its own.
#[derive(Debug)]
pub struct Cli {
    folder: TempDir,
}

/// What a command came to.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// Its data.
    pub stdout: String,
    /// The rest.
    pub stderr: String,
}

impl Default for Cli {
    fn default() -> Self {
        Self { folder: tempfile::Builder::new().prefix("decores-cli-").tempdir().unwrap() }
    }
}

impl Cli {
    /// A command line that is logged in to a node.
    pub fn logged_in(node: &Node, key: &str) -> Self {
        let this = Self::default();
        let identity = node.statement().identity.to_string();
        this.run(["login", &node.url(), "--identity", &identity, "--api-key", key]).is(0);
        this
    }

    /// A path in its folder, outside its home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file in its folder.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Its home.
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// Runs a command.
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        run(self.folder.path(), args)
    }
}

fn run<A: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = A>) -> Ran {
    let mut command = Command::new(program("decores"));
    command.args(args).env("DECORES_HOME", folder.join("home")).stdin(Stdio::null());
    // Passwords for registries are the test's own.
    command.env("DOCKER_CONFIG", folder);
    for name in ["DECORES_URL", "DECORES_API_KEY", "DECORES_CONFIG"] {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Ran {
    /// Asserts its exit code.
    #[track_caller]
    pub fn is(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that its messages hold a text.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.stderr.contains(text) || self.stdout.contains(text),
            "no `{text}` in:\n{}{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Its data as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }
}
