//! `GET /ws/client`: where agents connect.

use std::time::Duration;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use reeve_link::Settings;
use reeve_protocol::{Envelope, SUBPROTOCOL, limits};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use utoipa_axum::router::OpenApiRouter;

use super::socket::AgentSocket;
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
    on_upgrade: Option<Extension<OnUpgrade>>,
    headers: HeaderMap,
    // Refuses what is no upgrade, in the words of everywhere else.
    upgrade: WebSocketUpgrade,
) -> Response {
    let upgrade = upgrade.protocols([SUBPROTOCOL]);
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let (Some(Extension(on_upgrade)), Some(key), true) =
        (on_upgrade, key, upgrade.selected_protocol().is_some())
    else {
        return ApiError::new(
            StatusCode::BAD_REQUEST,
            "unsupported_subprotocol",
            format!("this endpoint speaks the WebSocket sub-protocol '{SUBPROTOCOL}'"),
        )
        .into_response();
    };
    let accepted = derive_accept_key(key.as_bytes());
    let fleet = state.fleet.clone();
    let tasks = fleet.0.tasks.clone();
    let exporter = exporter.map(|Extension(TlsExporter(bytes))| bytes);
    tasks.spawn("agent session", async move {
        // It comes once the answer is written, or never.
        let Ok(Ok(upgraded)) = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, on_upgrade).await
        else {
            return;
        };
        serve(fleet, AgentSocket::new(TokioIo::new(upgraded)), exporter).await;
    });
    let head = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL)),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, head, [(header::SEC_WEBSOCKET_ACCEPT, accepted)])
        .into_response()
}

async fn serve<S>(fleet: Fleet, socket: AgentSocket<S>, exporter: Option<[u8; 32]>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    // When thousands come back at once it is cheaper to let one wait than to have it all again.
    let place = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, fleet.0.handshakes.acquire());
    let Ok(Ok(place)) = place.await else {
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
