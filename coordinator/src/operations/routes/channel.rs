//! `GET /ws/operations/{id}`: one operation on one WebSocket, as binary messages.
//!
//! To the client `[kind u8][offset u64][rest]`, integers big-endian: 1 stdout and 2 stderr (merged
//! offset of the first byte, bytes), 3 the operation as JSON, 4 how far stdin has got (offset, then
//! 1 if nobody reads more of it, else 0), 5 a gap (merged offset where it begins, where it ends). From
//! the client: `[1][offset u64][bytes]` stdin, `[2][columns u16][rows u16]` size of the terminal,
//! `[3][offset u64]` end of stdin.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use reeve_protocol::Stream;
use reeve_sdk::api::ResizeRequest;
use reeve_sdk::api::channel::{ClientMessage, MAX_INPUT_BYTES, close};
use reeve_sdk::api::{Problem, channel};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::channel::{Attachment, From, Inlet, Say, Source};
use super::operation_id;
use crate::AppState;
use crate::http::{ApiError, Json, Path, Query};
use crate::users::Principal;

/// A client that says nothing for this long, not even that it is there, is gone. Not counted while it
/// does not take what is sent: a viewer may stand still for as long as it likes.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);

/// Stdin taken from the client that has not arrived on the machine, bytes. With more, the client's
/// connection is not read from.
const MAX_AHEAD: usize = 1024 * 1024;

/// The upgrade is no REST call, so it is in no OpenAPI document.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(resize_operation))
        .route("/ws/operations/{id}", axum::routing::get(accept))
}

/// Tell the terminal of an operation its size
#[utoipa::path(post, path = "/api/operations/{id}/resize", tag = "operations",
    request_body = ResizeRequest,
    params(("id" = String, Path, description = "The operation's id")),
    responses((status = 202), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn resize_operation(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
    Json(request): Json<ResizeRequest>,
) -> Result<http::StatusCode, ApiError> {
    let id = operation_id(&id)?;
    state.operations.resize(&principal, id, request.columns, request.rows).await?;
    Ok(http::StatusCode::ACCEPTED)
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Read,
    Write,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChannelQuery {
    ticket: String,
    /// A merged offset, or `tail:BYTES`.
    #[serde(default)]
    from: String,
    #[serde(default)]
    mode: Mode,
}

async fn accept(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Query(query): Query<ChannelQuery>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let principal = state.users.tickets.take(&query.ticket)?;
    let id = operation_id(&id)?;
    let from = parse_from(&query.from)?;
    let writes = query.mode == Mode::Write;
    let attachment = state.operations.attach(&principal, id, from, writes).await?;
    let limit = MAX_INPUT_BYTES + channel::HEADER_BYTES;
    let upgrade = upgrade
        .write_buffer_size(64 * 1024)
        .max_write_buffer_size(1024 * 1024)
        .max_message_size(limit)
        .max_frame_size(limit);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let tasks = state.tasks.clone();
        tasks.spawn("channel", serve(state, principal, attachment, socket));
    }))
}

fn parse_from(text: &str) -> Result<From, ApiError> {
    let number = |text: &str| {
        text.parse().map_err(|_| {
            ApiError::new(
                http::StatusCode::BAD_REQUEST,
                "invalid_query",
                "'from' is an offset, or tail:BYTES",
            )
        })
    };
    Ok(match text.strip_prefix("tail:") {
        Some(bytes) => From::Tail(number(bytes)?),
        None if text.is_empty() => From::Offset(0),
        None => From::Offset(number(text)?),
    })
}

/// What both directions know of the client.
struct Pulse {
    since: Instant,
    /// When it gave its last sign of life, milliseconds.
    heard: AtomicU64,
    /// It does not take what is being sent to it.
    stuck: AtomicBool,
}

impl Pulse {
    fn new() -> Self {
        Self { since: Instant::now(), heard: AtomicU64::new(0), stuck: AtomicBool::new(false) }
    }

    fn hear(&self) {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(now, Ordering::Relaxed);
    }

    fn is_silent(&self) -> bool {
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        !self.stuck.load(Ordering::Relaxed)
            && self.since.elapsed().saturating_sub(heard) > SILENCE_LIMIT
    }
}

