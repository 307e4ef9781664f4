//! The JSON of an image: what is read of it, and no more.

use crate::archive::Store;
use crate::archive::Stored;
use crate::refusal::Refusal;
use decores_types::Digest;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::collections::BTreeMap;

/// Members that tell the kinds of documents apart, in small letters.
const TELLING: [&str; 6] = ["config", "layers", "manifests", "os", "rootfs", "schemaversion"];

/// A reference by digest.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    pub(crate) urls: Option<Vec<String>>,
    pub(crate) platform: Option<Platform>,
}

/// What an image runs on.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Layout {
    pub(crate) image_layout_version: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    pub(crate) manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    #[serde(flatten)]
    pub(crate) others: Others,
}

/// One image of a docker-archive's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Saved {
    pub(crate) config: String,
    pub(crate) layers: Vec<String>,
}

/// The configuration of an image.
#[derive(Debug, Deserialize)]
pub(crate) struct ImageConfig {
    #[serde(flatten)]
    pub(crate) platform: Platform,
    pub(crate) config: Option<Config>,
    pub(crate) rootfs: RootFs,
    #[serde(flatten)]
    pub(crate) others: Others,
}

/// Members of a document that are not read.
pub(crate) type Others = BTreeMap<String, IgnoredAny>;

#[derive(Debug, Deserialize)]
pub(crate) struct RootFs {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) diff_ids: Vec<String>,
}

/// What it says about its program.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Config {
    pub(crate) user: Option<String>,
    pub(crate) env: Option<Vec<String>>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) cmd: Option<Vec<String>>,
    pub(crate) working_dir: Option<String>,
}

/// Reads a document.
pub(crate) fn parse<T: DeserializeOwned>(store: &Store<'_>, stored: &Stored, name: &str) -> Result<T, Refusal> {
    let document = store.document(stored).map_err(|e| e.within(name))?;
    serde_json::from_slice(&document).map_err(|e| Refusal::image(format!("{name} cannot be read: {e}")))
}

/// Refuses a document that may be read as one of another kind too: its digest would stand for both. Many programs
/// take a member's name in letters of either case.
pub(crate) fn only_one_kind(others: &Others, name: &str) -> Result<(), Refusal> {
    let fold = |name: &String| name.to_uppercase().to_lowercase();
    match others.keys().find(|other| TELLING.contains(&fold(other).as_str())) {
        Some(other) => {
            let quoted = crate::refusal::shown(other.as_bytes());
            Err(Refusal::image(format!("{name} has the member {quoted} of a document of another kind")))
        }
        None => Ok(()),
    }
}

/// The only kind of digest that is compared here.
pub(crate) fn digest(text: &str) -> Result<Digest, Refusal> {
    let shown = || crate::refusal::shown(text.as_bytes());
    Digest::parse(text).map_err(|_| Refusal::image(format!("{} is not the digest of a kind that is known", shown())))
}

/// The file that a descriptor names, which must be what it says.
pub(crate) fn blob<'s>(store: &'s Store<'_>, descriptor: &Descriptor) -> Result<&'s Stored, Refusal> {
    let digest = digest(&descriptor.digest)?;
    let refuse = |why: &str| Refusal::image(format!("{digest}: {why}"));
    if descriptor.urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
        return Err(refuse("it is to be fetched from elsewhere, which is not done"));
    }
    let path = digest.to_string().replace(':', "/");
    let stored = store.find(&format!("blobs/{path}")).ok_or_else(|| refuse("it is not in the archive"))?;
    if stored.size != descriptor.size {
        return Err(refuse("it has another size than its descriptor says"));
    }
    if stored.digest != digest {
        return Err(refuse("its content has another digest"));
    }
    Ok(stored)
}
