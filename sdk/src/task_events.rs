//! Following a task over any number of connections, by the numbers of its events (WHATWG HTML,
//! "Server-sent events"; resumed with `Last-Event-ID`). The coordinator ends the stream with an event
//! named `end`; a stream that ends without one was broken.

use std::pin::Pin;
use std::time::{Duration, Instant};

use eventsource_stream::{Event, Eventsource};
use futures_util::{Stream, StreamExt};

use crate::Error;
use crate::api::TaskEvent;
use crate::client::Call;
use crate::retry::Backoff;

/// A connection that says nothing for this long, not even a comment, is dead.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);

/// The longest event, bytes: a plan for many machines.
const MAX_EVENT_BYTES: usize = 8 * 1024 * 1024;

/// What an event of the stream is.
enum Read {
    Event(Box<TaskEvent>),
    /// The coordinator has ended the stream.
    End,
    /// Seen before, or of a kind that a newer coordinator knows.
    Nothing,
}

/// Takes an event; `last` is the number of the newest one seen.
fn read(event: &Event, last: &mut u64) -> Read {
    if event.event == "end" {
        return Read::End;
    }
    if event.data.is_empty() {
        return Read::Nothing;
    }
    let Ok(found) = serde_json::from_str::<TaskEvent>(&event.data) else {
        if let Ok(sequence) = event.id.parse::<u64>() {
            *last = sequence.max(*last);
        }
        return Read::Nothing;
    };
    if found.sequence > *last {
        *last = found.sequence;
    } else if found.sequence > 0 {
        return Read::Nothing;
    }
    Read::Event(Box::new(found))
}

/// The events in bytes. Broken off where one is longer than any may be: it is held in memory.
fn split<B: AsRef<[u8]>>(
    bytes: impl Stream<Item = Result<B, String>>,
) -> impl Stream<Item = Result<Event, String>> {
    let mut since_end = 0;
    let mut newline = false;
    let bounded = bytes.map(move |piece| {
        let piece = piece?;
        for byte in piece.as_ref().iter().filter(|byte| **byte != b'\r') {
            // An empty line ends an event.
            since_end = if *byte == b'\n' && newline { 0 } else { since_end + 1 };
            newline = *byte == b'\n';
        }
        if since_end > MAX_EVENT_BYTES { Err("an event is too long".to_owned()) } else { Ok(piece) }
    });
    bounded.eventsource().map(|event| event.map_err(|error| error.to_string()))
}

/// Numbers of the events in a stream; 0 for those that are not kept. For `tests/fuzz` alone.
#[cfg(fuzzing)]
#[must_use]
pub fn numbers(pieces: &[&[u8]]) -> Vec<u64> {
    let pieces: Vec<_> = pieces.iter().map(|piece| Ok(piece.to_vec())).collect();
    let mut events = Box::pin(split(futures_util::stream::iter(pieces)));
    let (mut last, mut found) = (0, Vec::new());
    while let Some(Some(Ok(event))) = futures_util::FutureExt::now_or_never(events.next()) {
        match read(&event, &mut last) {
            Read::Event(event) => found.push(event.sequence),
            Read::End => break,
            Read::Nothing => {}
        }
    }
    found
}

type Events = Pin<Box<dyn Stream<Item = Result<Event, String>> + Send>>;

/// Events of a task. Ask [`Self::next`] until it says `None`.
pub struct TaskEvents {
    call: Call,
    /// The newest event seen.
    last: u64,
    events: Option<Events>,
    backoff: Backoff,
    last_contact: Instant,
    ended: bool,
}

impl TaskEvents {
    pub(crate) fn new(call: Call, after: u64) -> Self {
        Self {
            call: call.accept("text/event-stream"),
            last: after,
            events: None,
            backoff: Backoff::new(),
            last_contact: Instant::now(),
            ended: false,
        }
    }

    /// The number of the newest event seen: where to go on.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The next event, each kept one exactly once; `None` when the coordinator has ended the
    /// stream, because the task has ended or waits for an answer.
    ///
    /// Dropping the future loses nothing but, at worst, pieces of a plan being written.
    ///
    /// # Errors
    /// When it was refused, or nothing was heard for long.
    pub async fn next(&mut self) -> Result<Option<TaskEvent>, Error> {
        loop {
            if self.ended {
                return Ok(None);
            }
            let Some(events) = &mut self.events else {
                self.connect().await?;
                continue;
            };
            let event = match tokio::time::timeout(SILENCE_LIMIT, events.next()).await {
                Ok(Some(Ok(event))) => event,
                // Broken, or silent: go on behind the last event.
                Ok(Some(Err(_))) | Err(_) | Ok(None) => {
                    self.events = None;
                    tokio::time::sleep(self.backoff.pause(None)).await;
                    continue;
                }
            };
            self.last_contact = Instant::now();
            self.backoff = Backoff::new();
            match read(&event, &mut self.last) {
                Read::Event(found) => return Ok(Some(*found)),
                Read::End => self.ended = true,
                Read::Nothing => {}
            }
        }
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let call = self.call.clone().last_event_id(self.last);
        match call.attempt().await {
            Ok(response) => {
                self.last_contact = Instant::now();
                let bytes = response.bytes_stream();
                self.events = Some(Box::pin(split(
                    bytes.map(|piece| piece.map_err(|error| error.to_string())),
                )));
                Ok(())
            }
            Err(error) => {
                let after = self.last_contact.elapsed();
                if !error.is_transient() {
                    return Err(error);
                }
                if after > self.call.follow_limit() {
                    return Err(Error::LostContact { after, last: Box::new(error) });
                }
                tokio::time::sleep(self.backoff.pause(error.retry_after())).await;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(pieces: Vec<Vec<u8>>) -> (usize, bool) {
        let events = split(futures_util::stream::iter(pieces.into_iter().map(Ok)));
        let all = futures_util::FutureExt::now_or_never(events.collect::<Vec<_>>());
        let all = all.expect("nothing to wait for");
        (all.iter().filter(|event| event.is_ok()).count(), all.iter().any(Result::is_err))
    }

    #[test]
    fn event_without_an_end_is_given_up_and_many_short_ones_are_not() {
        let megabyte = vec![b'x'; 1024 * 1024];
        let mut endless = vec![b"data: ".to_vec()];
        endless.extend(std::iter::repeat_n(megabyte, MAX_EVENT_BYTES / (1024 * 1024) + 1));
        assert_eq!(count(endless), (0, true));
        let short = vec![b"data: x\n\ndata: y\r\n\r\n".to_vec(); MAX_EVENT_BYTES / 16];
        assert_eq!(count(short), (MAX_EVENT_BYTES / 8, false));
    }
}
