//! What a link runs on: anything that carries binary messages in order.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use reeve_protocol::limits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, error::CapacityError};

/// Why a transport carries nothing more.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// A message larger than the receiver's limit.
    #[error("message of {0} bytes is too large")]
    TooLarge(usize),
    /// Something other than a binary message.
    #[error("a {0} message, where only binary ones are allowed")]
    NotBinary(&'static str),
    /// A write made no progress.
    #[error("nothing could be written for {0:?}")]
    Stalled(Duration),
    /// Whatever lies below.
    #[error(transparent)]
    Io(Box<dyn std::error::Error + Send + Sync>),
}

/// Carries binary messages in order, both ways.
pub trait Transport:
    Stream<Item = Result<Bytes, TransportError>>
    + Sink<Bytes, Error = TransportError>
    + Send
    + Unpin
    + 'static
{
}

impl<T> Transport for T where
    T: Stream<Item = Result<Bytes, TransportError>>
        + Sink<Bytes, Error = TransportError>
        + Send
        + Unpin
        + 'static
{
}

/// Limits for the agent's end of a WebSocket. The library's defaults allow 64 MiB messages and
/// unlimited write buffers, and keep 128 KiB of read buffer per connection.
#[must_use]
pub fn client_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(128 * 1024)
        .max_write_buffer_size(1024 * 1024)
        .max_message_size(Some(limits::MAX_FRAME_BYTES))
        .max_frame_size(Some(limits::MAX_FRAME_BYTES))
}

/// A WebSocket of `tokio-tungstenite` as a transport.
pub struct WebSocket<S>(pub WebSocketStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for WebSocket<S> {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            return Poll::Ready(match std::task::ready!(self.0.poll_next_unpin(cx)) {
                None | Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed)) => None,
                Some(Ok(Message::Binary(bytes))) => Some(Ok(bytes)),
                Some(Ok(Message::Text(_))) => Some(Err(TransportError::NotBinary("text"))),
                // Pings are answered by the library; liveness is the heartbeat's business.
                Some(Ok(_)) => continue,
                Some(Err(error)) => Some(Err(translate(error))),
            });
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Bytes> for WebSocket<S> {
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

fn translate(error: Error) -> TransportError {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { size, .. }) => {
            TransportError::TooLarge(size)
        }
        other => TransportError::Io(Box::new(other)),
    }
}
