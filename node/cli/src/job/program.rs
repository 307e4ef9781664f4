//! The program of a job: a WebAssembly module, or a container image and what it takes.

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::progress::Bytes;
use crate::{output, units};
use clap::Args;
use decores_audit::verify::Require;
use decores_client::Source;
use decores_client::image::{Fetch, Image, Platform, Reference, RegistryAccess};
use decores_telemetry::plain;
use decores_types::{Digest, Limits};
use std::path::{Path, PathBuf};

/// Room beside an image and its input, for what the program writes.
const ROOM: u64 = 64 << 20;
const MIB: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(super) struct ImageOptions {
    /// What an image must be built for [default: Linux on this machine's processor]
    #[arg(long, value_name = "linux/ARCH")]
    platform: Option<Platform>,
    /// A registry that may be spoken to without TLS: whoever is in between sees what is fetched, and any password
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure_registry: Vec<String>,
}

/// What is run.
#[derive(Debug)]
pub(super) enum Program {
    /// A WebAssembly module.
    Module(PathBuf),
    /// A container image.
    Image(Box<Image>),
}

impl Program {
    /// What `named` is; an image is checked, and fetched where it lies in a registry.
    pub(super) async fn find(named: &Path, options: &ImageOptions, context: &Context) -> Result<Self, Failure> {
        let Some(reference) = reference(named)? else { return Ok(Self::Module(named.to_owned())) };
        let fetch = Fetch {
            platform: options.platform.clone().unwrap_or_else(Platform::here),
            registries: RegistryAccess { insecure: options.insecure_registry.clone(), ..context.registries.clone() },
            scratch: context.home.root().join("client").join("images"),
        };
        let mut progress = Bytes::new("reading the image");
        let bar = progress.clone();
        let image = fetch.image(&reference, move |n| progress.add(n)).await;
        bar.clear();
        let image = image?;
        let sizes = format!(
            "{}, {}, about {} unpacked",
            units::count(image.layers, "layer"),
            units::size(image.program_bytes),
            units::size(image.unpacked_bytes),
        );
        output::note(described(&image.digest, &image.platform, &sizes));
        Ok(Self::Image(Box::new(image)))
    }

    /// Refuses what the receipt could not show, before anything is sent.
    pub(super) fn check(&self, require: &[Require]) -> Result<(), Failure> {
        for wanted in require.iter().filter_map(|r| if let Require::Image(digest) = r { Some(digest) } else { None }) {
            match self {
                Self::Image(image) if image.digest == *wanted => {}
                Self::Image(image) => {
                    let text = format!("{} is {}, not {wanted}", image.name, image.digest);
                    return Err(Failure::new(Exit::Refused, text));
                }
                Self::Module(path) => {
                    return Err(Failure::new(Exit::Refused, format!("{} is no image", path.display())));
                }
            }
        }
        Ok(())
    }

    pub(super) const fn is_image(&self) -> bool {
        matches!(self, Self::Image(_))
    }

    pub(super) fn source(&self) -> Source {
        match self {
            Self::Module(path) => Source::File(path.clone()),
            Self::Image(image) => Source::Image(image.program.clone()),
        }
    }

    /// Memory and scratch where the line names none, or only one of them; `input` has so many bytes.
    pub(super) fn room(&self, memory: Option<u64>, scratch: Option<u64>, input: u64) -> Result<(u64, u64), Failure> {
        let default = Limits::default();
        match self {
            Self::Module(_) => {
                let memory = memory.unwrap_or(default.memory_bytes);
                // Within the memory's limit it stays in memory.
                Ok((memory, scratch.unwrap_or(default.scratch_bytes.min(memory))))
            }
            Self::Image(image) => {
                let taken = image.unpacked_bytes.saturating_add(image.program_bytes).saturating_add(input);
                of_container(taken, memory, scratch)
            }
        }
    }
}

/// A line for people, of what an image says of itself.
fn described(digest: &Digest, platform: &Platform, sizes: &str) -> String {
    plain(&format!("image {digest}: {platform}, {sizes}"))
}

