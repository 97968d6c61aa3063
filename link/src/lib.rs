//! One WebSocket as two bounded queues of frames, used by agent and coordinator alike.
//!
//! Sending: control frames overtake data frames; data frames of different operations take turns.
//! A sender of data waits for room, a sender of control never does. Receiving: one frame after the
//! other; silence longer than the peer's heartbeat allows is an error, so a half-open connection is
//! noticed. Nothing here knows what the frames mean.

mod ahead;
pub mod credit;
mod memory;
mod queue;
mod transport;

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use reeve_protocol::{Body, CodecError, Envelope, OperationId, limits};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use ahead::ReadAhead;
pub use memory::{MemoryTransport, memory_pair};
pub use transport::{Transport, TransportError, WebSocket, client_config};

use queue::{Next, Refused, SendQueue};

/// How one link behaves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Nothing received for this long means that the peer is gone.
    pub silence_limit: Duration,
    /// The largest frame taken from the peer, bytes.
    pub max_frame_bytes: usize,
    /// A write that makes no progress for this long means that the peer is gone.
    pub write_limit: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            silence_limit: limits::SILENCE_LIMIT,
            max_frame_bytes: limits::MAX_FRAME_BYTES,
            write_limit: limits::SILENCE_LIMIT,
        }
    }
}

/// The link is closed; what was given to it was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the link is closed")]
pub struct Closed;

/// Why nothing more will be received.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Closed by either end, on purpose.
    #[error("the link was closed")]
    Closed,
    /// The peer said nothing for too long.
    #[error("the peer was silent for {0:?}")]
    Silent(Duration),
    /// The peer sent something that is no frame.
    #[error("the peer sent something that is no frame: {0}")]
    Malformed(#[source] CodecError),
    /// The peer sent more than a frame may hold.
    #[error("the peer sent a frame of {0} bytes, more than the allowed {1}")]
    TooLarge(usize, usize),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Transport(#[source] TransportError),
}

/// Makes a link of a transport. The driver writes what the sender queues; it has to be spawned, and
/// it ends when the link closes.
pub fn open<T: Transport>(transport: T, settings: Settings) -> (Sender, Receiver<T>, Driver<T>) {
    let (sink, stream) = transport.split();
    let queue = SendQueue::new();
    let stop = CancellationToken::new();
    let sender = Sender { queue: queue.clone(), stop: stop.clone() };
    let receiver = Receiver { stream, settings, heard: Instant::now(), stop: stop.clone() };
    (sender, receiver, Driver { sink, queue, settings, stop })
}

/// The sending half. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sender {
    queue: SendQueue,
    stop: CancellationToken,
}

impl Sender {
    /// Queues a frame that overtakes data. Never waits: a peer that lets
    /// [`limits::CONTROL_QUEUE`] of them pile up is not reading, and its link is closed.
    ///
    /// # Errors
    /// When the link is closed, or closes because of this.
    pub fn control(&self, envelope: &Envelope) -> Result<(), Closed> {
        let frame = encode(envelope)?;
        if self.stop.is_cancelled() {
            return Err(Closed);
        }
        self.queue.push_control(frame).map_err(|refused| {
            // After the last word there is only silence; the last word itself is still written.
            if refused == Refused::Full {
                tracing::warn!("closing a link whose peer does not read");
                self.stop.cancel();
            }
            Closed
        })
    }

    /// Queues a frame of an operation's bulk, waiting for room. Frames of one operation stay in
    /// order; operations take turns.
    ///
    /// # Errors
    /// When the link closes before there is room.
    pub async fn data(&self, operation: OperationId, envelope: &Envelope) -> Result<(), Closed> {
        self.push(operation, encode(envelope)?).await
    }

    /// As [`Self::data`], of a body that ends with `bytes` and leaves them empty itself.
    ///
    /// # Errors
    /// As [`Self::data`].
    pub async fn bytes<B: Body>(
        &self,
        operation: OperationId,
        body: &B,
        bytes: &[u8],
    ) -> Result<(), Closed> {
        let frame = framed(Envelope::encode_ending_with(operation, body, bytes))?;
        self.push(operation, frame).await
    }

