//! The OpenAPI 3.1 document, generated from the handlers.

use crate::handlers::{admin, jobs, log, node, offers};
use decores_api::jobs::Submission;
use decores_api::node::NodeStatement;
use std::sync::LazyLock;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "DeCores node",
        description = "Run a program on sealed data; get a sealed result and a receipt that anyone can check.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        node::healthz,
        node::openapi,
        node::node,
        node::status,
        node::metrics,
        offers::create,
        offers::plan,
        jobs::submit,
        jobs::list,
        jobs::show,
        jobs::cancel,
        jobs::result,
        jobs::delete_result,
        jobs::logs,
        jobs::receipt,
        log::checkpoint,
        log::tile,
        log::proof,
        log::entries,
        admin::keys,
        admin::alerts,
        admin::acknowledge,
        admin::mend,
        admin::api_keys,
        admin::create_api_key,
        admin::revoke_api_key,
    ),
    components(schemas(Submission, NodeStatement)),
    security(("apiKey" = [])),
    modifiers(&Bearer)
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("apiKey", scheme);
    }
}

/// Made once: anybody may ask for it, as often as they like.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    // Plain maps and strings always serialise; an empty document would fail the committed comparison.
    Document::openapi().to_pretty_json().unwrap_or_default()
});

/// The document as pretty-printed JSON.
pub fn document() -> &'static str {
    &DOCUMENT
}

#[cfg(test)]
mod tests {
    use super::document;

    #[test]
    fn the_committed_document_is_the_generated_one() {
        let committed = include_str!("../../../docs/openapi.json");
        assert_eq!(
            committed.trim_end(),
            document(),
            "run `cargo run -p decores-http --example openapi > docs/openapi.json`"
        );
    }
}
