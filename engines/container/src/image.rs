//! Which image of an archive is meant, and what it is made of.

use crate::archive::{Store, Stored};
use crate::documents::{
    Descriptor, ImageConfig, Index, Layout, Manifest, Platform, Saved, blob, digest, only_one_kind, parse,
};
use crate::refusal::{Refusal, shown};
use decores_types::Digest;

/// Most layers of an image.
const MAX_LAYERS: usize = 127;
/// How deep indexes may lie in each other.
const MAX_NESTED: usize = 4;
/// Most manifests that are looked at.
const MAX_MANIFESTS: usize = 256;

/// How a layer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
    /// As its first bytes say.
    Unsaid,
}

/// One layer.
#[derive(Debug)]
pub(crate) struct LayerPlan<'s> {
    pub(crate) stored: &'s Stored,
    pub(crate) packing: Packing,
    /// The digest of what it unpacks to.
    pub(crate) unpacked: Digest,
}

/// An image, before it is unpacked.
#[derive(Debug)]
pub(crate) struct ImagePlan<'s> {
    /// What names it: its manifest's digest; of a docker-archive its configuration's.
    pub(crate) digest: Digest,
    pub(crate) config: ImageConfig,
    /// From the lowest.
    pub(crate) layers: Vec<LayerPlan<'s>>,
}

/// Finds the one image for this machine. What is both is taken as a layout.
pub(crate) fn find<'s>(store: &'s Store<'_>) -> Result<ImagePlan<'s>, Refusal> {
    match (store.find("oci-layout"), store.find("index.json"), store.find("manifest.json")) {
        (Some(layout), Some(index), _) => of_layout(store, layout, index),
        (_, _, Some(manifest)) => of_docker_archive(store, manifest),
        _ => Err(Refusal::image("the archive is neither an OCI image layout nor a docker-archive")),
    }
}

/// This machine, as images name it.
fn here() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Platform { architecture: architecture.to_owned(), os: "linux".to_owned() }
}

fn of_layout<'s>(store: &'s Store<'_>, layout: &Stored, index: &Stored) -> Result<ImagePlan<'s>, Refusal> {
    let layout: Layout = parse(store, layout, "oci-layout")?;
    if !layout.image_layout_version.starts_with("1.") {
        return Err(Refusal::image("the layout is of another version than 1"));
    }
    let mut manifests: Vec<Descriptor> = Vec::new();
    let mut budget = MAX_MANIFESTS;
    collect(store, parse(store, index, "index.json")?, 0, &mut budget, &mut manifests)?;
    let mut fitting = Vec::new();
    for descriptor in manifests {
        let Some(image) = open(store, &descriptor)? else { continue };
        fitting.push(image);
    }
    let Platform { architecture, os } = here();
    match fitting.pop() {
        None => Err(Refusal::image(format!("it holds no image for {os}/{architecture}"))),
        Some(image) if fitting.is_empty() => Ok(image),
        Some(_) => Err(Refusal::image(format!("it holds several images for {os}/{architecture}: name one"))),
    }
}

/// Lists the manifests that an index leads to and that may be for this machine, each once.
fn collect(
    store: &Store<'_>,
    index: Index,
    depth: usize,
    budget: &mut usize,
    found: &mut Vec<Descriptor>,
) -> Result<(), Refusal> {
    if index.schema_version != 2 {
        return Err(Refusal::image("an index is of another version than 2"));
    }
    for descriptor in index.manifests {
        *budget = budget
            .checked_sub(1)
            .ok_or_else(|| Refusal::image(format!("its indexes name more than {MAX_MANIFESTS} manifests")))?;
        match descriptor.media_type.as_str() {
            "application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json" => {
                if depth == MAX_NESTED {
                    return Err(Refusal::image("its indexes are nested too deeply"));
                }
                let inner = parse(store, blob(store, &descriptor)?, &descriptor.digest)?;
                collect(store, inner, depth + 1, budget, found)?;
            }
            "application/vnd.oci.image.manifest.v1+json" | "application/vnd.docker.distribution.manifest.v2+json" => {
                let fits = descriptor.platform.as_ref().is_none_or(|platform| *platform == here());
                if fits && !found.iter().any(|known| known.digest == descriptor.digest) {
                    found.push(descriptor);
                }
            }
            // Signatures and other things may lie beside an image.
            _ => {}
        }
    }
    Ok(())
}

