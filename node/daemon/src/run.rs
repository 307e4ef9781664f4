//! Running the node in the foreground.

use crate::args::{Common, Run};
use crate::boot::{Booted, Root, World, boot};
use crate::config::{self, Config};
use crate::epochs;
use crate::health::bound_connections;
use crate::hint::StoppedWhileStarting;
use crate::home::Home;
use crate::node::Node;
use crate::presence;
use crate::service::Api;
use crate::upkeep;
use anyhow::{Context as _, Result};
use decores_audit::code::Code;
use decores_audit::event::Event;
use decores_detection::AlertKind;
use decores_http::{router, server};
use decores_keys::RootSource;
use decores_launcher::{Launcher, LauncherConfig};
use decores_secrets::{Arena, forbid_core_dumps, raise_open_files, share_heap};
use decores_system::{SystemClock, SystemRandom};
use decores_telemetry::{Format, LOG_FORMAT_ENV};
use decores_types::Reason;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};

/// Bytes of an answer that may wait in the kernel, a connection (the kernel doubles it). A socket takes more when a
/// third has left it, which a reader of `bytes_per_second` must manage within the time for a body.
const SEND_BUFFER: u32 = 64 * 1024;
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// Threads that a node is nothing without. Should one panic, the node ends at once, and its next start goes on.
const VITAL: [&str; 3] = ["launcher-reader", "sequencer", "store"];
/// How long jobs get to end when the node stops.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Forks the launcher, or connects to the helper's; `owner` says whether it is to run jobs, or only to look. Nothing may
/// have started a thread before.
pub(crate) fn start_launcher(config: &Config, home: &Home, owner: bool) -> Result<Launcher> {
    if let Some(socket) = &config.helper {
        return decores_helper_link::connect(socket, owner).context("failed to connect to the helper");
    }
    let own = std::env::current_exe().context("failed to find this program's own file")?;
    let programs = own.parent().context("this program lies in no folder")?;
    let all = LauncherConfig::of_node(&config.sandbox, programs, config.runtime, home.jails(), home.scratch())
        .map_err(anyhow::Error::msg)
        .context("failed to find the engines; build or install them beside decoresd")?;
    Launcher::fork(LauncherConfig { owner, ..all }).context("failed to start the launcher")
}

/// `decoresd run`.
pub(crate) fn run(flags: &Run) -> Result<ExitCode> {
    let home = Home::open(&flags.common.home)?;
    let config = match config::load(home.path(), flags.common.config.as_deref(), Some(flags)) {
        Ok(config) => config,
        Err(error) => return Ok(bad_config(&error)),
    };
    let launcher = start_launcher(&config, &home, true)?;
    forbid_core_dumps().context("failed to forbid core dumps")?;
    end_with_vital_threads();
    raise_open_files().context("failed to raise the limit on open files")?;
    share_heap();
    let arena = Arena::global().context("failed to lock memory for secrets")?;
    let format = std::env::var(LOG_FORMAT_ENV).ok();
    decores_telemetry::init("info", Format::resolve(false, format.as_deref()));
    tracing::debug!(secrets = ?arena.kind(), launcher = launcher.pid(), "prepared");
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let root = Root::choose(&config.root, &home, credentials.as_deref())?;
    let world = World {
        clock: Arc::new(SystemClock::default()),
        random: Arc::new(SystemRandom),
        launcher: launcher.connect()?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(serve(config, home, root, world));
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(if served? == End::Asked { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Why a node stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// A signal asked for it.
    Asked,
    /// Its launcher is gone; another can only be had by a new start, before there are threads.
    LauncherLost,
}

impl End {
    /// The name in the log.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "signal",
            Self::LauncherLost => "launcher-lost",
        }
    }

    /// What it means for jobs that have not ended.
    const fn reason(self) -> Reason {
        match self {
            Self::Asked => Reason::ByOperator,
            Self::LauncherLost => Reason::EngineLost,
        }
    }
}

fn end_with_vital_threads() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panicked| {
        tell(panicked);
        if std::thread::current().name().is_some_and(|name| VITAL.contains(&name)) {
            std::process::abort();
        }
    }));
}

