//! The coordinator's HTTP side: listening, middleware, and the routes that belong to no feature.

pub mod access;
mod authenticate;
mod cookies;
mod downloads;
mod error;
mod extract;
mod layers;
mod openapi;
mod peer;
mod rate;
mod readiness;
pub mod request_id;
mod router;
mod routes;
mod server;
#[cfg(test)]
mod tests;

pub use access::Access;
pub use cookies::Cookies;
pub use downloads::install_line;
pub use error::ApiError;
pub use extract::{Json, Path, Query, page_limit};
pub use openapi::document;
pub use peer::{Peer, Scheme, TlsExporter};
pub use rate::RateLimits;
pub use readiness::Readiness;
pub use router::{metrics_router, router};
pub use routes::{CountSource, Counts};
pub use server::{Listening, Server};
