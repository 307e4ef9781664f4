//! How images are named.

use super::error::ImageError;
use decores_types::Digest;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Which image of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The only one.
    Only,
    /// The one of this tag.
    Tag(String),
    /// The one with this manifest.
    Digest(Digest),
}

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// `oci:PATH[:TAG]`: a folder.
    Layout(PathBuf, Pick),
    /// `oci-archive:FILE[:TAG]`: the same as a tar.
    Archive(PathBuf, Pick),
    /// `docker-archive:FILE[:NAME:TAG]`.
    Docker(PathBuf, Option<String>),
    /// `docker://HOST[:PORT]/NAME[:TAG|@DIGEST]`.
    Registry(RegistryReference),
}

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryReference {
    /// `HOST[:PORT]`.
    pub host: String,
    /// Its name there.
    pub name: String,
    /// Which one.
    pub pick: Pick,
}

fn refused(why: impl Into<String>) -> ImageError {
    ImageError::Reference(why.into())
}

impl Reference {
    /// The image that `text` names; `None` if it has none of the prefixes.
    ///
    /// # Errors
    /// If it has one, but names nothing.
    pub fn parse(text: &str) -> Result<Option<Self>, ImageError> {
        if let Some(rest) = text.strip_prefix("docker://") {
            return RegistryReference::parse(rest).map(Self::Registry).map(Some);
        }
        let Some((kind, rest)) = text.split_once(':') else { return Ok(None) };
        let parsed = match kind {
            "oci" => path_and_pick(rest).map(|(path, pick)| Self::Layout(path, pick)),
            "oci-archive" => path_and_pick(rest).map(|(path, pick)| Self::Archive(path, pick)),
            "docker-archive" => {
                let (path, tag) = rest.split_once(':').map_or((rest, None), |(path, tag)| (path, Some(tag)));
                if path.is_empty() || tag == Some("") {
                    Err(refused("it has no file, or an empty tag"))
                } else {
                    Ok(Self::Docker(PathBuf::from(path), tag.map(str::to_owned)))
                }
            }
            "docker" => Err(refused("a registry's image starts with docker://HOST/")),
            _ => return Ok(None),
        };
        parsed.map(Some)
    }

    /// The image that lies at `path`, if one does: a folder with `oci-layout`, or a tar with it or `manifest.json`.
    pub fn at(path: &Path) -> Option<Self> {
        if path.is_dir() {
            return path.join("oci-layout").is_file().then(|| Self::Layout(path.to_owned(), Pick::Only));
        }
        // The name of the first entry says nothing for sure; whether it is a tar at all is at 257.
        let mut start = [0; 262];
        std::fs::File::open(path).ok()?.read_exact(&mut start).ok()?;
        if start.get(257..262) != Some(b"ustar") {
            return None;
        }
        let members = super::archive::Archive::open(path).ok()?;
        if members.has("oci-layout") {
            Some(Self::Archive(path.to_owned(), Pick::Only))
        } else {
            members.has("manifest.json").then(|| Self::Docker(path.to_owned(), None))
        }
    }
}

fn path_and_pick(text: &str) -> Result<(PathBuf, Pick), ImageError> {
    let (path, pick) = if let Some((path, digest)) = text.split_once("@sha256:") {
        let digest = Digest::parse(&format!("sha256:{digest}")).map_err(|_| refused("its digest is none"))?;
        (path, Pick::Digest(digest))
    } else {
        match text.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Pick::Tag(tag.to_owned())),
            _ => (text, Pick::Only),
        }
    };
    if path.is_empty() || pick == Pick::Tag(String::new()) {
        return Err(refused("it has no path, or an empty tag"));
    }
    Ok((PathBuf::from(path), pick))
}

