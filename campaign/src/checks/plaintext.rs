//! The planted secret must be nowhere on the disk.

use super::super::{Finding, Wrong};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Bytes read at a time.
const PIECE: usize = 4 << 20;
/// Folders of everybody that are searched for what is new, to this depth.
const SHARED: [&str; 3] = ["/tmp", "/var/tmp", "/var/lib/systemd/coredump"];
const DEPTH: usize = 3;
/// Larger files of others are not searched.
const LARGEST: u64 = 64 << 20;

/// Files in a folder (the node's home, its outputs, its temporary files, the image below) that hold the secret.
pub fn in_folder(folder: &Path, secret: &[u8]) -> Vec<Finding> {
    let mut found = Vec::new();
    walk(folder, usize::MAX, &mut |path| {
        if holds(path, secret) {
            found.push(finding(path));
        }
    });
    found
}

/// Files of the machine's shared temporary folders that hold it and were written since `since`.
pub fn in_shared_folders(secret: &[u8], since: SystemTime) -> Vec<Finding> {
    let mut found = Vec::new();
    for folder in SHARED {
        walk(Path::new(folder), DEPTH, &mut |path| {
            let meta = fs::metadata(path);
            let new = meta.is_ok_and(|m| m.len() <= LARGEST && m.modified().is_ok_and(|at| at >= since));
            if new && holds(path, secret) {
                found.push(finding(path));
            }
        });
    }
    found
}

fn finding(path: &Path) -> Finding {
    Finding::new(Wrong::Plaintext, format!("`{}` holds the planted secret", path.display()))
}

/// Visits the files of a folder; what vanishes meanwhile is passed over.
fn walk(folder: &Path, depth: usize, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path: PathBuf = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => walk(&path, depth - 1, visit),
            Ok(kind) if kind.is_file() => visit(&path),
            _ => {}
        }
    }
}

/// Whether a file holds this anywhere, also across the pieces it is read in.
fn holds(path: &Path, secret: &[u8]) -> bool {
    let Ok(mut file) = fs::File::open(path) else { return false };
    let mut buffer = vec![0; PIECE];
    let mut kept = 0;
    loop {
        let read = match file.read(&mut buffer[kept..]) {
            Ok(0) | Err(_) => return false,
            Ok(read) => read,
        };
        let filled = kept + read;
        if contains(&buffer[..filled], secret) {
            return true;
        }
        kept = (secret.len() - 1).min(filled);
        buffer.copy_within(filled - kept..filled, 0);
    }
}

/// Most of a disk is zeros, and most bytes are not the secret's first.
fn contains(bytes: &[u8], secret: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| *b == secret[0]) {
        rest = &rest[at..];
        if rest.starts_with(secret) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}
