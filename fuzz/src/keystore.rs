//! The keystore file: whoever can write it, the node reads it.

use decores_keystore_file::fuzzing;
use decores_secrets::Secret;
use decores_types::Base64;
use serde_json::{Value, json};

/// A root that [`rooted`] gives every file.
fn root() -> Secret {
    Secret::from_slice(&[0x42; 32]).unwrap()
}

/// First byte `0`: a document whose root is replaced by ours. Else a file as it came.
pub(crate) fn keystore_document(data: &[u8]) {
    let root = root();
    let bytes = match data.split_first() {
        Some((0, document)) => {
            let Some(bytes) = rooted(document) else { return };
            bytes
        }
        _ => data.to_vec(),
    };
    let parsed = fuzzing::parse(&bytes);
    if let Ok(written) = &parsed {
        assert_eq!(*written, bytes, "one form");
    }
    if let Ok((written, _)) = fuzzing::open(&bytes, &root) {
        assert_eq!(written, bytes);
        assert!(parsed.is_ok());
    }
}

/// The document with a `check` that our root opens, and every key wrapped anew under it, its private half all one byte.
fn rooted(document: &[u8]) -> Option<Vec<u8>> {
    let mut document: Value = serde_json::from_slice(document).ok()?;
    let wrap = |plain: &[u8], aad: &str| {
        let secret = Secret::from_slice(plain).unwrap();
        let random = crate::fixtures::Counter::default();
        let wrapped = decores_keys::private_key::wrap(&root(), &secret, aad.as_bytes(), &random).unwrap();
        Value::String(Base64(wrapped).to_string())
    };
    *document.get_mut("root")? = json!({"check": wrap(&[0; 32], "decores keystore v1 check"), "source": "credential"});
    for key in document.get_mut("keys")?.as_array_mut()? {
        let text = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let aad = format!(
            "decores keystore v1\0{}\0{}\0{}\0{}",
            text("id"),
            text("purpose"),
            key.get("epoch").and_then(Value::as_u64).unwrap_or_default(),
            text("algorithm")
        );
        let wrapped = wrap(&[7; 32], &aad);
        if let Some(place) = key.get_mut("wrapped") {
            *place = wrapped;
        }
    }
    decores_types::canonical::to_vec(&document).ok()
}