async fn serve(config: Config, home: Home, root: Root, world: World) -> Result<End> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = listen(config.listen)
        .with_context(|| format!("failed to listen on {}; is another node running?", config.listen))?;
    let address = listener.local_addr()?;
    let Booted { node, authority, first_key } = tokio::select! {
        booted = boot(config, &home, root, world) => booted?,
        _ = interrupt.recv() => return Err(StoppedWhileStarting.into()),
        _ = terminate.recv() => return Err(StoppedWhileStarting.into()),
    };
    let tls = server::tls_config(Arc::new(authority.resolver()))?;
    let router = router::router(Arc::new(Api(Arc::clone(&node))), node.config.http);
    let mut tasks = upkeep::start(&node, &authority);
    let mut stopping = node.stopping.subscribe();
    let limits = bound_connections(node.config.http, node.config.reserve);
    tasks.push(tokio::spawn(server::serve(listener, tls, router, limits, async move {
        // An error means that the node is gone, which is a reason to stop as well.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    })));
    announce(&node, &home, address, first_key.as_ref().map(|key| key.expose()))?;
    let mut launcher = node.launcher.ended();
    let end = tokio::select! {
        _ = interrupt.recv() => End::Asked,
        _ = terminate.recv() => End::Asked,
        _ = launcher.wait_for(|ended| *ended) => End::LauncherLost,
    };
    match end {
        End::Asked => eprintln!("stopping: jobs that run are cancelled and wiped"),
        End::LauncherLost => eprintln!("error: the process that starts engines is gone\n\nhint: start the node again"),
    }
    stop(&node, end).await;
    let rest = async {
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a part of the node ended badly");
            }
        }
    };
    if tokio::time::timeout(STOP_PATIENCE, rest).await.is_err() {
        tracing::error!("some parts of the node did not end in time");
    }
    Ok(end)
}

/// Listens with small send buffers: what lies in the kernel is not yet read by anybody, and a slow reader
/// is known by how little it takes.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Tells whoever started the node where it is and how to log in.
fn announce(node: &Node, home: &Home, address: SocketAddr, first_key: Option<&str>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    // Nobody can call "every address" by that name.
    let address = match address.ip() {
        ip if !ip.is_unspecified() => address,
        IpAddr::V4(_) => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(_) => (Ipv6Addr::LOCALHOST, address.port()).into(),
    };
    eprintln!("node `{}` {}", node.config.name, node.identity.id);
    eprintln!("home  {}", home.path().display());
    eprintln!("root  {}", explain(node.keystore.root_source()));
    eprintln!("api   https://{address}");
    for name in &node.config.insecure {
        eprintln!("warning: `{name}` is set: it is in the log and in every receipt");
    }
    match first_key {
        Some(key) => {
            eprintln!("\nThis is shown once. To use the node, log in with:");
            writeln!(out, "decores login https://{address} --identity {} --api-key {key}", node.identity.id)?;
        }
        None => writeln!(out, "decores login https://{address} --identity {}", node.identity.id)?,
    }
    out.flush()?;
    Ok(())
}

/// Where the keystore's root lies, for people.
pub(crate) const fn explain(source: RootSource) -> &'static str {
    match source {
        RootSource::Passphrase => "from a passphrase",
        RootSource::Credential => "from a systemd credential",
        RootSource::BesideData => {
            "beside the data: whoever takes the disk takes the keys (`decores doctor` says what that means)"
        }
        RootSource::Volatile => "nowhere: the keys end with this process",
    }
}

/// Cancels what runs, waits for its wipe, and says goodbye in the log.
async fn stop(node: &Arc<Node>, end: End) {
    node.stopping.send_replace(true);
    if end == End::LauncherLost {
        let message = "the process that starts engines is gone; the node stops, and its next start wipes what was left";
        node.alert(AlertKind::EngineLost, message.to_owned()).await;
    }
    let jobs: Vec<_> = node.live.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
    for job in jobs {
        node.cancel(job, end.reason());
    }
    let mut changed = node.changed.subscribe();
    let ended = async {
        while node.live_jobs() > 0 {
            // A lagging listener looks again, which is all that is needed.
            let _ = changed.recv().await;
        }
    };
    if tokio::time::timeout(STOP_PATIENCE, ended).await.is_err() {
        tracing::error!("some jobs did not end in time; the next start ends them");
    }
    upkeep::end_offers(node, node.offers.drain()).await;
    upkeep::summarise(node).await;
    let mut events = vec![epochs::ended(node)];
    events.extend(Code::parse(end.as_str()).ok().map(|reason| Event::NodeStopped { reason }));
    presence::goodbye(node, events).await;
    let size = node.ledger.store.size().await.unwrap_or(0);
    if size > 0 {
        let integrated = node.ledger.integrated(size - 1);
        if tokio::time::timeout(STOP_PATIENCE, integrated).await.is_err() {
            tracing::error!("the last entries are stored but not yet under a checkpoint; the next start does that");
        }
    }
}

/// `decoresd config-check`.
pub(crate) fn config_check(common: &Common) -> Result<ExitCode> {
    match config::load(&common.home, common.config.as_deref(), None) {
        Ok(config) => {
            println!("the configuration is good; the node would listen on {}", config.listen);
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let code = bad_config(&error);
            eprintln!("\nThe commented defaults are:\n\n{}", config::DEFAULT);
            Ok(code)
        }
    }
}

/// A configuration that cannot be used is wrong usage.
pub(crate) fn bad_config(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}\n\nhint: `decores config check` prints the commented defaults");
    ExitCode::from(2)
}
