//! Sending stdin: a sliding window of pieces, each sent again until the command's keeper has it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use reeve_protocol::OperationId;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::api::InputAccepted;
use crate::retry::Backoff;
use crate::{Client, Error};

/// The largest piece of one call at first, bytes.
const FIRST_PIECE_BYTES: usize = 256 * 1024;
/// And once pieces arrive quickly: a call costs as much as some hundred KiB.
const PIECE_BYTES: usize = 4 * 1024 * 1024;
/// So quickly.
const QUICK_PIECE: Duration = Duration::from_secs(1);
/// Read but not yet safely arrived, bytes. What a coordinator that restarts may make us send again.
const WINDOW_BYTES: usize = 4 * PIECE_BYTES;
/// Calls at the same time: enough that the road is busy while answers come back.
const IN_FLIGHT: usize = 3;
/// Read at once, at least.
const READ_BYTES: usize = 64 * 1024;
/// An answer without progress that comes sooner than this was not worth the wait.
const QUICK_ANSWER: Duration = Duration::from_millis(100);
/// So then this is waited, not to ask in a tight loop.
const NO_PROGRESS_PAUSE: Duration = Duration::from_millis(20);

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputSummary {
    /// Bytes the command's keeper has.
    pub received: u64,
    /// The command closed its stdin, or ended, before all of it was sent.
    pub closed: bool,
}

struct Piece {
    offset: u64,
    bytes: Bytes,
    /// A call with it is under way.
    in_flight: bool,
}

impl Piece {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

struct Answer {
    offset: u64,
    /// Behind the piece.
    end: u64,
    took: Duration,
    outcome: Result<InputAccepted, Error>,
}

/// What has been read and may have to be sent again.
#[derive(Default)]
struct Window {
    pieces: VecDeque<Piece>,
    /// Bytes read in all.
    read: u64,
    /// Bytes that have arrived.
    received: u64,
}

impl Window {
    /// Whether so many bytes more may be read.
    fn has_room(&self, bytes: usize) -> bool {
        self.read - self.received + bytes as u64 <= WINDOW_BYTES as u64
    }

    fn push(&mut self, bytes: Bytes) {
        let offset = self.read;
        self.read += bytes.len() as u64;
        self.pieces.push_back(Piece { offset, bytes, in_flight: false });
    }

    /// Forgets what has arrived. A piece that arrived in part is cut.
    fn arrived(&mut self, received: u64) {
        self.received = self.received.max(received.min(self.read));
        while self.pieces.front().is_some_and(|piece| piece.end() <= self.received) {
            self.pieces.pop_front();
        }
        if let Some(first) = self.pieces.front_mut()
            && first.offset < self.received
        {
            let seen = usize::try_from(self.received - first.offset).unwrap_or(first.bytes.len());
            first.bytes = first.bytes.slice(seen..);
            first.offset = self.received;
        }
    }

    /// The call that had the piece at `offset` is over.
    fn answered(&mut self, offset: u64) {
        // The piece may have been cut meanwhile, so its offset is at least the call's.
        if let Some(piece) = self.pieces.iter_mut().find(|piece| piece.end() > offset) {
            piece.in_flight = false;
        }
    }

    /// Whether an answer says that its piece, which ends at `end`, has not arrived, and that nothing
    /// else has. One that only comes behind an answer that told of more says nothing of the kind.
    fn stands_still(&self, before: u64, end: u64, received: u64) -> bool {
        received < end && self.received == before
    }

    /// Whether a piece waits for a call.
    fn has_unsent(&self) -> bool {
        self.pieces.iter().any(|piece| !piece.in_flight)
    }

    /// The next piece to send. One that was sent without arriving waits until it is the first:
    /// what is missing before it is what it waits for.
    fn next_unsent(&mut self) -> Option<(u64, Bytes)> {
        let piece = self.pieces.iter_mut().find(|piece| !piece.in_flight)?;
        piece.in_flight = true;
        Some((piece.offset, piece.bytes.clone()))
    }
}

impl Client {
    /// Sends all that `reader` yields to an operation's stdin, then closes it. Comes back when the
    /// command has it, or wants no more. Survives lost connections and restarts of the coordinator.
    /// Memory: one window of 16 MiB, while it is fast.
    ///
    /// # Errors
    /// When reading fails, the coordinator refuses, or contact is lost for longer than
    /// [`crate::RetryLimits::follow`].
    pub async fn send_input(
        &self,
        operation: OperationId,
        mut reader: impl AsyncRead + Unpin,
    ) -> Result<InputSummary, Error> {
        let mut window = Window::default();
        let mut calls: FuturesUnordered<BoxFuture<'_, Answer>> = FuturesUnordered::new();
        let mut at_end = false;
        let mut buffer = BytesMut::new();
        let mut recovery = Recovery::new();
        let mut most = FIRST_PIECE_BYTES;
        loop {
            while calls.len() < IN_FLIGHT {
                // What comes slowly is sent as it comes; while all calls are busy it is collected.
                if !window.has_unsent() && !buffer.is_empty() {
                    let length = buffer.len().min(most);
                    window.push(buffer.split_to(length).freeze());
                }
                let Some((offset, bytes)) = window.next_unsent() else { break };
                calls.push(Box::pin(self.post_input(operation, offset, bytes, false)));
            }
            if at_end && buffer.is_empty() && calls.is_empty() && window.pieces.is_empty() {
                // Nothing is in flight, so that nothing can arrive after the end.
                calls.push(Box::pin(self.post_input(operation, window.read, Bytes::new(), true)));
            }
            let wants_more = !at_end && buffer.len() < most && window.has_room(buffer.len() + most);
            if wants_more && buffer.capacity() - buffer.len() < READ_BYTES {
                buffer.reserve(most);
            }
            tokio::select! {
                // Answers first: they make room.
                biased;
                Some(answer) = calls.next(), if !calls.is_empty() => {
                    window.answered(answer.offset);
                    let before = window.received;
                    match answer.outcome {
                        Ok(accepted) => {
                            recovery = Recovery::new();
                            window.arrived(accepted.received);
                            if accepted.received < answer.end || answer.took > QUICK_PIECE * 4 {
                                most = (most / 2).max(FIRST_PIECE_BYTES);
                            } else if answer.took < QUICK_PIECE {
                                most = (most * 2).min(PIECE_BYTES);
                            }
                            let complete = at_end
                                && answer.offset == window.read
                                && accepted.received >= window.read;
                            if accepted.closed || complete {
                                return Ok(InputSummary {
                                    received: accepted.received,
                                    closed: accepted.closed && accepted.received < window.read,
                                });
                            }
                            let waits = window.stands_still(before, answer.end, accepted.received);
                            if waits && answer.took < QUICK_ANSWER {
                                tokio::time::sleep(NO_PROGRESS_PAUSE).await;
                            }
                        }
                        Err(error) => {
                            if let Some(summary) =
                                recovery.after(self, operation, error, &mut window).await?
                            {
                                return Ok(summary);
                            }
                        }
                    }
                }
                read = reader.read_buf(&mut buffer), if wants_more => {
                    at_end = read.map_err(Error::Input)? == 0;
                }
            }
        }
    }

