//! What a keystore does with a key once it has it in hand: shared by all that hold keys as bytes.
//!
//! Every private key is 32 bytes: an Ed25519 seed, a P-256 scalar, an X-Wing seed or a symmetric key.
//! AWS-LC copies the first two to its own heap for the length of one call and wipes the copy.

use crate::error::KeyError;
use crate::key::{Algorithm, KeyInfo, KeyState, Purpose};
use crate::x_wing::XWingKey;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use decores_secrets::Secret;
use decores_types::ambient::random_bytes;
use decores_types::{Base64, KeyId, Random, Timestamp};

/// Bytes of every private key.
pub const PRIVATE_KEY_BYTES: usize = 32;

/// A key and what is known of it.
#[derive(Debug)]
pub struct NewKey {
    /// The public side.
    pub info: KeyInfo,
    /// The private side.
    pub private: Secret,
}

/// Makes the first or next key of a purpose; `known` are the keys so far.
pub fn next_key(purpose: Purpose, known: &[KeyInfo], now: Timestamp, random: &dyn Random) -> Result<NewKey, KeyError> {
    if !purpose.is_stored() {
        return Err(KeyError::NotStored(purpose));
    }
    let algorithm = purpose.algorithm();
    let (private, public) = generate(algorithm, random)?;
    let id = match &public {
        Some(public) => KeyId::of_public(algorithm.name(), public),
        None => KeyId::random(random),
    };
    let epoch = known.iter().filter(|k| k.purpose == purpose).map(|k| k.epoch).max().unwrap_or(0) + 1;
    let public = public.map(Base64);
    Ok(NewKey {
        info: KeyInfo { algorithm, created: now, epoch, id, public, purpose, state: KeyState::Active },
        private,
    })
}

fn generate(algorithm: Algorithm, random: &dyn Random) -> Result<(Secret, Option<Vec<u8>>), KeyError> {
    if algorithm == Algorithm::EcdsaP256 {
        let unfit = |_| KeyError::Library(algorithm);
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(unfit)?;
        let scalar = pair.private_key().as_be_bytes().map_err(unfit)?;
        let private = Secret::from_slice(scalar.as_ref())?;
        return Ok((private, Some(pair.public_key().as_ref().to_vec())));
    }
    let private = Secret::filled(PRIVATE_KEY_BYTES, |out| random.fill(out))?;
    let public = public_of(algorithm, &private)?;
    Ok((private, public))
}

/// The public key of a private one, where the library derives it.
fn public_of(algorithm: Algorithm, private: &Secret) -> Result<Option<Vec<u8>>, KeyError> {
    match algorithm {
        Algorithm::Ed25519 => Ok(Some(ed25519_pair(private)?.public_key().as_ref().to_vec())),
        Algorithm::XWing => XWingKey::public_of(private.expose()).map(Some).ok_or(KeyError::Library(algorithm)),
        Algorithm::EcdsaP256 | Algorithm::Aes256Gcm | Algorithm::HmacSha256 => Ok(None),
    }
}

/// Whether a private key and what is said of it belong together.
pub fn fits(info: &KeyInfo, private: &Secret) -> bool {
    if info.algorithm != info.purpose.algorithm() || private.len() != PRIVATE_KEY_BYTES {
        return false;
    }
    match (&info.public, info.algorithm.is_symmetric()) {
        (None, true) => true,
        (Some(public), false) if info.id == KeyId::of_public(info.algorithm.name(), &public.0) => {
            match info.algorithm {
                Algorithm::EcdsaP256 => ecdsa_pair(&public.0, private).is_ok(),
                algorithm => public_of(algorithm, private).is_ok_and(|p| p.as_ref() == Some(&public.0)),
            }
        }
        _ => false,
    }
}

/// Signs with a key of a pair.
#[expect(clippy::disallowed_methods, reason = "AWS-LC draws an ECDSA nonce from its own source, whatever it is given")]
pub fn sign(info: &KeyInfo, private: &Secret, message: &[u8]) -> Result<Vec<u8>, KeyError> {
    let library = |_| KeyError::Library(info.algorithm);
    match (info.algorithm, &info.public) {
        (Algorithm::Ed25519, _) => Ok(ed25519_pair(private)?.try_sign(message).map_err(library)?.as_ref().to_vec()),
        (Algorithm::EcdsaP256, Some(public)) => {
            let pair = ecdsa_pair(&public.0, private)?;
            Ok(pair.sign(&SystemRandom::new(), message).map_err(library)?.as_ref().to_vec())
        }
        _ => Err(KeyError::Unfit(info.algorithm)),
    }
}

fn ed25519_pair(private: &Secret) -> Result<aws_lc_rs::signature::Ed25519KeyPair, KeyError> {
    aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(private.expose())
        .map_err(|_| KeyError::Library(Algorithm::Ed25519))
}

fn ecdsa_pair(public: &[u8], private: &Secret) -> Result<EcdsaKeyPair, KeyError> {
    EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_ASN1_SIGNING, private.expose(), public)
        .map_err(|_| KeyError::Library(Algorithm::EcdsaP256))
}

/// Wraps a small secret: `nonce || AES-256-GCM(key, nonce, secret, aad)`.
pub fn wrap(key: &Secret, secret: &Secret, aad: &[u8], random: &dyn Random) -> Result<Vec<u8>, KeyError> {
    let nonce = random_bytes::<NONCE_LEN>(random);
    // Sealed in the arena, so that the plaintext is never elsewhere.
    let mut sealed = Secret::from_slice(secret.expose())?;
    let tag = aes(key)?
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), sealed.expose_mut())
        .map_err(|_| KeyError::Library(Algorithm::Aes256Gcm))?;
    Ok([nonce.as_slice(), sealed.expose(), tag.as_ref()].concat())
}

/// Unwraps what [`wrap`] wrapped.
pub fn unwrap(key: &Secret, wrapped: &[u8], aad: &[u8]) -> Result<Secret, KeyError> {
    let (nonce, sealed) = wrapped.split_first_chunk::<NONCE_LEN>().ok_or(KeyError::DoesNotOpen)?;
    let mut opened = Secret::from_slice(sealed)?;
    let plain = aes(key)?
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), opened.expose_mut())
        .map_err(|_| KeyError::DoesNotOpen)?;
    Ok(Secret::from_slice(plain)?)
}

/// An AES-256-GCM key; AWS-LC holds its expanded schedule and wipes it on drop.
pub(crate) fn aes(key: &Secret) -> Result<LessSafeKey, KeyError> {
    let unbound = UnboundKey::new(&AES_256_GCM, key.expose()).map_err(|_| KeyError::Library(Algorithm::Aes256Gcm))?;
    Ok(LessSafeKey::new(unbound))
}

/// Whether a key in this state may seal and sign.
pub fn may_seal(info: &KeyInfo) -> Result<(), KeyError> {
    match info.state {
        KeyState::Active => Ok(()),
        KeyState::Retired => Err(KeyError::Retired(info.id)),
        KeyState::Destroyed => Err(KeyError::Destroyed(info.id)),
    }
}

/// Whether a key in this state may open.
pub fn may_open(info: &KeyInfo) -> Result<(), KeyError> {
    match info.state {
        KeyState::Active | KeyState::Retired => Ok(()),
        KeyState::Destroyed => Err(KeyError::Destroyed(info.id)),
    }
}