    async fn push(&self, operation: OperationId, frame: Bytes) -> Result<(), Closed> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Closed),
            () = self.queue.push_data(operation, frame) => Ok(()),
        }
    }

    /// Closes the link once what is queued as control has been written.
    pub fn close(&self) {
        self.queue.finish();
    }

    /// Closes the link at once.
    pub fn abort(&self) {
        self.stop.cancel();
    }

    /// Waits until the link is closed.
    pub async fn closed(&self) {
        self.stop.cancelled().await;
    }

    /// Whether the link is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.stop.is_cancelled()
    }
}

fn encode(envelope: &Envelope) -> Result<Bytes, Closed> {
    framed(reeve_protocol::encode(envelope))
}

fn framed(encoded: Result<Vec<u8>, CodecError>) -> Result<Bytes, Closed> {
    encoded.map(Bytes::from).map_err(|error| {
        tracing::error!(%error, "a frame of our own could not be encoded");
        Closed
    })
}

/// The receiving half.
pub struct Receiver<T> {
    stream: SplitStream<T>,
    settings: Settings,
    /// When the last frame came. Kept here and not in a call of `next`, which callers drop whenever
    /// something else happens first: silence would start anew each time and never be noticed.
    heard: Instant,
    stop: CancellationToken,
}

impl<T: Transport> Receiver<T> {
    /// The next frame. Cancel safe.
    ///
    /// # Errors
    /// Why there will be none. The link is closed then.
    pub async fn next(&mut self) -> Result<Envelope, LinkError> {
        let result = self.next_inner().await;
        if result.is_err() {
            self.stop.cancel();
        }
        result
    }

    /// From now on frames up to this size are taken, and this much silence.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    async fn next_inner(&mut self) -> Result<Envelope, LinkError> {
        let limit = self.settings.silence_limit;
        let received = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(LinkError::Closed),
            received = tokio::time::timeout_at(self.heard + limit, self.stream.next()) => received,
        };
        let frame = match received {
            Err(_) => return Err(LinkError::Silent(limit)),
            Ok(None) => return Err(LinkError::Closed),
            Ok(Some(Err(TransportError::TooLarge(size)))) => {
                return Err(LinkError::TooLarge(size, self.settings.max_frame_bytes));
            }
            Ok(Some(Err(error))) => return Err(LinkError::Transport(error)),
            Ok(Some(Ok(frame))) => frame,
        };
        self.heard = Instant::now();
        if frame.len() > self.settings.max_frame_bytes {
            return Err(LinkError::TooLarge(frame.len(), self.settings.max_frame_bytes));
        }
        reeve_protocol::decode(&frame).map_err(LinkError::Malformed)
    }
}

/// The writing loop of a link.
pub struct Driver<T> {
    sink: SplitSink<T, Bytes>,
    queue: SendQueue,
    settings: Settings,
    stop: CancellationToken,
}

impl<T: Transport> Driver<T> {
    /// Writes until the link closes, then closes the transport.
    pub async fn run(mut self) {
        if let Err(error) = self.write_all().await {
            tracing::debug!(%error, "writing to a link ended");
        }
        self.stop.cancel();
        // The peer may be gone; a close frame is a courtesy that must not hold us up.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.sink.close()).await;
    }

    async fn write_all(&mut self) -> Result<(), TransportError> {
        loop {
            let next = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                next = self.queue.next() => next,
            };
            let Next::Frame(frame) = next else { return Ok(()) };
            // Frames that are ready go out in one write: a flush costs a system call.
            let stop = self.stop.clone();
            let batch = async {
                self.sink.feed(frame).await?;
                let mut fed = 1;
                while fed < MAX_UNFLUSHED
                    && let Some(frame) = self.queue.try_next()
                {
                    self.sink.feed(frame).await?;
                    fed += 1;
                }
                self.sink.flush().await
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                written = tokio::time::timeout(self.settings.write_limit, batch) => match written {
                    Ok(result) => result?,
                    Err(_) => return Err(TransportError::Stalled(self.settings.write_limit)),
                },
            }
        }
    }
}

/// Frames fed before a flush. Two of the largest fill the usual write buffer, and a control frame
/// waits no longer than that.
const MAX_UNFLUSHED: usize = 4;

#[cfg(test)]
mod tests;
