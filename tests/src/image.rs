//! A file system in a file: what a node's home lies on, so that the disk can be taken away from under it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes of an image.
const SIZE: u64 = 64 << 20;
/// Left free by the file that fills the disk: nothing.
const BLOCK: &str = "4k";

/// A mounted image.
#[derive(Debug)]
pub struct Image {
    file: PathBuf,
    place: PathBuf,
}

fn done(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().display().to_string();
    let output = command.output().map_err(|e| format!("failed to start `{name}`: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("`{name}`: {}: {}", output.status, said.trim())) }
}

impl Image {
    /// Makes an ext4 of its own and mounts it. No block is reserved for root: full is full.
    pub fn make(file: &Path, place: &Path) -> Result<Self, String> {
        let made = File::create(file).and_then(|f| f.set_len(SIZE));
        made.map_err(|e| format!("failed to make `{}`: {e}", file.display()))?;
        done(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-O", "^resize_inode"]).arg(file))?;
        std::fs::create_dir_all(place).map_err(|e| e.to_string())?;
        let this = Self { file: file.to_owned(), place: place.to_owned() };
        this.mount()?;
        Ok(this)
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    fn mount(&self) -> Result<(), String> {
        done(Command::new("mount").args(["-o", "loop,nosuid,nodev"]).arg(&self.file).arg(&self.place))
    }

    /// Unmounts it; whoever still uses it is gone in a moment.
    pub fn unmount(&self) -> Result<(), String> {
        let mut last = Ok(());
        let unmounted = crate::wait::within(10_000, || {
            last = done(Command::new("umount").arg(&self.place));
            last.is_ok().then_some(())
        });
        unmounted.map_or(last, Ok)
    }

    /// Copies what the file system has written to its disk so far, as it lies there. Nothing is synced before.
    pub fn copy(&self, to: &Path) -> Result<(), String> {
        done(Command::new("cp").arg("--sparse=always").arg(&self.file).arg(to))
    }

    /// Puts a copy in the place of the disk: its journal is replayed, and the file system must be clean then.
    pub fn swap(&mut self, copy: &Path) -> Result<(), String> {
        self.unmount()?;
        let old = std::mem::replace(&mut self.file, copy.to_owned());
        std::fs::remove_file(old).map_err(|e| e.to_string())?;
        self.mount()?;
        self.unmount()?;
        done(Command::new("e2fsck").arg("-fn").arg(&self.file))?;
        self.mount()
    }

    /// Fills the disk to its last block.
    pub fn fill(&self) -> Result<(), String> {
        for block in ["1M", BLOCK] {
            let mut dd = Command::new("dd");
            dd.args(["if=/dev/zero", "oflag=append", "conv=notrunc", "status=none"]).arg(format!("bs={block}"));
            dd.arg(format!("of={}", self.filler().display()));
            // It ends when nothing more fits.
            let _ = done(&mut dd);
        }
        done(Command::new("sync").arg("-f").arg(self.filler())).or(Ok(()))
    }

    /// Frees what [`Self::fill`] took.
    pub fn free(&self) -> Result<(), String> {
        std::fs::remove_file(self.filler()).map_err(|e| format!("failed to free the disk: {e}"))
    }

    fn filler(&self) -> PathBuf {
        self.place.join("filler")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = self.unmount();
    }
}
