//! An agent's WebSocket. The library's buffers grow to the largest message and stay as large, so an
//! agent that once sent 64 KiB would cost that much for ever: when it has been quiet, they are made
//! anew.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use reeve_link::TransportError;
use reeve_protocol::limits;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

/// Read at once; held for every agent all the time.
const READ_BUFFER: usize = 4 * 1024;

/// Collected before it is written.
const WRITE_BUFFER: usize = 64 * 1024;

/// Held for a peer that does not read.
const MAX_WRITE_BUFFER: usize = 1024 * 1024;

/// Messages beyond this size leave buffers behind that are worth giving back.
const LARGE: usize = 4 * 1024;

/// Without a large message for so long, more of them are not expected. Noticed with the next message,
/// a heartbeat at the latest.
const QUIET: Duration = Duration::from_secs(1);

/// The shortest header of a frame from a client (RFC 6455, 5.2): two bytes, the length, the mask.
fn header_bytes(length: usize) -> u64 {
    match length {
        0..=125 => 6,
        126..=0xFFFF => 8,
        _ => 14,
    }
}

/// A WebSocket as a transport.
pub(super) struct AgentSocket<S> {
    /// Absent only while it is made anew.
    socket: Option<WebSocketStream<Counted<S>>>,
    /// Bytes that the messages given out so far came in, had each been one frame as short as can be.
    /// It is never more than was read, and as much only if nothing was read in part.
    given: u64,
    /// Since when buffers are larger than need be.
    large_since: Option<Instant>,
    /// Something is written that was not flushed.
    unflushed: bool,
    /// The library itself has something to say.
    answering: bool,
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER)
        .max_message_size(Some(limits::MAX_FRAME_BYTES))
        .max_frame_size(Some(limits::MAX_FRAME_BYTES))
}

/// Does not wait for anything: there is no handshake left to be made.
fn wrap<S: AsyncRead + AsyncWrite + Unpin>(
    stream: Counted<S>,
) -> Option<WebSocketStream<Counted<S>>> {
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config())).now_or_never()
}

impl<S: AsyncRead + AsyncWrite + Unpin> AgentSocket<S> {
    /// On a stream that has been upgraded.
    pub(super) fn new(stream: S) -> Self {
        Self {
            socket: wrap(Counted { stream, read: 0 }),
            given: 0,
            large_since: None,
            unflushed: false,
            answering: false,
        }
    }

    fn note(&mut self, length: usize) {
        if length > LARGE {
            self.large_since = Some(Instant::now());
        }
    }

    /// Whether buffers are large, empty, and expected to stay so.
    fn is_worth_renewing(&self) -> bool {
        let Some(socket) = &self.socket else { return false };
        self.large_since.is_some_and(|at| at.elapsed() >= QUIET)
            && !self.unflushed
            && !self.answering
            && socket.get_ref().read == self.given
    }

    fn renew(&mut self) {
        self.large_since = None;
        self.socket = self.socket.take().and_then(|socket| wrap(socket.into_inner()));
    }

    fn socket(&mut self) -> Result<&mut WebSocketStream<Counted<S>>, TransportError> {
        self.socket.as_mut().ok_or_else(|| TransportError::Io("the connection is gone".into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for AgentSocket<S> {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let polled = match self.socket() {
                Ok(socket) => socket.poll_next_unpin(cx),
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            let message = match polled {
                Poll::Ready(message) => message,
                Poll::Pending if self.is_worth_renewing() => {
                    self.renew();
                    // Whoever is to be woken has to be told to the new one.
                    continue;
                }
                Poll::Pending => return Poll::Pending,
            };
            return Poll::Ready(match message {
                None | Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed)) => None,
                Some(Ok(Message::Binary(bytes))) => {
                    self.given += header_bytes(bytes.len()) + bytes.len() as u64;
                    self.note(bytes.len());
                    Some(Ok(bytes))
                }
                Some(Ok(Message::Text(_))) => Some(Err(TransportError::NotBinary("text"))),
                Some(Ok(_)) => {
                    // A ping is answered when the library comes to it.
                    self.answering = true;
                    continue;
                }
                Some(Err(error)) => Some(Err(translate(error))),
            });
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Bytes> for AgentSocket<S> {
    type Error = TransportError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.socket()?.poll_ready_unpin(cx).map_err(translate)
    }

    fn start_send(mut self: Pin<&mut Self>, bytes: Bytes) -> Result<(), Self::Error> {
        self.unflushed = true;
        self.note(bytes.len());
        self.socket()?.start_send_unpin(Message::Binary(bytes)).map_err(translate)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let flushed = self.socket()?.poll_flush_unpin(cx).map_err(translate);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.unflushed = false;
        }
        flushed
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.answering = true;
        self.socket()?.poll_close_unpin(cx).map_err(translate)
    }
}

fn translate(error: Error) -> TransportError {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { size, .. }) => {
            TransportError::TooLarge(size)
        }
        other => TransportError::Io(Box::new(other)),
    }
}

