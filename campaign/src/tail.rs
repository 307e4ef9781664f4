//! The unsynced tail: what may be missing from a disk after the power went, as the calls of a node say.
//!
//! From a copy of the home and a record of every call after it, this knows which bytes of which file, and which
//! names in which folder, have been synced since. The rest may be there, or not, or in part: [`Disk::after_a_cut`]
//! chooses. A file's bytes are synced by `fsync` or `fdatasync` of the file, a name by `fsync` of its folder, and
//! only if the call that changed them had returned before the sync began. Changes of names in one folder survive in
//! their order. That is less than what any Linux file system promises, and never more.

use super::plan::Dice;
use super::record::{Call, bytes, descriptor};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Writes are torn at multiples of this.
const SECTOR: usize = 512;

/// A change of a file's content, and the line on which it returned.
#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Cut(usize),
}

/// A file, under whatever name.
#[derive(Clone, Debug, Default)]
struct Node {
    synced: Vec<u8>,
    tail: Vec<(usize, Change)>,
    /// Whether it was made during the record. What no call of the node's wrote then, an engine did.
    made: bool,
    /// Whether what engines wrote is synced.
    whole: bool,
}

/// A change of a name.
#[derive(Clone, Debug)]
enum Rename {
    Give(PathBuf, usize),
    Take(PathBuf),
    Move(PathBuf, PathBuf),
    Folder(PathBuf),
    NoFolder(PathBuf),
}

impl Rename {
    fn folder(&self) -> &Path {
        let (Self::Give(path, _) | Self::Take(path) | Self::Move(_, path) | Self::Folder(path) | Self::NoFolder(path)) =
            self;
        path.parent().unwrap_or(Path::new(""))
    }
}

/// Names, and which file they stand for.
#[derive(Clone, Debug, Default)]
struct Names {
    files: BTreeMap<PathBuf, usize>,
    folders: BTreeSet<PathBuf>,
}

impl Names {
    fn apply(&mut self, change: &Rename) {
        match change {
            Rename::Give(path, node) => drop(self.files.insert(path.clone(), *node)),
            Rename::Take(path) => drop(self.files.remove(path)),
            Rename::Move(from, to) => {
                if let Some(node) = self.files.remove(from) {
                    self.files.insert(to.clone(), node);
                }
            }
            Rename::Folder(path) => drop(self.folders.insert(path.clone())),
            Rename::NoFolder(path) => drop(self.folders.remove(path)),
        }
    }
}

/// A home as the disk may hold it.
#[derive(Debug)]
pub struct Disk {
    home: PathBuf,
    nodes: Vec<Node>,
    now: Names,
    synced: Names,
    tail: Vec<(usize, Rename)>,
    /// Where each descriptor of the node writes next.
    places: HashMap<i32, usize>,
}

/// What was left out of a home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Writes and cuts that were not synced.
    pub changes: usize,
    /// Of them, how many were dropped or torn.
    pub altered: usize,
    /// Changes of names that were not synced.
    pub names: usize,
    /// Of them, how many were undone.
    pub undone: usize,
}

impl Disk {
    /// The home as copied to `copy`, all of it taken as synced.
    pub fn of(home: &Path, copy: &Path) -> Result<Self, String> {
        let (nodes, now) = (Vec::new(), Names::default());
        let mut this =
            Self { home: home.to_owned(), nodes, synced: now.clone(), now, tail: Vec::new(), places: HashMap::new() };
        this.load(copy, Path::new("")).map_err(|e| format!("failed to read `{}`: {e}", copy.display()))?;
        this.synced = this.now.clone();
        Ok(this)
    }

