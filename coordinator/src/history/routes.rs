//! `GET /api/machines/{machine}/metrics`.

use axum::extract::State;
use http::StatusCode;
use reeve_sdk::api::{History as Answer, Problem, Resolution, Time};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::range::{InvalidRange, Range};
use crate::AppState;
use crate::http::{ApiError, Path, Query};
use crate::users::Principal;

/// Routes of this feature.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(show))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    /// From when (RFC 3339); left out: an hour before `to`.
    #[param(value_type = Option<String>)]
    from: Option<Time>,
    /// Until when (RFC 3339); left out: now.
    #[param(value_type = Option<String>)]
    to: Option<Time>,
    /// `5s` (kept for an hour), `1m` (for a day), `15m` (for 30 days), or `auto`: the finest that
    /// reaches back far enough and gives at most 1500 points.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    resolution: Resolution,
    /// Only these, with commas between: cpu, cpu_user, cpu_system, cpu_iowait, cpu_steal, load, memory,
    /// swap, disk, disk_read, disk_write, network_in, network_out, pressure_cpu, pressure_memory,
    /// pressure_io.
    series: Option<String>,
}

impl From<InvalidRange> for ApiError {
    fn from(error: InvalidRange) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_query", error.to_string())
    }
}

/// What a machine did
///
/// Points as columns: `times` holds the beginning of each, seconds since 1970, and every series as many
/// values, `null` where nothing is known. Bytes, bytes per second, percent of all processors, and
/// processes (load). `disk` is what is used of the root file system; loopback does not count as
/// network.
#[utoipa::path(get, path = "/api/machines/{machine}/metrics", tag = "machines",
    params(("machine" = String, Path, description = "Name or id"), HistoryQuery),
    responses((status = 200, body = Answer), (status = 400, body = Problem),
        (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    principal: Principal,
    Path(machine): Path<String>,
    Query(query): Query<HistoryQuery>,
) -> Result<axum::Json<Answer>, ApiError> {
    let known = state.machines.find(&principal, &machine)?;
    let HistoryQuery { from, to, resolution, series } = query;
    let now = state.clock.now();
    let range = Range::choose(from, to, resolution, series.as_deref(), now)?;
    Ok(axum::Json(state.histories.read(known.id, range).await?))
}
