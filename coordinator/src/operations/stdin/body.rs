//! A request's body as a source: taken as it comes, and only as far ahead as the machine takes it.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::source::{Retained, Source, SourceError};

/// Taken ahead of what may be sent, bytes. Bodies up to this size are taken whole, so that they can
/// be answered at any time: an answer to a body that was not read may be lost with its connection.
const AHEAD_BYTES: u64 = 256 * 1024;

/// A body.
pub struct BodySource<S> {
    body: S,
    retained: Retained,
    /// Bytes to hold at most.
    most: u64,
    /// Stdin ends behind it.
    is_last: bool,
    finished: bool,
}

impl<S> BodySource<S> {
    /// A body whose first byte is at `offset` of stdin.
    pub fn new(body: S, offset: u64, is_last: bool) -> Self {
        Self { body, retained: Retained::new(offset), most: AHEAD_BYTES, is_last, finished: false }
    }
}

impl<S, E> Source for BodySource<S>
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
    E: std::fmt::Display + Send,
{
    fn start(&self) -> u64 {
        self.retained.start()
    }

    fn end(&self) -> u64 {
        self.retained.end()
    }

    fn is_finished(&self) -> bool {
        self.finished
    }

    fn total(&self) -> Option<u64> {
        (self.finished && self.is_last).then(|| self.retained.end())
    }

    fn release(&mut self, received: u64, window: u64) {
        self.retained.release(received);
        // As far as the machine takes it, whoever is next; who waits for more than a window that comes
        // before it holds little. Waiting until the piece before had arrived would let the road run
        // empty between the two.
        let until = received.saturating_add(window);
        self.most = AHEAD_BYTES + until.saturating_sub(self.retained.start());
    }

    async fn read(&mut self, offset: u64, room: u64) -> Result<Vec<u8>, SourceError> {
        Ok(self.retained.read(offset, room))
    }

    fn wants_more(&self) -> bool {
        !self.finished && self.retained.len() < self.most
    }

    async fn grow(&mut self) -> Result<(), SourceError> {
        match self.body.next().await {
            None => self.finished = true,
            Some(Ok(bytes)) => self.retained.push(bytes),
            Some(Err(error)) => {
                return Err(SourceError::Broken(format!("the body broke off: {error}")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that are taken of an endless body at `offset` while `received` have arrived and
    /// `window` more may be sent.
    async fn taken(offset: u64, received: u64, window: u64) -> u64 {
        let chunk = Bytes::from(vec![1; 64 * 1024]);
        let body = futures_util::stream::repeat_with(move || {
            Ok::<_, std::convert::Infallible>(chunk.clone())
        });
        let mut source = BodySource::new(body, offset, false);
        source.release(received, window);
        while source.wants_more() {
            source.grow().await.expect("there is more");
        }
        source.end() - source.start()
    }

    #[tokio::test]
    async fn piece_behind_one_that_is_under_way_is_taken_as_far_as_the_machine_takes_it() {
        let window = 4 * 1024 * 1024;
        assert_eq!(taken(0, 0, window).await, window + AHEAD_BYTES);
        // All before it has been sent, and not all of that has arrived.
        assert_eq!(taken(window / 4, 0, window).await, window / 4 * 3 + AHEAD_BYTES);
        assert_eq!(taken(2 * window, 0, window).await, AHEAD_BYTES, "far behind");
    }
}
