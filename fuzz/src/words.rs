//! Texts that have one form each.

use decores_access::ApiKeyText;
use decores_audit::code::{Code, Version};
use decores_audit::verify::Require;
use decores_types::bundle::{HexDigest, RelPath};
use decores_types::{AlertId, ApiKeyId, Base64, Commitment, ConsumerId, Digest, JobId, KeyId, OfferId, Timestamp};
use std::fmt::Display;
use std::path::{Component, Path};

/// What parses prints as it stood.
fn same<T: Display, E>(parsed: Result<T, E>, text: &str) {
    if let Ok(value) = parsed {
        assert_eq!(value.to_string(), text);
    }
}

pub(crate) fn texts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    same(JobId::parse(text), text);
    same(OfferId::parse(text), text);
    same(ConsumerId::parse(text), text);
    same(ApiKeyId::parse(text), text);
    same(AlertId::parse(text), text);
    same(KeyId::parse(text), text);
    same(Digest::parse(text), text);
    same(Commitment::parse(text), text);
    same(Base64::parse(text), text);
    same(Code::parse(text), text);
    same(Version::parse(text), text);
    same(Require::parse(text), text);
    if let Ok(digest) = HexDigest::try_from(text.to_owned()) {
        assert_eq!(String::from(digest), text);
    }
    if let Ok(key) = ApiKeyText::parse(text) {
        assert_eq!((key.expose(), text.len()), (text, 43));
    }
    if let Ok(path) = RelPath::parse(text) {
        assert_eq!(path.as_str(), text);
        assert_stays(&path);
    }
    time(text);
}

/// A path of a bundle never leaves the folder it is put in.
pub(crate) fn assert_stays(path: &RelPath) {
    let parts: Vec<_> = Path::new(path.as_str()).components().collect();
    assert!(parts.iter().all(|part| matches!(part, Component::Normal(_))), "{path}");
    assert!((1..=16).contains(&parts.len()) && path.as_str().len() <= 512);
}

fn time(text: &str) {
    let Ok(time) = Timestamp::parse(text) else { return };
    assert_eq!(time.to_string(), text);
    assert_eq!(Timestamp::from_ms(time.as_ms()), time);
    for ms in [0, 1, u64::MAX] {
        let later = time.plus_ms(ms);
        assert!(later >= time && later.since_ms(time) <= ms);
        assert_eq!(Timestamp::parse(&later.to_string()), Ok(later));
    }
}
