//! Where a node is.

use crate::ClientError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The URL of a node: `https://HOST:PORT`, nothing else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeUrl(String);

impl NodeUrl {
    /// Parses; other schemes, user names, paths, queries and fragments are refused.
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        let refused = || ClientError::Url(text.escape_debug().to_string());
        let url = reqwest::Url::parse(text).map_err(|_| refused())?;
        let plain = url.scheme() == "https"
            && url.host_str().is_some_and(|h| !h.is_empty())
            && url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none();
        if plain { Ok(Self(url.as_str().trim_end_matches('/').to_owned())) } else { Err(refused()) }
    }

    /// The text, without a slash at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for NodeUrl {
    type Error = ClientError;
    fn try_from(text: String) -> Result<Self, ClientError> {
        Self::parse(&text)
    }
}

impl From<NodeUrl> for String {
    fn from(url: NodeUrl) -> Self {
        url.0
    }
}

impl std::str::FromStr for NodeUrl {
    type Err = ClientError;
    fn from_str(text: &str) -> Result<Self, ClientError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::NodeUrl;

    #[test]
    fn an_address_is_taken_with_and_without_slash() {
        assert_eq!(NodeUrl::parse("https://127.0.0.1:7443/").unwrap().as_str(), "https://127.0.0.1:7443");
        assert_eq!(NodeUrl::parse("https://node.example:7443").unwrap().as_str(), "https://node.example:7443");
    }

    #[test]
    fn plain_http_credentials_and_paths_are_refused() {
        for text in ["http://a:1", "https://u:p@a:1", "https://a:1/x", "https://a:1/?q", "https://a:1/#f", "a:1", ""] {
            assert!(NodeUrl::parse(text).is_err(), "{text}");
        }
    }
}