    fn load(&mut self, copy: &Path, folder: &Path) -> std::io::Result<()> {
        for entry in fs::read_dir(copy.join(folder))? {
            let (path, kind) =
                (folder.join(entry.as_ref().map_or_else(|_| "".into(), fs::DirEntry::file_name)), entry?.file_type()?);
            if kind.is_dir() {
                self.now.folders.insert(path.clone());
                self.load(copy, &path)?;
            } else if kind.is_file() {
                let synced = fs::read(copy.join(&path))?;
                self.now.files.insert(path, self.nodes.len());
                self.nodes.push(Node { synced, ..Node::default() });
            }
        }
        Ok(())
    }

    /// Follows the calls of the node.
    pub fn follow(&mut self, calls: &[Call]) -> Result<(), String> {
        calls.iter().try_for_each(|call| self.call(call).map_err(|e| format!("{e}, in {}", shown(call))))
    }

    fn call(&mut self, call: &Call) -> Result<(), String> {
        let arg = |at: usize| call.args.get(at).map(String::as_str).unwrap_or_default();
        let number = |at: usize| arg(at).parse::<usize>().map_err(|_| "no number".to_owned());
        let done = call.returned;
        match call.name.as_str() {
            "open" | "creat" => Err("a call that is not followed".to_owned()),
            "openat" => self.open(call),
            "openat2" => Ok(()),
            "lseek" => {
                if let (Some((fd, _)), Ok(at)) = (descriptor(arg(0)), call.result.parse()) {
                    self.places.insert(fd, at);
                }
                Ok(())
            }
            "write" | "pwrite64" => {
                let Some(node) = self.file(arg(0)) else { return Ok(()) };
                let (fd, _) = descriptor(arg(0)).ok_or("no descriptor")?;
                let mut data = bytes(arg(1)).ok_or("data that was not recorded")?;
                data.truncate(call.result.parse().map_err(|_| "no length")?);
                let at = if call.name == "write" { self.places.get(&fd).copied().unwrap_or(0) } else { number(3)? };
                if call.name == "write" {
                    self.places.insert(fd, at + data.len());
                }
                self.nodes[node].tail.push((done, Change::Write { at, bytes: data }));
                Ok(())
            }
            "ftruncate" => {
                if let Some(node) = self.file(arg(0)) {
                    self.nodes[node].tail.push((done, Change::Cut(number(1)?)));
                }
                Ok(())
            }
            "fsync" | "fdatasync" => {
                self.sync(arg(0), call.began);
                Ok(())
            }
            "rename" => self.moved(&bytes_path(arg(0))?, &bytes_path(arg(1))?, done),
            "renameat" | "renameat2" => self.moved(&at_path(arg(0), arg(1))?, &at_path(arg(2), arg(3))?, done),
            "unlink" => self.taken(&bytes_path(arg(0))?, false, done),
            "unlinkat" => self.taken(&at_path(arg(0), arg(1))?, arg(2).contains("AT_REMOVEDIR"), done),
            "rmdir" => self.taken(&bytes_path(arg(0))?, true, done),
            "mkdir" => self.folder(&bytes_path(arg(0))?, done),
            "mkdirat" => self.folder(&at_path(arg(0), arg(1))?, done),
            // The rest is not used on files of the home; should that change, the campaign must learn it.
            _ if call.args.iter().any(|arg| self.is_of_home(arg)) => Err("a call that is not followed".to_owned()),
            _ => Ok(()),
        }
    }

    fn is_of_home(&self, arg: &str) -> bool {
        let path = descriptor(arg).and_then(|(_, path)| path).or_else(|| bytes_path(arg).ok());
        path.is_some_and(|path| path.starts_with(&self.home))
    }

    fn inside(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(&self.home).ok().map(Path::to_owned)
    }

    /// The file that a descriptor stands for, if it is one of the home's.
    fn file(&self, arg: &str) -> Option<usize> {
        let (_, path) = descriptor(arg)?;
        self.now.files.get(&self.inside(&path?)?).copied()
    }

    fn change(&mut self, done: usize, change: Rename) {
        self.now.apply(&change);
        self.tail.push((done, change));
    }

