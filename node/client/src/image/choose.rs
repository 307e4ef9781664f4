//! Which image of several.

use super::document::{Descriptor, IMAGE_NAME, INDEXES, Index, MANIFESTS, Platform, REF_NAME};
use super::error::ImageError;
use super::reference::Pick;

/// Names that are listed in an error.
const MAX_LISTED: usize = 20;

/// What a chosen entry points at.
pub(super) enum Chosen {
    /// An image.
    Image(Descriptor),
    /// A list of images for different platforms.
    List(Descriptor),
}

impl Chosen {
    fn of(descriptor: &Descriptor) -> Result<Self, ImageError> {
        let media = descriptor.media_type.as_str();
        if MANIFESTS.contains(&media) {
            Ok(Self::Image(descriptor.clone()))
        } else if INDEXES.contains(&media) {
            Ok(Self::List(descriptor.clone()))
        } else {
            Err(ImageError::Unfit(format!("`{}` is no image", media.escape_debug())))
        }
    }
}

fn tag(descriptor: &Descriptor) -> Option<&str> {
    [REF_NAME, IMAGE_NAME].iter().find_map(|name| descriptor.annotations.get(*name)).map(String::as_str)
}

fn list(names: &[String]) -> String {
    let more = if names.len() > MAX_LISTED { ", …" } else { "" };
    let shown: Vec<String> = names.iter().take(MAX_LISTED).map(|name| name.escape_debug().to_string()).collect();
    format!("{}{more}", shown.join(", "))
}

fn tags(index: &Index) -> String {
    let names: Vec<String> = index.manifests.iter().filter_map(tag).map(str::to_owned).collect();
    if names.is_empty() { "no tags".to_owned() } else { list(&names) }
}

/// The entry of a layout's index that is meant.
pub(super) fn in_layout(index: &Index, pick: &Pick, platform: &Platform) -> Result<Chosen, ImageError> {
    let wanted: Vec<&Descriptor> = index
        .manifests
        .iter()
        .filter(|d| match pick {
            Pick::Only => true,
            Pick::Tag(wanted) => tag(d).is_some_and(|tag| tag == wanted),
            Pick::Digest(digest) => d.digest == *digest,
        })
        .collect();
    let fitting: Vec<&Descriptor> =
        wanted.iter().copied().filter(|d| d.platform.as_ref().is_none_or(|p| p.fits(platform))).collect();
    match (fitting.as_slice(), wanted.len(), pick) {
        ([only], ..) => Chosen::of(only),
        ([], 0, Pick::Only) => Err(ImageError::Choice("there is no image in it".to_owned())),
        ([], 0, _) => Err(ImageError::Choice(format!("no image is called so; there are: {}", tags(index)))),
        ([], ..) => Err(none_fits(&wanted, platform)),
        (several, ..) if several.windows(2).all(|w| matches!(w, [a, b] if a.digest == b.digest)) => {
            several.first().map_or_else(|| Err(none_fits(&wanted, platform)), |only| Chosen::of(only))
        }
        _ => Err(ImageError::Choice(format!("there are several images, add :TAG to its name: {}", tags(index)))),
    }
}

/// The image of a list that is for this platform. What is no image, such as a signature, is passed over.
pub(super) fn in_list(index: &Index, platform: &Platform) -> Result<Descriptor, ImageError> {
    let images: Vec<&Descriptor> =
        index.manifests.iter().filter(|d| MANIFESTS.contains(&d.media_type.as_str())).collect();
    let fits = images.iter().find(|d| d.platform.as_ref().is_some_and(|p| p.fits(platform)));
    fits.map(|d| (*d).clone()).ok_or_else(|| none_fits(&images, platform))
}

fn none_fits(found: &[&Descriptor], platform: &Platform) -> ImageError {
    let platforms: Vec<String> = found.iter().filter_map(|d| d.platform.as_ref()).map(Platform::to_string).collect();
    ImageError::Choice(format!("there is no image for {platform}; there are: {}", list(&platforms)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use decores_types::Digest;
    use std::collections::BTreeMap;

    fn entry(name: &str, platform: Option<&str>) -> Descriptor {
        let annotations =
            if name.is_empty() { BTreeMap::new() } else { BTreeMap::from([(REF_NAME.to_owned(), name.to_owned())]) };
        Descriptor {
            media_type: MANIFESTS[0].to_owned(),
            digest: Digest::of(format!("{name}{platform:?}").as_bytes()),
            size: 1,
            platform: platform.map(|p| p.parse().unwrap()),
            annotations,
        }
    }

    fn amd64() -> Platform {
        "linux/amd64".parse().unwrap()
    }

    fn found(manifests: Vec<Descriptor>, pick: &Pick) -> Result<Digest, String> {
        match in_layout(&Index { manifests }, pick, &amd64()) {
            Ok(Chosen::Image(d) | Chosen::List(d)) => Ok(d.digest),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_tag_or_a_digest_says_which() {
        let both = || vec![entry("a", None), entry("b", None)];
        assert_eq!(found(both(), &Pick::Tag("b".to_owned())), Ok(entry("b", None).digest));
        assert_eq!(found(both(), &Pick::Digest(entry("a", None).digest)), Ok(entry("a", None).digest));
        assert_eq!(found(vec![entry("a", None)], &Pick::Only), Ok(entry("a", None).digest));
        let platforms = vec![entry("", Some("linux/arm64")), entry("", Some("linux/amd64"))];
        assert_eq!(found(platforms, &Pick::Only), Ok(entry("", Some("linux/amd64")).digest));
    }

    #[test]
    fn without_a_tag_among_several_the_tags_are_listed() {
        let both = || vec![entry("a", None), entry("b", None)];
        assert!(found(both(), &Pick::Only).unwrap_err().ends_with("add :TAG to its name: a, b"));
        assert!(found(both(), &Pick::Tag("c".to_owned())).unwrap_err().ends_with("there are: a, b"));
        assert!(found(Vec::new(), &Pick::Only).unwrap_err().contains("no image"));
    }

    #[test]
    fn an_image_for_another_platform_is_refused() {
        let arm = vec![entry("a", Some("linux/arm64"))];
        let error = found(arm.clone(), &Pick::Only).unwrap_err();
        assert_eq!(error, "there is no image for linux/amd64; there are: linux/arm64");
        assert!(in_list(&Index { manifests: arm }, &amd64()).is_err());
    }

    #[test]
    fn what_is_no_image_is_refused_and_in_a_list_passed_over() {
        let mut artifact = entry("a", Some("linux/amd64"));
        artifact.media_type = "application/vnd.example+json".to_owned();
        assert!(found(vec![artifact.clone()], &Pick::Only).unwrap_err().contains("is no image"));
        let index = Index { manifests: vec![artifact, entry("b", Some("linux/amd64"))] };
        assert_eq!(in_list(&index, &amd64()).unwrap().digest, entry("b", Some("linux/amd64")).digest);
    }
}