/// All files of a container lie in memory, the image and its root among them.
fn of_container(taken: u64, memory: Option<u64>, scratch: Option<u64>) -> Result<(u64, u64), Failure> {
    let default = Limits::default();
    let taken = taken.checked_next_multiple_of(MIB).unwrap_or(u64::MAX);
    let wanted = taken.saturating_add(ROOM);
    let Some(memory) = memory else {
        let scratch = scratch.unwrap_or(wanted.max(default.scratch_bytes));
        return Ok((scratch.max(default.memory_bytes), scratch));
    };
    let least = scratch.unwrap_or(taken);
    if least > memory {
        let text = format!("the files of a container lie in memory, and take about {}", units::size(least));
        return Err(Failure::usage(text).hint(format!("give it at least --limit-memory {}M", least.div_ceil(MIB))));
    }
    Ok((memory, scratch.unwrap_or(wanted.max(default.scratch_bytes).min(memory))))
}

/// The image that is named, if one is.
fn reference(named: &Path) -> Result<Option<Reference>, Failure> {
    let text = named.to_string_lossy();
    let parsed = Reference::parse(&text)
        .map_err(|source| decores_client::ClientError::Image { image: text.to_string(), source })?;
    if parsed.is_some() {
        return Ok(parsed);
    }
    if let Some(found) = Reference::at(named) {
        output::note(plain(&format!("taking {} as {found}", named.display())));
        return Ok(Some(found));
    }
    if named.is_dir() {
        let text = format!("{} is a folder, but no OCI image layout", named.display());
        return Err(Failure::usage(text).hint("an image: skopeo copy SOURCE oci:FOLDER:TAG; a program: one .wasm file"));
    }
    if !named.exists() && text.contains(':') {
        let text = format!("there is no file {}", named.display());
        return Err(Failure::usage(text)
            .hint("an image is oci:FOLDER:TAG, oci-archive:FILE, docker-archive:FILE or docker://HOST/NAME:TAG"));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_container_has_room_for_its_image() {
        assert_eq!(of_container(5 << 20, None, None).unwrap(), (256 << 20, 256 << 20));
        assert_eq!(of_container((400 << 20) + 1, None, None).unwrap(), (465 << 20, 465 << 20));
        assert_eq!(of_container(5 << 20, Some(64 << 20), None).unwrap(), (64 << 20, 64 << 20));
        assert_eq!(of_container(5 << 20, Some(1 << 30), None).unwrap(), (1 << 30, 256 << 20));
        assert_eq!(of_container(5 << 20, None, Some(1 << 30)).unwrap(), (1 << 30, 1 << 30));
        assert_eq!(of_container(5 << 20, Some(1 << 30), Some(10 << 20)).unwrap(), (1 << 30, 10 << 20));
    }

    #[test]
    fn a_variant_steers_no_terminal() {
        let variant = Some("\u{1b}[2A\u{1b}]0;x\u{7}".to_owned());
        let line = described(&Digest::of(b""), &Platform { variant, ..Platform::here() }, "1 layer");
        assert!(!line.chars().any(decores_telemetry::steers), "{line}");
        assert!(line.ends_with(", 1 layer"));
    }

    #[test]
    fn less_memory_than_files_is_refused() {
        assert!(of_container(100 << 20, Some(64 << 20), None).is_err());
        assert!(of_container(5 << 20, Some(64 << 20), Some(65 << 20)).is_err());
    }

    #[test]
    fn modules_images_and_folders_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let module = folder.path().join("a.wasm");
        std::fs::write(&module, "\0asm").unwrap();
        assert!(reference(&module).unwrap().is_none());
        assert!(reference(Path::new("/nowhere.wasm")).unwrap().is_none());
        assert!(reference(folder.path()).is_err());
        assert!(reference(Path::new("busybox:latest")).is_err());
        assert!(reference(Path::new("docker://busybox")).is_err());
        std::fs::write(folder.path().join("oci-layout"), "{}").unwrap();
        assert!(matches!(reference(folder.path()).unwrap(), Some(Reference::Layout(..))));
    }
}
