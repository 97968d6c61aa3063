//! Terminals over HTTP.

use axum::extract::{DefaultBodyLimit, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use reeve_protocol::OperationId;
use reeve_sdk::api::{Page, Problem, TerminalSession, Typed, TypedPiece};
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::follow::CHUNK_QUEUE;
use super::super::terminals::Filter;
use crate::AppState;
use crate::http::{ApiError, Path, Query, page_limit};
use crate::users::Principal;

/// Bytes typed in one request: what the machine takes at once.
const MAX_TYPED_BYTES: usize = 64 * 1024;

/// The routes about terminals.
pub fn routes() -> OpenApiRouter<AppState> {
    let input =
        OpenApiRouter::new().routes(routes!(type_in)).layer(DefaultBodyLimit::max(MAX_TYPED_BYTES));
    OpenApiRouter::new()
        .routes(routes!(list_sessions))
        .routes(routes!(show_session))
        .routes(routes!(record_session))
        .merge(input)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct SessionQuery {
    /// Where the last page ended.
    cursor: Option<String>,
    /// Items of a page, 1 to 1000; 100 when left out.
    limit: Option<u32>,
    /// Only open ones, or only ended ones.
    open: Option<bool>,
    /// Only those on the machine of this name.
    machine: Option<String>,
}

/// List terminals, newest first
#[utoipa::path(get, path = "/api/sessions", tag = "sessions", params(SessionQuery),
    responses((status = 200, body = Page<TerminalSession>)))]
async fn list_sessions(
    State(state): State<AppState>,
    principal: Principal,
    Query(query): Query<SessionQuery>,
) -> Result<axum::Json<Page<TerminalSession>>, ApiError> {
    let filter = Filter {
        before: query.cursor.map(|text| session_id(&text)).transpose()?,
        machine: query.machine.unwrap_or_default(),
        open: query.open,
        limit: page_limit(query.limit)?,
    };
    Ok(axum::Json(state.operations.list_terminals(&principal, filter).await?))
}

/// One terminal
#[utoipa::path(get, path = "/api/sessions/{id}", tag = "sessions",
    params(("id" = String, Path, description = "The id of its operation")),
    responses((status = 200, body = TerminalSession), (status = 404, body = Problem)))]
async fn show_session(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<axum::Json<TerminalSession>, ApiError> {
    let terminal = state.operations.find_terminal(&principal, session_id(&id)?).await?;
    Ok(axum::Json(state.operations.describe_terminal(&terminal)))
}

/// What a terminal showed, and when
///
/// As asciicast version 2: a line of JSON with its size, then one per event, `[seconds, "o", text]`
/// for what it showed, `"r"` for a new size, `"m"` where something was dropped. Of an open terminal,
/// what is durable now. A stream that breaks off before its end was not whole.
#[utoipa::path(get, path = "/api/sessions/{id}/recording", tag = "sessions",
    params(("id" = String, Path, description = "The id of its operation")),
    responses((status = 200, body = String, content_type = "application/x-asciicast"),
        (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn record_session(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let id = session_id(&id)?;
    let terminal = state.operations.find_terminal(&principal, id).await?;
    if !terminal.request.record {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "not_recorded",
            format!("terminal {id} was opened without a recording"),
        ));
    }
    let mut recording = state.operations.record_of(&terminal).await?;
    let (sender, receiver) = mpsc::channel(CHUNK_QUEUE);
    let users = state.users.clone();
    state.tasks.spawn("recording reader", async move {
        let copy = async {
            loop {
                let chunk = match recording.next().await {
                    Ok(Some(lines)) => Ok(Bytes::from(lines)),
                    Ok(None) => return,
                    Err(error) => Err(std::io::Error::other(error.detail().to_owned())),
                };
                let over = chunk.is_err();
                if sender.send(chunk).await.is_err() || over {
                    return;
                }
            }
        };
        tokio::select! {
            () = copy => {}
            () = users.ended(&principal) => {}
        }
    });
    Ok(super::stream_response("application/x-asciicast", receiver))
}

/// Type at a terminal
///
/// The body is the bytes, at most 64 KiB. Answers when they have safely arrived on the machine, or
/// after 10 seconds with how many have; send the rest again from `taken`. Several people may type;
/// each piece arrives once, however often it is sent.
#[utoipa::path(post, path = "/api/sessions/{id}/input", tag = "sessions",
    request_body(content = String, content_type = "application/octet-stream"),
    params(("id" = String, Path, description = "The id of its operation"), TypedPiece),
    responses((status = 200, body = Typed), (status = 404, body = Problem),
        (status = 413, body = Problem), (status = 503, body = Problem)))]
async fn type_in(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
    Query(piece): Query<TypedPiece>,
    body: Bytes,
) -> Result<axum::Json<Typed>, ApiError> {
    let id = session_id(&id)?;
    Ok(axum::Json(state.operations.type_in(&principal, id, &piece, &body).await?))
}

fn session_id(text: &str) -> Result<OperationId, ApiError> {
    text.parse().map_err(|_| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "session_not_found",
            format!(
                "'{}' is no terminal's id; 'reeve sessions list' shows them",
                text.escape_debug()
            ),
        )
    })
}