    fn open(&mut self, call: &Call) -> Result<(), String> {
        let Some((fd, Some(path))) = descriptor(&call.result) else { return Ok(()) };
        let Some(path) = self.inside(&path) else { return Ok(()) };
        let flags = call.args.get(2).map(String::as_str).unwrap_or_default();
        let known = self.now.files.get(&path).copied();
        if known.is_none() && flags.contains("O_CREAT") {
            self.nodes.push(Node { made: true, ..Node::default() });
            self.change(call.returned, Rename::Give(path, self.nodes.len() - 1));
        } else if let Some(node) = known.filter(|_| flags.contains("O_TRUNC")) {
            self.nodes[node].tail.push((call.returned, Change::Cut(0)));
        }
        self.places.insert(fd, 0);
        if flags.contains("O_APPEND") { Err("appending is not followed".to_owned()) } else { Ok(()) }
    }

    fn sync(&mut self, arg: &str, began: usize) {
        if let Some(node) = self.file(arg) {
            let node = &mut self.nodes[node];
            node.whole = true;
            for (_, change) in node.tail.extract_if(.., |(done, _)| *done < began) {
                apply(&mut node.synced, &change);
            }
            return;
        }
        let folder = descriptor(arg).and_then(|(_, path)| self.inside(&path?));
        if let Some(folder) = folder {
            for (_, change) in self.tail.extract_if(.., |(done, change)| *done < began && change.folder() == folder) {
                self.synced.apply(&change);
            }
        }
    }

    fn moved(&mut self, from: &Path, to: &Path, done: usize) -> Result<(), String> {
        match (self.inside(from), self.inside(to)) {
            (Some(from), Some(to)) if from.parent() == to.parent() => self.change(done, Rename::Move(from, to)),
            // Between folders the new name may be there without the old one being gone, and the other way round.
            (Some(from), Some(to)) => {
                if let Some(node) = self.now.files.get(&from).copied() {
                    self.change(done, Rename::Give(to, node));
                }
                self.change(done, Rename::Take(from));
            }
            (None, None) => {}
            _ => return Err("a file that leaves the home or comes into it is not followed".to_owned()),
        }
        Ok(())
    }

    fn taken(&mut self, path: &Path, is_folder: bool, done: usize) -> Result<(), String> {
        if let Some(path) = self.inside(path) {
            self.change(done, if is_folder { Rename::NoFolder(path) } else { Rename::Take(path) });
        }
        Ok(())
    }

    fn folder(&mut self, path: &Path, done: usize) -> Result<(), String> {
        if let Some(path) = self.inside(path) {
            self.change(done, Rename::Folder(path));
        }
        Ok(())
    }

    /// Writes a home as it may be found after a power cut to `place`. `last` is the home as it was last seen: what
    /// engines wrote is read from there.
    pub fn after_a_cut(&self, last: &Path, place: &Path, dice: &mut Dice) -> std::io::Result<Lost> {
        let mut lost = Lost { names: self.tail.len(), ..Lost::default() };
        let mut names = self.synced.clone();
        let mut folders: BTreeMap<&Path, Vec<&Rename>> = BTreeMap::new();
        for (_, change) in &self.tail {
            folders.entry(change.folder()).or_default().push(change);
        }
        for changes in folders.values() {
            let kept = usize::try_from(dice.below(changes.len() as u64 + 1)).unwrap();
            changes[..kept].iter().for_each(|change| names.apply(change));
            lost.undone += changes.len() - kept;
        }
        let reachable = |path: &Path| path.ancestors().skip(1).all(|f| f == Path::new("") || names.folders.contains(f));
        for folder in names.folders.iter().filter(|folder| reachable(folder)) {
            fs::create_dir_all(place.join(folder))?;
            fs::set_permissions(place.join(folder), fs::Permissions::from_mode(0o700))?;
        }
        for (path, node) in names.files.iter().filter(|(path, _)| reachable(path)) {
            let content = self.content(*node, last, dice, &mut lost);
            fs::write(place.join(path), content)?;
            fs::set_permissions(place.join(path), fs::Permissions::from_mode(0o600))?;
        }
        Ok(lost)
    }

