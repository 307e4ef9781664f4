//! What a registry wants before it gives anything out, and the passwords that are kept for it.

use super::error::ImageError;
use crate::files;
use decores_secrets::Zeroizing;
use decores_types::Base64;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Largest `config.json`, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// A name and a password; printed as stars.
#[derive(Clone)]
pub(super) struct Password {
    pub(super) user: String,
    pub(super) password: Zeroizing<String>,
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(***)")
    }
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    #[serde(default)]
    auth: Option<String>,
}

/// The password that `config.json` keeps for this registry.
pub(super) fn password(config: &Path, host: &str) -> Result<Option<Password>, ImageError> {
    let Some(bytes) = files::read(config, MAX_CONFIG)?.map(Zeroizing::new) else { return Ok(None) };
    let what = || config.display().to_string();
    let config: DockerConfig =
        serde_json::from_slice(&bytes).map_err(|source| ImageError::Document { what: what(), source })?;
    let official = (host == "docker.io").then_some("https://index.docker.io/v1/");
    let names = [Some(host.to_owned()), Some(format!("https://{host}")), official.map(str::to_owned)];
    let kept = names.into_iter().flatten().find_map(|name| config.auths.get(&name)?.auth.clone());
    let Some(encoded) = kept.map(Zeroizing::new) else { return Ok(None) };
    let unreadable = || ImageError::Unfit(format!("the password for {host} in {} is none", what()));
    let decoded = Base64::parse(&encoded).map_err(|_| unreadable())?;
    let decoded = Zeroizing::new(String::from_utf8(decoded.0).map_err(|_| unreadable())?);
    let (user, password) = decoded.split_once(':').ok_or_else(unreadable)?;
    Ok(Some(Password { user: user.to_owned(), password: Zeroizing::new(password.to_owned()) }))
}

/// What a registry asks for with 401.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// The password itself.
    Basic,
    /// A token of this place.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Reads `WWW-Authenticate`.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut values = parameters(rest)?;
        Some(Self::Bearer {
            realm: values.remove("realm")?,
            service: values.remove("service"),
            scope: values.remove("scope"),
        })
    }
}

/// `name="value"`, separated by commas; a value may hold commas.
fn parameters(mut text: &str) -> Option<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if text.is_empty() {
            return Some(values);
        }
        let (name, rest) = text.split_once('=')?;
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        values.insert(name.trim().to_ascii_lowercase(), value.to_owned());
        text = rest;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn challenges_name_where_a_token_is_had() {
        let bearer = |scope: &str| Challenge::Bearer {
            realm: "https://auth.example/token".to_owned(),
            service: Some("registry.example".to_owned()),
            scope: (!scope.is_empty()).then(|| scope.to_owned()),
        };
        let header =
            r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#;
        assert_eq!(Challenge::parse(header), Some(bearer("repository:a/b:pull,push")));
        let header = r#"bearer realm="https://auth.example/token", service=registry.example"#;
        assert_eq!(Challenge::parse(header), Some(bearer("")));
        assert_eq!(Challenge::parse(r#"Basic realm="x""#), Some(Challenge::Basic));
    }

    #[test]
    fn challenges_of_another_kind_are_refused() {
        for header in ["", "Digest realm=\"x\"", "Bearer", "Bearer service=\"x\"", "Bearer realm=\"x", "Bearer realm"] {
            assert_eq!(Challenge::parse(header), None, "{header}");
        }
    }

    #[test]
    fn a_password_is_for_its_host_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        assert!(password(&path, "h.x").unwrap().is_none());
        std::fs::write(&path, r#"{"auths":{"h.x":{"auth":"dXNlcjpwYTpzcw=="},"i.x":{}},"credsStore":"x"}"#).unwrap();
        let found = password(&path, "h.x").unwrap().unwrap();
        assert_eq!((found.user.as_str(), found.password.as_str()), ("user", "pa:ss"));
        assert!(password(&path, "i.x").unwrap().is_none());
        assert!(password(&path, "h.x:5000").unwrap().is_none());
        assert_eq!(format!("{found:?}"), "Password(***)");
        for bad in ["", "{", r#"{"auths":{"h.x":{"auth":"!"}}}"#, r#"{"auths":{"h.x":{"auth":"dXNlcg=="}}}"#] {
            std::fs::write(&path, bad).unwrap();
            assert!(password(&path, "h.x").is_err(), "{bad}");
        }
    }
}
