//! Where a request came from.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;

use crate::AppState;

/// What both ends of a TLS connection know and nobody between them does: RFC 9266
/// `tls-exporter`. In the extensions of every request that came over our own TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsExporter(pub [u8; 32]);

/// Who sent a request; behind declared proxies, who they say sent it. In the extensions of every
/// request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// How a request came: over our own TLS, or that of a declared proxy. In the extensions of every
/// request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Scheme {
    Http,
    Https,
}

/// Replaces the proxy's address by that of its client.
pub(super) async fn find_peer(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let trusted = &state.config.trusted_proxies;
    if let Some(Peer(direct)) = request.extensions().get::<Peer>().copied()
        && trusted.contains(&direct.ip())
    {
        if let Some(client) = forwarded_for(request.headers(), trusted) {
            request.extensions_mut().insert(Peer(SocketAddr::new(client, direct.port())));
        }
        if request.headers().get("x-forwarded-proto").is_some_and(|proto| proto == "https") {
            request.extensions_mut().insert(Scheme::Https);
        }
    }
    next.run(request).await
}

/// The last address that no trusted proxy has: what stands before it anybody can make up.
fn forwarded_for(headers: &HeaderMap, trusted: &[IpAddr]) -> Option<IpAddr> {
    let mut hops = Vec::new();
    for value in headers.get_all("x-forwarded-for") {
        hops.extend(value.to_str().ok()?.split(',').map(|hop| hop.trim().to_owned()));
    }
    for hop in hops.iter().rev() {
        let address: IpAddr = hop.parse().ok()?;
        if !trusted.contains(&address) {
            return Some(address);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hops_that_proxies_wrote_are_believed() {
        let trusted: Vec<IpAddr> =
            vec!["10.0.0.1".parse().expect("ip"), "10.0.0.2".parse().expect("ip")];
        for (header, expected) in [
            ("1.2.3.4", Some("1.2.3.4")),
            ("6.6.6.6, 1.2.3.4", Some("1.2.3.4")),
            ("6.6.6.6, 1.2.3.4, 10.0.0.2", Some("1.2.3.4")),
            ("10.0.0.2", None),
            ("6.6.6.6, junk", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", header.parse().expect("a header"));
            let found = forwarded_for(&headers, &trusted).map(|ip| ip.to_string());
            assert_eq!(found.as_deref(), expected, "{header}");
        }
    }
}
