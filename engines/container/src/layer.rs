//! One layer, laid over those below it.

use crate::refusal::{Refusal, doing, doing_io, shown};
use crate::root::{Folder, Found, seal_file};
use crate::tar::{Entry, Kind, Tar, TarError};
use rustix::io::Errno;
use std::collections::HashSet;
use std::io::{self, Read, Write};

/// Most parts of a path, and the deepest folder that is removed again.
const MAX_DEPTH: usize = 128;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What the union file system that whiteouts come from keeps for itself.
const BOOKKEEPING: &[u8] = b".wh..wh.";
/// Something is mounted over it, so no device of the image's is ever seen there.
const DEVICES: &[u8] = b"dev";

/// What all layers of an image may take together.
#[derive(Debug)]
pub(crate) struct Left {
    /// Entries.
    pub(crate) entries: u64,
    /// Bytes of their archives, unpacked.
    pub(crate) bytes: u64,
}

/// Counts what was made.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// A layer that is being unpacked.
pub(crate) struct Layer<'a> {
    top: &'a Folder,
    /// The folder that the last entry stood in, by its path.
    last: Option<(Vec<u8>, Folder)>,
    /// What this layer made, by folder and name: its whiteouts hide only what lies below it.
    own: HashSet<(u64, Vec<u8>)>,
}

impl<'a> Layer<'a> {
    pub(crate) fn new(top: &'a Folder) -> Self {
        Self { top, last: None, own: HashSet::new() }
    }

    /// Unpacks all of it.
    pub(crate) fn unpack<R: Read>(
        mut self,
        archive: &mut Tar<R>,
        left: &mut Left,
        made: &mut Made,
    ) -> Result<(), Refusal> {
        loop {
            let Some(entry) = archive.next().map_err(unreadable)? else { return Ok(()) };
            left.entries = left
                .entries
                .checked_sub(1)
                .ok_or_else(|| Refusal::Full("the image has too many files and folders".to_owned()))?;
            self.entry(&entry, archive, made).map_err(|e| e.within(&shown(&entry.path)))?;
        }
    }

    fn entry<R: Read>(&mut self, entry: &Entry, archive: &mut Tar<R>, made: &mut Made) -> Result<(), Refusal> {
        let mut path = parts(&entry.path)?;
        let Some(name) = path.pop() else {
            // The top itself, whose mode stays as it is.
            return if entry.kind == Kind::Folder { Ok(()) } else { Err(Refusal::image("it stands for the root")) };
        };
        if name.starts_with(WHITEOUT) {
            return self.whiteout(&path, name);
        }
        if entry.kind == Kind::Special {
            // Made by root, they would be doors out.
            let unseen = path.first() == Some(&DEVICES);
            return if unseen {
                Ok(())
            } else {
                Err(Refusal::image("it is a device or a pipe, which is not unpacked"))
            };
        }
        let folder = self.folder(&path)?;
        let found = folder.look(name).map_err(odd("looking at an entry"))?;
        let kept = found == Some(Found::Folder) && entry.kind == Kind::Folder;
        if found.is_some() && !kept {
            if entry.kind == Kind::HardLink && self.is_itself(&folder, name, &entry.link)? {
                self.own.insert((folder.inode, name.to_vec()));
                return Ok(());
            }
            self.clear(&folder, name, false, 0)?;
        }
        match entry.kind {
            Kind::Folder if kept => {
                folder.set_folder_mode(name, folder_mode(entry.mode)).map_err(doing("setting a folder's mode"))?;
            }
            Kind::Folder => folder.make_folder(name, folder_mode(entry.mode)).map_err(odd("making a folder"))?,
            Kind::File => {
                let mut file = folder.make_file(name).map_err(odd("making a file"))?;
                copy(archive, &mut file, entry.size)?;
                seal_file(&file, file_mode(entry.mode), entry.mtime).map_err(doing("setting a file's mode"))?;
                made.bytes += entry.size;
            }
            Kind::SymLink => folder.make_link(name, &entry.link).map_err(odd("making a link"))?,
            Kind::HardLink | Kind::Special => self.hard_link(&folder, name, &entry.link)?,
        }
        made.files += 1;
        self.own.insert((folder.inode, name.to_vec()));
        // A link that is gone may have led here.
        if kept || matches!(found, None | Some(Found::File)) {
            self.last = Some((path.join(&b'/'), folder));
        }
        Ok(())
    }

