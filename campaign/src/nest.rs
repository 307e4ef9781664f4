//! A home that outlives its nodes, and the processes of whichever node lives there.

use super::plan::Victim;
use super::service::Service;
use decores_api::node::NodeStatement;
use decores_tests::image::Image;
use decores_tests::machine::{self, Process, family};
use decores_tests::node::{Ids, Settings, read_login, signal_all, try_statement};
use decores_tests::programs::program;
use decores_tests::wait::within;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// How long a start may take, and an end, in milliseconds.
const PATIENCE_MS: u64 = 40_000;
/// User ids of one container.
const RANGE: u32 = 1 << 16;

/// A node's home, with whoever lives in it.
pub struct Nest {
    folder: PathBuf,
    image: Option<Image>,
    service: Option<Service>,
    ids: Ids,
    slots: u32,
    child: Option<Child>,
    /// Processes that were seen to belong to the node.
    seen: Vec<u32>,
    address: Option<SocketAddr>,
    statement: Option<NodeStatement>,
    operator: Option<String>,
    starts: u32,
    keep: bool,
}

impl Nest {
    /// A fresh home; on an image of its own where that is allowed, and of a node that has its engines started by a
    /// service where that is wanted.
    pub fn make(name: &str, settings: &Settings, on_image: bool, served: bool) -> Result<Self, String> {
        // Without links in its path, as the kernel names it.
        let temporary = std::env::temp_dir().canonicalize().map_err(|e| e.to_string())?;
        let folder = temporary.join(format!("decores-campaign-{}-{name}", std::process::id()));
        let failed = |e: std::io::Error| format!("failed to make `{}`: {e}", folder.display());
        fs::DirBuilder::new().mode(0o711).create(&folder).map_err(failed)?;
        for name in ["disk", "tmp", "cwd"] {
            fs::create_dir(folder.join(name)).map_err(failed)?;
        }
        let image = on_image.then(|| Image::make(&folder.join("image"), &folder.join("disk"))).transpose()?;
        // Jobs' users must reach the jails inside.
        fs::set_permissions(folder.join("disk"), fs::Permissions::from_mode(0o711)).map_err(failed)?;
        fs::DirBuilder::new().mode(0o700).create(folder.join("disk/home")).map_err(failed)?;
        let mut settings = settings.clone();
        if served {
            settings.more_jobs.push_str(&Service::told_to_node(&folder.join("service")));
        }
        let ids = settings.write(&folder.join("disk/home/config.toml"));
        let service = served.then(|| Service::make(&folder.join("service"), ids, settings.slots)).transpose()?;
        // What the campaign made is not what a power cut is to take.
        let synced = Command::new("sync").arg("-f").arg(folder.join("disk/home")).status().map_err(failed)?;
        if !synced.success() {
            return Err("failed to sync a fresh home".to_owned());
        }
        Ok(Self {
            folder,
            image,
            service,
            ids,
            slots: settings.slots,
            child: None,
            seen: Vec::new(),
            address: None,
            statement: None,
            operator: None,
            starts: 0,
            keep: false,
        })
    }

    /// Its folder: home, image, the node's outputs, its temporary files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The node's home.
    pub fn home(&self) -> PathBuf {
        self.folder.join("disk/home")
    }

    /// The disk it lies on.
    pub const fn image(&mut self) -> Option<&mut Image> {
        self.image.as_mut()
    }

    /// The folder of the service that starts its engines.
    pub fn service(&self) -> Option<&Path> {
        self.service.as_ref().map(Service::folder)
    }

    /// Jobs at a time.
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// The user ids of its jobs and of their containers.
    pub const fn uids(&self) -> [Range<u32>; 2] {
        let Ids { first_uid, first_range } = self.ids;
        [first_uid..first_uid + self.slots, first_range..first_range + self.slots * RANGE]
    }

    /// Where the node listens.
    pub fn address(&self) -> SocketAddr {
        self.address.expect("the node was started")
    }

    /// Who the node says it is.
    pub fn statement(&self) -> &NodeStatement {
        self.statement.as_ref().expect("the node was started")
    }

    /// The first API key.
    pub fn operator(&self) -> &str {
        self.operator.as_deref().expect("the node was started")
    }

