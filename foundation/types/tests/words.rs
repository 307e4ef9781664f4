//! What the shared types refuse.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use decores_types::bundle::{
    BundleError, File, HexDigest, InputManifest, Item, Manifest as _, OutputManifest, RelPath,
};
use decores_types::canonical::{CanonicalError, MAX_DEPTH, from_json, from_slice, to_vec};
use decores_types::job::{JobState, Limits};
use decores_types::{Base64, CommitmentKey, Digest, JobId, KeyId, OfferId, Timestamp};
use serde_json::Value;
use std::collections::BTreeMap;

#[test]
fn ids_of_another_kind_case_or_length_are_refused() {
    let text = "job_000102030405060708090a0b0c0d0e0f";
    assert_eq!(JobId::parse(text).unwrap().to_string(), text);
    assert!(OfferId::parse(text).is_err());
    for bad in ["", "job_", "job_000102030405060708090A0B0C0D0E0F", "job_000102030405060708090a0b0c0d0e", " job_00"] {
        assert!(JobId::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_key_id_covers_algorithm_and_key() {
    let id = KeyId::of_public("ed25519", &[1; 32]);
    assert_ne!(id, KeyId::of_public("x-wing", &[1; 32]));
    assert_ne!(id, KeyId::of_public("ed25519", &[2; 32]));
}

#[test]
fn times_have_one_form() {
    let text = "2026-01-02T03:04:05.006Z";
    assert_eq!(Timestamp::parse(text).unwrap().to_string(), text);
    for bad in [
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05.006+00:00",
        "2026-01-02 03:04:05.006Z",
        "1969-12-31T23:59:59.999Z",
        "x",
    ] {
        assert!(Timestamp::parse(bad).is_err(), "{bad}");
    }
    assert_eq!(Timestamp::from_ms(i64::MAX).plus_ms(u64::MAX), Timestamp::from_ms(i64::MAX));
    assert_eq!(Timestamp::from_ms(5).since_ms(Timestamp::from_ms(9)), 0);
}

#[test]
fn canonical_json_is_the_only_form_read() {
    let good = br#"{"a":1,"b":[true,null,"x"]}"#;
    let value: Value = from_slice(good, 100).unwrap();
    assert_eq!(to_vec(&value).unwrap(), good);
    for bad in
        [&br#"{"b":[true,null,"x"],"a":1}"#[..], br#"{"a": 1}"#, br#"{"a":1.0}"#, b"{\"a\":1}\n", br#"{"a":"\u0041"}"#]
    {
        assert!(matches!(from_slice::<Value>(bad, 100), Err(CanonicalError::NotCanonical)), "{}", bad.escape_ascii());
    }
    assert!(matches!(from_slice::<Value>(b"{", 100), Err(CanonicalError::NotJson(_))));
    assert!(matches!(from_slice::<Value>(b"{\"a\":\"\xff\"}", 100), Err(CanonicalError::NotJson(_))));
    assert!(matches!(from_slice::<Value>(good, 5), Err(CanonicalError::TooLarge { .. })));
}

#[test]
fn deep_nesting_is_refused_and_brackets_in_strings_do_not_count() {
    let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
    assert!(from_json::<Value>(nested(MAX_DEPTH).as_bytes(), 1000).is_ok());
    assert!(matches!(from_json::<Value>(nested(MAX_DEPTH + 1).as_bytes(), 1000), Err(CanonicalError::TooDeep)));
    let text = format!("[\"{}\\\"[\"]", "[".repeat(100));
    assert!(from_json::<Value>(text.as_bytes(), 1000).is_ok());
}

#[test]
fn base64_is_strict() {
    assert_eq!(Base64::parse("AAE=").unwrap().0, [0, 1]);
    for bad in ["AAE", "AAF=", "AAE=\n", "AA E=", "-_-_", "AAE=="] {
        assert!(Base64::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_commitment_depends_on_key_label_and_digest() {
    let (a, b) = (CommitmentKey::from_bytes([1; 32]), CommitmentKey::from_bytes([2; 32]));
    let digest = Digest::of(b"x");
    assert_ne!(a.commit("input", &digest), b.commit("input", &digest));
    assert_ne!(a.commit("input", &digest), a.commit("output", &digest));
    assert_ne!(a.commit("input", &digest), a.commit("input", &Digest::of(b"y")));
    assert_ne!(a.check(), b.check());
    assert_eq!(format!("{a:?}"), "CommitmentKey(***)");
}

#[test]
fn an_attempt_ends_once_and_never_goes_back() {
    use JobState::*;
    let all = [Queued, Attesting, Starting, Running, Sealing, Wiping, Done, Failed, Refused, Cancelled];
    for from in all {
        for to in all {
            if from.may_become(to) {
                assert!(
                    !from.is_final() && (to > from || [(Wiping, Wiping), (Starting, Starting)].contains(&(from, to))),
                    "{from} -> {to}"
                );
            }
        }
        // From everywhere there is a way out, and it leads through the wipe or never started.
        assert!(from.is_final() || from.may_become(Wiping) || from == Queued);
    }
}

#[test]
fn the_first_limit_that_is_too_large_is_named() {
    let max = Limits::default();
    assert_eq!(max.exceeds(&max), None);
    assert_eq!(Limits { wall_ms: max.wall_ms + 1, ..max }.exceeds(&max), Some("wallMs"));
}

#[test]
fn paths_that_could_leave_their_folder_are_refused() {
    for good in ["a", "a/b.txt", "ä/ö", "..a", "a..b"] {
        assert!(RelPath::parse(good).is_ok(), "{good}");
    }
    let long = "x".repeat(513);
    let deep = ["a"; 17].join("/");
    for bad in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\\b", "a\0b", "a\nb", &long, &deep] {
        assert!(RelPath::parse(bad).is_err(), "{bad}");
    }
}

fn item() -> Item {
    Item { sha256: HexDigest(Digest::of(b"")), size: 0 }
}

fn file(path: &str) -> File {
    File { path: RelPath::parse(path).unwrap(), sha256: HexDigest(Digest::of(b"")), size: 0 }
}

#[test]
fn files_out_of_order_twice_or_below_a_file_are_refused() {
    let manifest =
        |paths: &[&str]| OutputManifest { exit: 0, files: paths.iter().map(|p| file(p)).collect(), stdout: item() };
    assert!(manifest(&["a", "b/c", "b/d"]).check().is_ok());
    for bad in [&["b", "a"][..], &["a", "a"], &["a", "a/b"], &["a", "a!", "a/b"]] {
        assert!(matches!(manifest(bad).check(), Err(BundleError::Order(_))), "{bad:?}");
    }
}

#[test]
fn words_that_cannot_be_passed_are_refused() {
    let manifest = |args: &[&str], env: &[(&str, &str)]| InputManifest {
        args: args.iter().map(|a| (*a).to_owned()).collect(),
        env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>(),
        files: Vec::new(),
        stdin: item(),
    };
    assert!(manifest(&["a", ""], &[("K", "v=w")]).check().is_ok());
    assert!(manifest(&["a\0"], &[]).check().is_err());
    for env in [("", "v"), ("A=B", "v"), ("A\0", "v"), ("A", "v\0")] {
        assert!(manifest(&[], &[env]).check().is_err(), "{env:?}");
    }
    let many = vec!["a"; 1025];
    assert!(matches!(manifest(&many, &[]).check(), Err(BundleError::TooMany { .. })));
}

#[test]
fn a_bundle_reads_what_it_wrote() {
    let manifest = OutputManifest { exit: 3, files: vec![file("a")], stdout: item() };
    let prelude = manifest.prelude().unwrap();
    let (head, rest) = prelude.split_at(decores_types::bundle::PRELUDE);
    let length = decores_types::bundle::manifest_len(head.try_into().unwrap()).unwrap();
    assert_eq!(length, rest.len());
    assert_eq!(OutputManifest::parse(rest).unwrap(), manifest);
    let mut other: [u8; 12] = head.try_into().unwrap();
    other[4] = 2;
    assert!(matches!(decores_types::bundle::manifest_len(&other), Err(BundleError::Magic)));
    let mut huge: [u8; 12] = head.try_into().unwrap();
    huge[8] = 0xff;
    assert!(matches!(decores_types::bundle::manifest_len(&huge), Err(BundleError::ManifestSize(_))));
}
