//! Root's service that starts engines, and the node of another user that it does so for.

use decores_tests::node::{Ids, UIDS};
use decores_tests::programs::program;
use decores_tests::wait::within;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// How long a start may take, in milliseconds.
const PATIENCE_MS: u64 = 10_000;
const PROGRAMS: [&str; 4] = ["decoresd", "decores-helper", "decores-engine-wasm", "decores-engine-container"];

/// `decores-helper serve`, whenever it runs.
pub struct Service {
    folder: PathBuf,
    /// Where nobody but root can change them, and others can start them.
    programs: TempDir,
    user: u32,
    child: Option<Child>,
}

impl Service {
    /// One with a folder of its own, for a node with these settings.
    pub fn make(folder: &Path, ids: Ids, slots: u32) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("failed to make the service's folder: {e}");
        let programs = tempfile::tempdir().map_err(failed)?;
        fs::set_permissions(programs.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(failed)?;
        for name in PROGRAMS {
            fs::copy(program(name), programs.path().join(name)).map_err(failed)?;
        }
        fs::create_dir(folder).map_err(failed)?;
        let Ids { first_uid, first_range } = ids;
        let config = format!(
            "jails = {:?}\nscratch = {:?}\nslots = {slots}\nfirst_uid = {first_uid}\nfirst_range = {first_range}\n",
            folder.join("jails"),
            folder.join("scratch")
        );
        fs::write(folder.join("config.toml"), config).map_err(failed)?;
        // The last of the node's ids, which no slot has.
        Ok(Self { folder: folder.to_owned(), programs, user: first_uid + UIDS - 1, child: None })
    }

    /// Its folder, in which jails and scratches lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Lines of the node's configuration.
    pub fn told_to_node(folder: &Path) -> String {
        format!("[helper]\nsocket = {:?}\n", folder.join("socket"))
    }

    /// Starts it where it does not run.
    pub fn start(&mut self) -> Result<(), String> {
        if self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None))) {
            return Ok(());
        }
        let failed = |e: std::io::Error| format!("failed to start the service: {e}");
        // What a killed one left there stands for nobody.
        let socket = self.folder.join("socket");
        let _ = fs::remove_file(&socket);
        let errors = File::options().create(true).append(true).open(self.folder.join("stderr")).map_err(failed)?;
        let mut command = Command::new(self.programs.path().join("decores-helper"));
        command.arg("serve").arg("--socket").arg(&socket).args(["--user", &self.user.to_string()]);
        command.arg("--config").arg(self.folder.join("config.toml"));
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let child = self.child.insert(command.spawn().map_err(failed)?);
        let listens = || fs::metadata(&socket).is_ok_and(|found| found.file_type().is_socket());
        let listening = within(PATIENCE_MS, || (listens() || !matches!(child.try_wait(), Ok(None))).then_some(()));
        let said = || fs::read_to_string(self.folder.join("stderr")).unwrap_or_default();
        if listening.is_some() && listens() { Ok(()) } else { Err(format!("the service does not start: {}", said())) }
    }

    /// Its process.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Waits for it if it is one of those that were killed.
    pub fn reap(&mut self, killed: &[u32]) {
        if let Some(mut child) = self.child.take_if(|child| killed.contains(&child.id())) {
            let _ = child.wait();
        }
    }

    /// The node's program, as its user.
    pub fn node(&self) -> Command {
        let (mut command, user) = (Command::new("setpriv"), self.user.to_string());
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]).arg(self.programs.path().join("decoresd"));
        command
    }

    /// Gives these folders to the node's user, with all that is in them.
    pub fn give(&self, folders: &[PathBuf]) -> Result<(), String> {
        fn all(path: &Path, user: u32) -> std::io::Result<()> {
            chown(path, Some(user), Some(user))?;
            if path.symlink_metadata()?.is_dir() {
                fs::read_dir(path)?.try_for_each(|entry| all(&entry?.path(), user))?;
            }
            Ok(())
        }
        folders.iter().try_for_each(|folder| all(folder, self.user)).map_err(|e| format!("failed to give a home: {e}"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
