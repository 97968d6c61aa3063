//! Where stdin comes from.

use std::collections::VecDeque;
use std::future::Future;

use bytes::{Buf, Bytes};
use reeve_protocol::limits;

/// A source that ends without having been whole.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It will never be what was asked for.
    #[error("{0}")]
    Broken(String),
    /// It cannot be read.
    #[error("what is to be sent cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

/// Bytes by their offset in stdin. What has not arrived has to stay at hand: after a cut it is asked
/// for again.
pub trait Source: Send {
    /// The first offset at hand.
    fn start(&self) -> u64;

    /// Behind the last byte at hand.
    fn end(&self) -> u64;

    /// Whether no more will come behind it.
    fn is_finished(&self) -> bool;

    /// Length of the whole stdin, once all of it is at hand and good.
    fn total(&self) -> Option<u64>;

    /// What has arrived is not needed any more; `window` is what the machine takes ahead.
    fn release(&mut self, received: u64, window: u64);

    /// Bytes at `offset`, which are at hand, for one frame; `room` may be sent before more is
    /// allowed.
    fn read(
        &mut self,
        offset: u64,
        room: u64,
    ) -> impl Future<Output = Result<Vec<u8>, SourceError>> + Send;

    /// Whether to wait for more.
    fn wants_more(&self) -> bool;

    /// Waits for more. Cancel safe.
    fn grow(&mut self) -> impl Future<Output = Result<(), SourceError>> + Send;
}

/// Bytes that have come and have not arrived.
#[derive(Debug, Default)]
pub struct Retained {
    chunks: VecDeque<Bytes>,
    start: u64,
    end: u64,
}

impl Retained {
    /// Nothing yet; the first byte will be at `offset`.
    #[must_use]
    pub fn new(offset: u64) -> Self {
        Self { chunks: VecDeque::new(), start: offset, end: offset }
    }

    /// The first offset held.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Behind the last byte held.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes held.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// More came.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.end += bytes.len() as u64;
            self.chunks.push_back(bytes);
        }
    }

    /// What is below `upto` is not needed any more.
    pub fn release(&mut self, upto: u64) {
        let mut gone = upto.min(self.end).saturating_sub(self.start);
        self.start += gone;
        while let Some(first) = self.chunks.front_mut() {
            let length = first.len() as u64;
            if length > gone {
                first.advance(usize::try_from(gone).unwrap_or_default());
                return;
            }
            gone -= length;
            self.chunks.pop_front();
        }
    }

    /// Bytes at `offset`, at most `room` and at most what a frame holds.
    #[must_use]
    pub fn read(&self, offset: u64, room: u64) -> Vec<u8> {
        let most = usize::try_from(room).unwrap_or(usize::MAX).min(limits::MAX_DATA_BYTES);
        let Some(mut skip) = offset.checked_sub(self.start) else { return Vec::new() };
        let mut found = Vec::new();
        for chunk in &self.chunks {
            let length = chunk.len() as u64;
            if skip >= length {
                skip -= length;
                continue;
            }
            let from = usize::try_from(std::mem::take(&mut skip)).unwrap_or(usize::MAX);
            let rest = chunk.get(from..).unwrap_or_default();
            if found.is_empty() {
                found.reserve_exact(most);
            }
            found.extend_from_slice(rest.get(..most - found.len()).unwrap_or(rest));
            if found.len() == most {
                break;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_by_offset_whatever_chunks_they_came_in() {
        let mut retained = Retained::new(100);
        for chunk in [&b"ab"[..], b"", b"cdef", b"g"] {
            retained.push(Bytes::from_static(chunk));
        }
        assert_eq!((retained.start(), retained.end(), retained.len()), (100, 107, 7));
        assert_eq!(retained.read(100, 64), b"abcdefg");
        assert_eq!(retained.read(101, 3), b"bcd");
        assert_eq!(retained.read(99, 3), b"");
        assert_eq!(retained.read(107, 3), b"");
        retained.release(103);
        assert_eq!((retained.start(), retained.len()), (103, 4));
        assert_eq!(retained.read(103, 64), b"defg");
        assert_eq!(retained.read(102, 64), b"");
        retained.release(50);
        assert_eq!(retained.start(), 103);
        retained.release(1000);
        assert_eq!((retained.start(), retained.end(), retained.len()), (107, 107, 0));
        retained.push(Bytes::from_static(b"hi"));
        assert_eq!(retained.read(107, 64), b"hi");
    }

    #[test]
    fn one_frame_is_read_at_once() {
        let mut retained = Retained::new(0);
        retained.push(Bytes::from(vec![1; 100_000]));
        assert_eq!(retained.read(0, u64::MAX).len(), limits::MAX_DATA_BYTES);
    }
}