    /// The folder that an entry stands in; made where it is missing. Links on the way are followed inside the root.
    pub(crate) fn folder(&mut self, path: &[&[u8]]) -> Result<Folder, Refusal> {
        let whole = path.join(&b'/');
        if let Some((_, folder)) = self.last.take_if(|(known, _)| *known == whole) {
            return Ok(folder);
        }
        match self.top.resolve(&whole) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(odd("opening a folder")),
        }
        let mut above = self.top.resolve(b"").map_err(doing("opening the root"))?;
        for (depth, name) in path.iter().enumerate() {
            let so_far = path.get(..=depth).unwrap_or_default().join(&b'/');
            above = match self.top.resolve(&so_far) {
                Err(Errno::NOENT) => {
                    above.make_folder(name, 0o755).map_err(odd("making a folder"))?;
                    self.own.insert((above.inode, name.to_vec()));
                    above.enter(name).map_err(doing("opening a folder"))?
                }
                other => other.map_err(odd("opening a folder"))?,
            };
        }
        Ok(above)
    }

    fn hard_link(&self, folder: &Folder, name: &[u8], link: &[u8]) -> Result<(), Refusal> {
        let missing = || Refusal::image(format!("it is a hard link to {}, which is no file", shown(link)));
        let mut path = parts(link)?;
        let target = path.pop().ok_or_else(missing)?;
        let place = self.top.resolve(&path.join(&b'/')).map_err(|_| missing())?;
        // A link to a symbolic link is the link itself, not what that points at.
        if !matches!(place.look(target), Ok(Some(Found::File | Found::SymLink))) {
            return Err(missing());
        }
        folder.make_hard_link(name, &place, target).map_err(odd("making a hard link"))
    }

    /// Whether a hard link names itself: it would be removed before it is made.
    fn is_itself(&self, folder: &Folder, name: &[u8], link: &[u8]) -> Result<bool, Refusal> {
        let mut path = parts(link)?;
        let target = path.pop();
        let place = self.top.resolve(&path.join(&b'/'));
        Ok(target == Some(name) && place.is_ok_and(|place| place.inode == folder.inode))
    }

    /// Hides what layers below have at a name, or in a whole folder.
    fn whiteout(&mut self, path: &[&[u8]], name: &[u8]) -> Result<(), Refusal> {
        let hidden = name.strip_prefix(WHITEOUT).unwrap_or_default();
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Refusal::image("it hides what is not in its own folder"));
        }
        if name != OPAQUE && name.starts_with(BOOKKEEPING) {
            return Ok(());
        }
        let folder = match self.top.resolve(&path.join(&b'/')) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(e) => return Err(odd("opening a folder")(e)),
        };
        if name == OPAQUE {
            for name in folder.names().map_err(doing("listing a folder"))? {
                self.clear(&folder, &name, true, 0)?;
            }
        } else if folder.look(hidden).map_err(odd("looking at an entry"))?.is_some() {
            self.clear(&folder, hidden, true, 0)?;
        }
        Ok(())
    }

    /// Removes what stands at a name, with all below it; `spare` leaves what this layer made. True if it is gone.
    fn clear(&mut self, folder: &Folder, name: &[u8], spare: bool, depth: usize) -> Result<bool, Refusal> {
        if depth > MAX_DEPTH {
            return Err(Refusal::image("it replaces folders that are nested too deeply"));
        }
        let spared = spare && self.own.contains(&(folder.inode, name.to_vec()));
        let found = folder.look(name).map_err(odd("looking at an entry"))?;
        if found != Some(Found::Folder) {
            if spared {
                return Ok(false);
            }
            if found != Some(Found::File) {
                self.last = None;
            }
            folder.remove_file(name).map_err(doing("removing a file"))?;
            return Ok(true);
        }
        let inner = folder.enter(name).map_err(doing("opening a folder"))?;
        let mut empty = true;
        for name in inner.names().map_err(doing("listing a folder"))? {
            empty &= self.clear(&inner, &name, spare, depth + 1)?;
        }
        if spared || !empty {
            return Ok(false);
        }
        self.last = None;
        folder.remove_folder(name).map_err(doing("removing a folder"))?;
        Ok(true)
    }
}

/// The parts of a path below the root: an absolute one is taken as below it too.
pub(crate) fn parts(path: &[u8]) -> Result<Vec<&[u8]>, Refusal> {
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").collect();
    if parts.contains(&b"..".as_slice()) {
        return Err(Refusal::image("its path leads upwards"));
    }
    if parts.len() > MAX_DEPTH {
        return Err(Refusal::image(format!("its path has more than {MAX_DEPTH} parts")));
    }
    if parts.iter().any(|p| p.len() > 255) {
        return Err(Refusal::image("its name has more than 255 bytes"));
    }
    Ok(parts)
}

/// Searchable by all, changeable by its owner: while it is unpacked, what it holds may change.
const fn folder_mode(mode: u32) -> u32 {
    mode & 0o1777 | 0o755
}

/// Readable by all, and what its owner may run, all may; nobody becomes somebody else by running it.
const fn file_mode(mode: u32) -> u32 {
    let run = if mode & 0o100 != 0 { 0o111 } else { 0 };
    mode & 0o777 | 0o444 | run
}

/// What only an image brings about by links and names that lead nowhere.
fn odd(what: &'static str) -> impl Fn(Errno) -> Refusal {
    move |e| match e {
        Errno::LOOP => Refusal::image("its path leads in circles"),
        Errno::NOTDIR => Refusal::image("its path leads through what is no folder"),
        Errno::EXIST => Refusal::image("its path leads through a link to nowhere"),
        Errno::NAMETOOLONG => Refusal::image("its name or its link is too long"),
        Errno::NOENT | Errno::INVAL => Refusal::image("it has no name or leads nowhere"),
        Errno::MLINK => Refusal::image("it has too many links"),
        e => doing(what)(e),
    }
}

/// Copies an entry's content.
fn copy<R: Read>(archive: &mut Tar<R>, file: &mut impl Write, size: u64) -> Result<(), Refusal> {
    let mut buffer = vec![0; 65_536];
    let mut left = size;
    while left > 0 {
        let n = match archive.read(&mut buffer) {
            Ok(0) => return Err(Refusal::image("it ends inside an entry")),
            Ok(n) => n,
            Err(e) => return Err(unreadable(TarError::Read(e))),
        };
        file.write_all(buffer.get(..n).unwrap_or_default()).map_err(doing_io("writing a file"))?;
        left = left.saturating_sub(n as u64);
    }
    Ok(())
}

/// A layer's archive lies in a file of ours: what cannot be read was packed wrongly.
fn unreadable(e: TarError) -> Refusal {
    match e {
        TarError::Read(e) if e.kind() == io::ErrorKind::StorageFull => {
            Refusal::Full("its layers unpack to more bytes than the scratch has".to_owned())
        }
        TarError::Read(e) => Refusal::image(format!("it does not unpack: {e}")),
        TarError::Bad(why) => Refusal::Image(why),
    }
}
