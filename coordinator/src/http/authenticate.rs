//! The guard before every route: asks the table, finds out who is asking, counts.

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, Method, header};

use super::access::{Access, find_access};
use super::{ApiError, Cookies, Peer, Scheme};
use crate::AppState;
use crate::users::Principal;

/// Routes whose requests are not counted against the principal: stdin comes in thousands of pieces,
/// and the machine's window already bounds how many are under way.
const UNCOUNTED: &[&str] = &["/api/operations/{id}/input"];

/// Runs for every route that exists. Nothing gets past it that the table does not let in.
pub(super) async fn guard(
    State(state): State<AppState>,
    path: MatchedPath,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Some(access) = find_access(request.method(), path.as_str()) else {
        tracing::error!(method = %request.method(), path = path.as_str(), "route without access rule");
        return Err(ApiError::forbidden("nobody may call this"));
    };
    let scheme = request.extensions().get::<Scheme>().copied().unwrap_or(Scheme::Http);
    let cookies = Cookies::read(request.headers(), request.uri(), scheme);
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let acts = !is_safe || request.headers().contains_key(header::UPGRADE);
    match access {
        Access::Public | Access::Agent => {
            // What costs us something without a principal: passwords, codes, tokens.
            if !is_safe && let Some(Peer(peer)) = request.extensions().get::<Peer>() {
                match access {
                    Access::Agent => state.rates.check_enrolment(peer.ip())?,
                    _ => state.rates.check_login(peer.ip())?,
                }
            }
        }
        Access::Ticket => cookies.check_origin_if_said(&state)?,
        Access::Role(role) => {
            let principal = identify(&state, request.headers(), &cookies, acts).await?;
            if !UNCOUNTED.contains(&path.as_str()) {
                state.rates.check_principal(principal.key)?;
            }
            principal.require(role)?;
            tracing::Span::current().record("principal", &*principal.name);
            request.extensions_mut().insert(principal);
        }
    }
    Ok(next.run(request).await)
}

async fn identify(
    state: &AppState,
    headers: &HeaderMap,
    cookies: &Cookies,
    acts: bool,
) -> Result<Principal, ApiError> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(|| {
                ApiError::unauthenticated("the only way to authorise is 'Bearer <token>'")
            })?;
        return state.users.authenticate(token).await;
    }
    let Some(session) = cookies.session() else {
        return Err(ApiError::unauthenticated(
            "log in first: send 'Authorization: Bearer <token>'; 'reeve login' gets one",
        ));
    };
    // A browser sends the cookie whoever asks it to.
    if acts {
        cookies.check_origin(state)?;
    }
    let principal = state.users.authenticate(session).await?;
    Ok(principal)
}
