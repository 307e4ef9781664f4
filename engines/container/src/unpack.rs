//! From an archive to a root folder.

use crate::archive::{Hashed, Store};
use crate::image::{ImagePlan, LayerPlan, Packing, find};
use crate::layer::{Layer, Left, Made, parts};
use crate::program::{self, Image};
use crate::refusal::{Refusal, doing, doing_io, shown};
use crate::root::{Folder, Found};
use crate::tar::{MAX_PATH, Tar};
use crate::zstd::Frames;
use decores_sandbox::container::MOUNT_POINTS;
use decores_types::Digest;
use flate2::bufread::MultiGzDecoder;
use rustix::io::Errno;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

/// What an image may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Entries of all layers together.
    pub entries: u64,
    /// Bytes of all layers' archives together, unpacked; without a number, what the file system holds.
    pub bytes: Option<u64>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { entries: 500_000, bytes: None }
    }
}

/// Two empty folders: the image's root, and one for its parts until they are unpacked.
#[derive(Debug)]
pub struct Places {
    root: Folder,
    blobs: Folder,
}

impl Places {
    /// Opens both.
    ///
    /// # Errors
    /// If one is missing.
    pub fn open(root: &Path, blobs: &Path) -> io::Result<Self> {
        Ok(Self { root: Folder::top(root)?, blobs: Folder::top(blobs)? })
    }
}

/// Reads an archive to its end and unpacks the one image for this machine that it holds. Nothing is made of it before
/// its end was reached. The digest is the archive's; without one it could not be read to its end.
pub fn unpack(source: impl Read, places: &Places, bounds: &Bounds) -> (Option<Digest>, Result<Image, Refusal>) {
    let mut archive = Tar::new(Hashed::new(source, u64::MAX));
    let store = match Store::fill(&mut archive, &places.blobs) {
        Err(Refusal::Source(e)) => return (None, Err(Refusal::Source(e))),
        other => other,
    };
    // What is refused is read to its end too: its digest says what was refused.
    let mut source = archive.into_source();
    if let Err(e) = drain(&mut source) {
        return (None, Err(Refusal::Source(e)));
    }
    let image = store.and_then(|store| {
        let image = image(&store, places, bounds)?;
        store.empty()?;
        Ok(image)
    });
    (Some(source.digest()), image)
}

fn image(store: &Store<'_>, places: &Places, bounds: &Bounds) -> Result<Image, Refusal> {
    let ImagePlan { digest, config, layers } = find(store)?;
    let said = program::check(config.config)?;
    let room = places.root.room().map_err(doing("measuring the scratch"))?;
    let mut left = Left { entries: bounds.entries, bytes: bounds.bytes.unwrap_or(room) };
    let mut made = Made::default();
    for layer in &layers {
        let name = format!("layer {}", layer.stored.digest);
        one_layer(store, layer, places, &mut left, &mut made).map_err(|e| e.within(&name))?;
    }
    mount_points(&places.root)?;
    let cwd = working_folder(&places.root, &said.cwd)?;
    let user = program::user(&places.root, &said.user)?;
    Ok(Image {
        digest,
        entrypoint: said.entrypoint,
        cmd: said.cmd,
        env: said.env,
        cwd,
        user,
        files: made.files,
        bytes: made.bytes,
    })
}

fn one_layer(
    store: &Store<'_>,
    layer: &LayerPlan<'_>,
    places: &Places,
    left: &mut Left,
    made: &mut Made,
) -> Result<(), Refusal> {
    let mut archive = Tar::new(Hashed::new(decoder(store, layer)?, left.bytes));
    Layer::new(&places.root).unpack(&mut archive, left, made)?;
    let source = archive.into_source();
    left.bytes = source.left();
    if source.digest() == layer.unpacked {
        Ok(())
    } else {
        Err(Refusal::image("it unpacks to something else than the configuration says"))
    }
}

fn decoder(store: &Store<'_>, layer: &LayerPlan<'_>) -> Result<Box<dyn Read>, Refusal> {
    let mut file = store.open(layer.stored)?;
    let mut start = Vec::new();
    (&mut file).take(4).read_to_end(&mut start).map_err(doing_io("reading a layer"))?;
    let packing = match (layer.packing, start.as_slice()) {
        (Packing::Unsaid, [0x1f, 0x8b, ..]) => Packing::Gzip,
        (Packing::Unsaid, [0x28, 0xb5, 0x2f, 0xfd]) => Packing::Zstd,
        (Packing::Unsaid, _) => Packing::Plain,
        (said, _) => said,
    };
    let source = BufReader::with_capacity(65_536, Cursor::new(start).chain(file));
    Ok(match packing {
        Packing::Plain | Packing::Unsaid => Box::new(source),
        Packing::Gzip => Box::new(MultiGzDecoder::new(source)),
        Packing::Zstd => Box::new(Frames::new(source)),
    })
}

/// Reads over what is left.
fn drain(source: &mut impl Read) -> io::Result<()> {
    let mut buffer = vec![0; 65_536];
    while source.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Something is mounted at each of these, so each must be a folder and nothing that leads elsewhere.
fn mount_points(root: &Folder) -> Result<(), Refusal> {
    for name in MOUNT_POINTS {
        match root.look(name.as_bytes()).map_err(doing("looking at the root"))? {
            Some(Found::Folder) => {}
            None => root.make_folder(name.as_bytes(), 0o755).map_err(doing("making a folder"))?,
            Some(_) => {
                let quoted = shown(format!("/{name}").as_bytes());
                return Err(Refusal::image(format!("its {quoted} is no folder, so nothing can be mounted there")));
            }
        }
    }
    Ok(())
}

/// Makes the folder that the program starts in where the image has none, and gives its path without links. Below a
/// folder that something is mounted at, the program would not find it.
fn working_folder(root: &Folder, named: &str) -> Result<String, Refusal> {
    let within = |refusal: Refusal| refusal.within(&format!("the working folder {}", shown(named.as_bytes())));
    let parts = parts(named.as_bytes()).map_err(within)?;
    let folder = Layer::new(root).folder(&parts).map_err(within)?;
    let path = path_of(root, folder).map_err(doing("looking for the working folder"))?;
    let text = path.iter().map(|part| std::str::from_utf8(part)).collect::<Result<Vec<_>, _>>();
    let text = text.map_err(|_| within(Refusal::image("its path is no UTF-8")))?;
    let hidden = path.first().is_some_and(|first| match first.as_slice() {
        b"in" | b"out" | b"tmp" => path.len() > 1,
        first => MOUNT_POINTS.iter().any(|name| name.as_bytes() == first),
    });
    if hidden {
        return Err(within(Refusal::image("something else is mounted there")));
    }
    let text = format!("/{}", text.join("/"));
    if text.len() > MAX_PATH {
        return Err(within(Refusal::image("its path is too long")));
    }
    Ok(text)
}

/// The names that lead from the top to a folder below it.
fn path_of(top: &Folder, mut folder: Folder) -> Result<Vec<Vec<u8>>, Errno> {
    let mut path = Vec::new();
    while folder.inode != top.inode {
        let above = folder.enter(b"..")?;
        let is_it = |name: &&Vec<u8>| above.enter(name).is_ok_and(|found| found.inode == folder.inode);
        path.push(above.names()?.iter().find(is_it).ok_or(Errno::NOENT)?.clone());
        folder = above;
    }
    path.reverse();
    Ok(path)
}
