//! Raw output of one operation: byte-identical to what the command wrote.

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use reeve_protocol::{OperationId, Stream};
use reeve_sdk::api::Problem;
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Operations;
use super::super::follow::CHUNK_QUEUE;
use super::super::look::durable_of;
use super::super::output::{Part, StreamChoice};
use super::{operation_id, stream_response};
use crate::AppState;
use crate::events::Change;
use crate::http::{ApiError, Path, Query};
use crate::users::Principal;

/// Bytes read at once.
const READ_BYTES: usize = 512 * 1024;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(output))
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StreamName {
    #[default]
    All,
    Stdout,
    Stderr,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct OutputQuery {
    /// `all`, `stdout` or `stderr`; `all` when left out.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    stream: StreamName,
    /// The first offset wanted, in that stream's order.
    #[serde(default)]
    from: u64,
    /// Whether to go on until the operation has ended.
    #[serde(default)]
    follow: bool,
}

/// Output as raw bytes
///
/// `Reeve-Output-Length` says how much of the stream is durable now. What was dropped is skipped;
/// `GET /api/operations/{id}` lists the gaps. A stream that breaks off before its end was not
/// whole: ask again with `from`.
#[utoipa::path(get, path = "/api/operations/{id}/output", tag = "operations",
    params(("id" = String, Path, description = "The operation's id"), OutputQuery),
    responses((status = 200, body = String, content_type = "application/octet-stream"),
        (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn output(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
    Query(query): Query<OutputQuery>,
) -> Result<Response, ApiError> {
    let row = state.operations.find(&principal, operation_id(&id)?).await?;
    if state.operations.is_relayed(row.job_id).await? {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "output_relayed",
            "the output of this operation was passed on to whoever asked for it and is not kept",
        ));
    }
    let choice = match query.stream {
        StreamName::All => StreamChoice::All,
        StreamName::Stdout => StreamChoice::Only(Stream::Stdout),
        StreamName::Stderr => StreamChoice::Only(Stream::Stderr),
    };
    let (sender, receiver) = mpsc::channel(CHUNK_QUEUE);
    let operations = state.operations.clone();
    let (id, job) = (row.id, row.job_id);
    let durable = durable_of(&row, choice);
    let users = state.users.clone();
    state.tasks.spawn("output reader", async move {
        let copy = copy(&operations, id, job, choice, query.from, query.follow, &sender);
        let copied = tokio::select! {
            copied = copy => copied,
            () = users.ended(&principal) => return,
        };
        if let Err(error) = copied {
            tracing::warn!(operation = %id, ?error, "reading output was broken off");
            // Without an end the client sees that it was not whole.
            let _ = sender.send(Err(error_text(&error))).await;
        }
    });
    let mut response = stream_response("application/octet-stream", receiver);
    if let Ok(value) = HeaderValue::from_str(&durable.to_string()) {
        response.headers_mut().insert("reeve-output-length", value);
    }
    Ok(response)
}

fn error_text(error: &ApiError) -> std::io::Error {
    std::io::Error::other(error.detail().to_owned())
}

async fn copy(
    operations: &Operations,
    id: OperationId,
    job: reeve_protocol::JobId,
    choice: StreamChoice,
    from: u64,
    follow: bool,
    sender: &mpsc::Sender<std::io::Result<Bytes>>,
) -> Result<(), ApiError> {
    let mut changes = operations.0.hub.watch_job(job);
    let mut reader = operations.reader(id, choice, from);
    let stop = operations.draining();
    loop {
        // Read the row first: what is durable by then is what is read before the end is believed.
        let Some(row) = operations.load(id).await? else { return Ok(()) };
        loop {
            let parts = reader.next(row.durable, READ_BYTES).await.map_err(ApiError::internal)?;
            if parts.is_empty() {
                break;
            }
            for part in parts {
                if let Part::Bytes { bytes, .. } = part
                    && sender.send(Ok(bytes)).await.is_err()
                {
                    return Ok(());
                }
            }
        }
        if !follow || row.state.is_terminal() {
            return Ok(());
        }
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                () = sender.closed() => return Ok(()),
                () = stop.cancelled() => return Err(ApiError::draining()),
            };
            match change {
                Ok(Change::Output { operation, .. }) if operation != id => {}
                Ok(Change::Operation(operation)) if operation.id != id => {}
                _ => break,
            }
        }
    }
}
