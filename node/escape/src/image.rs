//! An image of this program: its file, the libraries that it has mapped, and nothing else.

use anyhow::{Context as _, Result};
use decores_types::Digest;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the program lies in the image.
pub(crate) const PROGRAM: &str = "/decores-escape";
/// Where programs look for what loads them, by what they are built for.
const LOADERS: [&str; 2] = ["/lib64", "/lib"];
const BLOCK: usize = 512;

/// An OCI image layout as one archive.
///
/// # Errors
/// If a file of this program's cannot be read.
pub(crate) fn image() -> Result<Vec<u8>> {
    let layer = layer()?;
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Entrypoint": [PROGRAM, "inside"] },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    });
    let config = serde_json::to_vec(&config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let manifest = serde_json::to_vec(&manifest)?;
    let index = json!({
        "schemaVersion": 2,
        "manifests": [descriptor("application/vnd.oci.image.manifest.v1+json", &manifest)],
    });
    let mut archive = Tar::default();
    archive.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    archive.file("index.json", 0o644, &serde_json::to_vec(&index)?)?;
    for blob in [&config, &manifest, &layer] {
        archive.file(&format!("blobs/sha256/{}", hex::encode(Digest::of(blob).as_bytes())), 0o644, blob)?;
    }
    Ok(archive.end())
}

/// The same files in a folder, for programs that take one.
///
/// # Errors
/// If one cannot be copied.
pub(crate) fn copy_to(root: &Path) -> Result<()> {
    for (inside, file) in files()? {
        let target = root.join(inside.trim_start_matches('/'));
        fs::create_dir_all(target.parent().unwrap_or(root))?;
        fs::copy(&file, &target).with_context(|| format!("failed to copy {}", file.display()))?;
    }
    Ok(())
}

/// Paths in the image, and the files of this machine that go there.
pub(crate) fn files() -> Result<Vec<(String, PathBuf)>> {
    let own = std::env::current_exe().context("failed to find this program's own file")?;
    let maps = fs::read_to_string("/proc/self/maps").context("failed to find this program's libraries")?;
    let paths = maps.lines().filter_map(|line| line.find('/').and_then(|at| line.get(at..)));
    let libraries: BTreeSet<&str> = paths.filter(|path| path.contains(".so")).collect();
    let mut files = vec![(PROGRAM.to_owned(), own)];
    for library in libraries {
        let name = Path::new(library).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        files.push((library.to_owned(), PathBuf::from(library)));
        if name.starts_with("ld-") {
            files.extend(LOADERS.map(|folder| (format!("{folder}/{name}"), PathBuf::from(library))));
        }
    }
    Ok(files)
}

fn layer() -> Result<Vec<u8>> {
    let mut layer = Tar::default();
    for (inside, file) in files()? {
        let content = fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?;
        layer.file(inside.trim_start_matches('/'), 0o755, &content)?;
    }
    Ok(layer.end())
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn digest(blob: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Digest::of(blob).as_bytes()))
}

fn descriptor(kind: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": digest(blob), "size": blob.len() })
}

/// A tar of plain files.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        anyhow::ensure!(path.len() <= 100, "the path `{path}` is too long for an archive");
        let mut header = Vec::with_capacity(BLOCK);
        let mut field = |text: &str, width: usize| {
            header.extend_from_slice(text.as_bytes());
            header.resize(header.len() - text.len() + width, 0);
        };
        field(path, 100);
        field(&format!("{mode:07o}"), 8);
        field("0000000", 8);
        field("0000000", 8);
        field(&format!("{:011o}", content.len()), 12);
        field("00000000000", 12);
        // The sum is taken with blanks in its place.
        let sum_at = 148;
        field("        ", 8);
        field("0", 1);
        field("", 100);
        field("ustar", 6);
        field("00", 2);
        header.resize(BLOCK, 0);
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        let text = format!("{sum:06o}\0 ");
        header.iter_mut().skip(sum_at).zip(text.bytes()).for_each(|(place, byte)| *place = byte);
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        Ok(())
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_archive_is_what_tar_reads() {
        let mut tar = Tar::default();
        tar.file("a/b", 0o755, b"content").unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x.tar"), tar.end()).unwrap();
        let listed = std::process::Command::new("tar").arg("-tvf").arg(folder.path().join("x.tar")).output().unwrap();
        let text = String::from_utf8(listed.stdout).unwrap();
        assert!(text.contains("-rwxr-xr-x 0/0") && text.trim_end().ends_with("a/b"), "{text}");
        assert!(Tar::default().file(&"x".repeat(101), 0o644, b"").is_err());
    }
}
