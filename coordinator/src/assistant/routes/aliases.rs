//! Names from before: `/api/tasks/list` and `/api/tasks/status/{id}` answer as `/api/tasks` and
//! `/api/tasks/{id}` do.

use axum::extract::State;
use reeve_sdk::api::{Page, Problem, Task};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::TaskQuery;
use crate::AppState;
use crate::http::{ApiError, Path, Query};
use crate::users::Principal;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(status))
}

/// As `GET /api/tasks`
#[utoipa::path(get, path = "/api/tasks/list", tag = "tasks", params(TaskQuery),
    responses((status = 200, body = Page<Task>)))]
async fn list(
    state: State<AppState>,
    principal: Principal,
    query: Query<TaskQuery>,
) -> Result<axum::Json<Page<Task>>, ApiError> {
    super::list_tasks(state, principal, query).await
}

/// As `GET /api/tasks/{id}`
#[utoipa::path(get, path = "/api/tasks/status/{id}", tag = "tasks",
    params(("id" = String, Path, description = "The task's id")),
    responses((status = 200, body = Task), (status = 404, body = Problem)))]
async fn status(
    state: State<AppState>,
    principal: Principal,
    id: Path<String>,
) -> Result<axum::Json<Task>, ApiError> {
    super::show_task(state, principal, id).await
}
