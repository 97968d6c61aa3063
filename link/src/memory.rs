//! Two transports connected in memory, for tests of one end against a scripted other.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::TransportError;

/// Messages in flight each way. Small, so that tests meet a full transport.
const IN_FLIGHT: usize = 16;

/// One end of a pair. Dropping it closes both directions, as a cut connection does.
pub struct MemoryTransport {
    sender: PollSender<Bytes>,
    receiver: mpsc::Receiver<Bytes>,
}

/// Two ends, each of which receives what the other sends.
#[must_use]
pub fn memory_pair() -> (MemoryTransport, MemoryTransport) {
    let (left_sender, right_receiver) = mpsc::channel(IN_FLIGHT);
    let (right_sender, left_receiver) = mpsc::channel(IN_FLIGHT);
    let left = MemoryTransport { sender: PollSender::new(left_sender), receiver: left_receiver };
    let right = MemoryTransport { sender: PollSender::new(right_sender), receiver: right_receiver };
    (left, right)
}

#[derive(Debug, thiserror::Error)]
#[error("the other end is gone")]
struct Gone;

fn gone<E>(_: E) -> TransportError {
    TransportError::Io(Box::new(Gone))
}

impl Stream for MemoryTransport {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx).map(|bytes| bytes.map(Ok))
    }
}

impl Sink<Bytes> for MemoryTransport {
    type Error = TransportError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_reserve(cx).map_err(gone)
    }

    fn start_send(mut self: Pin<&mut Self>, bytes: Bytes) -> Result<(), Self::Error> {
        self.sender.send_item(bytes).map_err(gone)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.close();
        Poll::Ready(Ok(()))
    }
}