/// Counts what is read.
struct Counted<S> {
    stream: S,
    read: u64,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.read += (buffer.filled().len() - before) as u64;
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;

    /// Two ends in memory: the agent's is the library's own.
    async fn pair() -> (WebSocketStream<DuplexStream>, AgentSocket<DuplexStream>) {
        let (agent, ours) = tokio::io::duplex(16 * 1024);
        let agent = WebSocketStream::from_raw_socket(agent, Role::Client, None).await;
        (agent, AgentSocket::new(ours))
    }

    /// What has come, to the last byte, without waiting for more.
    async fn drain(socket: &mut AgentSocket<DuplexStream>) -> Vec<Bytes> {
        let mut heard = Vec::new();
        while let Some(Some(message)) = socket.next().now_or_never() {
            heard.push(message.expect("a message"));
        }
        heard
    }

    #[tokio::test(start_paused = true)]
    async fn buffers_are_made_anew_between_messages_and_never_within_one() {
        let (mut agent, mut socket) = pair().await;
        let large = Bytes::from(vec![7; 60_000]);
        let sending = async {
            agent.send(Message::Binary(large.clone())).await.expect("sent");
            agent
        };
        let (mut agent, first) = tokio::join!(sending, socket.next());
        assert_eq!(first.expect("open").expect("a message"), large);
        assert!(socket.large_since.is_some());
        assert!(!socket.is_worth_renewing(), "more may come at once");

        tokio::time::advance(QUIET).await;
        assert!(socket.is_worth_renewing());
        drain(&mut socket).await;
        assert!(socket.large_since.is_none(), "renewed");
        // The new one reads on where the old one was, and writes.
        agent.send(Message::Binary(large.slice(..10))).await.expect("sent");
        assert_eq!(socket.next().await.expect("open").expect("a message"), large[..10]);
        socket.send(large.slice(..20)).await.expect("sent");
        assert_eq!(agent.next().await.expect("open").expect("a message").into_data(), large[..20]);

        // A part of a message has come: those bytes are in the buffer.
        let sending = async {
            agent.send(Message::Binary(large.clone())).await.expect("sent");
            agent
        };
        let (mut agent, _) = tokio::join!(sending, socket.next());
        let sending = agent.send(Message::Binary(large.clone()));
        let mut sending = std::pin::pin!(sending);
        assert!(sending.as_mut().now_or_never().is_none(), "the pipe is smaller");
        assert!(drain(&mut socket).await.is_empty());
        tokio::time::advance(QUIET * 2).await;
        assert!(!socket.is_worth_renewing());
        assert!(drain(&mut socket).await.is_empty());
        let (_, second) = tokio::join!(sending, socket.next());
        assert_eq!(second.expect("open").expect("a message"), large);
    }

    #[tokio::test(start_paused = true)]
    async fn peers_that_speak_otherwise_keep_their_buffers() {
        for odd in [Message::Ping(Bytes::new()), Message::Pong(Bytes::new())] {
            let (mut agent, mut socket) = pair().await;
            agent.send(odd).await.expect("sent");
            let sending = agent.send(Message::Binary(Bytes::from(vec![7; 10_000])));
            let (sent, heard) = tokio::join!(sending, socket.next());
            sent.expect("sent");
            heard.expect("open").expect("a message");
            tokio::time::advance(QUIET * 2).await;
            assert!(!socket.is_worth_renewing());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_to_be_written_is_not_thrown_away() {
        let (mut agent, mut socket) = pair().await;
        let large = Bytes::from(vec![7; 60_000]);
        let sending = socket.send(large.clone());
        assert!(sending.now_or_never().is_none(), "the pipe is smaller");
        tokio::time::advance(QUIET * 2).await;
        assert!(!socket.is_worth_renewing());
        assert!(drain(&mut socket).await.is_empty());
        let (flushed, heard) = tokio::join!(socket.flush(), agent.next());
        flushed.expect("flushed");
        assert_eq!(heard.expect("open").expect("a message").into_data(), large);
    }
}
