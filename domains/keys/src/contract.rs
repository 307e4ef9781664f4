//! What every keystore does: run by the tests of each on an empty one.

#![allow(clippy::expect_used, clippy::panic, reason = "a check for tests: it fails by panicking")]

use crate::error::KeyError;
use crate::key::{KeyInfo, KeyState, Purpose};
use crate::ports::KeyStore;
use crate::verify_ed25519;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use decores_secrets::Secret;
use decores_types::{KeyId, Timestamp};

const NOW: Timestamp = Timestamp::from_ms(1_767_225_600_000);

/// Checks an empty keystore against the contract.
///
/// # Panics
/// If the keystore breaks it.
pub fn check(store: &dyn KeyStore) {
    assert!(store.list().expect("an empty keystore lists").is_empty());
    signs_with_pairs(store);
    rotates(store);
    seals_and_opens(store);
    refuses(store);
}

fn create(store: &dyn KeyStore, purpose: Purpose) -> KeyInfo {
    let info = store.create(purpose, NOW).expect("a key is made");
    assert_eq!((info.purpose, info.algorithm, info.created), (purpose, purpose.algorithm(), NOW));
    assert_eq!(store.active(purpose).expect("lists").as_ref(), Some(&info), "the new key is the active one");
    info
}

fn signs_with_pairs(store: &dyn KeyStore) {
    for purpose in [Purpose::Identity, Purpose::Log] {
        let info = create(store, purpose);
        let public = info.public.clone().expect("a pair has a public key");
        assert_eq!(info.id, KeyId::of_public("ed25519", &public.0));
        let signature = store.sign(&info.id, b"message").expect("signs");
        verify_ed25519(&public.0, b"message", &signature).expect("the signature is good");
        verify_ed25519(&public.0, b"another", &signature).expect_err("for this message only");
    }
    let ca = create(store, Purpose::Ca);
    let public = ca.public.clone().expect("a pair has a public key");
    assert_eq!(ca.id, KeyId::of_public("ecdsa-p256", &public.0));
    let signature = store.sign(&ca.id, b"message").expect("signs");
    let verifier = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &public.0);
    verifier.verify(b"message", &signature).expect("the signature is good");
}

fn rotates(store: &dyn KeyStore) {
    let old = store.active(Purpose::Identity).expect("lists").expect("was made");
    let new = create(store, Purpose::Identity);
    assert_eq!((old.epoch, new.epoch), (1, 2));
    assert_eq!(store.info(&old.id).expect("is known").state, KeyState::Retired);
    assert!(matches!(store.sign(&old.id, b"m"), Err(KeyError::Retired(_))), "a retired key signs no more");
    store.sign(&new.id, b"m").expect("the new one does");
    store.destroy(&old.id).expect("a retired key is destroyed");
    store.destroy(&old.id).expect("and it may be asked twice");
    assert_eq!(store.info(&old.id).expect("its name stays").state, KeyState::Destroyed);
    assert!(matches!(store.sign(&old.id, b"m"), Err(KeyError::Destroyed(_))));
    assert!(matches!(store.retire(&old.id), Err(KeyError::Destroyed(_))));
}

fn seals_and_opens(store: &dyn KeyStore) {
    let info = create(store, Purpose::Storage);
    assert_eq!(info.public, None);
    let secret = Secret::from_slice(b"small secret").expect("there is room");
    let wrapped = store.wrap(&info.id, &secret, b"here").expect("wraps");
    let other = store.wrap(&info.id, &secret, b"here").expect("wraps");
    assert_ne!(wrapped, other, "no nonce is used twice");
    let opened = store.unwrap(&info.id, &wrapped, b"here").expect("unwraps");
    assert_eq!(opened.expose(), secret.expose());
    let moved = store.unwrap(&info.id, &wrapped, b"there");
    assert!(matches!(moved, Err(KeyError::DoesNotOpen)), "in another context it does not open");
    assert!(matches!(store.unwrap(&info.id, &[0; 5], b""), Err(KeyError::DoesNotOpen)));

    let key = store.open_symmetric(&info.id).expect("opens");
    assert_eq!(key.len(), 32);
    store.retire(&info.id).expect("retires");
    store.retire(&info.id).expect("and may be asked twice");
    assert_eq!(store.active(Purpose::Storage).expect("lists"), None);
    assert!(matches!(store.wrap(&info.id, &secret, b""), Err(KeyError::Retired(_))));
    store.unwrap(&info.id, &wrapped, b"here").expect("a retired key still opens");
    assert_eq!(store.open_symmetric(&info.id).expect("opens").expose(), key.expose());
    store.destroy(&info.id).expect("destroys");
    assert!(matches!(store.unwrap(&info.id, &wrapped, b"here"), Err(KeyError::Destroyed(_))));
    assert!(matches!(store.open_symmetric(&info.id), Err(KeyError::Destroyed(_))));
    assert_eq!(create(store, Purpose::Storage).epoch, 2, "an epoch is never used twice");
}

fn refuses(store: &dyn KeyStore) {
    let identity = store.active(Purpose::Identity).expect("lists").expect("was made");
    let index = create(store, Purpose::Index);
    let secret = Secret::from_slice(b"x").expect("there is room");
    assert!(matches!(store.destroy(&identity.id), Err(KeyError::Active(_))), "an active key is not destroyed");
    assert!(matches!(store.open_symmetric(&identity.id), Err(KeyError::Unfit(_))), "private keys never leave");
    assert!(matches!(store.wrap(&identity.id, &secret, b""), Err(KeyError::Unfit(_))));
    assert!(matches!(store.wrap(&index.id, &secret, b""), Err(KeyError::Unfit(_))));
    assert!(matches!(store.sign(&index.id, b"m"), Err(KeyError::Unfit(_))));
    let unknown = KeyId::from_bytes([7; 16]);
    assert!(matches!(store.sign(&unknown, b"m"), Err(KeyError::Unknown(_))));
    assert!(matches!(store.destroy(&unknown), Err(KeyError::Unknown(_))));
    for purpose in [Purpose::Epoch, Purpose::Offer] {
        assert!(matches!(store.create(purpose, NOW), Err(KeyError::NotStored(_))), "{purpose} keys are never stored");
    }
}