/// How a channel is closed.
struct Close(u16, &'static str);

async fn serve(state: AppState, principal: Principal, attachment: Attachment, socket: WebSocket) {
    let Attachment { mut source, inlet, presence: _presence } = attachment;
    let (mut sink, mut stream) = socket.split();
    let pulse = Pulse::new();
    let ended = tokio::select! {
        ended = write_all(&mut source, &mut sink, &pulse) => ended,
        ended = read_all(&mut stream, inlet.as_ref(), &pulse) => ended,
        // Whoever loses the right to see must not go on seeing.
        () = state.users.ended(&principal) => Some(Close(close::DENIED, "not allowed any more")),
    };
    if let Some(Close(code, reason)) = ended {
        let frame = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        let _ = tokio::time::timeout(Duration::from_secs(1), sink.send(frame)).await;
    }
}

async fn write_all(
    source: &mut Source,
    sink: &mut SplitSink<WebSocket, Message>,
    pulse: &Pulse,
) -> Option<Close> {
    loop {
        let say = match source.next().await {
            Ok(Some(say)) => say,
            Ok(None) => return Some(Close(close::ENDED, "the operation has ended")),
            Err(error) => {
                tracing::debug!(?error, "a channel was broken off");
                return Some(Close(close::AGAIN, "try again"));
            }
        };
        // What it does not read it cannot answer.
        pulse.stuck.store(true, Ordering::Relaxed);
        let is_question = matches!(say, Say::Nothing);
        let sent = send(sink, say).await;
        pulse.stuck.store(false, Ordering::Relaxed);
        if !is_question {
            pulse.hear();
        }
        if sent.is_err() {
            return None;
        }
    }
}

async fn send(sink: &mut SplitSink<WebSocket, Message>, say: Say) -> Result<(), axum::Error> {
    let (kind, offset, rest) = match say {
        Say::Nothing => return sink.send(Message::Ping(Bytes::new())).await,
        Say::Output { stream: Stream::Stdout, all, bytes } => (channel::STDOUT, all, bytes),
        Say::Output { stream: Stream::Stderr, all, bytes } => (channel::STDERR, all, bytes),
        Say::Gap(gap) => (channel::GAP, gap.from, Bytes::copy_from_slice(&gap.to.to_be_bytes())),
        Say::Received { received, closed } => {
            (channel::RECEIVED, received, Bytes::copy_from_slice(&[u8::from(closed)]))
        }
        Say::State(operation) => {
            let json = serde_json::to_vec(&operation).map_err(axum::Error::new)?;
            (channel::STATE, operation.output.all, Bytes::from(json))
        }
    };
    let mut message = BytesMut::with_capacity(channel::HEADER_BYTES + rest.len());
    message.put_u8(kind);
    message.put_u64(offset);
    message.put_slice(&rest);
    sink.send(Message::Binary(message.freeze())).await
}

async fn read_all(
    stream: &mut SplitStream<WebSocket>,
    inlet: Option<&Inlet>,
    pulse: &Pulse,
) -> Option<Close> {
    let mut passing = FuturesUnordered::new();
    let mut ahead = 0;
    let mut look = tokio::time::interval(SILENCE_LIMIT / 9);
    loop {
        let message = tokio::select! {
            Some(passed) = passing.next(), if !passing.is_empty() => {
                ahead -= passed;
                continue;
            }
            message = stream.next(), if ahead < MAX_AHEAD => message,
            _ = look.tick() => {
                if pulse.is_silent() && ahead < MAX_AHEAD {
                    return Some(Close(close::SILENT, "nothing was heard for too long"));
                }
                continue;
            }
        };
        pulse.hear();
        let bytes = match message {
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Text(_))) => return Some(Close(close::MALFORMED, "not binary")),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
        };
        let Some(message) = ClientMessage::parse(bytes) else {
            return Some(Close(close::MALFORMED, "no message of a channel"));
        };
        let Some(inlet) = inlet else {
            return Some(Close(close::DENIED, "this channel only reads"));
        };
        let (offset, bytes, last) = match message {
            ClientMessage::Resize { columns, rows } => {
                inlet.resize(columns, rows).await;
                continue;
            }
            ClientMessage::Input { offset, bytes } => (offset, bytes, false),
            ClientMessage::CloseInput { offset } => (offset, Bytes::new(), true),
        };
        if !inlet.takes_stdin() {
            return Some(Close(close::DENIED, "this operation takes no stdin"));
        }
        let size = bytes.len() + channel::HEADER_BYTES;
        ahead += size;
        passing.push(async move {
            inlet.pass(offset, bytes, last).await;
            size
        });
    }
}
