//! Approvals over HTTP.

use axum::Extension;
use axum::extract::State;
use http::StatusCode;
use reeve_protocol::{ApprovalId, TaskId};
use reeve_sdk::api::{Approval, ApprovalState, Decide, Page, PolicyView, Problem, Withdraw};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::store::Filter;
use crate::AppState;
use crate::http::{ApiError, Json, Path, Peer, Query, page_limit};
use crate::users::Principal;

/// The routes of this feature.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(approve))
        .routes(routes!(reject))
        .routes(routes!(withdraw))
        .routes(routes!(policy))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ApprovalQuery {
    /// Where the last page ended.
    cursor: Option<String>,
    /// Items of a page, 1 to 1000; 100 when left out.
    limit: Option<u32>,
    /// Only approvals in this state.
    #[param(value_type = Option<String>)]
    state: Option<ApprovalState>,
    /// Only approvals of this task.
    #[param(value_type = Option<String>)]
    task: Option<TaskId>,
}

/// List approvals, newest first
///
/// Those that one has asked for oneself, and those whose machines are all within one's scope. Of
/// each, the first hundred machines.
#[utoipa::path(get, path = "/api/approvals", tag = "approvals", params(ApprovalQuery),
    responses((status = 200, body = Page<Approval>)))]
async fn list(
    State(state): State<AppState>,
    principal: Principal,
    Query(query): Query<ApprovalQuery>,
) -> Result<axum::Json<Page<Approval>>, ApiError> {
    let filter = Filter {
        before: query.cursor.map(|text| approval_id(&text)).transpose()?,
        state: query.state,
        task: query.task,
        limit: page_limit(query.limit)?,
        now_us: state.clock.micros(),
    };
    Ok(axum::Json(state.approvals.list(&principal, filter).await?))
}

/// One approval
#[utoipa::path(get, path = "/api/approvals/{id}", tag = "approvals",
    params(("id" = String, Path, description = "The approval's id")),
    responses((status = 200, body = Approval), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<axum::Json<Approval>, ApiError> {
    let row = state.approvals.find(&principal, approval_id(&id)?).await?;
    Ok(axum::Json(state.approvals.describe(&row).await?))
}

/// Say yes
///
/// To exactly what has the digest that is said back. A direct command starts with the last yes that
/// it needs: `job_id` in the answer.
#[utoipa::path(post, path = "/api/approvals/{id}/approve", tag = "approvals", request_body = Decide,
    params(("id" = String, Path, description = "The approval's id")),
    responses((status = 200, body = Approval), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 429, body = Problem)))]
async fn approve(
    State(state): State<AppState>,
    principal: Principal,
    Extension(Peer(peer)): Extension<Peer>,
    Path(id): Path<String>,
    Json(decide): Json<Decide>,
) -> Result<axum::Json<Approval>, ApiError> {
    if decide.password.is_some() {
        // As with logins: a password may not be guessed.
        state.rates.check_login(peer.ip())?;
    }
    let id = approval_id(&id)?;
    Ok(axum::Json(state.approvals.decide(&principal, id, true, decide).await?))
}

/// Say no
///
/// One no is enough.
#[utoipa::path(post, path = "/api/approvals/{id}/reject", tag = "approvals", request_body = Decide,
    params(("id" = String, Path, description = "The approval's id")),
    responses((status = 200, body = Approval), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn reject(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
    Json(decide): Json<Decide>,
) -> Result<axum::Json<Approval>, ApiError> {
    let id = approval_id(&id)?;
    Ok(axum::Json(state.approvals.decide(&principal, id, false, decide).await?))
}

/// Take back what one has asked for
#[utoipa::path(post, path = "/api/approvals/{id}/withdraw", tag = "approvals",
    request_body = Withdraw,
    params(("id" = String, Path, description = "The approval's id")),
    responses((status = 200, body = Approval), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn withdraw(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
    Json(request): Json<Withdraw>,
) -> Result<axum::Json<Approval>, ApiError> {
    let id = approval_id(&id)?;
    Ok(axum::Json(state.approvals.withdraw_as(&principal, id, &request.reason).await?))
}

/// What needs whose yes
///
/// The rules of the coordinator's settings. What none of them is about: steps of tasks that only
/// look run at once, others need one yes; direct commands run.
#[utoipa::path(get, path = "/api/policy", tag = "approvals",
    responses((status = 200, body = PolicyView)))]
async fn policy(State(state): State<AppState>) -> axum::Json<PolicyView> {
    axum::Json(state.approvals.show_policy())
}

fn approval_id(text: &str) -> Result<ApprovalId, ApiError> {
    text.parse().map_err(|_| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "approval_not_found",
            format!(
                "'{}' is no approval's id; 'reeve approvals list' shows them",
                text.escape_debug()
            ),
        )
    })
}
