//! What keeps a channel connected in the background.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use reeve_protocol::{OperationId, Stream};
use reqwest::Upgraded;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::input::Shared;
use super::{ChannelEvent, ChannelFrom, ChannelMode};
use crate::api::Operation;
use crate::api::channel::{self, close};
use crate::retry::Backoff;
use crate::{Client, Error};

/// A coordinator that says nothing for this long, not even that nothing happens, is gone. Three
/// times what it lets pass between two signs of life.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);

/// The largest message of a coordinator.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

type Socket = WebSocketStream<Upgraded>;

pub struct Driver {
    pub client: Client,
    pub operation: OperationId,
    pub from: ChannelFrom,
    pub mode: ChannelMode,
    pub shared: Arc<Shared>,
    pub events: mpsc::Sender<Result<ChannelEvent, Error>>,
    /// A terminal state was handed out.
    pub ended: bool,
    pub last_contact: Instant,
}

/// Whoever has the channel is gone.
struct Gone;

impl Driver {
    pub async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut began = false;
        let mut interrupted = false;
        loop {
            let error = match self.connect().await {
                Ok(socket) => {
                    backoff = Backoff::new();
                    if std::mem::take(&mut interrupted)
                        && self.events.send(Ok(ChannelEvent::Resumed)).await.is_err()
                    {
                        return;
                    }
                    began = true;
                    self.last_contact = Instant::now();
                    match self.converse(socket).await {
                        Ok(error) => error,
                        Err(Gone) => return,
                    }
                }
                // Its reader is we, and we are here again too late.
                Err(error) if began && error.code() == Some("relay_taken") => {
                    let _ = self
                        .events
                        .send(Err(Error::RelayBroken { job: None, last: Box::new(error) }))
                        .await;
                    return;
                }
                Err(error) => error,
            };
            if self.ended {
                self.shared.close();
                return;
            }
            let limits = self.client.retry_limits();
            let patience = if began { limits.follow } else { limits.total };
            let pause = backoff.pause(error.retry_after());
            let silent = self.last_contact.elapsed();
            if !error.is_transient() || silent + pause > patience {
                let error = if began && error.is_transient() {
                    Error::LostContact { after: silent, last: Box::new(error) }
                } else {
                    error
                };
                let _ = self.events.send(Err(error)).await;
                self.shared.close();
                return;
            }
            tracing::debug!(%error, "a channel broke");
            if began && !std::mem::replace(&mut interrupted, true) {
                let why = error.to_string();
                if self.events.send(Ok(ChannelEvent::Interrupted { why })).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn connect(&self) -> Result<Socket, Error> {
        let ticket = self.client.ticket().await?.ticket;
        let from = match self.from {
            ChannelFrom::Offset(offset) => offset.to_string(),
            ChannelFrom::Tail(bytes) => format!("tail:{bytes}"),
        };
        let mode = match self.mode {
            ChannelMode::Read => "read",
            ChannelMode::Write => "write",
        };
        let upgraded = self
            .client
            .get(&["ws", "operations", &self.operation.to_string()])
            .query("ticket", Some(ticket))
            .query("from", Some(from))
            .query("mode", Some(mode))
            .upgrade()
            .await?;
        let config = WebSocketConfig::default()
            .read_buffer_size(64 * 1024)
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await)
    }

    /// Until the connection ends, and why.
    async fn converse(&mut self, socket: Socket) -> Result<Error, Gone> {
        let (mut sink, mut stream) = socket.split();
        self.shared.rewind();
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            error = self.receive(&mut stream) => error,
            error = send_all(&shared, &mut sink) => Ok(self.broken(error)),
        }
    }

    fn broken(&self, why: String) -> Error {
        Error::Connect {
            url: self.client.url().to_owned(),
            why,
            transient: true,
            sent: true,
            source: None,
        }
    }

    async fn receive(&mut self, stream: &mut SplitStream<Socket>) -> Result<Error, Gone> {
        loop {
            let message = match tokio::time::timeout(SILENCE_LIMIT, stream.next()).await {
                Err(_) => return Ok(self.broken("the connection fell silent".to_owned())),
                Ok(None) => return Ok(self.broken("the connection was closed".to_owned())),
                Ok(Some(Err(error))) => return Ok(self.broken(error.to_string())),
                Ok(Some(Ok(message))) => message,
            };
            self.last_contact = Instant::now();
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Close(Some(frame))
                    if matches!(u16::from(frame.code), close::MALFORMED | close::DENIED) =>
                {
                    return Ok(Error::protocol(format!(
                        "the coordinator closed the channel: {}",
                        frame.reason
                    )));
                }
                _ => continue,
            };
            let event = match self.understand(bytes) {
                Some(Ok(event)) => event,
                Some(Err(error)) => return Ok(error),
                None => continue,
            };
            self.events.send(Ok(event)).await.map_err(|_| Gone)?;
        }
    }

    /// A message as an event, if it says anything new.
    fn understand(&mut self, mut bytes: Bytes) -> Option<Result<ChannelEvent, Error>> {
        let malformed = || Some(Err(Error::protocol("a message of a channel makes no sense")));
        let (Ok(kind), Ok(offset)) = (bytes.try_get_u8(), bytes.try_get_u64()) else {
            return malformed();
        };
        match kind {
            channel::STDOUT | channel::STDERR => {
                let stream = if kind == channel::STDOUT { Stream::Stdout } else { Stream::Stderr };
                let end = offset + bytes.len() as u64;
                let known = match self.from {
                    ChannelFrom::Offset(reached) if offset > reached => {
                        return Some(Err(Error::protocol(format!(
                            "output jumps from {reached} to {offset}"
                        ))));
                    }
                    ChannelFrom::Offset(reached) => reached - offset,
                    ChannelFrom::Tail(_) => 0,
                };
                if known >= bytes.len() as u64 {
                    return None;
                }
                bytes.advance(usize::try_from(known).unwrap_or(0));
                self.from = ChannelFrom::Offset(end);
                Some(Ok(ChannelEvent::Output { stream, all: offset + known, bytes }))
            }
            channel::GAP => {
                let Ok(to) = bytes.try_get_u64() else { return malformed() };
                if matches!(self.from, ChannelFrom::Offset(reached) if to <= reached) {
                    return None;
                }
                self.from = ChannelFrom::Offset(to);
                Some(Ok(ChannelEvent::Gap { from: offset, to }))
            }
            channel::STATE => match serde_json::from_slice::<Operation>(&bytes) {
                Ok(operation) => {
                    self.ended |= operation.state.is_terminal();
                    Some(Ok(ChannelEvent::State(Box::new(operation))))
                }
                Err(_) => malformed(),
            },
            channel::RECEIVED => {
                let closed = bytes.first().copied() == Some(1);
                self.shared.arrived(offset);
                if closed {
                    self.shared.close();
                }
                Some(Ok(ChannelEvent::Received { received: offset, closed }))
            }
            // A newer coordinator may say more than we understand.
            _ => None,
        }
    }
}

/// Sends whatever there is to be sent; comes back only when it cannot.
async fn send_all(shared: &Shared, sink: &mut SplitSink<Socket, Message>) -> String {
    loop {
        let mut fed = false;
        while let Some(message) = shared.next_message() {
            if let Err(error) = sink.feed(Message::Binary(message.to_bytes())).await {
                return error.to_string();
            }
            fed = true;
        }
        if fed && let Err(error) = sink.flush().await {
            return error.to_string();
        }
        shared.news.notified().await;
    }
}
