//! The documents of an image, as far as they are needed here.

use super::error::ImageError;
use decores_types::Digest;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Largest document, in bytes.
pub(super) const MAX_DOCUMENT: u64 = 4 << 20;
/// Longest word of a platform.
const MAX_WORD: usize = 64;
/// Most layers.
pub(super) const MAX_LAYERS: usize = 127;
/// Media types of an image's manifest.
pub(super) const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
/// Media types of a list of images.
pub(super) const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
/// Members that tell the kinds of documents apart, in small letters.
const TELLING: [&str; 6] = ["config", "layers", "manifests", "os", "rootfs", "schemaversion"];
/// The tag of an image in a layout.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// What containerd writes there instead: the whole name.
pub(super) const IMAGE_NAME: &str = "io.containerd.image.name";

/// What an image is built for: `linux/amd64`, `linux/arm/v7`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Platform {
    /// The processor, in Go's words.
    pub architecture: String,
    /// The system.
    pub os: String,
    /// The processor's version, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Linux on this machine's processor.
    pub fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: None }
    }

    /// Whether its words are such as platforms are called by.
    fn is_plain(&self) -> bool {
        let words = [Some(&self.architecture), Some(&self.os), self.variant.as_ref()];
        let plain = |word: &str| word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        words.into_iter().flatten().all(|word| word.len() <= MAX_WORD && plain(word))
    }

    /// Whether an image for `self` is one for `wanted`.
    pub(super) fn fits(&self, wanted: &Self) -> bool {
        let variant = wanted.variant.is_none() || self.variant == wanted.variant;
        self.os == wanted.os && self.architecture == wanted.architecture && variant
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        match *parts.as_slice() {
            ["linux", architecture] if !architecture.is_empty() => {
                Ok(Self { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: None })
            }
            ["linux", architecture, variant] if !architecture.is_empty() && !variant.is_empty() => Ok(Self {
                architecture: architecture.to_owned(),
                os: "linux".to_owned(),
                variant: Some(variant.to_owned()),
            }),
            _ => Err("not linux/ARCHITECTURE, such as linux/arm64".to_owned()),
        }
    }
}

/// Points at a blob.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

/// A list of images.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Index {
    pub(super) manifests: Vec<Descriptor>,
}

/// An image.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Manifest {
    #[serde(rename = "schemaVersion")]
    pub(super) version: u32,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
    #[serde(flatten)]
    others: Others,
}

/// Its configuration: what it is built for, and what its layers hold.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Config {
    #[serde(flatten)]
    pub(super) platform: Platform,
    pub(super) rootfs: RootFs,
    /// What its program is started with, which the node reads.
    #[serde(rename = "config")]
    _program: Option<IgnoredAny>,
    #[serde(flatten)]
    others: Others,
}

/// Members of a document that are not read.
type Others = BTreeMap<String, IgnoredAny>;

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RootFs {
    pub(super) diff_ids: Vec<Digest>,
}

/// An entry of a docker-archive's `manifest.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImage {
    pub(super) config: String,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) layers: Vec<String>,
}

/// Reads a document.
pub(super) fn parse<T: DeserializeOwned>(what: impl Into<String>, bytes: &[u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|source| ImageError::Document { what: what.into(), source })
}

/// Refuses a document that may be read as one of another kind too: its digest would stand for both. Many programs
/// take a member's name in letters of either case.
fn only_one_kind(others: &Others, what: &str) -> Result<(), ImageError> {
    let fold = |name: &String| name.to_uppercase().to_lowercase();
    others.keys().find(|name| TELLING.contains(&fold(name).as_str())).map_or(Ok(()), |name| {
        let text = format!("{what} has the member `{}` of a document of another kind", name.escape_debug());
        Err(ImageError::Unfit(text))
    })
}

impl Manifest {
    /// Reads one, and refuses what has more or other layers than are taken.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let manifest: Self = parse("its manifest", bytes)?;
        if manifest.version != 2 {
            return Err(ImageError::Unfit("its manifest is of another version than 2".to_owned()));
        }
        only_one_kind(&manifest.others, "its manifest")?;
        if manifest.layers.len() > MAX_LAYERS {
            let text = format!("it has {} layers, at most {MAX_LAYERS} are taken", manifest.layers.len());
            return Err(ImageError::Unfit(text));
        }
        Ok(manifest)
    }
}

impl Config {
    /// Reads one that must be of an image for `wanted` with so many layers.
    pub(super) fn parse(bytes: &[u8], wanted: &Platform, layers: usize) -> Result<Self, ImageError> {
        let config: Self = parse("its configuration", bytes)?;
        only_one_kind(&config.others, "its configuration")?;
        if !config.platform.is_plain() {
            return Err(ImageError::Unfit("what it is built for is not said in plain words".to_owned()));
        }
        if !config.platform.fits(wanted) {
            let text = format!("it is built for {}, not for {wanted}", config.platform);
            return Err(ImageError::Unfit(text));
        }
        if config.rootfs.diff_ids.len() != layers {
            let text = format!("it has {layers} layers, its configuration names {}", config.rootfs.diff_ids.len());
            return Err(ImageError::Unfit(text));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use serde_json::{Value, json};

    fn with(mut document: Value, member: &str, value: Value) -> Vec<u8> {
        document.as_object_mut().unwrap().insert(member.to_owned(), value);
        document.to_string().into_bytes()
    }

    fn config() -> Value {
        json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["x"]}, "rootfs": {"diff_ids": []}})
    }

    fn refused<T>(read: Result<T, ImageError>) -> String {
        match read {
            Err(ImageError::Unfit(why)) => why,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was taken"),
        }
    }

    #[test]
    fn a_document_that_is_two_is_refused() {
        let config_of = json!({"mediaType": "x", "digest": Digest::of(b""), "size": 0});
        let manifest = json!({"schemaVersion": 2, "config": config_of, "layers": []});
        assert!(Manifest::parse(&with(manifest.clone(), "annotations", json!({}))).is_ok());
        for member in ["rootfs", "RootFS", "manifests", "Layers", "os"] {
            assert!(refused(Manifest::parse(&with(manifest.clone(), member, json!({})))).contains("another kind"));
        }
        assert!(refused(Manifest::parse(&with(manifest, "schemaVersion", json!(1)))).contains("version"));
        let wanted: Platform = "linux/amd64".parse().unwrap();
        assert!(Config::parse(&with(config(), "history", json!([])), &wanted, 0).is_ok());
        for member in ["layers", "LAYERS", "schemaVersion", "\u{17f}chemaversion", "manifests", "Config"] {
            assert!(refused(Config::parse(&with(config(), member, json!([])), &wanted, 0)).contains("another kind"));
        }
    }

    #[test]
    fn a_platform_that_steers_a_terminal_is_refused() {
        let wanted: Platform = "linux/amd64".parse().unwrap();
        assert!(Config::parse(&with(config(), "variant", json!("v2")), &wanted, 0).is_ok());
        for variant in ["\u{1b}]0;x\u{7}", "v2\nimage", "\u{202e}", "a b"] {
            assert!(
                refused(Config::parse(&with(config(), "variant", json!(variant)), &wanted, 0)).contains("plain words")
            );
        }
    }
}