/// Reads a manifest and its configuration; none if it is for another machine.
fn open<'s>(store: &'s Store<'_>, descriptor: &Descriptor) -> Result<Option<ImagePlan<'s>>, Refusal> {
    let manifest: Manifest = parse(store, blob(store, descriptor)?, &descriptor.digest)?;
    if manifest.schema_version != 2 {
        return Err(Refusal::image(format!("{}: it is of another version than 2", descriptor.digest)));
    }
    if !matches!(
        manifest.config.media_type.as_str(),
        "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
    ) {
        return Err(Refusal::image(format!("{}: it is not an image's manifest", descriptor.digest)));
    }
    only_one_kind(&manifest.others, &descriptor.digest)?;
    let config: ImageConfig = parse(store, blob(store, &manifest.config)?, &manifest.config.digest)?;
    only_one_kind(&config.others, &manifest.config.digest)?;
    if config.platform != here() {
        return Ok(None);
    }
    let unpacked = unpacked(&config, manifest.layers.len())?;
    let layer = |(layer, unpacked): (&Descriptor, Digest)| {
        let packing = packing(&layer.media_type).map_err(|e| e.within(&shown(layer.digest.as_bytes())))?;
        Ok(LayerPlan { stored: blob(store, layer)?, packing, unpacked })
    };
    let layers = manifest.layers.iter().zip(unpacked).map(layer).collect::<Result<_, Refusal>>()?;
    Ok(Some(ImagePlan { digest: digest(&descriptor.digest)?, config, layers }))
}

fn packing(media_type: &str) -> Result<Packing, Refusal> {
    match media_type {
        "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => Ok(Packing::Plain),
        "application/vnd.oci.image.layer.v1.tar+gzip" | "application/vnd.docker.image.rootfs.diff.tar.gzip" => {
            Ok(Packing::Gzip)
        }
        "application/vnd.oci.image.layer.v1.tar+zstd" => Ok(Packing::Zstd),
        other => Err(Refusal::image(format!("a layer of the type {} is not unpacked", shown(other.as_bytes())))),
    }
}

/// What the layers unpack to, as the configuration says.
fn unpacked(config: &ImageConfig, layers: usize) -> Result<Vec<Digest>, Refusal> {
    if config.rootfs.kind != "layers" || config.rootfs.diff_ids.len() != layers {
        return Err(Refusal::image("the configuration does not name each of the layers"));
    }
    if layers > MAX_LAYERS {
        return Err(Refusal::image(format!("it has more than {MAX_LAYERS} layers")));
    }
    config.rootfs.diff_ids.iter().map(|id| digest(id)).collect()
}

fn of_docker_archive<'s>(store: &'s Store<'_>, manifest: &Stored) -> Result<ImagePlan<'s>, Refusal> {
    let images: Vec<Saved> = parse(store, manifest, "manifest.json")?;
    let [image] = images.as_slice() else {
        return Err(Refusal::image(format!("the docker-archive holds {} images: save one", images.len())));
    };
    let file = |name: &str| {
        let quoted = || shown(name.as_bytes());
        store.find(name).ok_or_else(|| Refusal::image(format!("{} is not in the archive", quoted())))
    };
    let stored = file(&image.config)?;
    let config: ImageConfig = parse(store, stored, &image.config)?;
    only_one_kind(&config.others, &image.config)?;
    // Most writers name it by its digest.
    let named = image.config.strip_suffix(".json").and_then(|hex| Digest::parse(&format!("sha256:{hex}")).ok());
    if named.is_some_and(|named| named != stored.digest) {
        return Err(Refusal::image("the configuration has another digest than its name says"));
    }
    if config.platform != here() {
        let Platform { architecture, os } = here();
        return Err(Refusal::image(format!("it holds no image for {os}/{architecture}")));
    }
    let unpacked = unpacked(&config, image.layers.len())?;
    let layer =
        |(name, unpacked): (&String, Digest)| Ok(LayerPlan { stored: file(name)?, packing: Packing::Unsaid, unpacked });
    let layers = image.layers.iter().zip(unpacked).map(layer).collect::<Result<_, Refusal>>()?;
    Ok(ImagePlan { digest: stored.digest, config, layers })
}
