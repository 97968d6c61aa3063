//! Why an operation hangs, over HTTP.

use axum::extract::State;
use reeve_sdk::api::{Explained, Problem};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::AppState;
use crate::http::{ApiError, Path};
use crate::users::Principal;

/// The routes about what hangs.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(explain_operation))
}

/// Say what a running command waits for
///
/// Submits a job of its own, `explain_operation` on the operation's machine, waits for it, and
/// answers with what fixed rules make of it. Changes nothing on the machine.
#[utoipa::path(post, path = "/api/operations/{id}/explain", tag = "operations",
    params(("id" = String, Path, description = "The operation's id")),
    responses((status = 200, body = Explained), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 504, body = Problem)))]
async fn explain_operation(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<axum::Json<Explained>, ApiError> {
    let id = super::operation_id(&id)?;
    let (machine, findings) = state.operations.explain(&principal, id).await?;
    let diagnosis = reeve_stages::stall::diagnose(&findings);
    let confident = diagnosis.confident;
    let stall = diagnosis.into_stall(&findings, id, &machine);
    Ok(axum::Json(Explained { stall, confident, findings }))
}
