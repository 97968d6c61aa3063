//! What one machine answers to one request: lines put together, the place to go on from, its end.

use std::collections::BTreeMap;

use bytes::Bytes;
use reeve_protocol::ops::{Failure, LogRead, LogRecord};
use reeve_protocol::{OperationId, Stream};

use crate::api::{Operation, OperationState};
use crate::{Answered, Error};

/// Bytes of one record. A machine sends less; who sends more is not one of ours.
const MAX_RECORD: usize = 4 * 1024 * 1024;
/// Bytes of warnings, at the end of which is why it failed.
const MAX_WARNINGS: usize = 64 * 1024;

/// A machine and what it was asked.
pub(super) struct Lane {
    pub machine: String,
    /// Its clock minus the coordinator's, microseconds.
    pub skew_us: i64,
    /// Which of the requests.
    pub read: usize,
    /// The newest cursor of each place.
    pub after: BTreeMap<String, String>,
    pub ended: bool,
    /// The operation that does it now.
    pub operation: Option<OperationId>,
    line: Vec<u8>,
    stderr: Vec<u8>,
}

impl Lane {
    pub fn new(machine: String, skew_us: i64, read: usize) -> Self {
        Self {
            machine,
            skew_us,
            read,
            after: BTreeMap::new(),
            ended: false,
            operation: None,
            line: Vec::new(),
            stderr: Vec::new(),
        }
    }

    /// Takes output; the records that are whole with it.
    pub fn take(&mut self, stream: Stream, bytes: &Bytes) -> Result<Vec<LogRecord>, Error> {
        if stream == Stream::Stderr {
            self.stderr.extend_from_slice(bytes);
            let excess = self.stderr.len().saturating_sub(MAX_WARNINGS);
            self.stderr.drain(..excess);
            return Ok(Vec::new());
        }
        let mut records = Vec::new();
        let mut rest: &[u8] = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (piece, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            let record = if self.line.is_empty() {
                self.read_record(piece)?
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(piece);
                self.read_record(&line)?
            };
            records.push(record);
        }
        self.line.extend_from_slice(rest);
        if self.line.len() > MAX_RECORD {
            return Err(Error::protocol(format!("a record of '{}' is too long", self.machine)));
        }
        Ok(records)
    }

    fn read_record(&self, line: &[u8]) -> Result<LogRecord, Error> {
        serde_json::from_slice(line).map_err(|error| {
            Error::protocol(format!("a record of '{}' is not understood ({error})", self.machine))
        })
    }

    /// Remembers where to go on behind a record.
    pub fn pass(&mut self, record: &mut LogRecord) {
        let (Some(place), cursor) = (record.place.take(), record.cursor.take()) else { return };
        if record.done {
            self.after.remove(&place);
        } else if let Some(cursor) = cursor {
            self.after.insert(place, cursor);
        }
    }

    /// The request with which to go on; `None` when it would be the whole again although something
    /// came, which nobody wants twice.
    pub fn resumption(&self, read: &LogRead) -> LogRead {
        LogRead { after: self.after.clone(), ..read.clone() }
    }

    /// Forgets what came of something that will come again.
    pub fn begin_again(&mut self) {
        self.operation = None;
        self.line.clear();
        self.stderr.clear();
    }

    /// Warnings that are whole so far, once each.
    pub fn take_warnings(&mut self) -> Vec<Failure> {
        // The last line may be why it failed, so it stays until there is another or the end.
        let Some(end) = self.stderr.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        let whole = self.stderr.get(..end).unwrap_or_default();
        let Some(last) = whole.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let lines: Vec<u8> = self.stderr.drain(..=last).collect();
        lines
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect()
    }

    /// What its end means.
    pub fn end(&mut self, operation: Operation) -> (Vec<Failure>, Option<Failure>) {
        self.ended = true;
        let stderr = std::mem::take(&mut self.stderr);
        let answered = Answered::new(operation, Vec::new(), &stderr);
        (answered.warnings, answered.failure)
    }
}

/// Whether an operation ended for reasons that have nothing to do with what was asked: its machine
/// was restarted, or its coordinator.
pub(super) fn was_interrupted(state: OperationState) -> bool {
    matches!(state, OperationState::Lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_the_same_however_they_are_cut() {
        let text = b"{\"time_us\":1,\"text\":\"a\",\"place\":\"p\",\"cursor\":\"c1\"}\n\
                     {\"time_us\":2,\"text\":\"b\",\"place\":\"p\",\"cursor\":\"c2\"}\n";
        for step in [1, 7, 40, 1000] {
            let mut lane = Lane::new("m".to_owned(), 0, 0);
            let mut texts = Vec::new();
            for piece in text.chunks(step) {
                let bytes = Bytes::copy_from_slice(piece);
                for mut record in lane.take(Stream::Stdout, &bytes).expect("records") {
                    lane.pass(&mut record);
                    texts.extend(record.text);
                }
            }
            assert_eq!(texts, ["a", "b"]);
            assert_eq!(lane.after.get("p").map(String::as_str), Some("c2"));
        }
    }

    #[test]
    fn place_that_is_done_with_is_not_gone_on_from() {
        let mut lane = Lane::new("m".to_owned(), 0, 0);
        let record = |done| LogRecord {
            place: Some("p".to_owned()),
            cursor: Some("c".to_owned()),
            done,
            ..LogRecord::default()
        };
        lane.pass(&mut record(false));
        assert_eq!(lane.resumption(&LogRead::default()).after.len(), 1);
        lane.pass(&mut record(true));
        assert!(lane.after.is_empty());
    }

    #[test]
    fn warnings_come_once_and_the_last_line_waits() {
        let mut lane = Lane::new("m".to_owned(), 0, 0);
        let say = |lane: &mut Lane, text: &str| {
            let bytes = Bytes::copy_from_slice(text.as_bytes());
            lane.take(Stream::Stderr, &bytes).expect("taken");
            lane.take_warnings().len()
        };
        assert_eq!(say(&mut lane, "{\"code\":\"a\",\"message\":\"1\"}\n"), 0);
        assert_eq!(say(&mut lane, "{\"code\":\"b\",\"mess"), 0);
        assert_eq!(say(&mut lane, "age\":\"2\"}\n"), 1);
        assert_eq!(say(&mut lane, ""), 0);
    }
}
