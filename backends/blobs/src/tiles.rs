//! The log's tiles and checkpoint as files, laid out as C2SP tlog-tiles serves them.

use crate::durable;
use decores_audit::ports::TileStore;
use std::io;
use std::path::{Path, PathBuf};

const CHECKPOINT: &str = "checkpoint";

/// A folder of tiles. One process writes it.
#[derive(Clone, Debug)]
pub struct FolderTiles {
    folder: PathBuf,
}

impl FolderTiles {
    /// Takes or makes the folder.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        durable::make_folder(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn path(&self, tile: &str) -> io::Result<PathBuf> {
        if is_tile_path(tile) {
            Ok(self.folder.join(tile))
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not the path of a tile"))
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            durable::make_folders(&self.folder, parent)?;
        }
        durable::replace(&self.temporary(), path, bytes)
    }

    fn temporary(&self) -> PathBuf {
        self.folder.join(".tmp")
    }
}

impl TileStore for FolderTiles {
    fn put(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(path)?;
        match durable::read_if_there(&path)? {
            Some(old) if old == bytes => Ok(()),
            Some(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "the tile exists with other content")),
            None => self.write(&path, bytes),
        }
    }

    fn replace(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        if let Some((full, _)) = path.split_once(".p/") {
            durable::remove_if_there(&self.path(full)?)?;
        }
        self.write(&self.path(path)?, bytes)
    }

    fn get(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        durable::read_if_there(&self.path(path)?)
    }

    fn drop_partials(&self, path: &str) -> io::Result<()> {
        let mut partials = self.path(path)?.into_os_string();
        partials.push(".p");
        match std::fs::remove_dir_all(PathBuf::from(partials)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn put_checkpoint(&self, bytes: &[u8]) -> io::Result<()> {
        durable::replace(&self.temporary(), &self.folder.join(CHECKPOINT), bytes)
    }

    fn checkpoint(&self) -> io::Result<Option<Vec<u8>>> {
        durable::read_if_there(&self.folder.join(CHECKPOINT))
    }
}

/// `tile/<level or "entries">/x001/…/067`, or that with `.p/<width>`.
fn is_tile_path(path: &str) -> bool {
    let digits = |s: &str, most: usize| !s.is_empty() && s.len() <= most && s.bytes().all(|b| b.is_ascii_digit());
    let number = |s: &str| s.len() == 3 && digits(s, 3);
    let Some((level, rest)) = path.strip_prefix("tile/").and_then(|p| p.split_once('/')) else { return false };
    let (full, width) = rest.split_once(".p/").map_or((rest, None), |(full, width)| (full, Some(width)));
    let mut parts = full.split('/').rev();
    (level == "entries" || digits(level, 2))
        && width.is_none_or(|w| digits(w, 3))
        && full.len() <= 64
        && parts.next().is_some_and(number)
        && parts.all(|part| part.strip_prefix('x').is_some_and(number))
}

#[cfg(test)]
mod tests {
    use super::is_tile_path;

    #[test]
    fn takes_paths_of_the_specification() {
        for good in
            ["tile/0/000", "tile/0/x001/x234/067", "tile/1/000.p/8", "tile/entries/x273/112.p/255", "tile/63/001"]
        {
            assert!(is_tile_path(good), "{good}");
        }
    }

    #[test]
    fn refuses_paths_that_lead_elsewhere() {
        let bad = [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/0/../000",
            "/tile/0/000",
            "tile/0/000/",
            "tile/0/00",
            "tile/0/0000",
            "tile/x/000",
            "tile/0/001/000",
            "tile/0/x001",
            "tile/0/000.p/",
            "tile/0/000.p/../x",
            "tile/0/000.p/1234",
            "tile/0/000.p/1.p/2",
            "checkpoint",
            "tile/0/000\0",
            "tile/../0/000",
            "tile/100/000",
        ];
        for path in bad {
            assert!(!is_tile_path(path), "{path}");
        }
    }
}