    /// The node's process.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether the node runs.
    pub fn is_up(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The last lines that the node wrote.
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.join("stderr")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    /// Starts a node on the home, and learns who it is; a later one must be the same.
    pub fn start(&mut self) -> Result<(), String> {
        self.start_within(PATIENCE_MS)
    }

    /// The same, within a time.
    pub fn start_within(&mut self, ms: u64) -> Result<(), String> {
        if let Some(service) = &mut self.service {
            service.start()?;
            service.give(&["disk/home", "tmp", "cwd"].map(|name| self.folder.join(name)))?;
        }
        let (address, operator) = read_login(&self.spawn(ms)?);
        let statement = try_statement(address).map_err(|e| format!("the node does not say who it is: {e}"))?;
        if let Some(before) = &self.statement {
            let same = |s: &NodeStatement| (s.identity, s.log_key.clone(), s.tls_ca.clone());
            if same(before) != same(&statement) {
                return Err("the node has another identity, log key or authority than before".to_owned());
            }
        }
        if operator.is_some() && self.operator.is_some() {
            return Err("the node forgot its operator's key and made another".to_owned());
        }
        self.operator = self.operator.take().or(operator);
        self.address = Some(address);
        self.statement = Some(statement);
        self.family();
        Ok(())
    }

    fn spawn(&mut self, ms: u64) -> Result<String, String> {
        self.starts += 1;
        let out = self.folder.join(format!("stdout.{}", self.starts));
        let failed = |e: std::io::Error| format!("failed to start a node: {e}");
        let errors = File::options().create(true).append(true).open(self.folder.join("stderr")).map_err(failed)?;
        let mut command = self.service.as_ref().map_or_else(|| Command::new(program("decoresd")), Service::node);
        for beside in ["decores-engine-wasm", "decores-engine-container", "decores-helper"] {
            program(beside);
        }
        command.arg("run").arg("--home").arg(self.home()).args(["--listen", "127.0.0.1:0"]);
        command.current_dir(self.folder.join("cwd")).env("TMPDIR", self.folder.join("tmp"));
        command.stdin(Stdio::null()).stdout(File::create(&out).map_err(failed)?).stderr(errors);
        let child = self.child.insert(command.spawn().map_err(failed)?);
        let login = within(ms, || {
            if let Ok(Some(status)) = child.try_wait() {
                return Some(Err(format!("the node ended while it started ({status})")));
            }
            let said = fs::read_to_string(&out).unwrap_or_default();
            said.lines().find(|l| l.starts_with("decores login ")).map(|l| Ok(l.to_owned()))
        });
        login
            .unwrap_or_else(|| Err("the node does not start".to_owned()))
            .map_err(|e| format!("{e}; its last words:\n{}", self.last_words()))
    }

    /// The node and everything that it started, the node first; then its service.
    pub fn family(&mut self) -> Vec<Process> {
        let roots = [self.pid(), self.service.as_ref().and_then(Service::pid)];
        let found: Vec<Process> = roots.into_iter().flatten().flat_map(family).collect();
        for process in &found {
            if !self.seen.contains(&process.pid) {
                self.seen.push(process.pid);
            }
        }
        found
    }

    /// Kills some of its processes at once; the node is waited for when it is one of them.
    pub fn kill(&mut self, pids: &[u32]) {
        signal_all("KILL", pids);
        if let Some(child) = self.child.as_mut().filter(|child| pids.contains(&child.id())) {
            let _ = child.wait();
            self.child = None;
        }
        if let Some(service) = &mut self.service {
            service.reap(pids);
        }
    }

    /// Kills the node and everything that it started.
    pub fn kill_all(&mut self) {
        let all = self.victims(Victim::All);
        if !all.is_empty() {
            self.kill(&all);
        }
    }

    /// Waits until nothing runs that a node on this home had started; what stays is told. A service stays for the next.
    pub fn wait_for_end(&mut self) -> Vec<u32> {
        let service = self.service.as_ref().and_then(Service::pid);
        let gone = |pid: &u32| service == Some(*pid) || !Path::new(&format!("/proc/{pid}")).exists();
        within(PATIENCE_MS, || self.seen.iter().all(gone).then_some(()));
        self.seen.retain(|pid| !gone(pid));
        self.seen.clone()
    }

    /// The processes that are meant by a victim, as far as there are any.
    pub fn victims(&mut self, victim: Victim) -> Vec<u32> {
        let family = self.family();
        let named = |name: &str| family.iter().filter(|p| p.name == name).map(|p| p.pid).collect::<Vec<u32>>();
        // What it starts bears the launcher's name, too, until it has become an engine.
        let launcher = named("decores-launch").into_iter().take(1);
        // A jail knows its program as `engine`, whichever it is.
        let (servers, engines): (Vec<u32>, Vec<u32>) = named("engine").into_iter().partition(|pid| is_server(*pid));
        let compiles = |pid: &u32| parent(*pid).is_some_and(|of| engines.contains(&of));
        // A container's first process bears its helper's name until it has become the program.
        let helpers: Vec<u32> = family
            .iter()
            .map(|p| p.pid)
            .filter(|pid| is_helper(*pid) && parent(*pid).is_none_or(|of| !is_helper(of)))
            .collect();
        match victim {
            Victim::Node => self.pid().into_iter().collect(),
            Victim::Launcher => launcher.collect(),
            Victim::Supervisors => self.pid().into_iter().chain(launcher).collect(),
            Victim::Service => self.service.as_ref().and_then(Service::pid).into_iter().collect(),
            Victim::Helper => helpers,
            Victim::Contained => {
                let inside = helpers.iter().flat_map(|pid| machine::family(*pid));
                inside.map(|p| p.pid).filter(|pid| !helpers.contains(pid)).collect()
            }
            Victim::Engine => engines.iter().copied().filter(|pid| !compiles(pid)).collect(),
            Victim::Compile => engines.iter().copied().filter(compiles).collect(),
            Victim::Server => servers,
            Victim::All => family.iter().map(|p| p.pid).collect(),
        }
    }

    /// Keeps the folder after the campaign.
    pub const fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        self.kill_all();
        self.wait_for_end();
        if self.keep {
            // What lies on the image stays readable: `mount -o loop`.
            self.image.take();
            return;
        }
        self.image.take();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Whether this is root: `/proc/self` belongs to whoever runs this process.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// Whether a process encrypts a scratch: gocryptfs is given its key on its standard input.
fn is_server(pid: u32) -> bool {
    words(pid).iter().any(|word| word == b"-masterkey=stdin")
}

/// Whether a process is the helper of a container, or one that it has started and that is no program yet.
fn is_helper(pid: u32) -> bool {
    words(pid).starts_with(&[b"decores-helper".to_vec(), b"container".to_vec()])
}

fn words(pid: u32) -> Vec<Vec<u8>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|b| *b == 0).map(<[u8]>::to_vec).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}
