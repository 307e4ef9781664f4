//! Starting a node: keys, store, log, what a restart has to finish, and the API.

use crate::admission::Admission;
use crate::config::{Config, RootChoice};
use crate::epochs::Epochs;
use crate::health::Health;
use crate::home::Home;
use crate::ledger::Ledger;
use crate::leftovers::Mending;
use crate::mend_log;
use crate::modules::Modules;
use crate::node::{KeyChange, Node, key_event};
use crate::offers::Offers;
use crate::presence::{self, Past, Presence};
use crate::receipts;
use crate::records::{NodeRow, Records};
use crate::restart;
use crate::service::sign_in;
use crate::slots::Slots;
use crate::summary::{Refusals, Summary};
use crate::tls::{Authority, self_sign};
use anyhow::{Context as _, Result, bail};
use decores_access::{ApiKeyRecord, ApiKeyText, Role, authenticate};
use decores_api::node::{NODE_STATEMENT_TYPE, NodeResponse, NodeStatement};
use decores_audit::checkpoint::{LogKey, LogSigner, SignerError};
use decores_audit::code::Code;
use decores_audit::event::Event;
use decores_audit::ports::Store;
use decores_blobs::{BlobStore, FolderTiles};
use decores_keys::{Envelope, IndexKey, KeyInfo, KeyState, KeyStore, Purpose, RootSource, RowKeys};
use decores_keystore_file::{FileKeyStore, RootInput};
use decores_launcher::LauncherHandle;
use decores_sandbox::HostCapabilities;
use decores_secrets::Secret;
use decores_store_sqlite::SqliteStore;
use decores_types::{Base64, Clock, KeyId, Random, Timestamp, canonical};
use std::collections::HashMap;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::sync::{broadcast, watch};

/// Name of the systemd credential that holds the root.
const CREDENTIAL: &str = "decores-root";
/// Row of the authority's certificate.
const TLS_CA: &[u8] = b"tls-ca";
/// Jobs whose changes may wait for a slow listener; it looks again when it lags.
const CHANGES: usize = 1024;

/// What the world gives a node.
pub(crate) struct World {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) launcher: LauncherHandle,
}

/// A node that is ready to serve.
pub(crate) struct Booted {
    pub(crate) node: Arc<Node>,
    pub(crate) authority: Arc<Authority>,
    /// The first API key, at first start only.
    pub(crate) first_key: Option<ApiKeyText>,
}

/// Where the root is had from.
pub(crate) enum Root {
    Passphrase(Secret),
    Credential(PathBuf),
    BesideData,
}

impl Root {
    /// Chosen by configuration and by what is there.
    pub(crate) fn choose(choice: &RootChoice, home: &Home, credentials: Option<&Path>) -> Result<Self> {
        let credential = credentials.map(|folder| folder.join(CREDENTIAL)).filter(|path| path.exists());
        match choice {
            RootChoice::BesideData => Ok(Self::BesideData),
            RootChoice::Passphrase(file) => Ok(Self::Passphrase(passphrase(file)?)),
            RootChoice::Credential => credential.map(Self::Credential).context(
                "`keys.root` is \"credential\", but systemd gave none; add `LoadCredentialEncrypted=decores-root` to the unit",
            ),
            RootChoice::Auto => match (credential, FileKeyStore::source(&home.keystore())?) {
                (Some(path), None | Some(RootSource::Credential)) => Ok(Self::Credential(path)),
                (None, None) | (_, Some(RootSource::BesideData)) => Ok(Self::BesideData),
                (None, Some(RootSource::Credential)) => bail!("the keystore's root is a systemd credential; none is here"),
                (_, Some(RootSource::Passphrase | RootSource::Volatile)) => {
                    bail!("the keystore's root is a passphrase; set `keys.root = \"passphrase\"` and `keys.passphrase_file`")
                }
            },
        }
    }

    pub(crate) fn open(&self, home: &Home, random: Arc<dyn Random>) -> Result<FileKeyStore> {
        let folder = home.keystore();
        let input = || match self {
            Self::Passphrase(secret) => RootInput::Passphrase(secret),
            Self::Credential(path) => RootInput::Credential(path),
            Self::BesideData => RootInput::BesideData,
        };
        if FileKeyStore::source(&folder)?.is_some() {
            return FileKeyStore::open(&folder, input(), random).context("failed to open the keystore");
        }
        if home.database().exists() {
            bail!("`{}` is gone, but the state it opens is there; restore the keystore", folder.display());
        }
        make_folder(&folder)?;
        FileKeyStore::create(&folder, input(), random).context("failed to make the keystore")
    }
}

fn make_folder(path: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("failed to make `{}`", path.display()))
}

