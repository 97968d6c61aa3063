//! The body of a reply as pieces, watched: how long, how much, and how much for one event.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eventsource_stream::{EventStreamError, Eventsource};
use futures_util::future::{Either, select};
use futures_util::stream::{BoxStream, StreamExt, try_unfold};

use crate::clock::Clock;
use crate::error::{ErrorCode, ModelError};
use crate::options::Limits;

/// How events are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Server-sent events.
    Events,
    /// One JSON object for each line.
    Lines,
}

/// One event.
#[derive(Debug)]
pub(crate) struct Frame {
    /// The event's name; empty for lines.
    pub(crate) name: String,
    pub(crate) data: String,
}

/// Counts bytes since the last event came to its end.
struct Meter {
    framing: Framing,
    total: usize,
    event: usize,
    /// The last character that counts was a line feed.
    at_line_start: bool,
    /// Whether any event, or comment block, is complete since it was asked last.
    complete: bool,
}

impl Meter {
    fn take(&mut self, bytes: &[u8], limits: &Limits) -> Result<(), ModelError> {
        self.total = self.total.saturating_add(bytes.len());
        if self.total > limits.reply_bytes {
            return Err(too_much("the reply is longer than", limits.reply_bytes));
        }
        for byte in bytes {
            self.event += 1;
            match byte {
                b'\n' if self.framing == Framing::Lines || self.at_line_start => {
                    self.event = 0;
                    self.complete = true;
                    self.at_line_start = true;
                }
                b'\n' => self.at_line_start = true,
                b'\r' => {}
                _ => self.at_line_start = false,
            }
            if self.event > limits.event_bytes {
                return Err(too_much("one event of the reply is longer than", limits.event_bytes));
            }
        }
        Ok(())
    }
}

fn too_much(what: &str, bytes: usize) -> ModelError {
    // What is too long once is too long again.
    ModelError::new(ErrorCode::Broken, format!("{what} {} KiB", bytes / 1024))
}

struct Watched {
    body: BoxStream<'static, Result<Bytes, reqwest::Error>>,
    meter: Meter,
    limits: Limits,
    clock: Arc<dyn Clock>,
    /// When the wait for the next event is over, by the clock's `elapsed`.
    due: Duration,
    /// Nothing came yet.
    is_first: bool,
    ended: bool,
    /// Of the line that is not complete.
    line: Vec<u8>,
}

impl Watched {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, ModelError> {
        while !self.ended {
            let left = self.due.saturating_sub(self.clock.elapsed());
            let limit = self.clock.limit(left);
            let next = match select(self.body.next(), limit).await {
                Either::Left((next, _)) => next,
                Either::Right(((), _)) => return Err(self.silence()),
            };
            let mut whole = std::mem::take(&mut self.line);
            match next {
                None => {
                    self.ended = true;
                    // Some servers leave out the end of the last line.
                    whole.extend_from_slice(b"\n\n");
                }
                Some(Err(error)) => {
                    let cause = crate::send::root_cause(&error);
                    return Err(ModelError::broken(format!(
                        "the connection broke in the middle of the reply: {cause}"
                    )));
                }
                Some(Ok(bytes)) => {
                    self.meter.take(&bytes, &self.limits)?;
                    if self.is_first || std::mem::take(&mut self.meter.complete) {
                        self.is_first = false;
                        self.due = self.clock.elapsed() + self.limits.idle;
                    }
                    // The parser starts a line anew with every piece it gets: it gets whole ones.
                    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                    if end == 0 {
                        whole.extend_from_slice(&bytes);
                        self.line = whole;
                        continue;
                    }
                    whole.extend_from_slice(&bytes[..end]);
                    self.line = bytes[end..].to_vec();
                }
            }
            return Ok(Some((Bytes::from(whole), self)));
        }
        Ok(None)
    }

    fn silence(&self) -> ModelError {
        let message = if self.is_first {
            format!("no reply within {} s", self.limits.first_byte.as_secs_f64())
        } else {
            format!("nothing for {} s in the middle of the reply", self.limits.idle.as_secs_f64())
        };
        ModelError::new(ErrorCode::Timeout, message).again()
    }
}

/// The events of a reply. `first_byte_due`: by the clock's `elapsed`.
pub(crate) fn frames(
    body: BoxStream<'static, Result<Bytes, reqwest::Error>>,
    framing: Framing,
    limits: Limits,
    clock: Arc<dyn Clock>,
    first_byte_due: Duration,
) -> BoxStream<'static, Result<Frame, ModelError>> {
    let meter = Meter { framing, total: 0, event: 0, at_line_start: true, complete: false };
    let watched = Watched {
        body,
        meter,
        limits,
        clock,
        due: first_byte_due,
        is_first: true,
        ended: false,
        line: Vec::new(),
    };
    let bytes = try_unfold(watched, Watched::next).boxed();
    match framing {
        Framing::Events => bytes
            .eventsource()
            .map(|event| match event {
                Ok(event) => Ok(Frame { name: event.event, data: event.data }),
                Err(EventStreamError::Transport(error)) => Err(error),
                Err(_) => Err(ModelError::broken("the reply is no stream of events")),
            })
            .boxed(),
        Framing::Lines => lines(bytes),
    }
}

fn lines(
    bytes: BoxStream<'static, Result<Bytes, ModelError>>,
) -> BoxStream<'static, Result<Frame, ModelError>> {
    // The meter has bounded the line before it gets here.
    try_unfold((bytes, Vec::<u8>::new()), |(mut bytes, mut kept)| async move {
        loop {
            if let Some(end) = kept.iter().position(|byte| *byte == b'\n') {
                let rest = kept.split_off(end + 1);
                let line = std::mem::replace(&mut kept, rest);
                let line = std::str::from_utf8(&line)
                    .map_err(|_| ModelError::broken("the reply is no text"))?
                    .trim();
                if line.is_empty() {
                    continue;
                }
                let frame = Frame { name: String::new(), data: line.to_owned() };
                return Ok(Some((frame, (bytes, kept))));
            }
            match bytes.next().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(error),
                Some(Ok(more)) => kept.extend_from_slice(&more),
            }
        }
    })
    .boxed()
}

/// The whole body, at most `most` bytes; what is beyond is not read.
pub(crate) async fn read_some(
    body: &mut BoxStream<'static, Result<Bytes, reqwest::Error>>,
    most: usize,
) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    while let Some(Ok(bytes)) = body.next().await {
        let room = most - all.len();
        all.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room {
            return (all, false);
        }
    }
    (all, true)
}
