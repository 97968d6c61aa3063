//! Providers, roles and usage over HTTP.

use axum::extract::State;
use http::StatusCode;
use reeve_sdk::api::{
    ModelRole, ModelTest, ModelTestRequest, Models, Problem, Provider, ProviderSettings,
    RoleModels, Time, Usage,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::store::By;
use crate::AppState;
use crate::http::{ApiError, Json, Path, Query};
use crate::users::Principal;

/// The routes of this feature.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(put, remove))
        .routes(routes!(test))
        .routes(routes!(set_role))
        .routes(routes!(usage))
}

/// Providers, and the models each role asks
#[utoipa::path(get, path = "/api/models", tag = "models",
    responses((status = 200, body = Models), (status = 401, body = Problem)))]
async fn list(State(state): State<AppState>) -> axum::Json<Models> {
    axum::Json(state.models.describe().await)
}

/// Add a provider, or change the one of the same name
#[utoipa::path(put, path = "/api/models/{name}", tag = "models", request_body = ProviderSettings,
    params(("name" = String, Path, description = "The provider's name")),
    responses((status = 200, body = Provider), (status = 201, body = Provider),
        (status = 401, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
async fn put(
    State(state): State<AppState>,
    principal: Principal,
    Path(name): Path<String>,
    Json(settings): Json<ProviderSettings>,
) -> Result<(StatusCode, axum::Json<Provider>), ApiError> {
    if settings.name != name {
        return Err(ApiError::invalid("the name in the path and the one in the body differ"));
    }
    let (provider, is_new) = state.models.put(&principal, settings).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, axum::Json(provider)))
}

/// Remove a provider
#[utoipa::path(delete, path = "/api/models/{name}", tag = "models",
    params(("name" = String, Path, description = "The provider's name")),
    responses((status = 204), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
async fn remove(
    State(state): State<AppState>,
    principal: Principal,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.models.remove(&principal, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ask a model for a sign of life
///
/// It costs a few tokens. What is wrong, and how to mend it, is in the answer.
#[utoipa::path(post, path = "/api/models/{name}/test", tag = "models",
    request_body = ModelTestRequest,
    params(("name" = String, Path, description = "The provider's name")),
    responses((status = 200, body = ModelTest), (status = 401, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn test(
    State(state): State<AppState>,
    principal: Principal,
    Path(name): Path<String>,
    Json(request): Json<ModelTestRequest>,
) -> Result<axum::Json<ModelTest>, ApiError> {
    Ok(axum::Json(state.models.test(&principal, &name, request.model.as_deref()).await?))
}

/// Say which models a role asks, in order
///
/// An empty list is the default again.
#[utoipa::path(put, path = "/api/models/roles/{role}", tag = "models", request_body = RoleModels,
    params(("role" = String, Path, description = "planner, validator, analyst or summariser")),
    responses((status = 200, body = Models), (status = 401, body = Problem),
        (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn set_role(
    State(state): State<AppState>,
    principal: Principal,
    Path(role): Path<String>,
    Json(request): Json<RoleModels>,
) -> Result<axum::Json<Models>, ApiError> {
    let role = ModelRole::ALL.into_iter().find(|each| each.as_str() == role).ok_or_else(|| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "role_not_found",
            format!(
                "there is no role '{}'; there are planner, validator, analyst and summariser",
                role.escape_debug()
            ),
        )
    })?;
    state.models.set_role(&principal, role, &request.models).await?;
    Ok(axum::Json(state.models.describe().await))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct UsageQuery {
    /// From this instant on; 30 days before `to` when left out.
    #[param(value_type = Option<String>)]
    from: Option<Time>,
    /// Up to this instant; now when left out.
    #[param(value_type = Option<String>)]
    to: Option<Time>,
    /// `provider`, `model`, `role`, `user`, `task` or `day`; `model` when left out.
    #[param(value_type = Option<String>)]
    by: Option<By>,
}

/// What models used and cost
#[utoipa::path(get, path = "/api/usage", tag = "models", params(UsageQuery),
    responses((status = 200, body = Usage), (status = 401, body = Problem),
        (status = 422, body = Problem)))]
async fn usage(
    State(state): State<AppState>,
    Query(query): Query<UsageQuery>,
) -> Result<axum::Json<Usage>, ApiError> {
    let by = query.by.unwrap_or(By::Model);
    Ok(axum::Json(state.models.usage(query.from, query.to, by).await?))
}
