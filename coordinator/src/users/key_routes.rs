//! API keys, for programs.

use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use reeve_protocol::ApiKeyId;
use reeve_protocol::token::Token;
use reeve_sdk::api::{ApiKey, ApiKeyCreated, NewApiKey, Page, Problem, Role};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth_routes::{invalid_name, name_taken};
use super::{Principal, Via, hash_secret, store};
use crate::AppState;
use crate::audit::{self, Entry};
use crate::db::OnConstraint;
use crate::http::{ApiError, Json, Path, Query, page_limit};
use crate::selector::{self, Selector};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// The `next` of the page before.
    cursor: Option<String>,
    /// At most so many; 100 when left out, at most 1000.
    limit: Option<u32>,
}

impl PageQuery {
    pub fn cursor(&self) -> &str {
        self.cursor.as_deref().unwrap_or_default()
    }

    pub fn limit(&self) -> Result<i64, ApiError> {
        page_limit(self.limit)
    }
}

/// List keys and sessions
///
/// One's own; an admin sees everybody's.
#[utoipa::path(get, path = "/api/auth/keys", tag = "auth", params(PageQuery),
    responses((status = 200, body = Page<ApiKey>), (status = 401, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    principal: Principal,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<ApiKey>>, ApiError> {
    let of = (principal.role < Role::Admin).then_some(principal.user);
    let mut conn = state.db.reader().await?;
    Ok(axum::Json(store::list_keys(&mut conn, of, query.cursor(), query.limit()?).await?))
}

/// Make a key
///
/// Its secret is shown once.
#[utoipa::path(post, path = "/api/auth/keys", tag = "auth", request_body = NewApiKey,
    responses((status = 201, body = ApiKeyCreated), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
async fn create(
    State(state): State<AppState>,
    principal: Principal,
    Json(request): Json<NewApiKey>,
) -> Result<(StatusCode, axum::Json<ApiKeyCreated>), ApiError> {
    if !selector::is_name(&request.name) {
        return Err(invalid_name());
    }
    // A key that could make keys could make one that outlives or outranks it.
    if principal.via != Via::Session {
        return Err(ApiError::forbidden("a key cannot make keys; log in with a password"));
    }
    if request.role.is_some_and(|role| role > principal.role) {
        return Err(ApiError::forbidden(format!(
            "a key may do at most what its owner may, who is {}",
            principal.role.as_str()
        )));
    }
    let scope =
        request.scope.as_deref().map(str::parse::<Selector>).transpose().map_err(|error| {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_scope", error.to_string())
        })?;
    if request.expires_in_ms == Some(0) {
        return Err(ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_expiry",
            "expires_in_ms has to be at least 1; leave it out for a key that does not expire",
        ));
    }
    let mut secret = [0_u8; 32];
    rand::fill(&mut secret);
    let id = ApiKeyId::new();
    let key = store::NewKey {
        id,
        kind: "key",
        name: &request.name,
        user: principal.user,
        role: request.role,
        scope: scope.as_ref(),
        hash: hash_secret(&secret),
        created: state.clock.micros(),
        expires: request
            .expires_in_ms
            .map(|ms| state.clock.micros_after(Duration::from_millis(ms))),
    };
    let mut tx = state.db.begin().await?;
    store::add_key(&mut tx, &key)
        .await
        .on_constraint("api_keys.name", || name_taken(&request.name))?;
    let details = store::find_key(&mut tx, id)
        .await?
        .ok_or_else(|| ApiError::internal("a key just added is not there"))?
        .shown();
    let entry = Entry {
        principal: &principal.name,
        action: "key.create",
        target: &format!("key:{}", request.name),
        detail: json!({ "role": details.role, "scope": details.scope, "expires": details.expires }),
    };
    audit::record(&mut tx, &entry).await?;
    tx.commit().await?;
    let token = Token { kind: "key".to_owned(), id: id.0, secret, pin: None }.to_text();
    Ok((StatusCode::CREATED, axum::Json(ApiKeyCreated { token, details })))
}

/// Revoke a key or end a session
///
/// One's own; an admin anybody's.
#[utoipa::path(delete, path = "/api/auth/keys/{id}", tag = "auth",
    params(("id" = String, Path, description = "The key's id")),
    responses((status = 204), (status = 401, body = Problem), (status = 404, body = Problem)))]
async fn revoke(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<ApiKeyId>,
) -> Result<StatusCode, ApiError> {
    let mut tx = state.db.begin().await?;
    let key = store::find_key(&mut tx, id)
        .await?
        .filter(|key| key.user == principal.user || principal.role == Role::Admin)
        .ok_or_else(|| {
            ApiError::new(
                StatusCode::NOT_FOUND,
                "key_not_found",
                format!("there is no key {id}; 'reeve keys list' shows them"),
            )
        })?;
    store::remove_key(&mut tx, id).await?;
    let entry = Entry {
        principal: &principal.name,
        action: "key.revoke",
        target: &format!("key:{}", key.name),
        detail: json!({ "id": id, "kind": key.kind, "user": key.user_name }),
    };
    audit::record(&mut tx, &entry).await?;
    tx.commit().await?;
    state.users.announce_change();
    Ok(StatusCode::NO_CONTENT)
}
