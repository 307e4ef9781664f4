//! An image in an OCI layout, or in blobs as a layout has them.

use super::archive::Archive;
use super::blob::{Blob, Hashing};
use super::choose::{Chosen, in_layout, in_list};
use super::document::{Config, Descriptor, Index, Manifest, Platform, parse};
use super::error::ImageError;
use super::layer::{Expected, Layers, MAX_UNPACKED, Stored};
use super::pack::Packing;
use super::{Image, Pick};
use crate::ClientError;
use decores_types::Digest;
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

/// What makes a folder a layout.
const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// Where files of a layout are.
pub(super) enum Store {
    Folder(PathBuf),
    Archive(Archive),
    /// Blobs only, by digest.
    Fetched(BTreeMap<Digest, Blob>),
}

#[derive(Deserialize)]
struct LayoutVersion {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

impl Store {
    fn file(&self, name: &str) -> Result<Blob, ImageError> {
        let missing = || ImageError::Missing(format!("`{name}`"));
        match self {
            Self::Folder(folder) => Blob::open(&folder.join(name)).map_err(|error| match error {
                ClientError::File { source, .. } if source.kind() == io::ErrorKind::NotFound => missing(),
                error => error.into(),
            }),
            Self::Archive(archive) => archive.get(name).ok_or_else(missing),
            Self::Fetched(_) => Err(missing()),
        }
    }

    fn blob(&self, digest: &Digest) -> Result<Blob, ImageError> {
        match self {
            Self::Fetched(blobs) => {
                blobs.get(digest).cloned().ok_or_else(|| ImageError::Missing(format!("the blob {digest}")))
            }
            _ => self.file(&place(digest)),
        }
    }

    /// A document among the blobs, which must be what its descriptor says.
    fn document(&self, what: &str, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let what = format!("{what} {}", descriptor.digest);
        let bytes = sized(self.blob(&descriptor.digest)?, &what, descriptor)?.document(&what)?;
        let (_, digest) = Hashing::new(bytes.as_slice()).finish().map_err(|_| ImageError::Missing(what.clone()))?;
        if digest == descriptor.digest { Ok(bytes) } else { Err(ImageError::wrong_digest(what, &digest)) }
    }
}

fn place(digest: &Digest) -> String {
    format!("blobs/{}", digest.to_string().replace(':', "/"))
}

fn sized(blob: Blob, what: &str, descriptor: &Descriptor) -> Result<Blob, ImageError> {
    if blob.size() == descriptor.size {
        return Ok(blob);
    }
    let found = format!("{} bytes long, not {}", blob.size(), descriptor.size);
    Err(ImageError::Corrupt { what: what.to_owned(), found })
}

/// The image of a layout that is meant.
pub(super) fn choose(store: &Store, pick: &Pick, platform: &Platform) -> Result<Descriptor, ImageError> {
    let version: LayoutVersion = match store.file("oci-layout") {
        Ok(file) => parse("`oci-layout`", &file.document("`oci-layout`")?)?,
        Err(ImageError::Missing(_)) => {
            return Err(ImageError::Unfit("it is no OCI layout: there is no `oci-layout` in it".to_owned()));
        }
        Err(error) => return Err(error),
    };
    if version.version != "1.0.0" {
        return Err(ImageError::Unfit("it is an OCI layout of another version than 1.0.0".to_owned()));
    }
    let index: Index = parse("`index.json`", &store.file("index.json")?.document("`index.json`")?)?;
    match in_layout(&index, pick, platform)? {
        Chosen::Image(descriptor) => Ok(descriptor),
        Chosen::List(descriptor) => in_list(&parse("its index", &store.document("its index", &descriptor)?)?, platform),
    }
}

/// Checks the image whose manifest this is, and packs it.
pub(super) fn image(
    store: &Store,
    descriptor: &Descriptor,
    platform: &Platform,
    name: &str,
    read: &mut dyn FnMut(u64),
) -> Result<Image, ImageError> {
    let manifest_bytes = store.document("its manifest", descriptor)?;
    let manifest = Manifest::parse(&manifest_bytes)?;
    let config_bytes = store.document("its configuration", &manifest.config)?;
    let config = Config::parse(&config_bytes, platform, manifest.layers.len())?;
    let index = json!({
        "manifests": [{"digest": descriptor.digest, "mediaType": descriptor.media_type, "size": descriptor.size}],
        "mediaType": super::document::INDEXES.first(),
        "schemaVersion": 2,
    });
    let mut packing = Packing::default();
    packing.bytes("oci-layout", LAYOUT.as_bytes())?;
    packing.bytes("index.json", index.to_string().as_bytes())?;
    packing.bytes(&place(&descriptor.digest), &manifest_bytes)?;
    packing.bytes(&place(&manifest.config.digest), &config_bytes)?;
    let mut sent = BTreeSet::from([descriptor.digest, manifest.config.digest]);
    let mut layers = Layers::new(MAX_UNPACKED);
    for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
        let what = format!("its layer {}", layer.digest);
        let blob = sized(store.blob(&layer.digest)?, &what, layer)?;
        let expected = Expected { stored: Stored::of(layer)?, what, digest: Some(&layer.digest), diff_id };
        layers.check(&blob, expected, read)?;
        if sent.insert(layer.digest) {
            packing.blob(&place(&layer.digest), blob)?;
        }
    }
    let (program, program_bytes) = packing.finish(name, descriptor.digest);
    Ok(Image {
        name: name.to_owned(),
        digest: descriptor.digest,
        platform: config.platform,
        layers: manifest.layers.len(),
        unpacked_bytes: layers.unpacked_bytes,
        program_bytes,
        program,
    })
}
