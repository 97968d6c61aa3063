//! Routes that belong to no feature: health, metrics, who we are and how we are.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use futures_util::future::BoxFuture;
use http::header;
use reeve_sdk::api::{Info, MachineCounts, Problem, Status, Time};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiError;
use crate::AppState;
use crate::db::DbError;
use crate::operations::WriterHealth;
use crate::users::{Principal, Scope};

/// How long `/readyz` waits for the database: a load balancer asks again soon.
const READY_WAIT: Duration = Duration::from_secs(2);

/// What there is and what goes on, as far as a scope reaches.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Counts {
    pub machines: MachineCounts,
    pub jobs_running: u32,
    pub operations_running: u32,
    pub output_bytes: u64,
}

/// Counts, by those who know.
pub type CountSource =
    Arc<dyn Fn(Scope) -> BoxFuture<'static, Result<Counts, DbError>> + Send + Sync>;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(metrics))
        .routes(routes!(info))
        .routes(routes!(status))
}

/// Is the process alive?
#[utoipa::path(get, path = "/healthz", tag = "coordinator",
    responses((status = 200, body = String)))]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Does it take new work?
#[utoipa::path(get, path = "/readyz", tag = "coordinator",
    responses((status = 200, body = String), (status = 503, body = Problem)))]
async fn readyz(State(state): State<AppState>) -> Result<&'static str, ApiError> {
    state.readiness.check()?;
    state.operations.check_ready()?;
    match tokio::time::timeout(READY_WAIT, state.db.ping()).await {
        Ok(answer) => answer?,
        Err(_) => {
            return Err(ApiError::new(
                http::StatusCode::SERVICE_UNAVAILABLE,
                "database_down",
                "the database does not answer",
            )
            .retry_after(Duration::from_secs(5)));
        }
    }
    Ok("ready\n")
}

/// Metrics for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "coordinator",
    responses((status = 200, body = String), (status = 401, body = Problem)))]
async fn metrics() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], crate::telemetry::render_metrics())
}

/// What anybody may know
#[utoipa::path(get, path = "/api/info", tag = "coordinator",
    responses((status = 200, body = Info)))]
async fn info(State(state): State<AppState>) -> Result<axum::Json<Info>, ApiError> {
    Ok(axum::Json(Info {
        product: "reeve".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        coordinator_id: state.coordinator,
        setup_needed: state.users.setup_needed().await?,
    }))
}

fn readiness(state: &AppState) -> &'static str {
    match state.operations.health() {
        _ if state.readiness.check().is_err() => state.readiness.as_str(),
        WriterHealth::Good => state.readiness.as_str(),
        WriterHealth::DatabaseDown => "database_down",
        WriterHealth::DiskFull => "disk_full",
    }
}

/// How it is
#[utoipa::path(get, path = "/api/status", tag = "coordinator",
    responses((status = 200, body = Status), (status = 401, body = Problem)))]
async fn status(
    State(state): State<AppState>,
    principal: Principal,
) -> Result<axum::Json<Status>, ApiError> {
    let counts = (state.counts)(principal.scope).await?;
    Ok(axum::Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        coordinator_id: state.coordinator,
        started: Time::from_micros(state.started),
        database: state.db.kind().to_owned(),
        readiness: readiness(&state).to_owned(),
        machines: counts.machines,
        jobs_running: counts.jobs_running,
        operations_running: counts.operations_running,
        output_bytes: counts.output_bytes,
        vault: Some(state.vault.status().await?),
        providers: state.models.describe().await.providers,
        models_today: state.models.usage_today().await?,
    }))
}
