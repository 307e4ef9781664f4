//! The log's tiles and checkpoint as files, laid out as C2SP tlog-tiles serves them.

use crate::durable;
use decores_audit::ports::TileStore;
use decores_audit::tree::NewTile;
use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread;

const CHECKPOINT: &str = "checkpoint";
const TEMPORARY: &str = ".tmp";
/// Files that are synced at the same time: the file system makes one commit of its journal for those that wait.
const LANES: usize = 8;

/// A folder of tiles. One process writes it.
#[derive(Clone, Debug)]
pub struct FolderTiles {
    folder: PathBuf,
}

impl FolderTiles {
    /// Takes or makes the folder; what a crash left half written is removed.
    ///
    /// # Errors
    /// If it cannot be made or read.
    pub fn open(folder: &Path) -> io::Result<Self> {
        durable::make_folder(folder)?;
        for file in std::fs::read_dir(folder)? {
            let file = file?;
            if file.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) {
                durable::remove_if_there(&file.path())?;
            }
        }
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
        self.folder.join(TEMPORARY)
    }

    /// Where a tile goes, if it is not there yet.
    fn vacant(&self, path: &str, bytes: &[u8]) -> io::Result<Option<PathBuf>> {
        let file = self.path(path)?;
        match durable::read_if_there(&file)? {
            Some(old) if old == bytes => Ok(None),
            Some(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("`{path}` exists with other content"))),
            None => Ok(Some(file)),
        }
    }
}

/// Does it for each, several at a time.
fn together<T: Sync>(items: &[T], work: impl Fn(&T) -> io::Result<()> + Sync) -> io::Result<()> {
    let work = &work;
    thread::scope(|scope| {
        let start = |lane| thread::Builder::new().spawn_scoped(scope, move || <[T]>::iter(lane).try_for_each(work));
        let lanes: Vec<_> = items.chunks(items.len().div_ceil(LANES).max(1)).map(start).collect();
        // All have ended when this returns, whichever of them failed.
        lanes
            .into_iter()
            .try_for_each(|lane| lane?.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))))
    })
}

impl TileStore for FolderTiles {
    fn put(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.vacant(path, bytes)?.map_or(Ok(()), |path| self.write(&path, bytes))
    }

    fn put_all(&self, tiles: &[NewTile]) -> io::Result<()> {
        let (mut files, mut folders) = (Vec::new(), BTreeSet::new());
        for tile in tiles {
            let vacant = self.vacant(&tile.path, &tile.bytes)?;
            // That one is there does not say that its name is durable.
            folders.extend(self.path(&tile.path)?.parent().map(Path::to_owned));
            files.extend(vacant.map(|path| (path, tile.bytes.as_slice())));
        }
        folders.iter().try_for_each(|folder| durable::make_folders(&self.folder, folder))?;
        let mut written = Vec::with_capacity(files.len());
        for (number, (path, bytes)) in files.into_iter().enumerate() {
            let temporary = self.folder.join(format!("{TEMPORARY}-{number}"));
            durable::remove_if_there(&temporary)?;
            let mut file = durable::create(&temporary)?;
            file.write_all(bytes)?;
            written.push((file, temporary, path));
        }
        together(&written, |(file, _, _)| file.sync_all())?;
        written.iter().try_for_each(|(_, temporary, path)| std::fs::rename(temporary, path))?;
        let folders: Vec<PathBuf> = folders.into_iter().collect();
        together(&folders, |folder| durable::sync_folder(folder))
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
