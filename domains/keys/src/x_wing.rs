//! X-Wing keys: what payloads are sealed to.

use decores_secrets::{Secret, SecretError};
use decores_types::job::OutputKey;
use decores_types::{Base64, KeyId, Random};
use hpke::kem::XWing;
use hpke::{Deserializable, Kem, Serializable};

/// Bytes of a public key.
pub const X_WING_PUBLIC_BYTES: usize = 1216;
/// Bytes of a private key: the seed that both halves grow from.
const X_WING_SEED_BYTES: usize = 32;

/// A public key to seal to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    id: KeyId,
    epoch: u32,
    public: Vec<u8>,
}

impl Recipient {
    /// A recipient; `None` if `public` is no X-Wing key or `id` is another key's.
    pub fn new(id: KeyId, epoch: u32, public: &[u8]) -> Option<Self> {
        <XWing as Kem>::PublicKey::from_bytes(public).ok()?;
        (id == KeyId::of_public("x-wing", public)).then(|| Self { id, epoch, public: public.to_vec() })
    }

    /// A job spec's output key; these serve one job only, so their epoch is always 1.
    pub fn of_output_key(key: &OutputKey) -> Option<Self> {
        Self::new(key.id, 1, &key.public.0)
    }

    /// The key's id.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The key's epoch.
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The raw public key.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// As it stands in a job spec.
    pub fn to_output_key(&self) -> OutputKey {
        OutputKey { id: self.id, public: Base64(self.public.clone()) }
    }

    pub(crate) fn hpke(&self) -> Option<<XWing as Kem>::PublicKey> {
        <XWing as Kem>::PublicKey::from_bytes(&self.public).ok()
    }
}

/// An X-Wing private key in locked memory. The library's copy, on the stack, lives for one opening.
#[derive(Debug)]
pub struct XWingKey {
    seed: Secret,
    recipient: Recipient,
}

impl XWingKey {
    /// Draws a new key.
    pub fn generate(epoch: u32, random: &dyn Random) -> Result<Self, SecretError> {
        let mut seed = Secret::zeroed(X_WING_SEED_BYTES)?;
        loop {
            random.fill(seed.expose_mut());
            // Every seed is a key, so this ends at the first round.
            match Self::from_seed(seed, epoch) {
                Ok(key) => return Ok(key),
                Err(back) => seed = back,
            }
        }
    }

    /// The key of a seed; gives the seed back if it has not 32 bytes.
    pub fn from_seed(seed: Secret, epoch: u32) -> Result<Self, Secret> {
        match Self::public_of(seed.expose()) {
            Some(public) => {
                let id = KeyId::of_public("x-wing", &public);
                Ok(Self { seed, recipient: Recipient { id, epoch, public } })
            }
            None => Err(seed),
        }
    }

    /// The public key of a seed; `None` if it has not 32 bytes.
    pub fn public_of(seed: &[u8]) -> Option<Vec<u8>> {
        let private = <XWing as Kem>::PrivateKey::from_bytes(seed).ok()?;
        Some(XWing::sk_to_pk(&private).to_bytes().to_vec())
    }

    /// The public side.
    pub const fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// The seed: whoever has it opens what is sealed to this key.
    pub const fn seed(&self) -> &Secret {
        &self.seed
    }

    /// Zeroes the key and reads it back: evidence for a wipe.
    pub fn destroy(self) -> bool {
        self.seed.destroy()
    }

    pub(crate) fn hpke(&self) -> Option<<XWing as Kem>::PrivateKey> {
        <XWing as Kem>::PrivateKey::from_bytes(self.seed.expose()).ok()
    }
}
