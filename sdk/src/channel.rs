//! One operation on one WebSocket, both ways. For stored operations it goes on by itself after a
//! break, output and stdin by offset, so that each byte counts once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use reeve_protocol::{OperationId, Stream};
use reqwest::Upgraded;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::api::Operation;
use crate::api::channel::{self, ClientMessage, MAX_INPUT_BYTES, close};
use crate::retry::Backoff;
use crate::{Client, Error};

/// A coordinator that says nothing for this long, not even that nothing happens, is gone. Three
/// times what it lets pass between two signs of life.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);

/// Events waiting to be taken. With more, the connection is not read from, and the machine waits.
const EVENT_QUEUE: usize = 16;

/// Stdin given to us that has not arrived on the machine, bytes: with more, whoever sends waits.
const UNARRIVED_BYTES: usize = 1024 * 1024;

/// The largest message of a coordinator.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// Which way a channel goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelMode {
    /// Only out of the operation.
    Read,
    /// Both ways.
    Write,
}

/// Where a channel begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelFrom {
    /// At this merged offset.
    Offset(u64),
    /// This many bytes before the end.
    Tail(u64),
}

impl From<u64> for ChannelFrom {
    fn from(offset: u64) -> Self {
        Self::Offset(offset)
    }
}

/// Something that happened.
#[derive(Debug)]
pub enum ChannelEvent {
    /// The operation, when its state has changed. A state that is terminal is the last event.
    State(Box<Operation>),
    /// Bytes it wrote, in order, each once.
    Output {
        /// Where.
        stream: Stream,
        /// Offset of the first in the merged order of both streams.
        all: u64,
        /// Never empty.
        bytes: Bytes,
    },
    /// These offsets are not kept any more.
    Gap {
        /// The first.
        from: u64,
        /// Behind the last.
        to: u64,
    },
    /// How far stdin has got.
    Received {
        /// Bytes that reach the operation whatever happens.
        received: u64,
        /// It reads no more.
        closed: bool,
    },
    /// The connection was lost; it is being resumed. Once per outage.
    Interrupted {
        /// In words.
        why: String,
    },
    /// Contact again, after [`ChannelEvent::Interrupted`].
    Resumed,
}

/// A channel to an operation. What it is given is sent and what comes is fetched in the background,
/// within bounds, until it is dropped.
pub struct Channel {
    events: mpsc::Receiver<Result<ChannelEvent, Error>>,
    input: ChannelInput,
    task: AbortHandle,
}

/// The way in. Cheap to clone.
#[derive(Clone)]
pub struct ChannelInput {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Something is to be sent.
    news: Notify,
    /// Bytes of stdin that may still be given to us.
    room: Semaphore,
}

#[derive(Default)]
struct State {
    /// What has not arrived, in order.
    pieces: VecDeque<(u64, Bytes)>,
    /// Stdin's offset behind everything given to us.
    next: u64,
    /// Stdin's offset up to which it was sent over this connection.
    sent: u64,
    /// Its length, once that is known.
    end: Option<u64>,
    end_sent: bool,
    size: Option<(u16, u16)>,
    size_sent: bool,
    /// Nobody reads what is sent.
    closed: bool,
}

impl Client {
    /// A channel to an operation. Has to be called within a Tokio runtime.
    pub fn channel(
        &self,
        operation: OperationId,
        from: impl Into<ChannelFrom>,
        mode: ChannelMode,
    ) -> Channel {
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            news: Notify::new(),
            room: Semaphore::new(UNARRIVED_BYTES),
        });
        let driver = Driver {
            client: self.clone(),
            operation,
            from: from.into(),
            mode,
            shared: Arc::clone(&shared),
            events: sender,
            ended: false,
            last_contact: Instant::now(),
        };
        // Ends with the channel, which aborts it when it is dropped.
        #[allow(clippy::disallowed_methods)]
        let task = tokio::spawn(driver.run()).abort_handle();
        Channel { events, input: ChannelInput { shared }, task }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.task.abort();
        self.input.shared.close();
    }
}

impl Channel {
    /// The next thing that happened; `None` when the operation has ended and all of it was handed
    /// out. Dropping the future before it is ready loses nothing.
    ///
    /// # Errors
    /// When the coordinator refuses, there was no contact for longer than
    /// [`crate::RetryLimits::follow`], or relayed output broke off ([`Error::RelayBroken`]). After an
    /// error nothing more comes.
    pub async fn next(&mut self) -> Result<Option<ChannelEvent>, Error> {
        self.events.recv().await.transpose()
    }

