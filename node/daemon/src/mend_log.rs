//! The log on its own disk: checked before the node goes on with it, and mended by `decoresd mend-log`.

use crate::args::Common;
use crate::boot::{KeystoreSigner, Root};
use crate::config;
use crate::hint::DamagedLog;
use crate::home::Home;
use crate::run::bad_config;
use anyhow::{Context as _, Error, Result, bail};
use decores_audit::checkpoint::{LogKey, LogSigner as _};
use decores_audit::damage::{Damage, Remedy};
use decores_audit::ports::{Store, TileStore};
use decores_audit::rebuild::rebuild;
use decores_audit::recent::check_recent;
use decores_blobs::FolderTiles;
use decores_keys::{KeyInfo, KeyStore, Purpose};
use decores_secrets::forbid_core_dumps;
use decores_store_sqlite::SqliteStore;
use decores_system::SystemRandom;
use decores_types::chain;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::runtime::{Builder, Handle};

/// Checks the log's last day; on damage the node neither signs nor serves.
pub(crate) async fn check(store: &Arc<dyn Store>, tiles: &Arc<FolderTiles>, key: &LogKey, home: &Home) -> Result<()> {
    let (store, tiles, key) = (Arc::clone(store), Arc::clone(tiles), key.clone());
    // Tiles are read with blocking calls.
    let run = move || Handle::current().block_on(check_recent(&*store, &*tiles, &key));
    let from = tokio::task::spawn_blocking(run).await?.map_err(|damage| refused(&damage, home))?;
    tracing::debug!(from, "checked the log's last day");
    Ok(())
}

/// `decoresd mend-log`: makes damaged tiles anew from the stored entries, on a node that does not run.
pub(crate) fn run(common: &Common) -> Result<ExitCode> {
    let home = Home::open(&common.home)?;
    let config = match config::load(home.path(), common.config.as_deref(), None) {
        Ok(config) => config,
        Err(error) => return Ok(bad_config(&error)),
    };
    if !home.database().exists() {
        bail!("`{}` holds no log: no node was ever started there", home.path().display());
    }
    forbid_core_dumps().context("failed to forbid core dumps")?;
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let root = Root::choose(&config.root, &home, credentials.as_deref())?;
    let keystore: Arc<dyn KeyStore> = Arc::new(root.open(&home, Arc::new(SystemRandom))?);
    let (log, identity) = (active(&*keystore, Purpose::Log)?, active(&*keystore, Purpose::Identity)?);
    let signer = KeystoreSigner::new(keystore, &log, &identity)?;
    let store = SqliteStore::open(&home.database()).context("failed to open the node's state")?;
    let tiles = FolderTiles::open(&home.log()).context("failed to open the log's folder")?;
    let runtime = Builder::new_current_thread().build()?;
    let mended = runtime.block_on(mend(&store, &tiles, signer.key())).map_err(|damage| refused(&damage, &home))?;
    let mut out = std::io::stdout().lock();
    if common.json {
        serde_json::to_writer_pretty(&mut out, &serde_json::json!({ "mended": mended }))?;
        writeln!(out)?;
    } else {
        mended.iter().try_for_each(|path| writeln!(out, "mended   {path}"))?;
        writeln!(out, "{} mended; the stored entries have the signed root", mended.len())?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn mend(store: &dyn Store, tiles: &dyn TileStore, key: &LogKey) -> Result<Vec<String>, Damage> {
    let mut mended = Vec::new();
    rebuild(store, tiles, key, &mut |path| mended.push(path.to_owned())).await?;
    check_recent(store, tiles, key).await?;
    Ok(mended)
}

fn active(keystore: &dyn KeyStore, purpose: Purpose) -> Result<KeyInfo> {
    keystore.active(purpose)?.with_context(|| format!("the keystore has no active {purpose} key"))
}

fn refused(damage: &Damage, home: &Home) -> Error {
    let home = home.path().display();
    let program = std::env::current_exe().map_or_else(|_| "decoresd".to_owned(), |path| path.display().to_string());
    let hint = match damage.remedy() {
        Remedy::Cause => "the log itself may be whole; start again once the cause is gone".to_owned(),
        Remedy::Rebuild => format!(
            "run `{program} mend-log --home {home}`: it writes damaged files anew from the stored entries, and nothing \
             if those are not the signed ones"
        ),
        Remedy::RestoreEntries => {
            format!(
                "restore `{home}/state` from a backup that is as new as `{home}/log/checkpoint`; leave `{home}/log`"
            )
        }
        Remedy::RestoreTiles => {
            format!("restore `{home}/log` from a backup, which may be an older one; leave `{home}/state`")
        }
        Remedy::Nothing => format!("no damage to a disk does that: keep `{home}` as it is, and report it"),
    };
    DamagedLog { what: chain(damage), hint }.into()
}
