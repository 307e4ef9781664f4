//! A node: `decoresd run` on a home of its own.

use crate::consumer::Consumer;
use crate::programs::program;
use crate::transport::{Transport, tls};
use crate::wait::until;
use decores_api::node::{NodeResponse, NodeStatement};
use decores_api::paths;
use decores_audit::trust::TrustedNode;
use decores_audit::{LogKey, Trust};
use decores_keys::Ed25519Public;
use decores_types::canonical;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// User ids that one node of the tests has for its jobs.
pub const UIDS: u32 = 16;

/// What a test may want to be other than usual.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Jobs at a time.
    pub slots: u32,
    /// Jobs that wait.
    pub queue: u32,
    /// Life of an offer.
    pub offer_seconds: u32,
    /// Largest payload.
    pub payload_bytes: u64,
    /// Connections at a time.
    pub connections: u32,
    /// For a head and a handshake.
    pub head_seconds: u32,
    /// For a body.
    pub body_seconds: u32,
    /// Seconds a sealed output, sealed logs and a receipt are kept.
    pub keep_seconds: [u32; 3],
    /// Bytes of disk, bytes of memory and descriptors that stay free.
    pub reserve: [u64; 3],
    /// Descriptors that it may have at most.
    pub open_files: Option<u32>,
    /// More lines of the section `[jobs]`.
    pub more_jobs: String,
    /// What runs containers.
    pub runtime: &'static str,
    /// Where its home lies, if not beside its outputs.
    pub home: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            slots: 4,
            queue: 64,
            offer_seconds: 600,
            payload_bytes: 256 << 20,
            connections: 64,
            head_seconds: 10,
            body_seconds: 10,
            keep_seconds: [604_800, 604_800, 31_536_000],
            // Small enough for a home on a small disk.
            reserve: [8 << 20, 64 << 20, 128],
            open_files: None,
            more_jobs: String::new(),
            runtime: "libcontainer",
            home: None,
        }
    }
}

/// User ids that no other node of the tests has.
#[derive(Clone, Copy, Debug)]
pub struct Ids {
    /// The first of [`UIDS`] for jobs.
    pub first_uid: u32,
    /// The first of those for the users of containers.
    pub first_range: u32,
}

impl Ids {
    /// For one more node, also beside the nodes of other test programs.
    fn next() -> Self {
        static NODES: AtomicU32 = AtomicU32::new(0);
        let (node, process) = (NODES.fetch_add(1, Ordering::Relaxed), std::process::id());
        Self {
            first_uid: 1 << 30 | (process & 0xffff) << 12 | ((node * UIDS) & 0xfff),
            first_range: 0x7100_0000 + (((process & 0x7f) << 4 | (node & 0xf)) << 20),
        }
    }
}

impl Settings {
    /// Writes them as a configuration file; the user ids in it.
    pub fn write(&self, path: &Path) -> Ids {
        let ids @ Ids { first_uid, first_range } = Ids::next();
        let Self { slots, queue, offer_seconds, payload_bytes, connections, head_seconds, body_seconds, .. } = self;
        let ([keep_result, keep_logs, keep_receipt], [disk, memory, descriptors]) = (self.keep_seconds, self.reserve);
        let text = format!(
            "version = 1\n[node]\nlisten = \"127.0.0.1:0\"\n\
             [jobs]\nslots = {slots}\nqueue = {queue}\noffer_seconds = {offer_seconds}\nfirst_uid = {first_uid}\n\
             keep_result_seconds = {keep_result}\nkeep_logs_seconds = {keep_logs}\n\
             keep_receipt_seconds = {keep_receipt}\n{}\n\
             [reserve]\ndisk_bytes = {disk}\ndisk_files = 64\nmemory_bytes = {memory}\ndescriptors = {descriptors}\n\
             [jobs.max]\npayload_bytes = {payload_bytes}\n[container]\nruntime = \"{}\"\nfirst_range = {first_range}\n\
             [api]\nconnections = {connections}\nhead_seconds = {head_seconds}\nbody_seconds = {body_seconds}\n",
            self.more_jobs, self.runtime
        );
        fs::write(path, text).unwrap();
        ids
    }
}

/// A running node; ended when dropped.
pub struct Node {
    folder: TempDir,
    child: Child,
    address: SocketAddr,
    statement: NodeStatement,
    operator: String,
    open_files: Option<u32>,
}

impl Node {
    /// A node with the tests' usual settings.
    pub fn start() -> Self {
        Self::with(&Settings::default())
    }

    /// A node with other settings.
    pub fn with(settings: &Settings) -> Self {
        let folder = tempfile::Builder::new().prefix("decores-test-").tempdir().unwrap();
        // Jobs' users must reach the jails inside.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let home = folder.path().join("home");
        match &settings.home {
            Some(elsewhere) => symlink(elsewhere, &home).unwrap(),
            None => fs::DirBuilder::new().mode(0o700).create(&home).unwrap(),
        }
        settings.write(&home.join("config.toml"));
        let (child, login) = spawn(folder.path(), None, settings.open_files);
        let (address, operator) = read_login(&login);
        let operator = operator.expect("a first start shows an API key");
        let statement = statement(address);
        Self { folder, child, address, statement, operator, open_files: settings.open_files }
    }

