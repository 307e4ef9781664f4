//! What every command starts from: the home, and the environment, read once.

use crate::failure::{Exit, Failure};
use clap::Args;
use decores_audit::Trust;
use decores_client::image::RegistryAccess;
use decores_client::{ApiKey, Client, Home, NodeUrl};
use decores_system::{SystemClock, SystemRandom};
use std::path::PathBuf;
use std::sync::Arc;

/// Environment variable with the node's URL.
pub(crate) const URL_ENV: &str = "DECORES_URL";
/// Environment variable with the API key.
pub(crate) const API_KEY_ENV: &str = "DECORES_API_KEY";
/// Environment variable with our home.
pub(crate) const HOME_ENV: &str = "DECORES_HOME";
/// Environment variable with the folder of Docker's `config.json`.
const DOCKER_ENV: &str = "DOCKER_CONFIG";
/// Environment variable with the certificates of authorities that registries are known by.
const AUTHORITIES_ENV: &str = "SSL_CERT_FILE";
/// Environment variable with the node's configuration file.
pub(crate) const CONFIG_ENV: &str = "DECORES_CONFIG";

/// Options of all commands.
#[derive(Clone, Debug, Args)]
pub(crate) struct Globals {
    /// Where keys, logins and a node of one's own live [default: ~/.local/share/decores]
    #[arg(long, global = true, env = HOME_ENV, value_name = "DIR", hide_env_values = true)]
    home: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// Home and environment, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) home: Home,
    pub(crate) json: bool,
    pub(crate) url: Option<NodeUrl>,
    pub(crate) api_key: Option<ApiKey>,
    pub(crate) registries: RegistryAccess,
}

impl Context {
    pub(crate) fn resolve(globals: &Globals) -> Result<Self, Failure> {
        let url = environment(URL_ENV)?.map(|text| NodeUrl::parse(&text)).transpose()?;
        let api_key = environment(API_KEY_ENV)?.map(|text| ApiKey::parse(&text)).transpose()?;
        Ok(Self { home: Home::new(home(globals)?), json: globals.json, url, api_key, registries: registries() })
    }

    /// A verified way to the node we are logged in to.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let (clock, random) = (Arc::new(SystemClock::new()), Arc::new(SystemRandom));
        Ok(Client::open(self.home.clone(), self.url.clone(), self.api_key.clone(), clock, random)?)
    }

    /// The trust file at `path`, or that of our home.
    pub(crate) fn trust(&self, path: Option<&PathBuf>) -> Result<Trust, Failure> {
        let own = self.home.trust_path();
        let path = path.unwrap_or(&own);
        let bytes = decores_client::files::read(path, decores_audit::trust::MAX_TRUST as u64)?;
        let bytes = bytes.ok_or_else(|| {
            Failure::usage(format!("there is no trust file at {}", path.display()))
                .hint("`decores login URL` writes one; or name it: --trust FILE")
        })?;
        Trust::parse(&bytes).map_err(Failure::usage)
    }
}

fn home(globals: &Globals) -> Result<PathBuf, Failure> {
    if let Some(home) = &globals.home {
        return Ok(home.clone());
    }
    match std::env::var_os("HOME") {
        Some(home) if !home.is_empty() => Ok(PathBuf::from(home).join(".local/share/decores")),
        _ => Err(Failure::usage("there is no home folder: HOME is not set")
            .hint(format!("set {HOME_ENV}, or give --home DIR"))),
    }
}

fn registries() -> RegistryAccess {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set(DOCKER_ENV).or_else(|| Some(set("HOME")?.join(".docker")));
    RegistryAccess {
        config: folder.map(|folder| folder.join("config.json")),
        authorities: set(AUTHORITIES_ENV),
        insecure: Vec::new(),
    }
}

fn environment(name: &'static str) -> Result<Option<String>, Failure> {
    match std::env::var(name) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(Failure::usage(format!("{name} is not UTF-8"))),
    }
}

/// Runs a command's asynchronous part.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|e| Failure::new(Exit::Failed, e))?.block_on(work)
}