fn passphrase(file: &Path) -> Result<Secret> {
    let mode = std::fs::metadata(file).with_context(|| format!("failed to read `{}`", file.display()))?.mode();
    if mode & 0o077 != 0 {
        bail!("`{0}` can be read by others (mode {1:o}); run `chmod 600 {0}`", file.display(), mode & 0o777);
    }
    let mut bytes = std::fs::read(file).with_context(|| format!("failed to read `{}`", file.display()))?;
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(Secret::absorb(&mut bytes)?)
}

/// Starts the node's parts, in the order in which they need each other.
pub(crate) async fn boot(config: Config, home: &Home, root: Root, world: World) -> Result<Booted> {
    let World { clock, random, launcher } = world;
    let now = clock.now();
    let metrics =
        metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder().context("failed to set up metrics")?;
    let keystore: Arc<dyn KeyStore> = Arc::new(root.open(home, Arc::clone(&random))?);
    make_folder(&home.database())?;
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(&home.database()).context("failed to open the node's state")?);
    // First of all: it needs no room, and gives some.
    let blobs = BlobStore::open(&home.blobs()).context("failed to open the folder of sealed files")?;
    restart::drop_payloads(&blobs).await?;
    let mut events = Vec::new();
    let Keys { identity, log, ca, index } = Keys::ensure(&*keystore, now, &mut events)?;
    let records = Records::new(Arc::clone(&store), RowKeys::load(&*keystore)?, Arc::clone(&random));
    let tiles = Arc::new(FolderTiles::open(&home.log()).context("failed to open the log's folder")?);
    let signer = Arc::new(KeystoreSigner::new(Arc::clone(&keystore), &log, &identity)?);
    mend_log::check(&store, &tiles, signer.key(), home).await?;
    let (mut past, presence) = presence::start(&records, &*store, now).await?;
    events.splice(0..0, past.events.drain(..));
    let ledger = Ledger::start(store, tiles, signer, Arc::clone(&clock)).await?;
    let certificate = ca_certificate(&records, &ledger, &keystore, &ca, now).await?;
    let authority = Authority::new(Arc::clone(&keystore), &ca, certificate, config.listen, &config.host_names)?;
    authority.renew(now)?;
    let statement = statement(&config, &*keystore, &identity, &ledger.key, authority.certificate(), now)?;
    let (epochs, change, created) = Epochs::start(&records, &*keystore, identity.id, now, &*random).await?;
    events.push(created);
    let host = config.agree(probe(launcher.clone()).await?)?;
    let health = Health::new(home.path(), config.reserve, Arc::clone(&clock), Arc::clone(&ledger.faultiness));
    let node = Arc::new(Node {
        modules: Modules::new(config.modules),
        slots: Slots::new(config.sandbox.slots, config.turns, Arc::clone(&clock)),
        admission: Arc::new(Admission::new(config.shares)),
        index: IndexKey::new(keystore.open_symmetric(&index.id)?),
        config,
        clock,
        random,
        started: now,
        keystore,
        identity,
        statement,
        records,
        ledger,
        blobs,
        launcher,
        host,
        offers: Offers::default(),
        epochs,
        health,
        presence: Presence::default(),
        mending: Mending::default(),
        taking: Arc::default(),
        live: Mutex::new(HashMap::new()),
        changed: broadcast::Sender::new(CHANGES),
        summary: Summary::default(),
        refusals: Refusals::default(),
        quota: Mutex::default(),
        metrics,
        stopping: watch::Sender::new(false),
    });
    events.extend(started(&node)?);
    node.persist(vec![change, presence], events).await?;
    tell(&node, past).await;
    restart::finish(&node).await?;
    let first_key = first_key(&node).await?;
    Ok(Booted { node, authority: Arc::new(authority), first_key })
}

/// Raises what is to be said of the run before.
async fn tell(node: &Node, past: Past) {
    if past.doubts_clock {
        node.health.clock_jumped();
    }
    for (kind, message) in past.alerts {
        node.alert(kind, message).await;
    }
}

/// The node's long-lived keys that are named one by one.
struct Keys {
    identity: KeyInfo,
    log: KeyInfo,
    ca: KeyInfo,
    index: KeyInfo,
}

impl Keys {
    fn ensure(keystore: &dyn KeyStore, now: Timestamp, events: &mut Vec<Event>) -> Result<Self> {
        let mut key = |purpose| ensure(keystore, purpose, now, events);
        key(Purpose::Storage)?;
        Ok(Self {
            identity: key(Purpose::Identity)?,
            log: key(Purpose::Log)?,
            ca: key(Purpose::Ca)?,
            index: key(Purpose::Index)?,
        })
    }
}