    /// Starts it again on the same home and address.
    pub fn start_again(&mut self) {
        let (child, login) = spawn(self.folder.path(), Some(self.address), self.open_files);
        self.child = child;
        let (address, key) = read_login(&login);
        assert_eq!((address, key), (self.address, None), "a second start shows no API key");
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(&mut self) {
        if self.child.try_wait().unwrap().is_some() {
            return;
        }
        signal("TERM", self.pid());
        let child = &mut self.child;
        until("the node stops", 60, || child.try_wait().unwrap());
    }

    /// Waits until it has ended by itself; its exit code.
    pub fn ended(&mut self) -> Option<i32> {
        let child = &mut self.child;
        until("the node ends", 60, || child.try_wait().unwrap()).code()
    }

    /// Ends it as a crash would.
    pub fn crash(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Its folder.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// A folder beside its own, for what a test writes.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it wrote to its standard error, and what it was started with.
    pub fn log(&self) -> String {
        fs::read_to_string(self.beside("stderr")).unwrap()
    }

    /// Who it says it is.
    pub const fn statement(&self) -> &NodeStatement {
        &self.statement
    }

    /// Its identity key.
    pub fn identity(&self) -> Ed25519Public {
        Ed25519Public::from_base64(&self.statement.identity_public).unwrap()
    }

    /// A trust file that pins it.
    pub fn trust(&self) -> Trust {
        let log = LogKey::parse(&self.statement.log_key).unwrap();
        let node = TrustedNode::new("node", *self.identity().as_bytes(), &log);
        Trust { nodes: vec![node], ..Trust::default() }
    }

    /// A way to it that believes its own authority only.
    pub fn transport(&self) -> Transport {
        Transport::new(self.address, tls(Some(&self.statement.tls_ca.0)))
    }

    /// Whoever holds the first API key.
    pub fn operator(&self) -> Consumer<'_> {
        Consumer::new(self, &self.operator)
    }

    /// A new consumer.
    pub fn consumer(&self) -> Consumer<'_> {
        Consumer::new(self, &self.operator().create_key("consumer", 3600).api_key)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("--- the node's log:\n{}", self.log());
        }
    }
}

/// Sends a signal to one process.
pub fn signal(name: &str, pid: u32) {
    assert!(signal_all(name, &[pid]), "kill -{name} {pid}");
}

/// Sends a signal to some processes, one right after the other; whether all of them were there.
pub fn signal_all(name: &str, pids: &[u32]) -> bool {
    let mut kill = Command::new("kill");
    kill.arg(format!("-{name}")).args(pids.iter().map(u32::to_string)).stderr(Stdio::null());
    kill.status().unwrap().success()
}

/// Starts the program and waits for the line that says how to log in.
fn spawn(folder: &Path, listen: Option<SocketAddr>, open_files: Option<u32>) -> (Child, String) {
    let out = folder.join("stdout");
    let errors = File::options().create(true).append(true).open(folder.join("stderr")).unwrap();
    let node = program("decoresd");
    program("decores-engine-wasm");
    let mut command = match open_files {
        None => Command::new(node),
        Some(limit) => {
            let mut command = Command::new("prlimit");
            command.arg(format!("--nofile={limit}:{limit}")).arg(node);
            command
        }
    };
    command.arg("run").arg("--home").arg(folder.join("home"));
    command.args(listen.iter().flat_map(|address| ["--listen".to_owned(), address.to_string()]));
    command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(errors);
    let mut child = command.spawn().unwrap();
    let login = until("the node says how to log in", 60, || {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("the node ended ({status}): {}", fs::read_to_string(folder.join("stderr")).unwrap());
        }
        fs::read_to_string(&out).unwrap().lines().find(|l| l.starts_with("decores login ")).map(str::to_owned)
    });
    (child, login)
}

/// The address, and the API key of a first start, in the line that a node prints to log in with.
pub fn read_login(line: &str) -> (SocketAddr, Option<String>) {
    let words: Vec<&str> = line.split(' ').collect();
    let address = words[2].strip_prefix("https://").unwrap().parse().unwrap();
    let key = words.iter().position(|w| *w == "--api-key").map(|at| words[at + 1].to_owned());
    (address, key)
}

fn statement(address: SocketAddr) -> NodeStatement {
    try_statement(address).unwrap()
}

/// Asks a node who it is.
pub fn try_statement(address: SocketAddr) -> std::io::Result<NodeStatement> {
    let answer = Transport::new(address, tls(None)).patient(10).try_request("GET", paths::NODE, &[], b"")?;
    let answer: NodeResponse = answer.json();
    let bytes = canonical::to_vec(&answer.envelope).unwrap();
    let envelope: decores_keys::Envelope = canonical::from_slice(&bytes, 1 << 16).unwrap();
    let statement: NodeStatement = canonical::from_slice(&envelope.payload.0, 1 << 16).unwrap();
    let identity = Ed25519Public::from_base64(&statement.identity_public).unwrap();
    envelope.verify(decores_api::node::NODE_STATEMENT_TYPE, &identity).unwrap();
    Ok(statement)
}
