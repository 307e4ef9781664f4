//! What travels between a node and its clients: paths, documents, headers, limits.
//!
//! Wire types are separate from the domains' own and converted by hand, so that a change inside the
//! node is never a change of the API by accident. The OpenAPI document is generated from here and from
//! `node/http`, and committed as `docs/openapi.json`.

pub mod admin;
pub mod headers;
pub mod jobs;
pub mod log;
pub mod node;
pub mod offers;
pub mod paths;
pub mod problem;

pub use problem::{Code, Problem};

/// A page of a listing.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Page<T> {
    /// The items, newest first.
    pub items: Vec<T>,
    /// Pass it as `cursor` to get the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}
