//! API keys: `dck_` + 32 random characters + `_` + 6 characters of checksum.
//!
//! The checksum lets a typo fail before anything is sent, and lets leak scanners find keys. The node
//! stores an HMAC of the key, never the key.

use crate::permit::{Principal, Refusal};
use crate::role::Role;
use decores_types::ambient::random_bytes;
use decores_types::{ApiKeyId, ConsumerId, Digest, Random, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

const PREFIX: &str = "dck_";
const RANDOM: usize = 32;
const CHECK: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// An API key in clear: shown once, sent as a bearer token. Prints as stars.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKeyText(String);

/// A text that cannot be an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an API key: it has the form dck_…_…, 43 characters, and ends in a checksum; was it copied whole?")]
pub struct BadApiKey;

impl ApiKeyText {
    /// Draws a new key: 32 characters of 62, 190 bits.
    pub fn generate(random: &dyn Random) -> Self {
        let mut body = String::with_capacity(RANDOM);
        while body.len() < RANDOM {
            // 248 is the largest multiple of 62 in a byte: above it the choice would be uneven.
            let [byte] = random_bytes::<1>(random);
            if byte < 248 {
                body.push(letter(byte));
            }
        }
        let check = checksum(&body);
        Self(format!("{PREFIX}{body}_{check}"))
    }

    /// Parses and checks the checksum.
    ///
    /// # Errors
    /// [`BadApiKey`] for everything else.
    pub fn parse(text: &str) -> Result<Self, BadApiKey> {
        let (body, check) = text.strip_prefix(PREFIX).and_then(|t| t.split_once('_')).ok_or(BadApiKey)?;
        let plain = body.len() == RANDOM && body.bytes().all(|b| b.is_ascii_alphanumeric());
        if plain && check == checksum(body) { Ok(Self(text.to_owned())) } else { Err(BadApiKey) }
    }

    /// The key itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dck_***")
    }
}

fn letter(byte: u8) -> char {
    ALPHABET.get(usize::from(byte) % ALPHABET.len()).map_or('0', |b| char::from(*b))
}

fn checksum(body: &str) -> String {
    Digest::of(body.as_bytes()).as_bytes().iter().take(CHECK).map(|b| letter(*b)).collect()
}

/// What the node keeps of an API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyRecord {
    /// Its public handle.
    pub id: ApiKeyId,
    /// The consumer it stands for.
    pub consumer: ConsumerId,
    /// Its role.
    pub role: Role,
    /// A name for people.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it stops.
    pub expires: Timestamp,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// The one door: a record that the presented key led to becomes a principal.
///
/// # Errors
/// [`Refusal::Unauthenticated`] for an unknown or revoked key, [`Refusal::Expired`] for an old one.
pub fn authenticate(record: Option<&ApiKeyRecord>, now: Timestamp) -> Result<Principal, Refusal> {
    match record {
        None => Err(Refusal::Unauthenticated),
        Some(r) if r.revoked => Err(Refusal::Unauthenticated),
        Some(r) if now >= r.expires => Err(Refusal::Expired),
        Some(r) => Ok(Principal::new(r.id, r.consumer, r.role)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use crate::permit::{Action, action};

    struct Counter(std::sync::atomic::AtomicU8);
    impl Random for Counter {
        fn fill(&self, out: &mut [u8]) {
            for b in out {
                *b = self.0.fetch_add(7, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }

    fn record(role: Role) -> ApiKeyRecord {
        ApiKeyRecord {
            id: ApiKeyId::from_bytes([1; 16]),
            consumer: ConsumerId::from_bytes([2; 16]),
            role,
            name: "n".into(),
            created: Timestamp::from_ms(0),
            expires: Timestamp::from_ms(100),
            revoked: false,
        }
    }

    #[test]
    fn a_key_survives_its_text_and_any_changed_character_is_refused() {
        let key = ApiKeyText::generate(&Counter(3.into()));
        let text = key.expose().to_owned();
        assert_eq!(text.len(), 43);
        assert_eq!(ApiKeyText::parse(&text).unwrap(), key);
        assert_eq!(format!("{key:?}"), "dck_***");
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(ApiKeyText::parse(std::str::from_utf8(&bytes).unwrap()), Err(BadApiKey), "at {at}");
        }
        for bad in ["", "dck_", "dck__", &text[..42], &format!("{text}0")] {
            assert_eq!(ApiKeyText::parse(bad), Err(BadApiKey), "{bad}");
        }
    }

    #[test]
    fn unknown_revoked_and_expired_keys_are_refused() {
        let now = Timestamp::from_ms(50);
        assert!(authenticate(Some(&record(Role::Consumer)), now).is_ok());
        assert_eq!(authenticate(None, now), Err(Refusal::Unauthenticated));
        let revoked = ApiKeyRecord { revoked: true, ..record(Role::Operator) };
        assert_eq!(authenticate(Some(&revoked), now), Err(Refusal::Unauthenticated));
        assert_eq!(authenticate(Some(&record(Role::Operator)), Timestamp::from_ms(100)), Err(Refusal::Expired));
    }

    #[test]
    fn another_consumers_things_do_not_exist() {
        let me = authenticate(Some(&record(Role::Operator)), Timestamp::from_ms(1)).unwrap();
        let other = ConsumerId::from_bytes([9; 16]);
        assert_eq!(me.permit_on::<action::ReadJob>(other).unwrap_err(), Refusal::NotFound(Action::ReadJob));
        assert!(me.permit_on::<action::ReadJob>(me.consumer()).is_ok());
    }

    #[test]
    fn a_consumer_may_do_only_what_the_table_says() {
        let me = authenticate(Some(&record(Role::Consumer)), Timestamp::from_ms(1)).unwrap();
        let allowed: Vec<&str> =
            Action::ALL.iter().filter(|a| Role::Consumer.allows(**a)).map(|a| a.as_str()).collect();
        assert_eq!(
            allowed,
            [
                "status-read",
                "offer-ask",
                "job-submit",
                "job-read",
                "job-cancel",
                "job-result-delete",
                "log-proofs-read"
            ]
        );
        assert!(Action::ALL.iter().all(|a| Role::Operator.allows(*a)));
        assert_eq!(me.permit::<action::CreateApiKey>().unwrap_err(), Refusal::Forbidden(Action::CreateApiKey));
    }
}
