//! What a terminal showed, and when, in the form that players take: asciicast version 2, one JSON
//! line each (docs.asciinema.org, "asciicast v2").
//!
//! Times are those at which the coordinator had made the bytes durable. What a machine showed while
//! its connection was cut comes at the moment it was back.

use reeve_protocol::{OperationId, Totals};
use serde_json::json;

use super::store::{self, Size, TerminalRow};
use crate::operations::Operations;
use crate::operations::output::{Part, Reader, StreamChoice};
use crate::problem::ApiError;

/// Writes one terminal's recording, line by line.
pub struct Recording {
    reader: Reader,
    durable: Totals,
    sizes: std::vec::IntoIter<Size>,
    next_size: Option<Size>,
    times: Times,
    text: Text,
    header: Option<String>,
    over: bool,
}

impl Operations {
    /// The recording of a terminal as far as it is durable.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn record_of(&self, terminal: &TerminalRow) -> Result<Recording, ApiError> {
        let id: OperationId = terminal.operation.id;
        let sizes = store::list_sizes(&mut *self.0.db.reader().await?, id).await?;
        let mut sizes = sizes.into_iter();
        let first = sizes.next();
        let row = &terminal.operation;
        let began_us = row.sent_us.unwrap_or(row.created_us);
        let (columns, rows) = match first {
            Some(size) => (size.columns, size.rows),
            None => (terminal.request.columns, terminal.request.rows),
        };
        let header = json!({
            "version": 2,
            "width": columns,
            "height": rows,
            "timestamp": began_us.div_euclid(1_000_000),
            "title": format!("{} on {}", terminal.opened_by, row.machine),
            "command": terminal.request.command.as_ref().map(|argv| argv.join(" ")),
            "env": { "TERM": terminal.request.term },
        });
        Ok(Recording {
            reader: self.reader(id, StreamChoice::All, 0),
            durable: row.durable,
            next_size: sizes.next(),
            sizes,
            times: Times { began_us, last_us: began_us },
            text: Text::default(),
            header: Some(header.to_string()),
            over: false,
        })
    }
}

impl Recording {
    /// Some more lines, each with its newline; `None` behind the last.
    ///
    /// # Errors
    /// When stored output cannot be read.
    pub async fn next(&mut self) -> Result<Option<String>, ApiError> {
        if let Some(header) = self.header.take() {
            return Ok(Some(format!("{header}\n")));
        }
        if self.over {
            return Ok(None);
        }
        // One record at a time, so that each has the time of its piece.
        let parts = self.reader.next(self.durable, 1).await.map_err(ApiError::internal)?;
        let mut lines = String::new();
        if parts.is_empty() {
            self.over = true;
            self.put_sizes(u64::MAX, &mut lines);
            if let Some(rest) = self.text.finish() {
                self.times.put(self.times.last_us, "o", &rest, &mut lines);
            }
            return Ok(Some(lines));
        }
        let at_us = self.reader.piece_time().unwrap_or(self.times.last_us);
        for part in parts {
            match part {
                Part::Gap(gap) => {
                    self.put_sizes(gap.from, &mut lines);
                    let text = format!("{} bytes were dropped", gap.to - gap.from);
                    self.times.put(at_us, "m", &text, &mut lines);
                }
                Part::Bytes { all, bytes, .. } => {
                    self.put_sizes(all, &mut lines);
                    let text = self.text.push(&bytes);
                    if !text.is_empty() {
                        self.times.put(at_us, "o", &text, &mut lines);
                    }
                }
            }
        }
        Ok(Some(lines))
    }

    /// The sizes that it had before this offset was shown.
    fn put_sizes(&mut self, before: u64, lines: &mut String) {
        while let Some(size) = self.next_size.filter(|size| size.all_from <= before) {
            self.times.put(size.at_us, "r", &format!("{}x{}", size.columns, size.rows), lines);
            self.next_size = self.sizes.next();
        }
    }
}

/// Between the first moment and the last one told, so that none goes back.
struct Times {
    began_us: i64,
    last_us: i64,
}

impl Times {
    fn put(&mut self, at_us: i64, kind: &str, data: &str, lines: &mut String) {
        self.last_us = self.last_us.max(at_us);
        let since = u32::try_from((self.last_us - self.began_us).div_euclid(1000)).map_or_else(
            // Fifty days: beyond, whole seconds are exact enough.
            |_| ((self.last_us - self.began_us) / 1_000_000) as f64,
            |millis| f64::from(millis) / 1000.0,
        );
        lines.push_str(&json!([since, kind, data]).to_string());
        lines.push('\n');
    }
}

/// Bytes as they come, text as far as it is whole: a character may lie in two records.
#[derive(Default)]
struct Text {
    /// The beginning of a character.
    rest: Vec<u8>,
}

impl Text {
    fn push(&mut self, bytes: &[u8]) -> String {
        let mut joined = std::mem::take(&mut self.rest);
        joined.extend_from_slice(bytes);
        let keep = match joined.utf8_chunks().last().map(|chunk| chunk.invalid()) {
            // Only what more bytes could make whole waits for them.
            Some(tail) if is_beginning(tail) => tail.len(),
            _ => 0,
        };
        self.rest = joined.split_off(joined.len() - keep);
        String::from_utf8_lossy(&joined).into_owned()
    }

    fn finish(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.rest);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }
}

fn is_beginning(tail: &[u8]) -> bool {
    !tail.is_empty()
        && matches!(std::str::from_utf8(tail), Err(error) if error.error_len().is_none())
}

/// For `tests/fuzz` alone.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::{Text, Times};

    /// The lines of a recording of these pieces; every second one comes before the last.
    #[must_use]
    pub fn lines(pieces: &[&[u8]]) -> String {
        let (mut text, mut times) = (Text::default(), Times { began_us: 0, last_us: 0 });
        let mut lines = String::new();
        for (piece, at) in pieces.iter().zip(0_i64..) {
            let shown = text.push(piece);
            if !shown.is_empty() {
                times.put(if at % 2 == 0 { at * 700_000 } else { 0 }, "o", &shown, &mut lines);
            }
        }
        if let Some(rest) = text.finish() {
            times.put(times.last_us, "o", &rest, &mut lines);
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_in_two_records_stay_whole() {
        let whole = "a€b😀c".as_bytes();
        for at in 0..=whole.len() {
            let mut text = Text::default();
            let (first, second) = whole.split_at(at);
            let mut found = text.push(first);
            found.push_str(&text.push(second));
            assert_eq!(found, "a€b😀c", "cut at {at}");
            assert_eq!(text.finish(), None);
        }
    }

    #[test]
    fn what_is_no_text_is_replaced_and_never_held_back() {
        let mut text = Text::default();
        assert_eq!(text.push(b"a\xff\xfeb\xff"), "a\u{fffd}\u{fffd}b\u{fffd}");
        assert_eq!(text.push(b"\xe2\x82"), "");
        assert_eq!(text.push(b"x"), "\u{fffd}x");
        assert_eq!(text.push(b"\xf0"), "");
        assert_eq!(text.finish().as_deref(), Some("\u{fffd}"));
    }
}
