//! The coordinator's HTTP side: listening, middleware, and the routes that belong to no feature.

pub mod access;
mod error;
pub mod request_id;

pub use access::Access;
pub use error::ApiError;

/// What both ends of a TLS connection know and nobody between them does: RFC 9266
/// `tls-exporter`. In the extensions of every request that came over our own TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsExporter(pub [u8; 32]);

/// Where a request came from; behind declared proxies, where they say it came from. In the
/// extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub std::net::SocketAddr);
