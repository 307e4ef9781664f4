//! The node's folder.

use anyhow::{Context as _, Result, bail};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Paths below the node's folder (mode 0700).
#[derive(Clone, Debug)]
pub(crate) struct Home(PathBuf);

impl Home {
    /// Opens the folder, making it if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("failed to make the node's folder `{}`", path.display()))?;
        let path =
            path.canonicalize().with_context(|| format!("failed to open the node's folder `{}`", path.display()))?;
        let meta = std::fs::metadata(&path)?;
        // /proc/self belongs to whoever runs this process.
        if meta.uid() != std::fs::metadata("/proc/self")?.uid() {
            bail!("the node's folder `{}` belongs to another user (uid {})", path.display(), meta.uid());
        }
        if meta.permissions().mode() & 0o077 != 0 {
            bail!(
                "the node's folder `{0}` can be entered by others (mode {1:o}); run `chmod 700 {0}`",
                path.display(),
                meta.mode() & 0o777
            );
        }
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where jails are mounted, each in a mount namespace of its own.
    pub(crate) fn jails(&self) -> PathBuf {
        self.0.join("jails")
    }

    /// Where encrypted scratches lie, as ciphertext.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.0.join("scratch")
    }

    pub(crate) fn keystore(&self) -> PathBuf {
        self.0.join("keys")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.0.join("state")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.0.join("blobs")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }
}
