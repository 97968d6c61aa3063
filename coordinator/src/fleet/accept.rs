//! `GET /ws/client`: where agents connect.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use http::StatusCode;
use reeve_link::{Settings, TransportError};
use reeve_protocol::{Envelope, SUBPROTOCOL, limits};
use utoipa_axum::router::OpenApiRouter;

use super::{Event, Fleet, handshake};
use crate::AppState;
use crate::http::{ApiError, TlsExporter};

/// The routes of this feature. The upgrade is no REST call, so it is in no OpenAPI document;
/// docs/protocol.md describes it.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().route("/ws/client", axum::routing::get(accept))
}

async fn accept(
    State(state): State<AppState>,
    exporter: Option<Extension<TlsExporter>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let fleet = state.fleet.clone();
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(8 * 1024)
        .write_buffer_size(64 * 1024)
        .max_write_buffer_size(1024 * 1024)
        .max_message_size(limits::MAX_FRAME_BYTES)
        .max_frame_size(limits::MAX_FRAME_BYTES);
    if upgrade.selected_protocol().is_none() {
        return ApiError::new(
            StatusCode::BAD_REQUEST,
            "unsupported_subprotocol",
            format!("this endpoint speaks the WebSocket sub-protocol '{SUBPROTOCOL}'"),
        )
        .into_response();
    }
    let exporter = exporter.map(|Extension(TlsExporter(bytes))| bytes);
    upgrade.on_upgrade(move |socket| async move {
        // Hyper spawns what it upgrades; ours has a name and is waited for at the end.
        let tasks = fleet.0.tasks.clone();
        tasks.spawn("agent session", serve(fleet, AgentSocket(socket), exporter));
    })
}

async fn serve(fleet: Fleet, socket: AgentSocket, exporter: Option<[u8; 32]>) {
    let Ok(place) = fleet.0.handshakes.try_acquire() else {
        metrics::counter!("reeve_handshakes_refused_total").increment(1);
        return;
    };
    let early = Settings {
        silence_limit: limits::HANDSHAKE_TIMEOUT,
        max_frame_bytes: limits::MAX_HANDSHAKE_BYTES,
        ..Settings::default()
    };
    let (sender, mut receiver, driver) = reeve_link::open(socket, early);
    let writing = fleet.0.tasks.spawn("agent link", driver.run());
    // Boxed, here and below: what is needed for a moment would stay part of every session for good.
    let handshake = Box::pin(handshake::run(&fleet, &sender, &mut receiver, exporter));
    let session = match handshake.await {
        Ok(session) => session,
        Err(failed) => {
            metrics::counter!("reeve_handshakes_failed_total").increment(1);
            tracing::info!(%failed, "an agent was not let in");
            if let Some(envelope) = failed.to_reject().and_then(|reject| Envelope::of(&reject).ok())
            {
                let _ = sender.control(&envelope);
            }
            sender.close();
            let _ = tokio::time::timeout(Duration::from_secs(2), writing).await;
            sender.abort();
            return;
        }
    };
    drop(place);
    receiver.set(Settings::default());
    fleet.put(&session);
    tracing::info!(machine = session.name, epoch = session.epoch, "agent connected");
    let _ = fleet.0.events.send(Event::Connected(session.clone())).await;
    let stop = fleet.0.tasks.token();
    let why = tokio::select! {
        why = session.read_all(&fleet, &mut receiver) => why,
        () = stop.cancelled() => reeve_link::LinkError::Closed,
    };
    fleet.remove(&session);
    tracing::info!(machine = session.name, epoch = session.epoch, %why, "agent disconnected");
    let _ = fleet.0.events.send(Event::Disconnected(session.clone())).await;
    // A goodbye may still be on its way out.
    let _ = tokio::time::timeout(Duration::from_secs(1), writing).await;
    sender.abort();
}

/// axum's WebSocket as a transport.
struct AgentSocket(WebSocket);

impl Stream for AgentSocket {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            return Poll::Ready(match std::task::ready!(self.0.poll_next_unpin(cx)) {
                None | Some(Ok(Message::Close(_))) => None,
                Some(Ok(Message::Binary(bytes))) => Some(Ok(bytes)),
                Some(Ok(Message::Text(_))) => Some(Err(TransportError::NotBinary("text"))),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Err(error)) => Some(Err(translate(error))),
            });
        }
    }
}

impl Sink<Bytes> for AgentSocket {
    type Error = TransportError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready_unpin(cx).map_err(translate)
    }

    fn start_send(mut self: Pin<&mut Self>, bytes: Bytes) -> Result<(), Self::Error> {
        self.0.start_send_unpin(Message::Binary(bytes)).map_err(translate)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_flush_unpin(cx).map_err(translate)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_close_unpin(cx).map_err(translate)
    }
}

fn translate(error: axum::Error) -> TransportError {
    TransportError::Io(error.into_inner())
}
