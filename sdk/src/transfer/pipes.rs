//! Between threads that read and write files, which block, and the connection, which must not.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

/// Pieces on their way. When so many wait, whoever makes them does, too.
const PIECES: usize = 8;

/// Bytes of one piece.
const PIECE_BYTES: usize = 512 * 1024;

/// From a thread to the connection.
pub fn up() -> (PipeWriter, UpReader) {
    let (sender, receiver) = mpsc::channel(PIECES);
    (
        PipeWriter { to: sender, piece: BytesMut::new() },
        UpReader { from: receiver, piece: Bytes::new() },
    )
}

/// From the connection to a thread.
pub fn down() -> (mpsc::Sender<Bytes>, PipeReader) {
    let (sender, receiver) = mpsc::channel(PIECES);
    (sender, PipeReader { from: receiver, piece: Bytes::new() })
}

/// The thread's end of a way up.
pub struct PipeWriter {
    to: mpsc::Sender<Bytes>,
    piece: BytesMut,
}

impl PipeWriter {
    /// Whether nobody takes anything any more.
    pub fn is_closed(&self) -> bool {
        self.to.is_closed()
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = self.piece.split().freeze();
        self.to.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// The connection's end of a way up.
pub struct UpReader {
    from: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl UpReader {
    /// Waits until the next bytes, or the end, are there.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.piece.is_empty() {
            match self.from.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(piece) => self.piece = piece.unwrap_or_default(),
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for UpReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_ready(context));
        let count = self.piece.len().min(into.remaining());
        into.put_slice(&self.piece.split_to(count));
        Poll::Ready(Ok(()))
    }
}

/// The thread's end of a way down.
pub struct PipeReader {
    from: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for PipeReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            match self.from.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece,
            }
        }
        let count = self.piece.len().min(into.len());
        self.piece.copy_to_slice(into.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}