impl RegistryReference {
    fn parse(text: &str) -> Result<Self, ImageError> {
        let (host, rest) = text.split_once('/').ok_or_else(|| refused("it has no HOST/"))?;
        if !(host.contains(['.', ':']) || host == "localhost") {
            return Err(refused(format!("`{}` is no host; Docker's own is docker.io", host.escape_debug())));
        }
        // What is put between `https://` and a path must be a host, and nothing more.
        let url = reqwest::Url::parse(&format!("https://{host}/")).ok();
        let plain = url.is_some_and(|u| u.username().is_empty() && u.path() == "/" && u.has_host());
        if !plain || host.contains(['@', '?', '#', '\\']) {
            return Err(refused("its host is none"));
        }
        let (named, digest) = rest.split_once('@').map_or((rest, None), |(named, digest)| (named, Some(digest)));
        let (name, tag) = named.rsplit_once(':').map_or((named, None), |(name, tag)| (name, Some(tag)));
        if !is_name(name) {
            return Err(refused(format!("`{}` is no name in a registry", name.escape_debug())));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(refused("its tag is none"));
        }
        let pick = match digest {
            Some(digest) => Pick::Digest(Digest::parse(digest).map_err(|_| refused("its digest is none"))?),
            None => Pick::Tag(tag.unwrap_or("latest").to_owned()),
        };
        let official = host == "docker.io" && !name.contains('/');
        let name = if official { format!("library/{name}") } else { name.to_owned() };
        Ok(Self { host: host.to_owned(), name, pick })
    }

    /// What follows `manifests/`.
    pub(super) fn manifest(&self) -> String {
        match &self.pick {
            Pick::Only => "latest".to_owned(),
            Pick::Tag(tag) => tag.clone(),
            Pick::Digest(digest) => digest.to_string(),
        }
    }
}

fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let part = |p: &[u8]| edge(p.first()) && edge(p.last()) && p.iter().all(|b| inner(*b));
    name.len() <= 255 && name.as_bytes().split(|b| *b == b'/').all(part)
}

fn is_tag(tag: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=128).contains(&tag.len()) && tag.bytes().all(fits) && !tag.starts_with(['.', '-'])
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, path, pick) = match self {
            Self::Layout(path, pick) => ("oci", path, pick),
            Self::Archive(path, pick) => ("oci-archive", path, pick),
            Self::Docker(path, Some(tag)) => return write!(f, "docker-archive:{}:{tag}", path.display()),
            Self::Docker(path, None) => return write!(f, "docker-archive:{}", path.display()),
            Self::Registry(registry) => {
                write!(f, "docker://{}/{}", registry.host, registry.name)?;
                return registry.pick.fmt(f);
            }
        };
        write!(f, "{kind}:{}{pick}", path.display())
    }
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Only => Ok(()),
            Self::Tag(tag) => write!(f, ":{tag}"),
            Self::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn parse(text: &str) -> Reference {
        Reference::parse(text).unwrap().unwrap()
    }

    #[test]
    fn names_say_where_an_image_is() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for text in [
            "oci:/images/busy".to_owned(),
            "oci:busy:1.35".to_owned(),
            format!("oci:busy@{digest}"),
            "oci-archive:b.tar:x".to_owned(),
            "docker-archive:b.tar".to_owned(),
            "docker-archive:b.tar:host:5000/busy:latest".to_owned(),
            "docker://127.0.0.1:5000/a/b-c:1.2_3".to_owned(),
            format!("docker://ghcr.io/a/b@{digest}"),
        ] {
            assert_eq!(parse(&text).to_string(), text);
        }
        assert_eq!(parse("oci:/a:b/c"), Reference::Layout("/a:b/c".into(), Pick::Only));
        assert_eq!(parse("docker://docker.io/busybox").to_string(), "docker://docker.io/library/busybox:latest");
        assert_eq!(parse(&format!("docker://h.x/a:1@{digest}")).to_string(), format!("docker://h.x/a@{digest}"));
    }

    #[test]
    fn what_has_no_prefix_is_no_reference() {
        for text in ["stats.wasm", "./oci", "wasm:x", "/a/b:c"] {
            assert_eq!(Reference::parse(text).unwrap(), None, "{text}");
        }
    }

    #[test]
    fn hosts_names_tags_and_digests_that_are_none_are_refused() {
        for text in [
            "oci:",
            "oci::tag",
            "oci:path:",
            "oci:path@sha256:12",
            "docker-archive:",
            "docker-archive:f:",
            "docker:busybox",
            "docker://busybox",
            "docker://busybox/x",
            "docker:///x",
            "docker://user@h.x/a",
            "docker://h.x:port/a",
            "docker://h.x?q/a",
            "docker://h.x/",
            "docker://h.x/A",
            "docker://h.x/../a",
            "docker://h.x/a//b",
            "docker://h.x/a:",
            "docker://h.x/a:-x",
            "docker://h.x/a:b?c",
            "docker://h.x/a@sha512:00",
        ] {
            assert!(matches!(Reference::parse(text), Err(ImageError::Reference(_))), "{text}");
        }
    }
}