    fn content(&self, at: usize, last: &Path, dice: &mut Dice, lost: &mut Lost) -> Vec<u8> {
        let node = &self.nodes[at];
        let mut content = node.synced.clone();
        if node.made && node.synced.is_empty() && node.tail.is_empty() {
            // Written by an engine, if at all.
            let name = self.now.files.iter().find(|(_, node)| **node == at).map(|(name, _)| name);
            content = name.and_then(|name| fs::read(last.join(name)).ok()).unwrap_or_default();
            if !node.whole && !content.is_empty() {
                lost.changes += 1;
                lost.altered += 1;
                content.truncate(usize::try_from(dice.below(content.len() as u64 + 1)).unwrap());
            }
            return content;
        }
        for (_, change) in &node.tail {
            lost.changes += 1;
            match (dice.below(3), change) {
                (0, _) => lost.altered += 1,
                (1, Change::Write { at, bytes }) if bytes.len() > SECTOR => {
                    lost.altered += 1;
                    let sectors = usize::try_from(dice.below((bytes.len() / SECTOR) as u64)).unwrap();
                    let torn = bytes[..sectors * SECTOR].to_vec();
                    apply(&mut content, &Change::Write { at: *at, bytes: torn });
                }
                _ => apply(&mut content, change),
            }
        }
        content
    }
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { at, bytes } => {
            if content.len() < at + bytes.len() {
                content.resize(at + bytes.len(), 0);
            }
            content[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        Change::Cut(length) => content.resize(*length, 0),
    }
}

fn bytes_path(arg: &str) -> Result<PathBuf, String> {
    let text = bytes(arg).and_then(|bytes| String::from_utf8(bytes).ok());
    text.map(PathBuf::from).ok_or_else(|| "no path".to_owned())
}

fn at_path(folder: &str, name: &str) -> Result<PathBuf, String> {
    let (_, folder) = descriptor(folder).ok_or("no folder")?;
    Ok(folder.ok_or("a folder that is deleted")?.join(bytes_path(name)?))
}

fn shown(call: &Call) -> String {
    format!("{}({}) = {}", call.name, call.args.join(", ").chars().take(300).collect::<String>(), call.result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;

    fn escaped(text: &str) -> String {
        text.bytes().map(|b| format!("\\x{b:02x}")).collect()
    }

    /// Lines as strace writes them; `<path>` and `"text"` are given in clear.
    fn follow(home: &Path, copy: &Path, lines: &[&str]) -> Disk {
        let mut text = String::new();
        for line in lines {
            let mut out = String::new();
            for (at, part) in line.split(['<', '>', '"']).enumerate() {
                let quote = |c: &str| format!("{}{}", c, escaped(part));
                match at % 2 {
                    0 => out.push_str(part),
                    _ if line.contains(&format!("<{part}>")) => out.push_str(&(quote("<") + ">")),
                    _ => out.push_str(&(quote("\"") + "\"")),
                }
            }
            text.push_str(&out);
            text.push('\n');
        }
        let mut disk = Disk::of(home, copy).unwrap();
        disk.follow(&record::read(&text).unwrap()).unwrap();
        disk
    }

    /// Every home that can come of it, as the content of one file.
    fn outcomes(disk: &Disk, last: &Path, name: &str) -> BTreeSet<Option<Vec<u8>>> {
        (0..200)
            .map(|seed| {
                let place = tempfile::tempdir().unwrap();
                disk.after_a_cut(last, place.path(), &mut Dice::new(seed)).unwrap();
                fs::read(place.path().join(name)).ok()
            })
            .collect()
    }

    fn homes() -> (tempfile::TempDir, tempfile::TempDir) {
        let (copy, last) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(copy.path().join("a"), "old").unwrap();
        (copy, last)
    }

    #[test]
    fn what_was_synced_stays_and_what_was_not_may_go() {
        let (copy, last) = homes();
        let home = Path::new("/home");
        let synced = ["pwrite64(5</home/a>, \"new\", 3, 0) = 3", "fdatasync(5</home/a>) = 0"];
        let disk = follow(home, copy.path(), &synced);
        assert_eq!(outcomes(&disk, last.path(), "a"), [Some(b"new".to_vec())].into());
        let disk = follow(home, copy.path(), &synced[..1]);
        assert_eq!(outcomes(&disk, last.path(), "a"), [Some(b"old".to_vec()), Some(b"new".to_vec())].into());
    }

    #[test]
    fn a_sync_that_began_before_the_write_returned_covers_it_not() {
        let (copy, last) = homes();
        let text = format!(
            "1 pwrite64(5<{0}>, \"{1}\", 3, 0 <unfinished ...>\n2 fsync(5<{0}> <unfinished ...>\n\
             1 <... pwrite64 resumed>) = 3\n2 <... fsync resumed>) = 0\n",
            escaped("/home/a"),
            escaped("new")
        );
        let mut disk = Disk::of(Path::new("/home"), copy.path()).unwrap();
        disk.follow(&record::read(&text).unwrap()).unwrap();
        assert_eq!(outcomes(&disk, last.path(), "a").len(), 2);
    }

    #[test]
    fn a_name_stays_only_once_its_folder_is_synced() {
        let (copy, last) = homes();
        let replaced = [
            "openat(AT_FDCWD</>, \"/home/.tmp\", O_WRONLY|O_CREAT|O_EXCL, 0600) = 6</home/.tmp>",
            "write(6</home/.tmp>, \"new\", 3) = 3",
            "fsync(6</home/.tmp>) = 0",
            "rename(\"/home/.tmp\", \"/home/a\") = 0",
            "fsync(7</home>) = 0",
        ];
        let disk = follow(Path::new("/home"), copy.path(), &replaced);
        assert_eq!(outcomes(&disk, last.path(), "a"), [Some(b"new".to_vec())].into());
        let disk = follow(Path::new("/home"), copy.path(), &replaced[..4]);
        assert_eq!(outcomes(&disk, last.path(), "a"), [Some(b"old".to_vec()), Some(b"new".to_vec())].into());
        // A rename before the content is synced is what an empty or torn file comes from.
        let disk = follow(Path::new("/home"), copy.path(), &[replaced[0], replaced[1], replaced[3], replaced[4]]);
        assert!(outcomes(&disk, last.path(), "a").contains(&Some(Vec::new())));
    }

    #[test]
    fn what_an_engine_wrote_stays_once_the_node_synced_it() {
        let (copy, last) = homes();
        fs::write(last.path().join("out"), "sealed").unwrap();
        let lines = [
            "openat(AT_FDCWD</>, \"/home/.tmp-out\", O_WRONLY|O_CREAT|O_EXCL, 0600) = 6</home/.tmp-out>",
            "fsync(6</home/.tmp-out>) = 0",
            "rename(\"/home/.tmp-out\", \"/home/out\") = 0",
            "fsync(7</home>) = 0",
        ];
        let disk = follow(Path::new("/home"), copy.path(), &lines);
        assert_eq!(outcomes(&disk, last.path(), "out"), [Some(b"sealed".to_vec())].into());
        let disk = follow(Path::new("/home"), copy.path(), &[lines[0], lines[2], lines[3]]);
        assert!(outcomes(&disk, last.path(), "out").len() > 2);
    }

    #[test]
    fn a_call_that_is_not_followed_is_told() {
        let (copy, _) = homes();
        let text = format!("fallocate(5<{}>, 0, 0, 4096) = 0\n", escaped("/home/a"));
        let mut disk = Disk::of(Path::new("/home"), copy.path()).unwrap();
        assert!(disk.follow(&record::read(&text).unwrap()).unwrap_err().contains("fallocate"));
    }
}
