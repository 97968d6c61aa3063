//! The description of the API (OpenAPI 3.1), made from the code that answers.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, Info, OpenApi, OpenApiBuilder, SecurityRequirement};

pub(super) fn head() -> OpenApi {
    let mut info = Info::new("Reeve", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Reeve runs your Linux machines for you. Errors are problems (RFC 9457) with a stable \
         `code`; lists are cursor pages; times are RFC 3339 in UTC."
            .to_owned(),
    );
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("rv_…").build();
    OpenApiBuilder::new()
        .info(info)
        .components(Some(
            ComponentsBuilder::new().security_scheme("token", SecurityScheme::Http(bearer)).build(),
        ))
        .security(Some([SecurityRequirement::new("token", Vec::<String>::new())]))
        .build()
}

/// The document as it is served.
#[must_use]
pub fn document() -> OpenApi {
    super::router::features().into_openapi()
}

/// Every method and path template in the document.
#[cfg(test)]
pub(super) fn list_routes(document: &OpenApi) -> Vec<(http::Method, String)> {
    let mut routes = Vec::new();
    for (path, item) in &document.paths.paths {
        for (method, operation) in [
            (http::Method::GET, &item.get),
            (http::Method::POST, &item.post),
            (http::Method::PUT, &item.put),
            (http::Method::PATCH, &item.patch),
            (http::Method::DELETE, &item.delete),
        ] {
            if operation.is_some() {
                routes.push((method, path.clone()));
            }
        }
    }
    routes
}
