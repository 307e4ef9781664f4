//! The configuration: flag over file over default, resolved once.

use crate::args::Run;
use crate::modules::ModuleLimits;
use anyhow::{Context as _, Result, bail};
use decores_detection::Reserve;
use decores_http::HttpLimits;
use decores_sandbox::container::RANGE;
use decores_sandbox::{HostCapabilities, Runtime, SandboxConfig, ShareLimits, Turns};
use decores_types::Limits;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The commented default file.
pub(crate) const DEFAULT: &str = include_str!("default-config.toml");
/// Longest that anything of a job is kept: ten years.
const MAX_LIFE_SECONDS: u64 = 10 * 31_536_000;
/// Largest configuration file, in bytes.
const MAX_FILE: u64 = 256 * 1024;

/// Where the keystore's root comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RootChoice {
    Auto,
    Credential,
    Passphrase(PathBuf),
    BesideData,
}

/// The resolved configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) name: String,
    pub(crate) listen: SocketAddr,
    pub(crate) host_names: Vec<String>,
    pub(crate) root: RootChoice,
    pub(crate) sandbox: SandboxConfig,
    /// What runs containers, if anything is to.
    pub(crate) runtime: Option<Runtime>,
    /// Where the helper listens, if it is to start engines.
    pub(crate) helper: Option<PathBuf>,
    pub(crate) turns: Turns,
    pub(crate) shares: ShareLimits,
    pub(crate) offer_ms: u64,
    pub(crate) keep_result_ms: u64,
    pub(crate) keep_logs_ms: u64,
    pub(crate) keep_receipt_ms: u64,
    pub(crate) modules: ModuleLimits,
    pub(crate) reserve: Reserve,
    pub(crate) http: HttpLimits,
    pub(crate) first_key_ms: u64,
    /// Names of the `insecure_…` settings in force, sorted. None exist yet.
    pub(crate) insecure: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    node: Option<toml::Table>,
    keys: Option<toml::Table>,
    jobs: Option<toml::Table>,
    container: Option<toml::Table>,
    helper: Option<toml::Table>,
    reserve: Option<toml::Table>,
    api: Option<toml::Table>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Full {
    node: NodeSection,
    keys: KeysSection,
    jobs: JobsSection,
    container: ContainerSection,
    helper: HelperSection,
    reserve: ReserveSection,
    api: ApiSection,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeSection {
    name: String,
    listen: SocketAddr,
    host_names: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysSection {
    root: String,
    passphrase_file: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobsSection {
    slots: usize,
    queue: usize,
    slots_per_consumer: usize,
    keep_slot_seconds: u64,
    queue_per_consumer: usize,
    uploads_per_consumer: usize,
    payload_bytes_per_consumer: u64,
    offer_seconds: u64,
    keep_result_seconds: u64,
    keep_logs_seconds: u64,
    keep_receipt_seconds: u64,
    keep_program_seconds: u32,
    keep_program_bytes: u64,
    keep_program_bytes_per_consumer: u64,
    first_uid: u32,
    io_bytes_per_second: u64,
    container_cpu_percent: u32,
    max: MaxSection,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContainerSection {
    runtime: String,
    first_range: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HelperSection {
    socket: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MaxSection {
    memory_bytes: u64,
    wall_ms: u64,
    compile_ms: u64,
    output_bytes: u64,
    log_bytes: u64,
    scratch_bytes: u64,
    payload_bytes: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReserveSection {
    disk_bytes: u64,
    disk_files: u64,
    memory_bytes: u64,
    descriptors: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApiSection {
    connections: usize,
    requests_per_consumer: usize,
    head_seconds: u64,
    body_seconds: u64,
    first_key_days: u64,
}

/// Reads the file (or none), lays it over the defaults, and the flags over both.
pub(crate) fn load(home: &Path, file: Option<&Path>, flags: Option<&Run>) -> Result<Config> {
    let implied = home.join("config.toml");
    let text = match file {
        Some(path) => Some(read(path)?),
        None if implied.exists() => Some(read(&implied)?),
        None => None,
    };
    let mut full = parse(text.as_deref()).context("failed to read the configuration")?;
    if let Some(flags) = flags {
        full.node.listen = flags.listen.unwrap_or(full.node.listen);
        full.node.name = flags.name.clone().unwrap_or(full.node.name);
    }
    resolve(full)
}

fn read(path: &Path) -> Result<String> {
    let size = std::fs::metadata(path).with_context(|| format!("failed to read `{}`", path.display()))?.len();
    if size > MAX_FILE {
        bail!("`{}` has {size} bytes, at most {MAX_FILE} are read", path.display());
    }
    std::fs::read_to_string(path).with_context(|| format!("failed to read `{}`", path.display()))
}

fn parse(text: Option<&str>) -> Result<Full> {
    let mut base: toml::Table = DEFAULT.parse().context("the built-in defaults are damaged")?;
    base.remove("version");
    if let Some(text) = text {
        let file: File = toml::from_str(text)?;
        if file.version != 1 {
            bail!("`version` is {}, this node reads version 1", file.version);
        }
        for (name, section) in [
            ("node", file.node),
            ("keys", file.keys),
            ("jobs", file.jobs),
            ("container", file.container),
            ("helper", file.helper),
            ("reserve", file.reserve),
            ("api", file.api),
        ] {
            if let (Some(over), Some(toml::Value::Table(under))) = (section, base.get_mut(name)) {
                lay_over(under, over);
            }
        }
    }
    Ok(base.try_into()?)
}

fn lay_over(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => lay_over(below, above),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

fn within(name: &str, value: u64, min: u64, max: u64) -> Result<u64> {
    if (min..=max).contains(&value) {
        Ok(value)
    } else {
        bail!("`{name}` is {value}; it must lie between {min} and {max}")
    }
}

fn resolve(full: Full) -> Result<Config> {
    let Full { node, keys, jobs, container, helper, reserve, api } = full;
    if node.name.is_empty() || node.name.len() > 64 || node.name.chars().any(char::is_control) {
        bail!("`node.name` must have 1 to 64 printable characters");
    }
    let root = match keys.root.as_str() {
        "auto" => RootChoice::Auto,
        "credential" => RootChoice::Credential,
        "beside-data" => RootChoice::BesideData,
        "passphrase" if keys.passphrase_file.as_os_str().is_empty() => {
            bail!("`keys.root` is \"passphrase\": name the file to read it from in `keys.passphrase_file`")
        }
        "passphrase" => RootChoice::Passphrase(keys.passphrase_file),
        other => {
            bail!("`keys.root` is \"{other}\"; it must be auto, credential, passphrase or beside-data")
        }
    };
    let slots = within("jobs.slots", jobs.slots as u64, 1, 256)? as usize;
    let queue = within("jobs.queue", jobs.queue as u64, 1, 100_000)? as usize;
    let Lives { result: keep_result_ms, logs: keep_logs_ms, receipt: keep_receipt_ms } = lives(&jobs)?;
    let (turns, shares, modules) = (turns(&jobs)?, shares(&jobs)?, modules(&jobs)?);
    let first_uid = within("jobs.first_uid", jobs.first_uid.into(), 65_536, 4_294_900_000)? as u32;
    let (runtime, first_range) = containers(&container, first_uid, slots)?;
    let max = jobs.max;
    Ok(Config {
        name: node.name,
        listen: node.listen,
        host_names: node.host_names,
        root,
        sandbox: SandboxConfig {
            max_limits: Limits {
                memory_bytes: within("jobs.max.memory_bytes", max.memory_bytes, 1 << 16, 1 << 32)?,
                wall_ms: within("jobs.max.wall_ms", max.wall_ms, 1, 7 * 86_400_000)?,
                compile_ms: within("jobs.max.compile_ms", max.compile_ms, 1, 3_600_000)?,
                output_bytes: within("jobs.max.output_bytes", max.output_bytes, 0, 1 << 40)?,
                log_bytes: within("jobs.max.log_bytes", max.log_bytes, 0, 1 << 30)?,
                scratch_bytes: within("jobs.max.scratch_bytes", max.scratch_bytes, 0, 1 << 40)?,
            },
            slots,
            queue,
            first_uid,
            first_range,
            io_bytes: within("jobs.io_bytes_per_second", jobs.io_bytes_per_second, 1 << 16, 1 << 40)?,
            cpu_percent: cpu_percent(jobs.container_cpu_percent, slots)?,
            cache_seconds: within("jobs.keep_program_seconds", jobs.keep_program_seconds.into(), 0, 30 * 86_400)?
                as u32,
            ..SandboxConfig::default()
        },
        runtime,
        helper: (!helper.socket.as_os_str().is_empty()).then_some(helper.socket),
        turns,
        shares,
        offer_ms: within("jobs.offer_seconds", jobs.offer_seconds, 1, 3600)? * 1000,
        keep_result_ms,
        keep_logs_ms,
        keep_receipt_ms,
        modules,
        reserve: Reserve {
            disk_bytes: within("reserve.disk_bytes", reserve.disk_bytes, 1 << 20, 1 << 50)?,
            disk_files: within("reserve.disk_files", reserve.disk_files, 16, 1 << 40)?,
            memory_bytes: within("reserve.memory_bytes", reserve.memory_bytes, 1 << 20, 1 << 50)?,
            descriptors: within("reserve.descriptors", reserve.descriptors, 32, 1 << 30)?,
        },
        http: http(&api, max.payload_bytes)?,
        first_key_ms: within("api.first_key_days", api.first_key_days, 1, 365)? * 86_400_000,
        insecure: Vec::new(),
    })
}

/// How much of compiled programs is kept.
fn modules(jobs: &JobsSection) -> Result<ModuleLimits> {
    let of_one = jobs.keep_program_bytes_per_consumer;
    Ok(ModuleLimits {
        bytes: within("jobs.keep_program_bytes", jobs.keep_program_bytes, 0, 1 << 40)?,
        bytes_per_consumer: within("jobs.keep_program_bytes_per_consumer", of_one, 0, 1 << 40)?,
    })
}

/// What clients may use of the server.
fn http(api: &ApiSection, payload_bytes: u64) -> Result<HttpLimits> {
    let requests = api.requests_per_consumer as u64;
    Ok(HttpLimits {
        connections: within("api.connections", api.connections as u64, 1, 65_536)? as usize,
        requests_per_consumer: within("api.requests_per_consumer", requests, 1, 65_536)? as usize,
        head: Duration::from_secs(within("api.head_seconds", api.head_seconds, 1, 600)?),
        body: Duration::from_secs(within("api.body_seconds", api.body_seconds, 1, 600)?),
        payload_bytes: within("jobs.max.payload_bytes", payload_bytes, 4096, 1 << 40)?,
        ..HttpLimits::default()
    })
}

/// What runs containers, and where their user ids begin; none may be a job's own.
fn containers(container: &ContainerSection, first_uid: u32, slots: usize) -> Result<(Option<Runtime>, u32)> {
    let runtime = match container.runtime.as_str() {
        "none" => None,
        "libcontainer" => Some(Runtime::Libcontainer),
        "runc" => Some(Runtime::Runc),
        "runsc" => Some(Runtime::Runsc),
        "kata" => Some(Runtime::Kata),
        other => {
            bail!("`container.runtime` is \"{other}\"; it must be libcontainer, runc, runsc, kata or none")
        }
    };
    // One more of both is for trials.
    let places = slots as u64 + 1;
    let most = u64::from(u32::MAX) - places * u64::from(RANGE);
    let first = within("container.first_range", container.first_range.into(), 65_536, most)?;
    let (end, own) = (first + places * u64::from(RANGE), u64::from(first_uid));
    if first < own + places && own < end {
        bail!("`container.first_range` is {first}; its ids must not be those of `jobs.first_uid`, which is {own}");
    }
    Ok((runtime, first as u32))
}

/// Whose turn it is for a place.
fn turns(jobs: &JobsSection) -> Result<Turns> {
    Ok(Turns {
        places: within("jobs.slots_per_consumer", jobs.slots_per_consumer as u64, 1, 256)? as usize,
        keep_ms: within("jobs.keep_slot_seconds", jobs.keep_slot_seconds, 0, 3600)? * 1000,
    })
}

/// What one consumer may have here at a time.
fn shares(jobs: &JobsSection) -> Result<ShareLimits> {
    let (share, payload) = (jobs.payload_bytes_per_consumer, jobs.max.payload_bytes);
    if share < payload {
        bail!(
            "`jobs.payload_bytes_per_consumer` is {share}, less than the {payload} of one payload \
             (`jobs.max.payload_bytes`); no consumer could send one of that size"
        );
    }
    Ok(ShareLimits {
        jobs: jobs.slots.saturating_add(jobs.queue),
        waiting: within("jobs.queue_per_consumer", jobs.queue_per_consumer as u64, 1, 100_000)? as usize,
        arriving: within("jobs.uploads_per_consumer", jobs.uploads_per_consumer as u64, 1, 65_536)? as usize,
        payload_bytes: within("jobs.payload_bytes_per_consumer", share, 4096, 1 << 50)?,
    })
}

/// For how long what is left of a job is kept, in milliseconds.
struct Lives {
    result: u64,
    logs: u64,
    receipt: u64,
}

fn lives(jobs: &JobsSection) -> Result<Lives> {
    let life = |name, seconds| Ok::<_, anyhow::Error>(within(name, seconds, 1, MAX_LIFE_SECONDS)? * 1000);
    let lives = Lives {
        result: life("jobs.keep_result_seconds", jobs.keep_result_seconds)?,
        logs: life("jobs.keep_logs_seconds", jobs.keep_logs_seconds)?,
        receipt: life("jobs.keep_receipt_seconds", jobs.keep_receipt_seconds)?,
    };
    if lives.receipt < lives.result.max(lives.logs) {
        bail!(
            "`jobs.keep_receipt_seconds` is {}, less than a result or logs are kept; \
             a job's record goes with its receipt, and nothing of it can be fetched then",
            jobs.keep_receipt_seconds
        );
    }
    Ok(lives)
}

/// As many processors for each slot as there are, one at least, in hundredths, where nothing else is set.
fn cpu_percent(asked: u32, slots: usize) -> Result<u32> {
    if asked > 0 {
        return Ok(within("jobs.container_cpu_percent", asked.into(), 1, 1 << 20)? as u32);
    }
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(u32::try_from(100 * (processors / slots.max(1)).max(1)).unwrap_or(u32::MAX))
}

impl Config {
    /// What a helper of root's offers, as far as this configuration wants it.
    ///
    /// # Errors
    /// If the helper would refuse or run otherwise what the node takes on.
    pub(crate) fn agree(&self, mut host: HostCapabilities) -> Result<HostCapabilities> {
        if self.helper.is_none() {
            return Ok(host);
        }
        if (host.slots as usize) < self.sandbox.slots {
            let (own, theirs) = (self.sandbox.slots, host.slots);
            bail!("`jobs.slots` is {own}, but the helper's configuration has {theirs}: it would refuse what is beyond");
        }
        match (self.runtime, &host.container) {
            (None, _) => {
                let why = "the node's `container.runtime` is \"none\"".to_owned();
                (host.container, host.no_container) = (None, Some(why));
            }
            (Some(own), Some(theirs)) if own != theirs.runtime => {
                bail!("`container.runtime` is \"{own}\", but the helper's configuration has \"{}\"", theirs.runtime);
            }
            _ => {}
        }
        Ok(host)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn error(text: &str) -> String {
        match parse(Some(text)).and_then(resolve) {
            Ok(_) => panic!("accepted: {text}"),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn the_commented_defaults_are_the_defaults() {
        let config = resolve(parse(None).unwrap()).unwrap();
        assert!(config.listen.ip().is_loopback());
        assert!(config.insecure.is_empty());
        assert_eq!(config.sandbox.max_limits, SandboxConfig::default().max_limits);
        assert_eq!(config.sandbox.first_uid, SandboxConfig::default().first_uid);
    }

    #[test]
    fn a_file_changes_only_what_it_names() {
        let config = resolve(parse(Some("version = 1\n[jobs.max]\nwall_ms = 5\n")).unwrap()).unwrap();
        assert_eq!(config.sandbox.max_limits.wall_ms, 5);
        assert_eq!(config.sandbox.max_limits.compile_ms, 300_000);
    }

    #[test]
    fn a_consumers_share_that_no_payload_fits_is_refused() {
        let text = "version = 1\n[jobs]\npayload_bytes_per_consumer = 8192\n";
        assert!(error(text).contains("jobs.max.payload_bytes"));
        let config = resolve(parse(Some(&format!("{text}[jobs.max]\npayload_bytes = 8192\n"))).unwrap()).unwrap();
        assert_eq!((config.shares.payload_bytes, config.shares.jobs), (8192, 258));
    }

    #[test]
    fn a_helper_that_runs_less_or_otherwise_than_the_node_takes_on_is_refused() {
        let host = |slots, runtime| -> HostCapabilities {
            serde_json::from_value(serde_json::json!({
                "ownUsers": true, "namespaces": [], "cgroup": [], "landlockAbi": 1, "seccomp": true, "tmpfsNoswap": true,
                "encryptedScratch": false, "swap": "none", "slots": slots,
                "container": {"runtime": runtime, "version": "1"},
            }))
            .unwrap()
        };
        let with = |runtime: &str| {
            let text = format!("version = 1\n[helper]\nsocket = \"/x\"\n[container]\nruntime = \"{runtime}\"\n");
            resolve(parse(Some(&text)).unwrap()).unwrap()
        };
        let config = with("libcontainer");
        assert!(config.agree(host(2, "libcontainer")).unwrap().container.is_some());
        assert!(config.agree(host(1, "libcontainer")).unwrap_err().to_string().contains("jobs.slots"));
        assert!(config.agree(host(2, "runc")).unwrap_err().to_string().contains("runc"));
        assert_eq!(with("none").agree(host(2, "runc")).unwrap().container, None);
        let own = resolve(parse(None).unwrap()).unwrap();
        assert!(own.agree(host(0, "runc")).is_ok(), "its own launcher has its own configuration");
    }

    #[test]
    fn user_ids_that_two_would_have_and_unknown_runtimes_are_refused() {
        let config = resolve(parse(None).unwrap()).unwrap();
        assert_eq!((config.runtime, config.helper), (Some(Runtime::Libcontainer), None));
        assert_eq!(config.sandbox.first_range, SandboxConfig::default().first_range);
        assert!(error("version = 1\n[container]\nruntime = \"docker\"").contains("docker"));
        let with =
            |first: u32| format!("version = 1\n[jobs]\nfirst_uid = 200000\n[container]\nfirst_range = {first}\n");
        for taken in [200_000, 200_002, 200_000 - 65_536 * 3 + 1 + 65_536] {
            assert!(error(&with(taken)).contains("jobs.first_uid"), "{taken}");
        }
        assert!(error(&with(u32::MAX - 65_536)).contains("first_range"));
        assert!(resolve(parse(Some(&with(200_003))).unwrap()).is_ok());
    }

    #[test]
    fn a_receipt_that_goes_before_its_results_is_refused() {
        let lives = |result, logs, receipt| {
            format!(
                "version = 1\n[jobs]\nkeep_result_seconds = {result}\nkeep_logs_seconds = {logs}\n\
                 keep_receipt_seconds = {receipt}\n"
            )
        };
        assert!(error(&lives(10, 1, 9)).contains("keep_receipt_seconds"));
        assert!(error(&lives(1, 10, 9)).contains("keep_receipt_seconds"));
        let config = resolve(parse(Some(&lives(1, 2, 2))).unwrap()).unwrap();
        assert_eq!((config.keep_result_ms, config.keep_logs_ms, config.keep_receipt_ms), (1000, 2000, 2000));
    }

    #[test]
    fn unknown_keys_versions_and_values_are_refused_by_name() {
        assert!(error("version = 2").contains("version"));
        assert!(error("[node]\nname = \"x\"").contains("version"));
        assert!(error("version = 1\n[node]\nnmae = \"x\"").contains("nmae"));
        assert!(error("version = 1\n[web]\n").contains("web"));
        assert!(error("version = 1\n[jobs]\noffer_seconds = 4000").contains("offer_seconds"));
        assert!(error("version = 1\n[jobs]\nslots_per_consumer = 0").contains("slots_per_consumer"));
        assert!(error("version = 1\n[jobs]\nkeep_slot_seconds = 4000").contains("keep_slot_seconds"));
        assert!(error("version = 1\n[reserve]\ndisk_bytes = 0").contains("reserve.disk_bytes"));
        assert!(error("version = 1\n[reserve]\ndisk = 1").contains("disk"));
        assert!(error("version = 1\n[jobs]\nkeep_logs_seconds = 0").contains("keep_logs_seconds"));
        assert!(error("version = 1\n[keys]\nroot = \"none\"").contains("keys.root"));
        assert!(error("version = 1\n[keys]\nroot = \"passphrase\"").contains("passphrase_file"));
    }
}