    async fn post_input(
        &self,
        operation: OperationId,
        offset: u64,
        bytes: Bytes,
        end: bool,
    ) -> Answer {
        let started = Instant::now();
        let behind = offset + bytes.len() as u64;
        let call = self
            .post(&["api", "operations", &operation.to_string(), "input"])
            .query("offset", Some(offset))
            .query("end", end.then_some(true))
            .bytes(bytes);
        let outcome = match call.attempt().await {
            Ok(response) => match response.bytes().await {
                Ok(body) => serde_json::from_slice(&body).map_err(|error| {
                    Error::protocol(format!("the answer to stdin is not understood ({error})"))
                }),
                Err(error) => Err(call.transport_error(error)),
            },
            Err(error) => Err(error),
        };
        Answer { offset, end: behind, took: started.elapsed(), outcome }
    }
}

/// What to do after a failed call: pause, then ask how far the stdin really got.
struct Recovery {
    backoff: Backoff,
    since: Instant,
}

impl Recovery {
    fn new() -> Self {
        Self { backoff: Backoff::new(), since: Instant::now() }
    }

    async fn after(
        &mut self,
        client: &Client,
        operation: OperationId,
        error: Error,
        window: &mut Window,
    ) -> Result<Option<InputSummary>, Error> {
        let conflict = matches!(&error, Error::Problem(problem, _) if problem.status == 409);
        if error.is_transient() || conflict {
            let pause = self.backoff.pause(error.retry_after());
            if self.since.elapsed() + pause > client.retry_limits().follow {
                return Err(Error::LostContact {
                    after: self.since.elapsed(),
                    last: Box::new(error),
                });
            }
            tokio::time::sleep(pause).await;
        }
        match client.operation(operation).await {
            Ok(found) => {
                window.arrived(found.stdin_received);
                if found.stdin_closed || found.state.is_terminal() {
                    let received = found.stdin_received;
                    return Ok(Some(InputSummary { received, closed: received < window.read }));
                }
                if error.is_transient() || conflict { Ok(None) } else { Err(error) }
            }
            Err(unknown) if unknown.is_transient() => Ok(None),
            Err(refused) => Err(refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(lengths: &[usize]) -> Window {
        let mut window = Window::default();
        for length in lengths {
            window.push(Bytes::from(vec![b'x'; *length]));
        }
        window
    }

    #[test]
    fn a_piece_that_arrived_in_part_is_sent_from_where_it_is_missing() {
        let mut window = window(&[100, 100]);
        assert_eq!(window.next_unsent().map(|(at, bytes)| (at, bytes.len())), Some((0, 100)));
        assert_eq!(window.next_unsent().map(|(at, bytes)| (at, bytes.len())), Some((100, 100)));
        assert_eq!(window.next_unsent(), None);
        window.answered(0);
        window.arrived(60);
        assert_eq!(window.next_unsent().map(|(at, bytes)| (at, bytes.len())), Some((60, 40)));
        window.answered(100);
        window.arrived(200);
        assert!(window.pieces.is_empty());
    }

    #[test]
    fn a_confused_answer_cannot_claim_more_than_was_read_or_go_back() {
        let mut window = window(&[10]);
        window.arrived(1_000);
        assert_eq!(window.received, 10);
        window.arrived(3);
        assert_eq!(window.received, 10);
    }

    #[test]
    fn an_answer_that_comes_behind_one_that_told_of_more_is_no_reason_to_wait() {
        let mut window = window(&[100, 100]);
        window.arrived(200);
        assert!(!window.stands_still(200, 100, 200), "its piece has arrived");
        assert!(!window.stands_still(100, 300, 200), "something has arrived");
        assert!(window.stands_still(200, 300, 200));
    }

    #[test]
    fn the_window_is_bounded() {
        let window = window(&[PIECE_BYTES; 4]);
        assert!(!window.has_room(1));
        assert_eq!(window.read, WINDOW_BYTES as u64);
    }
}
