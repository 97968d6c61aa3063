//! Reading the audit log.

use axum::extract::State;
use http::StatusCode;
use reeve_sdk::api::{AuditEntry, AuditVerdict, Page, Problem};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Filter, store};
use crate::AppState;
use crate::http::{ApiError, Query, page_limit};

/// Routes of this feature.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(verify))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    /// The `next` of the page before.
    cursor: Option<String>,
    /// At most so many; 100 when left out, at most 1000.
    limit: Option<u32>,
    /// Only this action; one that ends in `.` stands for all that begin so.
    action: Option<String>,
    /// Only by this principal, such as `user:ada`.
    principal: Option<String>,
}

/// Who did what, the newest first
#[utoipa::path(get, path = "/api/audit", tag = "audit", params(AuditQuery),
    responses((status = 200, body = Page<AuditEntry>), (status = 403, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    Query(query): Query<AuditQuery>,
) -> Result<axum::Json<Page<AuditEntry>>, ApiError> {
    let before = query.cursor.as_deref().map(str::parse).transpose().map_err(|_| {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "invalid_query",
            "cursor is not one this list gave out",
        )
    })?;
    let filter = Filter {
        before,
        limit: page_limit(query.limit)?,
        action: query.action,
        principal: query.principal,
    };
    let mut conn = state.db.reader().await?;
    Ok(axum::Json(store::list(&mut conn, &filter).await?))
}

/// Is the chain whole?
#[utoipa::path(get, path = "/api/audit/verify", tag = "audit",
    responses((status = 200, body = AuditVerdict), (status = 403, body = Problem)))]
async fn verify(State(state): State<AppState>) -> Result<axum::Json<AuditVerdict>, ApiError> {
    let mut conn = state.db.reader().await?;
    Ok(axum::Json(store::verify(&mut conn).await?))
}