/// The authority's certificate; self-signed at first start, since clients pin it.
async fn ca_certificate(
    records: &Records,
    ledger: &Ledger,
    keystore: &Arc<dyn KeyStore>,
    ca: &KeyInfo,
    now: Timestamp,
) -> Result<Vec<u8>> {
    if let Some(held) = records.get::<NodeRow>(TLS_CA).await? {
        return Ok(held.row.0.0);
    }
    let der = self_sign(Arc::clone(keystore), ca, now)?;
    let change = records.insert(TLS_CA, None, 0, &NodeRow(Base64(der.clone())))?;
    ledger.commit(vec![change], Vec::new()).await?;
    Ok(der)
}

/// The active key of a purpose; made if there is none.
fn ensure(keystore: &dyn KeyStore, purpose: Purpose, now: Timestamp, events: &mut Vec<Event>) -> Result<KeyInfo> {
    if let Some(key) = keystore.active(purpose)? {
        return Ok(key);
    }
    let had = keystore.list()?.iter().any(|k| k.purpose == purpose && k.state != KeyState::Destroyed);
    if had {
        bail!("the keystore has no active {purpose} key, only retired ones");
    }
    let key = keystore.create(purpose, now).with_context(|| format!("failed to make the {purpose} key"))?;
    events.push(key_event(KeyChange::Created, key.id, purpose, key.epoch, key.algorithm));
    Ok(key)
}

/// Signs checkpoints with the keystore's log key.
pub(crate) struct KeystoreSigner {
    keystore: Arc<dyn KeyStore>,
    id: KeyId,
    key: LogKey,
}

impl KeystoreSigner {
    pub(crate) fn new(keystore: Arc<dyn KeyStore>, log: &KeyInfo, identity: &KeyInfo) -> Result<Self> {
        let public = log.public.as_ref().and_then(Base64::array).context("the log key is damaged")?;
        // The origin outlives rotations of the log key: it names the node.
        let key = LogKey::new(&format!("decores.local/{}", identity.id), public)?;
        Ok(Self { keystore, id: log.id, key })
    }
}

impl LogSigner for KeystoreSigner {
    fn key(&self) -> &LogKey {
        &self.key
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignerError> {
        let signature = self.keystore.sign(&self.id, message).map_err(|e| SignerError(Box::new(e)))?;
        signature.try_into().map_err(|_| SignerError("an Ed25519 signature has 64 bytes".into()))
    }
}

fn statement(
    config: &Config,
    keystore: &dyn KeyStore,
    identity: &KeyInfo,
    log: &LogKey,
    tls_ca: &[u8],
    now: Timestamp,
) -> Result<NodeResponse> {
    let statement = NodeStatement {
        version: 1,
        name: config.name.clone(),
        identity: identity.id,
        identity_public: identity.public.clone().context("the identity key has no public half")?,
        log_origin: log.name().to_owned(),
        log_key: log.to_string(),
        tls_ca: Base64::from(tls_ca),
        issued: now,
    };
    let payload = canonical::to_vec(&statement)?;
    let envelope = Envelope::sign(NODE_STATEMENT_TYPE, payload, identity.id, |m| keystore.sign(&identity.id, m))?;
    Ok(NodeResponse { envelope: serde_json::to_value(&envelope)? })
}

async fn probe(launcher: LauncherHandle) -> Result<HostCapabilities> {
    let probed = tokio::task::spawn_blocking(move || launcher.probe()).await?;
    probed.context("failed to find out what this machine can isolate")
}

fn started(node: &Node) -> Result<Vec<Event>> {
    let insecure: Vec<Code> = node.config.insecure.iter().map(|name| Code::parse(name)).collect::<Result<_, _>>()?;
    let mut events = vec![Event::NodeStarted {
        version: receipts::version()?,
        identity: node.identity.id,
        insecure: insecure.clone(),
        root_source: node.keystore.root_source(),
        swap: node.host.swap,
    }];
    events.extend(insecure.into_iter().map(|name| Event::SettingInsecure { name }));
    Ok(events)
}

/// An operator's key, where there is none that still opens: in an empty home, or when the last one ran out.
async fn first_key(node: &Node) -> Result<Option<ApiKeyText>> {
    let keys = sign_in::all(node).await?;
    let now = node.clock.now();
    let opens = |key: &ApiKeyRecord| key.role == Role::Operator && authenticate(Some(key), now).is_ok();
    if keys.iter().any(|held| opens(&held.row)) {
        return Ok(None);
    }
    let (key, _, change, event) =
        sign_in::compose(node, Role::Operator, "operator".to_owned(), node.config.first_key_ms)?;
    node.persist(vec![change], vec![event]).await?;
    Ok(Some(key))
}
