//! `GET /ws/frontend`: everything that happens, for a browser, as JSON text messages.
//!
//! `{"event": "operation_update" | "command_result", "operation": …}`, `{"event": "output",
//! "job_id", "operation_id", "all"}`, `{"event": "job_update", "job_id"}`, `{"event":
//! "task_status_update", "task": …}` (an event of a task), `{"event": "approval_update", "approval":
//! …}` with its first hundred machines, `{"event": "heartbeat"}`, and `{"event": "resync"}` when
//! some were missed: look at REST again.

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use reeve_protocol::{ApprovalId, MachineId};
use reeve_sdk::api::OperationState;
use serde::Deserialize;
use tokio::sync::broadcast;
use utoipa_axum::router::OpenApiRouter;

use super::{Change, TaskNews};
use crate::AppState;
use crate::http::{ApiError, Query};
use crate::users::Principal;

/// Nothing was said for this long: say that we are still there.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A browser that does not take a message for this long is gone.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// The routes of this feature. The upgrade is no REST call, so it is in no OpenAPI document.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().route("/ws/frontend", axum::routing::get(accept))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrontendQuery {
    ticket: String,
}

async fn accept(
    State(state): State<AppState>,
    Query(query): Query<FrontendQuery>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let principal = state.users.tickets.take(&query.ticket)?;
    let upgrade = upgrade.max_message_size(4096).max_frame_size(4096);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let tasks = state.tasks.clone();
        tasks.spawn("frontend socket", serve(state, principal, socket));
    }))
}

async fn serve(state: AppState, principal: Principal, mut socket: WebSocket) {
    let mut changes = state.events.watch_all();
    let mut tasks = state.events.watch_tasks();
    let mut approvals = state.approvals.watch();
    let draining = state.readiness.draining();
    loop {
        let text = tokio::select! {
            change = changes.recv() => match change {
                Ok(change) => describe(&state, &principal, &change).await,
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    Some(serde_json::json!({ "event": "resync" }))
                }
                Err(broadcast::error::RecvError::Closed) => break,
            },
            news = tasks.recv() => match news {
                Ok(news) => describe_task(&state, &principal, &news),
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    Some(serde_json::json!({ "event": "resync" }))
                }
                Err(broadcast::error::RecvError::Closed) => break,
            },
            change = approvals.recv() => match change {
                Ok(id) => describe_approval(&state, &principal, id).await,
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    Some(serde_json::json!({ "event": "resync" }))
                }
                Err(broadcast::error::RecvError::Closed) => break,
            },
            message = socket.recv() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                // Nothing is expected from a browser yet.
                Some(Ok(_)) => None,
            },
            () = tokio::time::sleep(HEARTBEAT) => Some(serde_json::json!({ "event": "heartbeat" })),
            () = draining.cancelled() => break,
            () = state.users.ended(&principal) => break,
        };
        let Some(text) = text else { continue };
        let sent = socket.send(Message::Text(text.to_string().into()));
        if !matches!(tokio::time::timeout(WRITE_LIMIT, sent).await, Ok(Ok(()))) {
            break;
        }
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), socket.send(Message::Close(None))).await;
}

fn is_visible(state: &AppState, principal: &Principal, machine: MachineId) -> bool {
    match state.machines.registry().find(machine) {
        Some(known) => principal.scope.matches(known.id, &known.name, &known.labels),
        None => principal.scope.is_all(),
    }
}

/// An event of a task as a message, if the task exists for the viewer.
fn describe_task(
    state: &AppState,
    principal: &Principal,
    news: &TaskNews,
) -> Option<serde_json::Value> {
    let visible = *news.asker == *principal.name
        || principal.scope.is_all()
        || (!news.machines.is_empty()
            && news.machines.iter().all(|machine| is_visible(state, principal, *machine)));
    visible.then(|| serde_json::json!({ "event": "task_status_update", "task": *news.event }))
}

/// An approval that changed, if it exists for the viewer.
async fn describe_approval(
    state: &AppState,
    principal: &Principal,
    id: ApprovalId,
) -> Option<serde_json::Value> {
    let approval = state.approvals.look(principal, id).await.ok()?;
    Some(serde_json::json!({ "event": "approval_update", "approval": approval }))
}

/// A change as a message, if its machine exists for the viewer.
async fn describe(
    state: &AppState,
    principal: &Principal,
    change: &Change,
) -> Option<serde_json::Value> {
    let visible = |machine: MachineId| is_visible(state, principal, machine);
    match change {
        Change::Operation(operation) => visible(operation.machine_id).then(|| {
            let event = match operation.state {
                OperationState::Queued | OperationState::Sent | OperationState::Running => {
                    "operation_update"
                }
                _ => "command_result",
            };
            serde_json::json!({ "event": event, "operation": **operation })
        }),
        // Whose machine it is, is not said with it; whoever may see less looks at the job instead.
        Change::Output { job, operation, durable } => principal.scope.is_all().then(|| {
            serde_json::json!({
                "event": "output", "job_id": job, "operation_id": operation, "all": durable.all,
            })
        }),
        Change::Job(end) => {
            let visible = principal.scope.is_all()
                || state.operations.find_job(principal, end.job).await.is_ok();
            visible.then(|| serde_json::json!({ "event": "job_update", "job_id": end.job }))
        }
    }
}
