//! The description of the API (OpenAPI 3.1), made from the code that answers.

use super::access::{Access, find_access};
use http::Method;
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
    let mut document = super::router::features().into_openapi();
    finish(&mut document);
    document
}

/// Adds what follows from the path and the access table, so that it cannot be forgotten: an id
/// for every operation, and who may call it.
pub(super) fn finish(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in [
            (Method::GET, &mut item.get),
            (Method::POST, &mut item.post),
            (Method::PUT, &mut item.put),
            (Method::PATCH, &mut item.patch),
            (Method::DELETE, &mut item.delete),
        ] {
            let Some(operation) = operation else { continue };
            let words: Vec<&str> = path
                .split(|c: char| !c.is_ascii_alphanumeric())
                .filter(|word| !word.is_empty())
                .collect();
            let method_word = method.as_str().to_ascii_lowercase();
            operation.operation_id = Some(format!("{method_word}_{}", words.join("_")));
            let who = match find_access(&method, path) {
                Some(Access::Role(role)) => format!("Needs the role {}.", role.as_str()),
                Some(Access::Agent) => "For agents, which prove who they are.".to_owned(),
                Some(Access::Ticket) => "Needs a ticket.".to_owned(),
                Some(Access::Public) => "For anybody.".to_owned(),
                None => continue,
            };
            if !matches!(find_access(&method, path), Some(Access::Role(_))) {
                operation.security = Some(vec![]);
            }
            let text = operation.description.take().unwrap_or_default();
            operation.description = Some(format!("{text}\n\n{who}").trim().to_owned());
        }
    }
}

/// Every method and path template in the document.
#[cfg(test)]
pub(super) fn list_routes(document: &OpenApi) -> Vec<(Method, String)> {
    let mut routes = Vec::new();
    for (path, item) in &document.paths.paths {
        for (method, operation) in [
            (Method::GET, &item.get),
            (Method::POST, &item.post),
            (Method::PUT, &item.put),
            (Method::PATCH, &item.patch),
            (Method::DELETE, &item.delete),
        ] {
            if operation.is_some() {
                routes.push((method, path.clone()));
            }
        }
    }
    routes
}
