//! Reading ahead below TLS, which takes 4 KiB at a time from its socket: four or five system calls
//! for each record of a stream that is anything but small.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read at once while much comes.
const AHEAD_BYTES: usize = 64 * 1024;

/// Reads that bring less than this are small ones, which need no buffer.
const SMALL_BYTES: usize = 4096;

/// Reads in large steps while much comes, and has no memory of its own while little does.
#[derive(Debug)]
pub struct ReadAhead<S> {
    inner: S,
    /// Empty while little comes.
    buffer: Vec<u8>,
    /// What of the buffer has been read and not handed over.
    from: usize,
    to: usize,
    /// The last read was filled up, so there is more behind it.
    is_busy: bool,
}

impl<S> ReadAhead<S> {
    /// Reads ahead of whoever reads this.
    pub fn new(inner: S) -> Self {
        Self { inner, buffer: Vec::new(), from: 0, to: 0, is_busy: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.from == this.to {
            if !this.is_busy || into.remaining() >= AHEAD_BYTES {
                let (before, room) = (into.filled().len(), into.remaining());
                ready!(Pin::new(&mut this.inner).poll_read(cx, into))?;
                this.is_busy = into.filled().len() - before == room && room >= SMALL_BYTES;
                return Poll::Ready(Ok(()));
            }
            if this.buffer.is_empty() {
                this.buffer = vec![0; AHEAD_BYTES];
            }
            let mut ahead = ReadBuf::new(&mut this.buffer);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut ahead))?;
            (this.from, this.to) = (0, ahead.filled().len());
            this.is_busy = this.to >= SMALL_BYTES;
        }
        let count = (this.to - this.from).min(into.remaining());
        into.put_slice(this.buffer.get(this.from..this.from + count).unwrap_or_default());
        this.from += count;
        if this.from == this.to && !this.is_busy {
            this.buffer = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn every_byte_comes_once_and_in_order_however_it_is_read() {
        let (mut writer, reader) = duplex(AHEAD_BYTES * 2);
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let source = sent.clone();
        let writing = async move {
            let mut rest = source.as_slice();
            for length in (1..).map(|n: usize| n * 977 % 40_000) {
                let (piece, behind) = rest.split_at(length.min(rest.len()));
                writer.write_all(piece).await.expect("written");
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
        };
        let reading = async {
            let (mut reader, mut read) = (ReadAhead::new(reader), Vec::new());
            for length in [4096, 5, SMALL_BYTES, 70_000].into_iter().cycle() {
                let mut buffer = vec![0; length];
                match reader.read(&mut buffer).await.expect("read") {
                    0 => break,
                    count => read.extend_from_slice(&buffer[..count]),
                }
            }
            read
        };
        let (read, ()) = tokio::join!(reading, writing);
        assert!(read == sent, "{} bytes of {}", read.len(), sent.len());
    }

    #[tokio::test]
    async fn who_hears_little_holds_no_memory() {
        let (mut writer, reader) = duplex(AHEAD_BYTES * 2);
        let mut reader = ReadAhead::new(reader);
        let mut buffer = [0; SMALL_BYTES];
        writer.write_all(&[1; 100]).await.expect("written");
        assert_eq!(reader.read(&mut buffer).await.expect("read"), 100);
        assert_eq!(reader.buffer.capacity(), 0);
        writer.write_all(&[2; 3 * SMALL_BYTES]).await.expect("written");
        for _ in 0..3 {
            assert_eq!(reader.read(&mut buffer).await.expect("read"), SMALL_BYTES);
        }
        assert!(reader.buffer.capacity() > 0, "much came, and was read in small steps");
        writer.write_all(&[3; 100]).await.expect("written");
        assert_eq!(reader.read(&mut buffer).await.expect("read"), 100);
        assert_eq!(reader.buffer.capacity(), 0, "little comes again");
    }
}
