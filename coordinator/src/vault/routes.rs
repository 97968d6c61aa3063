//! The vault over HTTP. No answer holds a secret.

use axum::Extension;
use axum::extract::State;
use http::StatusCode;
use reeve_sdk::api::{NewVaultEntry, Page, Problem, VaultEntry, VaultPassphrase, VaultStatus};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::AppState;
use crate::http::{ApiError, Json, Path, Peer};
use crate::users::Principal;

/// The routes of this feature.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(status))
        .routes(routes!(init))
        .routes(routes!(unlock))
        .routes(routes!(lock))
        .routes(routes!(list, add))
        .routes(routes!(remove))
}

/// How the vault is
#[utoipa::path(get, path = "/api/vault", tag = "vault",
    responses((status = 200, body = VaultStatus), (status = 401, body = Problem)))]
async fn status(State(state): State<AppState>) -> Result<axum::Json<VaultStatus>, ApiError> {
    Ok(axum::Json(state.vault.status().await?))
}

/// Make the vault
///
/// It is open afterwards. There is no way to a secret without the passphrase: keep it elsewhere too.
#[utoipa::path(post, path = "/api/vault/init", tag = "vault", request_body = VaultPassphrase,
    responses((status = 200, body = VaultStatus), (status = 401, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn init(
    State(state): State<AppState>,
    principal: Principal,
    Json(request): Json<VaultPassphrase>,
) -> Result<axum::Json<VaultStatus>, ApiError> {
    state.vault.init(&principal, request.passphrase).await?;
    Ok(axum::Json(state.vault.status().await?))
}

/// Open the vault
#[utoipa::path(post, path = "/api/vault/unlock", tag = "vault", request_body = VaultPassphrase,
    responses((status = 200, body = VaultStatus), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 409, body = Problem),
        (status = 429, body = Problem)))]
async fn unlock(
    State(state): State<AppState>,
    principal: Principal,
    Extension(Peer(peer)): Extension<Peer>,
    Json(request): Json<VaultPassphrase>,
) -> Result<axum::Json<VaultStatus>, ApiError> {
    // As with passwords: a passphrase may not be guessed.
    state.rates.check_login(peer.ip())?;
    state.vault.unlock(&principal, request.passphrase).await?;
    Ok(axum::Json(state.vault.status().await?))
}

/// Seal the vault
///
/// From now on no secret can be used.
#[utoipa::path(post, path = "/api/vault/lock", tag = "vault",
    responses((status = 200, body = VaultStatus), (status = 401, body = Problem)))]
async fn lock(
    State(state): State<AppState>,
    principal: Principal,
) -> Result<axum::Json<VaultStatus>, ApiError> {
    state.vault.lock(&principal).await?;
    Ok(axum::Json(state.vault.status().await?))
}

/// List entries
///
/// Without their secrets.
#[utoipa::path(get, path = "/api/vault/entries", tag = "vault",
    responses((status = 200, body = Page<VaultEntry>), (status = 401, body = Problem)))]
async fn list(State(state): State<AppState>) -> Result<axum::Json<Page<VaultEntry>>, ApiError> {
    Ok(axum::Json(Page { items: state.vault.list().await?, next: None }))
}

/// Put a secret in
///
/// In place of the one of the same name, if there is one.
#[utoipa::path(post, path = "/api/vault/entries", tag = "vault", request_body = NewVaultEntry,
    responses((status = 201, body = VaultEntry), (status = 401, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn add(
    State(state): State<AppState>,
    principal: Principal,
    Json(request): Json<NewVaultEntry>,
) -> Result<(StatusCode, axum::Json<VaultEntry>), ApiError> {
    let entry = state.vault.put(&principal, &request.name, &request.secret).await?;
    Ok((StatusCode::CREATED, axum::Json(entry)))
}

/// Take a secret out
#[utoipa::path(delete, path = "/api/vault/entries/{name}", tag = "vault",
    params(("name" = String, Path, description = "The entry's name")),
    responses((status = 204), (status = 401, body = Problem), (status = 404, body = Problem)))]
async fn remove(
    State(state): State<AppState>,
    principal: Principal,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.vault.remove(&principal, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
