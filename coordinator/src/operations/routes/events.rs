//! What happens to jobs and operations, as server-sent events (HTML standard, section 9.2).
//!
//! An event says how an operation is now, not what changed, so a client that reconnects is right
//! again with the first event per operation. An event's id is the time of the operation's last
//! change, µs; with `Last-Event-ID` only operations that changed since then are sent first. Many
//! share a time, and of two that change at once the later may be told first, so some come again.

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use http::HeaderMap;
use reeve_protocol::{JobId, OperationId};
use reeve_sdk::api::{Operation, Problem};
use tokio::sync::{broadcast, mpsc};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Operations;
use super::{job_id, operation_id};
use crate::AppState;
use crate::events::Change;
use crate::http::{ApiError, Path};
use crate::users::Principal;

/// Events waiting for a viewer.
const QUEUE: usize = 64;

/// Longer than between the time a commit gives its changes and the moment they are told, µs.
const OVERLAP_US: i64 = 30_000_000;

/// Operations read from the database at once.
const PAGE: i64 = 500;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(job_events)).routes(routes!(operation_events))
}

/// Events of a job
///
/// `operation`: an operation as it is now; `output`: more of its output is durable; `job`: the job
/// has ended, nothing follows.
#[utoipa::path(get, path = "/api/jobs/{id}/events", tag = "jobs",
    params(("id" = String, Path, description = "The job's id"),
        ("Last-Event-ID" = Option<i64>, Header, description = "The last event seen")),
    responses((status = 200, body = String, content_type = "text/event-stream"),
        (status = 404, body = Problem)))]
async fn job_events(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let id = job_id(&id)?;
    state.operations.find_job(&principal, id).await?;
    Ok(watch(&state, principal, id, None, last_seen(&headers)))
}

/// Events of an operation
///
/// As those of its job, without the others.
#[utoipa::path(get, path = "/api/operations/{id}/events", tag = "operations",
    params(("id" = String, Path, description = "The operation's id"),
        ("Last-Event-ID" = Option<i64>, Header, description = "The last event seen")),
    responses((status = 200, body = String, content_type = "text/event-stream"),
        (status = 404, body = Problem)))]
async fn operation_events(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let row = state.operations.find(&principal, operation_id(&id)?).await?;
    Ok(watch(&state, principal, row.job_id, Some(row.id), last_seen(&headers)))
}

fn last_seen(headers: &HeaderMap) -> i64 {
    headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok())
        .and_then(|id| id.parse().ok())
        .map_or(i64::MIN, |seen: i64| seen.saturating_sub(OVERLAP_US))
}

fn watch(
    state: &AppState,
    principal: Principal,
    job: JobId,
    only: Option<OperationId>,
    since_us: i64,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    // Before anything is read, so that no change falls in between.
    let changes = state.operations.0.hub.watch_job(job);
    let watcher = Watcher {
        operations: state.operations.clone(),
        principal: principal.clone(),
        job,
        only,
        visible: HashSet::new(),
        sender,
    };
    let users = state.users.clone();
    state.tasks.spawn("event stream", async move {
        tokio::select! {
            _ = watcher.run(changes, since_us) => {}
            () = users.ended(&principal) => {}
        }
    });
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|event| (Ok(event), receiver))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

struct Watcher {
    operations: Operations,
    /// Whose machines are shown.
    principal: Principal,
    job: JobId,
    only: Option<OperationId>,
    /// Operations that exist for the viewer, once looked at.
    visible: HashSet<OperationId>,
    sender: mpsc::Sender<Event>,
}

/// The viewer is gone, or nothing can be read for it.
struct Over;

impl Watcher {
    async fn run(
        mut self,
        mut changes: broadcast::Receiver<Change>,
        since_us: i64,
    ) -> Result<(), Over> {
        let stop = self.operations.draining();
        let mut since_us = since_us;
        let mut look = true;
        loop {
            if look {
                if self.send_all(since_us).await? {
                    return Ok(());
                }
                since_us = i64::MIN;
                look = false;
            }
            let change = tokio::select! {
                change = changes.recv() => change,
                () = self.sender.closed() => return Err(Over),
                () = stop.cancelled() => return Err(Over),
            };
            match change {
                Ok(Change::Operation(operation)) if self.wants(operation.id) => {
                    self.send_operation(&operation, None).await?;
                    look = self.only.is_some() && operation.state.is_terminal();
                }
                Ok(Change::Output { operation, durable, .. }) if self.wants(operation) => {
                    let data = serde_json::json!({ "id": operation, "all": durable.all });
                    self.send(Event::default().event("output").data(data.to_string())).await?;
                }
                Ok(Change::Operation(_) | Change::Output { .. }) => {}
                Ok(Change::Job(_)) | Err(broadcast::error::RecvError::Lagged(_)) => look = true,
                Err(broadcast::error::RecvError::Closed) => return Err(Over),
            }
        }
    }

    fn wants(&self, operation: OperationId) -> bool {
        self.only.is_none_or(|only| only == operation) && self.visible.contains(&operation)
    }

    /// Every operation that changed since, and whether that was all there will ever be.
    async fn send_all(&mut self, since_us: i64) -> Result<bool, Over> {
        let mut after = -1;
        let mut all_ended = true;
        loop {
            let rows = self.operations.load_page(self.job, after, PAGE).await.map_err(|_| Over)?;
            let full = i64::try_from(rows.len()).unwrap_or(0) == PAGE;
            for row in rows {
                after = row.ordinal;
                if self.operations.is_visible(&self.principal, row.machine_id) {
                    self.visible.insert(row.id);
                }
                if !self.wants(row.id) {
                    continue;
                }
                all_ended &= row.state.is_terminal();
                if row.updated_us > since_us {
                    let mut operation = row.to_api();
                    self.operations.complete(&mut operation);
                    self.send_operation(&operation, Some(row.updated_us)).await?;
                }
            }
            if !full {
                break;
            }
        }
        if all_ended {
            let job = self.operations.describe_job(self.job).await.map_err(|_| Over)?;
            let data = serde_json::to_string(&job).map_err(|_| Over)?;
            self.send(Event::default().event("job").data(data)).await?;
        }
        Ok(all_ended)
    }

    async fn send_operation(
        &self,
        operation: &Operation,
        updated_us: Option<i64>,
    ) -> Result<(), Over> {
        let data = serde_json::to_string(operation).map_err(|_| Over)?;
        let mut event = Event::default().event("operation").data(data);
        let changed = operation.finished.or(operation.sent).map(reeve_sdk::api::Time::as_micros);
        if let Some(id) = updated_us.or(changed) {
            event = event.id(id.to_string());
        }
        self.send(event).await
    }

    async fn send(&self, event: Event) -> Result<(), Over> {
        self.sender.send(event).await.map_err(|_| Over)
    }
}
