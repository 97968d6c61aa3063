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
            if event.event == "end" {
                self.ended = true;
                continue;
            }
            if event.data.is_empty() || event.data.len() > MAX_EVENT_BYTES {
                continue;
            }
            let Ok(found) = serde_json::from_str::<TaskEvent>(&event.data) else {
                // A kind that a newer coordinator knows.
                if let Ok(sequence) = event.id.parse::<u64>() {
                    self.last = self.last.max(sequence);
                }
                continue;
            };
            if found.sequence == 0 {
                return Ok(Some(found));
            }
            if found.sequence > self.last {
                self.last = found.sequence;
                return Ok(Some(found));
            }
        }
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let call = self.call.clone().last_event_id(self.last);
        match call.attempt().await {
            Ok(response) => {
                self.last_contact = Instant::now();
                let bytes = response.bytes_stream();
                let events =
                    bytes.eventsource().map(|event| event.map_err(|error| error.to_string()));
                self.events = Some(Box::pin(events));
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
