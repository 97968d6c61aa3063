//! Machines and join tokens over HTTP. What needs the live sessions is in `fleet/routes.rs`.

use axum::extract::State;
use http::StatusCode;
use reeve_protocol::EnrolmentTokenId;
use reeve_protocol::enrol::{Register, Registered};
use reeve_sdk::api::{EnrolmentToken, EnrolmentTokenCreated, NewEnrolmentToken, Page, Problem};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::AppState;
use crate::config::Tls;
use crate::http::{ApiError, Json, Path, Query, install_line, page_limit};
use crate::users::Principal;

/// The routes of this feature.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_tokens, create_token))
        .routes(routes!(revoke_token))
        .route("/api/clients/register", axum::routing::post(register))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct TokenQuery {
    /// Where the last page ended.
    cursor: Option<String>,
    /// Items of a page, 1 to 1000; 100 when left out.
    limit: Option<u32>,
}

/// List join tokens
#[utoipa::path(get, path = "/api/enrolment-tokens", tag = "machines", params(TokenQuery),
    responses((status = 200, body = Page<EnrolmentToken>), (status = 403, body = Problem)))]
async fn list_tokens(
    State(state): State<AppState>,
    Query(query): Query<TokenQuery>,
) -> Result<axum::Json<Page<EnrolmentToken>>, ApiError> {
    let before = query.cursor.map(|text| parse_token_id(&text)).transpose()?;
    let limit = u32::try_from(page_limit(query.limit)?).unwrap_or(100);
    Ok(axum::Json(state.machines.list_tokens(before, limit).await?))
}

/// Make a join token
///
/// Its text is shown once.
#[utoipa::path(post, path = "/api/enrolment-tokens", tag = "machines",
    request_body = NewEnrolmentToken,
    responses((status = 201, body = EnrolmentTokenCreated), (status = 422, body = Problem)))]
async fn create_token(
    State(state): State<AppState>,
    principal: Principal,
    Json(new): Json<NewEnrolmentToken>,
) -> Result<(StatusCode, axum::Json<EnrolmentTokenCreated>), ApiError> {
    let (token, details) = state.machines.create_token(&principal, new, state.ca.pin()).await?;
    let url = state.url.as_str().trim_end_matches('/').to_owned();
    let install = install_line(&state);
    Ok((StatusCode::CREATED, axum::Json(EnrolmentTokenCreated { token, details, url, install })))
}

/// Revoke a join token
#[utoipa::path(delete, path = "/api/enrolment-tokens/{id}", tag = "machines",
    params(("id" = String, Path, description = "The token's id")),
    responses((status = 204), (status = 404, body = Problem)))]
async fn revoke_token(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.machines.revoke_token(&principal, parse_token_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Agents call it, not people, so it is in docs/protocol.md and not in the OpenAPI document.
async fn register(
    State(state): State<AppState>,
    Json(request): Json<Register>,
) -> Result<(StatusCode, axum::Json<Registered>), ApiError> {
    let tls_ends_here = state.config.tls != Tls::Off;
    let registered = state.machines.register(request, state.coordinator, tls_ends_here).await?;
    Ok((StatusCode::CREATED, axum::Json(registered)))
}

fn parse_token_id(text: &str) -> Result<EnrolmentTokenId, ApiError> {
    text.parse().map_err(|_| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "enrolment_token_not_found",
            format!(
                "'{}' is no join token's id; 'reeve tokens list' shows them",
                text.escape_debug()
            ),
        )
    })
}
