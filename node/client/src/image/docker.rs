//! An image in a docker-archive.

use super::Image;
use super::archive::Archive;
use super::document::{Config, DockerImage, MAX_LAYERS, Platform, parse};
use super::error::ImageError;
use super::layer::{Expected, Layers, MAX_UNPACKED, Stored};
use super::pack::Packing;
use decores_types::Digest;
use std::collections::BTreeSet;

/// Names that are listed in an error.
const MAX_LISTED: usize = 20;

/// Checks the image that is meant, and packs it.
pub(super) fn image(
    archive: &Archive,
    tag: Option<&str>,
    platform: &Platform,
    name: &str,
    read: &mut dyn FnMut(u64),
) -> Result<Image, ImageError> {
    let get = |name: &str| archive.get(name).ok_or_else(|| ImageError::Missing(format!("`{}`", name.escape_debug())));
    let Some(list) = archive.get("manifest.json") else {
        return Err(ImageError::Unfit("it is no docker-archive: there is no `manifest.json` in it".to_owned()));
    };
    let images: Vec<DockerImage> = parse("`manifest.json`", &list.document("`manifest.json`")?)?;
    let chosen = choose(&images, tag)?;
    if chosen.layers.len() > MAX_LAYERS {
        let text = format!("it has {} layers, at most {MAX_LAYERS} are taken", chosen.layers.len());
        return Err(ImageError::Unfit(text));
    }
    let config_bytes = get(&chosen.config)?.document("its configuration")?;
    let config = Config::parse(&config_bytes, platform, chosen.layers.len())?;
    let digest = Digest::of(&config_bytes);
    let hex = |digest: &Digest| digest.to_string().replace("sha256:", "");
    let packed = DockerImage {
        config: format!("{}.json", hex(&digest)),
        repo_tags: None,
        layers: config.rootfs.diff_ids.iter().map(|diff_id| format!("{}.tar", hex(diff_id))).collect(),
    };
    let list = serde_json::to_vec(&[&packed])
        .map_err(|source| ImageError::Document { what: "`manifest.json`".to_owned(), source })?;
    let mut packing = Packing::default();
    packing.bytes("manifest.json", &list)?;
    packing.bytes(&packed.config, &config_bytes)?;
    let (mut sent, mut read_layers) = (BTreeSet::new(), Layers::new(MAX_UNPACKED));
    for ((stored, sent_as), diff_id) in chosen.layers.iter().zip(&packed.layers).zip(&config.rootfs.diff_ids) {
        let blob = get(stored)?;
        let what = format!("its layer `{}`", stored.escape_debug());
        let expected = Expected { what, stored: Stored::guess(&blob)?, digest: None, diff_id };
        read_layers.check(&blob, expected, read)?;
        if sent.insert(sent_as) {
            packing.blob(sent_as, blob)?;
        }
    }
    let (program, program_bytes) = packing.finish(name, digest);
    let (platform, layers) = (config.platform, chosen.layers.len());
    let (name, unpacked_bytes) = (name.to_owned(), read_layers.unpacked_bytes);
    Ok(Image { name, digest, platform, layers, unpacked_bytes, program_bytes, program })
}

fn choose<'a>(images: &'a [DockerImage], tag: Option<&str>) -> Result<&'a DockerImage, ImageError> {
    let tags = |image: &'a DockerImage| image.repo_tags.iter().flatten();
    let listed = || {
        let names: Vec<String> =
            images.iter().flat_map(tags).take(MAX_LISTED).map(|tag| tag.escape_debug().to_string()).collect();
        if names.is_empty() { "no tags".to_owned() } else { names.join(", ") }
    };
    match (tag, images) {
        (None, [only]) => Ok(only),
        (None, []) => Err(ImageError::Choice("there is no image in it".to_owned())),
        (None, _) => {
            Err(ImageError::Choice(format!("there are several images, add :NAME:TAG to its name: {}", listed())))
        }
        (Some(wanted), _) => {
            let wanted = familiar(wanted);
            let found = images.iter().find(|image| tags(image).any(|tag| familiar(tag) == wanted));
            found.ok_or_else(|| ImageError::Choice(format!("no image is called so; there are: {}", listed())))
        }
    }
}

/// A name as `docker` shows it, with its tag: programs write more or less of `docker.io/library/` into archives.
fn familiar(name: &str) -> String {
    let short = name.strip_prefix("docker.io/").map_or(name, |name| name.strip_prefix("library/").unwrap_or(name));
    let tagged = short.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if tagged { short.to_owned() } else { format!("{short}:latest") }
}
