//! First contact: learning who a node says it is.
//!
//! 1. Ask for the signed node statement, believing no certificate and sending no secret.
//! 2. Check the statement's signature by the identity it names: [`NodeCard`].
//! 3. The caller compares that identity with what it was told by other means.
//! 4. [`NodeCard::log_in`] connects again, this time verifying the certificate authority from the
//!    statement, and only now sends the API key.

use crate::{ApiKey, ClientError, Connection, Login, NodeUrl, client, dangerous};
use decores_api::node::{NODE_STATEMENT_TYPE, NodeResponse, NodeStatement};
use decores_api::{headers, paths};
use decores_keys::{DsseError, Ed25519Public, Envelope};
use decores_types::canonical;

/// A node statement whose signature fits the identity it names. Nobody has compared that identity yet.
#[derive(Clone, Debug)]
pub struct NodeCard {
    url: NodeUrl,
    statement: NodeStatement,
    envelope: Envelope,
}

/// Asks a node who it is.
pub async fn bootstrap(url: NodeUrl) -> Result<NodeCard, ClientError> {
    let connection = Connection::with_tls(url.clone(), dangerous::unverified()?, None)?;
    let answer: NodeResponse = connection.get("node statement", paths::NODE, &[]).await?;
    read(url, &answer.envelope)
}

pub(crate) fn read(url: NodeUrl, envelope: &serde_json::Value) -> Result<NodeCard, ClientError> {
    let malformed = |source| ClientError::Answer { what: "node statement", source };
    let bytes = canonical::to_vec(envelope).map_err(malformed)?;
    let envelope: Envelope = canonical::from_slice(&bytes, headers::MAX_JSON).map_err(malformed)?;
    // Read before it is verified: the key that must have signed it stands inside.
    let claimed: NodeStatement = canonical::from_slice(&envelope.payload.0, headers::MAX_JSON).map_err(malformed)?;
    let key = Ed25519Public::from_base64(&claimed.identity_public)
        .filter(|key| key.id() == claimed.identity)
        .ok_or_else(|| ClientError::Mismatch("the node statement: its identity is not the id of its key".to_owned()))?;
    let refused = |e: DsseError| ClientError::Refused { what: "the node statement".to_owned(), source: Box::new(e) };
    envelope.verify(NODE_STATEMENT_TYPE, &key).map_err(refused)?;
    if claimed.version != 1 {
        return Err(ClientError::Mismatch(format!("the node statement: version {} is unknown", claimed.version)));
    }
    Ok(NodeCard { url, statement: claimed, envelope })
}

impl NodeCard {
    /// What it says.
    pub const fn statement(&self) -> &NodeStatement {
        &self.statement
    }

    /// Where it came from.
    pub const fn url(&self) -> &NodeUrl {
        &self.url
    }

    /// The signed statement itself.
    pub const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Connects under the statement's certificate authority and asks who we are there.
    pub async fn log_in(&self, key: &ApiKey) -> Result<Login, ClientError> {
        let connection = Connection::pinned(self.url.clone(), &self.statement.tls_ca.0, Some(key))?;
        let status = client::status(&connection).await?;
        if status.identity != self.statement.identity {
            return Err(ClientError::Mismatch(format!("the node: it now says that it is {}", status.identity)));
        }
        Ok(Login {
            version: 1,
            url: self.url.clone(),
            name: self.statement.name.clone(),
            identity: self.statement.identity,
            identity_public: self.statement.identity_public.clone(),
            ca: self.statement.tls_ca.clone(),
            consumer: status.consumer,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use decores_keys::Ed25519Key;
    use decores_secrets::Secret;
    use decores_types::{Base64, KeyId, Timestamp};
    use serde_json::{Value, json};

    fn url() -> NodeUrl {
        NodeUrl::parse("https://127.0.0.1:1").unwrap()
    }

    fn key(byte: u8) -> Ed25519Key {
        Ed25519Key::from_seed(Secret::from_slice(&[byte; 32]).unwrap()).unwrap()
    }

    fn signed(claims: KeyId, version: u32, inside: &Ed25519Key, signer: &Ed25519Key) -> Value {
        let statement = NodeStatement {
            version,
            name: "attic".to_owned(),
            identity: claims,
            identity_public: Base64::from(inside.public().as_bytes().as_slice()),
            log_origin: "origin".to_owned(),
            log_key: "key".to_owned(),
            tls_ca: Base64(vec![1]),
            issued: Timestamp::from_ms(0),
        };
        let payload = canonical::to_vec(&statement).unwrap();
        let sign = |m: &[u8]| Ok(signer.sign(m).unwrap());
        serde_json::to_value(Envelope::sign(NODE_STATEMENT_TYPE, payload, signer.public().id(), sign).unwrap()).unwrap()
    }

    #[test]
    fn a_statement_signed_by_the_identity_it_names_is_read() {
        let node = key(1);
        let card = read(url(), &signed(node.public().id(), 1, &node, &node)).unwrap();
        assert_eq!(card.statement().name, "attic");
    }

    #[test]
    fn foreign_ids_foreign_signatures_and_other_versions_are_refused() {
        let (node, other) = (key(1), key(2));
        assert!(read(url(), &signed(other.public().id(), 1, &node, &node)).is_err());
        assert!(read(url(), &signed(node.public().id(), 1, &node, &other)).is_err());
        assert!(read(url(), &signed(node.public().id(), 2, &node, &node)).is_err());
    }

    #[test]
    fn altered_statements_are_refused() {
        let node = key(1);
        let mut envelope = signed(node.public().id(), 1, &node, &node);
        let payload = Base64::parse(envelope["payload"].as_str().unwrap()).unwrap();
        let text = String::from_utf8(payload.0).unwrap().replace("attic", "attiC");
        envelope["payload"] = json!(Base64(text.into_bytes()).to_string());
        assert!(read(url(), &envelope).is_err());
        assert!(read(url(), &json!({"payload": ""})).is_err());
    }
}