    /// The way in, for somebody else.
    #[must_use]
    pub fn input(&self) -> ChannelInput {
        self.input.clone()
    }

    /// As [`ChannelInput::send`].
    pub async fn send(&self, bytes: Bytes) -> bool {
        self.input.send(bytes).await
    }

    /// As [`ChannelInput::resize`].
    pub fn resize(&self, columns: u16, rows: u16) {
        self.input.resize(columns, rows);
    }

    /// As [`ChannelInput::close_input`].
    pub fn close_input(&self) {
        self.input.close_input();
    }
}

impl ChannelInput {
    /// Goes on where this much stdin was sent before, over another channel. To be called before
    /// anything is sent.
    pub fn start_at(&self, offset: u64) {
        let mut state = self.shared.state();
        if state.pieces.is_empty() {
            state.next = offset;
            state.sent = offset;
        }
    }

    /// Sends bytes to its stdin, in order; waits while too much has not arrived. `false` when nobody
    /// reads them any more.
    pub async fn send(&self, mut bytes: Bytes) -> bool {
        while bytes.has_remaining() {
            let piece = bytes.split_to(bytes.len().min(MAX_INPUT_BYTES));
            let permits = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            let Ok(permit) = self.shared.room.acquire_many(permits).await else { return false };
            permit.forget();
            let mut state = self.shared.state();
            if state.closed || state.end.is_some() {
                return false;
            }
            let at = state.next;
            state.next += piece.len() as u64;
            state.pieces.push_back((at, piece));
            drop(state);
            self.shared.news.notify_one();
        }
        true
    }

    /// Ends its stdin behind what was sent.
    pub fn close_input(&self) {
        let mut state = self.shared.state();
        let end = state.next;
        state.end.get_or_insert(end);
        drop(state);
        self.shared.news.notify_one();
    }

    /// Tells its terminal its size.
    pub fn resize(&self, columns: u16, rows: u16) {
        let mut state = self.shared.state();
        state.size = Some((columns.max(1), rows.max(1)));
        state.size_sent = false;
        drop(state);
        self.shared.news.notify_one();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole, so a poisoned lock is still good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody reads what is sent any more.
    fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.pieces.clear();
        drop(state);
        self.room.close();
    }

    /// This much of stdin has arrived.
    fn arrived(&self, received: u64) {
        let mut state = self.state();
        let mut freed = 0;
        while let Some((at, piece)) = state.pieces.front_mut() {
            let length = piece.len() as u64;
            let known = received.saturating_sub(*at).min(length);
            if known == 0 {
                break;
            }
            freed += usize::try_from(known).unwrap_or(0);
            if known == length {
                state.pieces.pop_front();
            } else {
                piece.advance(usize::try_from(known).unwrap_or(0));
                *at += known;
            }
        }
        drop(state);
        self.room.add_permits(freed);
    }

    /// A new connection: everything that has not arrived is sent again.
    fn rewind(&self) {
        let mut state = self.state();
        state.sent = state.pieces.front().map_or(state.next, |(at, _)| *at);
        state.end_sent = false;
        state.size_sent = false;
        drop(state);
        self.news.notify_one();
    }

    fn next_message(&self) -> Option<ClientMessage> {
        let mut state = self.state();
        if let Some((columns, rows)) = state.size
            && !state.size_sent
        {
            state.size_sent = true;
            return Some(ClientMessage::Resize { columns, rows });
        }
        if state.closed {
            return None;
        }
        let sent = state.sent;
        let at = state.pieces.partition_point(|(at, piece)| at + piece.len() as u64 <= sent);
        if let Some((offset, bytes)) = state.pieces.get(at).cloned() {
            state.sent = offset + bytes.len() as u64;
            return Some(ClientMessage::Input { offset, bytes });
        }
        let offset = state.end.filter(|_| !state.end_sent)?;
        state.end_sent = true;
        Some(ClientMessage::CloseInput { offset })
    }
}

type Socket = WebSocketStream<Upgraded>;

struct Driver {
    client: Client,
    operation: OperationId,
    from: ChannelFrom,
    mode: ChannelMode,
    shared: Arc<Shared>,
    events: mpsc::Sender<Result<ChannelEvent, Error>>,
    /// A terminal state was handed out.
    ended: bool,
    last_contact: Instant,
}

/// Whoever has the channel is gone.
struct Gone;

impl Driver {
    async fn run(mut self) {
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
