//! What the rules read: `cargo metadata` and the files of the tree.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The platform the node is built for. Packages of other platforms are never fetched.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// `cargo metadata`, as far as the rules need it.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) workspace_root: PathBuf,
}

/// One package, ours or another's.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    /// Where it comes from; none for a package of this workspace.
    pub(crate) source: Option<String>,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a manifest's dependency tables.
#[derive(Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Option<DependencyKind>,
    /// The folder of the package, when it is one of ours.
    pub(crate) path: Option<PathBuf>,
}

/// The table a dependency stands in, where it is not the normal one.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DependencyKind {
    Build,
    Dev,
}

/// A file of the tree, by its path from the root.
pub(crate) struct SourceFile {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    /// Its content, for files that rules read.
    pub(crate) text: Option<String>,
}

/// A crate of this workspace, by its folder (`domains/keys`).
pub(crate) struct Member<'a> {
    pub(crate) folder: String,
    pub(crate) package: &'a Package,
}

/// Everything the rules read.
pub(crate) struct Workspace {
    pub(crate) metadata: Metadata,
    pub(crate) files: Vec<SourceFile>,
}

impl Workspace {
    /// Reads the workspace that the current directory is in.
    pub(crate) fn read() -> Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let arguments = ["metadata", "--locked", "--format-version", "1", "--filter-platform", PLATFORM];
        let output = run(Command::new(cargo).args(arguments))?;
        let metadata: Metadata = serde_json::from_slice(&output).context("reading the output of cargo metadata")?;
        let files = read_files(&metadata.workspace_root)?;
        Ok(Self { metadata, files })
    }

    /// The crates of this workspace, by folder.
    pub(crate) fn members(&self) -> Vec<Member<'_>> {
        let ours = self.metadata.packages.iter().filter(|package| package.source.is_none());
        let mut members: Vec<_> = ours
            .filter_map(|package| {
                let folder = self.folder_of(package.manifest_path.parent()?)?;
                Some(Member { folder, package })
            })
            .collect();
        members.sort_by(|a, b| a.folder.cmp(&b.folder));
        members
    }

    /// A folder's path from the root; none if it lies outside.
    pub(crate) fn folder_of(&self, path: &Path) -> Option<String> {
        Some(path.strip_prefix(&self.metadata.workspace_root).ok()?.to_string_lossy().into_owned())
    }

    /// The text of a file that rules read.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path)?.text.as_deref()
    }
}

/// The files that git tracks or would track, so that nothing unfinished hides until it is added.
fn read_files(root: &Path) -> Result<Vec<SourceFile>> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listing = run(Command::new("git").arg("-C").arg(root).args(arguments))?;
    let listing = String::from_utf8(listing).context("a file name that is not UTF-8")?;
    let mut files = Vec::new();
    for path in listing.split('\0').filter(|path| !path.is_empty()) {
        let Ok(status) = std::fs::symlink_metadata(root.join(path)) else {
            continue; // deleted in the tree, not yet in the index
        };
        if !status.is_file() {
            continue;
        }
        let read = [".rs", ".toml", ".md", ".sh"].iter().any(|end| path.ends_with(end)) || path.starts_with("scripts/");
        let text = read
            .then(|| std::fs::read_to_string(root.join(path)).with_context(|| format!("reading {path}")))
            .transpose()?;
        files.push(SourceFile { path: path.to_owned(), bytes: status.len(), text });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.dedup_by(|a, b| a.path == b.path);
    Ok(files)
}

fn run(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}
