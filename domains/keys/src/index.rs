//! Lookup values: what the store finds a row by, without holding the name.

use aws_lc_rs::hmac;
use decores_secrets::Secret;

/// The index key, in locked memory; AWS-LC copies it for the length of one lookup.
#[derive(Debug)]
pub struct IndexKey(Secret);

impl IndexKey {
    /// The key with these bytes, as a keystore opens it.
    pub const fn new(key: Secret) -> Self {
        Self(key)
    }

    /// `HMAC-SHA256(key, "decores index v1" || 0 || label || 0 || value)`; labels hold no zero byte.
    pub fn lookup(&self, label: &'static str, value: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.0.expose()));
        for part in [b"decores index v1\0".as_slice(), label.as_bytes(), b"\0", value] {
            context.update(part);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.sign().as_ref());
        out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn label_and_value_do_not_run_together() {
        let key = IndexKey::new(Secret::from_slice(&[1; 32]).unwrap());
        assert_eq!(key.lookup("consumer", b"ada"), key.lookup("consumer", b"ada"));
        assert_ne!(key.lookup("consumer", b"ada"), key.lookup("consumera", b"da"));
        assert_ne!(
            key.lookup("consumer", b"ada"),
            IndexKey::new(Secret::from_slice(&[2; 32]).unwrap()).lookup("consumer", b"ada")
        );
    }
}
