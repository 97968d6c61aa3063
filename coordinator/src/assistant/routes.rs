//! Tasks over HTTP.

mod aliases;
mod events;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use reeve_protocol::TaskId;
use reeve_sdk::api::{
    CancelRequest, ModelCall, Page, Problem, Task, TaskAnswer, TaskDecision, TaskRequest, TaskState,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::store::TaskFilter;
use crate::AppState;
use crate::http::{ApiError, Json, Path, Query, page_limit};
use crate::users::Principal;

/// The routes of this feature.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_tasks, create_task))
        .routes(routes!(show_task))
        .routes(routes!(approve_task))
        .routes(routes!(reject_task))
        .routes(routes!(cancel_task))
        .routes(routes!(answer_task))
        .routes(routes!(list_calls))
        .merge(events::routes())
        .merge(aliases::routes())
}

/// Ask in words
///
/// When this answers, the task is durable and under way. What cannot be done is a task too, `failed`
/// or `needs_answer`, with a `reason`. With `Idempotency-Key` it can be asked again without being
/// done twice.
#[utoipa::path(post, path = "/api/tasks", tag = "tasks", request_body = TaskRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes asking again safe")),
    responses((status = 201, body = Task), (status = 200, body = Task, description = "Asked before"),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
async fn create_task(
    State(state): State<AppState>,
    principal: Principal,
    headers: HeaderMap,
    Json(request): Json<TaskRequest>,
) -> Result<Response, ApiError> {
    let key = headers
        .get("idempotency-key")
        .map(|key| key.to_str().map(str::to_owned))
        .transpose()
        .map_err(|_| ApiError::invalid("the Idempotency-Key is no visible ASCII text"))?;
    let created = state.assistant.create(&principal, request, key).await?;
    let status = if created.existed { StatusCode::OK } else { StatusCode::CREATED };
    let place = format!("/api/tasks/{}", created.task.id);
    Ok((status, [(header::LOCATION, place)], axum::Json(created.task)).into_response())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct TaskQuery {
    /// Where the last page ended.
    cursor: Option<String>,
    /// Items of a page, 1 to 1000; 100 when left out.
    limit: Option<u32>,
    /// Only tasks in this state.
    #[param(value_type = Option<String>)]
    state: Option<TaskState>,
}

/// List tasks, newest first
///
/// Without their steps: `GET /api/tasks/{id}` has them.
#[utoipa::path(get, path = "/api/tasks", tag = "tasks", params(TaskQuery),
    responses((status = 200, body = Page<Task>)))]
async fn list_tasks(
    State(state): State<AppState>,
    principal: Principal,
    Query(query): Query<TaskQuery>,
) -> Result<axum::Json<Page<Task>>, ApiError> {
    let filter = TaskFilter {
        before: query.cursor.map(|text| task_id(&text)).transpose()?,
        limit: page_limit(query.limit)?,
        state: query.state,
    };
    Ok(axum::Json(state.assistant.list(&principal, filter).await?))
}

/// One task
#[utoipa::path(get, path = "/api/tasks/{id}", tag = "tasks",
    params(("id" = String, Path, description = "The task's id")),
    responses((status = 200, body = Task), (status = 404, body = Problem)))]
async fn show_task(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<axum::Json<Task>, ApiError> {
    let id = task_id(&id)?;
    state.assistant.find(&principal, id).await?;
    Ok(axum::Json(state.assistant.describe(id).await?))
}

/// Say yes to what a task waits for
///
/// Each approval is named with the digest that was shown: a yes to something else is refused.
#[utoipa::path(post, path = "/api/tasks/{id}/approve", tag = "tasks", request_body = TaskDecision,
    params(("id" = String, Path, description = "The task's id")),
    responses((status = 200, body = Task), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn approve_task(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
    Json(decision): Json<TaskDecision>,
) -> Result<axum::Json<Task>, ApiError> {
    Ok(axum::Json(state.assistant.decide(&principal, task_id(&id)?, true, decision).await?))
}

/// Say no to what a task waits for
#[utoipa::path(post, path = "/api/tasks/{id}/reject", tag = "tasks", request_body = TaskDecision,
    params(("id" = String, Path, description = "The task's id")),
    responses((status = 200, body = Task), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn reject_task(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
    Json(decision): Json<TaskDecision>,
) -> Result<axum::Json<Task>, ApiError> {
    Ok(axum::Json(state.assistant.decide(&principal, task_id(&id)?, false, decision).await?))
}

/// Cancel a task
///
/// Its jobs are cancelled, and what it waits for is withdrawn.
#[utoipa::path(post, path = "/api/tasks/{id}/cancel", tag = "tasks", request_body = CancelRequest,
    params(("id" = String, Path, description = "The task's id")),
    responses((status = 202, body = Task), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
async fn cancel_task(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
    Json(request): Json<CancelRequest>,
) -> Result<(StatusCode, axum::Json<Task>), ApiError> {
    let task = state.assistant.cancel(&principal, task_id(&id)?, &request.reason).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(task)))
}

/// Answer a task that needs it
///
/// The answer is added to the request, and a new plan is made.
#[utoipa::path(post, path = "/api/tasks/{id}/answer", tag = "tasks", request_body = TaskAnswer,
    params(("id" = String, Path, description = "The task's id")),
    responses((status = 202, body = Task), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
async fn answer_task(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
    Json(answer): Json<TaskAnswer>,
) -> Result<(StatusCode, axum::Json<Task>), ApiError> {
    let task = state.assistant.answer(&principal, task_id(&id)?, answer).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(task)))
}

/// What models were asked for a task, and what they answered
///
/// For its asker, and for admins.
#[utoipa::path(get, path = "/api/tasks/{id}/calls", tag = "tasks",
    params(("id" = String, Path, description = "The task's id")),
    responses((status = 200, body = Vec<ModelCall>), (status = 403, body = Problem),
        (status = 404, body = Problem)))]
async fn list_calls(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<axum::Json<Vec<ModelCall>>, ApiError> {
    let calls = state.assistant.calls(&principal, task_id(&id)?).await?;
    Ok(axum::Json(calls.into_iter().map(super::store::Call::into_api).collect()))
}

fn task_id(text: &str) -> Result<TaskId, ApiError> {
    text.parse().map_err(|_| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "task_not_found",
            format!("'{}' is no task's id; 'reeve tasks list' shows them", text.escape_debug()),
        )
    })
}
