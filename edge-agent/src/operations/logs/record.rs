//! Writing the answer. Records are written field by field: building and serializing a structure for
//! each of ten million lines would take longer than finding them.

use std::io::{self, Write};

use memchr::memchr;
use reeve_protocol::ops::TimeFrom;

/// Bytes of a line that are shown. What is longer says how long it is.
pub const MAX_TEXT: usize = 256 * 1024;

/// An entry of a log, or a word on how far one was read when it has no `text`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    pub time_us: i64,
    pub time_from: Option<TimeFrom>,
    /// As JSON, with its quotes: it is the same for many records.
    pub source: &'a str,
    pub text: Option<&'a [u8]>,
    /// Bytes of the entry, when `text` is not all of it.
    pub length: Option<u64>,
    pub priority: Option<u8>,
    pub pid: Option<&'a [u8]>,
    pub identifier: Option<&'a [u8]>,
    pub host: Option<&'a [u8]>,
    /// As JSON, with quotes.
    pub place: Option<&'a str>,
    /// Without quotes, of characters that need no escape.
    pub cursor: Option<&'a str>,
    pub caught_up: bool,
    pub done: bool,
}

impl Record<'_> {
    /// Writes it as one line, in the form of [`reeve_protocol::ops::LogRecord`].
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(b"{\"time_us\":")?;
        write!(out, "{}", self.time_us)?;
        if let Some(from) = self.time_from {
            out.write_all(match from {
                TimeFrom::Before => b",\"time_from\":\"before\"",
                TimeFrom::Read => b",\"time_from\":\"read\"",
            })?;
        }
        if !self.source.is_empty() {
            out.write_all(b",\"source\":")?;
            out.write_all(self.source.as_bytes())?;
        }
        if let Some(priority) = self.priority {
            write!(out, ",\"priority\":{priority}")?;
        }
        if let Some(pid) = self.pid.filter(|pid| is_number(pid)) {
            out.write_all(b",\"pid\":")?;
            out.write_all(pid)?;
        }
        for (name, value) in [("identifier", self.identifier), ("host", self.host)] {
            if let Some(text) = value.and_then(|value| std::str::from_utf8(value).ok()) {
                write!(out, ",\"{name}\":")?;
                write_string(out, text)?;
            }
        }
        if let Some(text) = self.text {
            self.write_text(out, text)?;
        }
        if let Some(place) = self.place {
            write!(out, ",\"place\":{place}")?;
        }
        if let Some(cursor) = self.cursor {
            write!(out, ",\"cursor\":\"{cursor}\"")?;
        }
        if self.caught_up {
            out.write_all(b",\"caught_up\":true")?;
        }
        if self.done {
            out.write_all(b",\"done\":true")?;
        }
        out.write_all(b"}\n")
    }

    fn write_text(&self, out: &mut impl Write, text: &[u8]) -> io::Result<()> {
        let shown = text.get(..MAX_TEXT).unwrap_or(text);
        match std::str::from_utf8(shown) {
            Ok(text) => {
                out.write_all(b",\"text\":")?;
                write_string(out, text)?;
            }
            // Cut in the middle of a character, and otherwise text.
            Err(error) if error.error_len().is_none() && shown.len() < text.len() => {
                let whole = shown.get(..error.valid_up_to()).unwrap_or_default();
                out.write_all(b",\"text\":")?;
                write_string(out, &String::from_utf8_lossy(whole))?;
            }
            Err(_) => {
                out.write_all(b",\"hex\":\"")?;
                for byte in shown {
                    write!(out, "{byte:02x}")?;
                }
                out.write_all(b"\"")?;
            }
        }
        let length = self.length.unwrap_or(text.len() as u64);
        if length > shown.len() as u64 {
            write!(out, ",\"length\":{length}")?;
        }
        Ok(())
    }
}

/// A process id as JSON takes numbers: digits, no zero before others.
fn is_number(text: &[u8]) -> bool {
    !text.is_empty()
        && text.len() < 10
        && text.iter().all(u8::is_ascii_digit)
        && (text.len() == 1 || text.first() != Some(&b'0'))
}

/// A text as JSON with quotes.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    // A Vec takes everything.
    let _ = write_string(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

/// RFC 8259, section 7.
fn write_string(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(b"\"")?;
    let mut rest = text.as_bytes();
    while let Some(at) = next_escape(rest) {
        let (before, from) = rest.split_at(at);
        out.write_all(before)?;
        let Some((byte, after)) = from.split_first() else { break };
        match byte {
            b'"' => out.write_all(b"\\\"")?,
            b'\\' => out.write_all(b"\\\\")?,
            b'\t' => out.write_all(b"\\t")?,
            b'\n' => out.write_all(b"\\n")?,
            b'\r' => out.write_all(b"\\r")?,
            other => write!(out, "\\u{other:04x}")?,
        }
        rest = after;
    }
    out.write_all(rest)?;
    out.write_all(b"\"")
}

fn next_escape(bytes: &[u8]) -> Option<usize> {
    // Most lines have neither; the library's search is far quicker than a look at every byte.
    let limit = [b'"', b'\\'].iter().filter_map(|byte| memchr(*byte, bytes)).min();
    let searched = bytes.get(..limit.unwrap_or(bytes.len())).unwrap_or(bytes);
    searched.iter().position(|byte| *byte < 0x20).or(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reeve_protocol::ops::LogRecord;

    fn read_back(record: &Record<'_>) -> LogRecord {
        let mut line = Vec::new();
        record.write(&mut line).expect("a Vec takes everything");
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&line).expect("a record")
    }

    #[test]
    fn every_field_comes_back_as_it_was() {
        let source = quoted("/var/log/od\"d\n.log");
        let record = Record {
            time_us: -5,
            time_from: Some(TimeFrom::Read),
            source: &source,
            text: Some("tab\t\"quote\" \\ \u{1} grüße\r".as_bytes()),
            priority: Some(3),
            pid: Some(b"4711"),
            identifier: Some(b"a\"b"),
            host: Some(b"web"),
            place: Some("\"p\""),
            cursor: Some("f:1"),
            ..Record::default()
        };
        let got = read_back(&record);
        assert_eq!(got.source, "/var/log/od\"d\n.log");
        assert_eq!(got.text.as_deref(), Some("tab\t\"quote\" \\ \u{1} grüße\r"));
        assert_eq!((got.time_us, got.priority, got.pid), (-5, Some(3), Some(4711)));
        assert_eq!(got.identifier.as_deref(), Some("a\"b"));
        assert_eq!((got.cursor.as_deref(), got.place.as_deref()), (Some("f:1"), Some("p")));
        assert_eq!(got.time_from, Some(TimeFrom::Read));
    }

    #[test]
    fn bytes_that_are_no_text_come_as_hex_and_long_ones_are_cut() {
        let got = read_back(&Record { text: Some(b"\xff\x00a"), ..Record::default() });
        assert_eq!(got.bytes(), b"\xff\x00a");
        let long = "ä".repeat(MAX_TEXT);
        let got = read_back(&Record { text: Some(&long.as_bytes()[1..]), ..Record::default() });
        assert!(got.hex.is_some());
        let text = format!("x{long}");
        let got = read_back(&Record { text: Some(text.as_bytes()), ..Record::default() });
        assert_eq!(got.text.map(|text| text.len()), Some(MAX_TEXT - 1));
        assert_eq!(got.length, Some(text.len() as u64));
    }

    #[test]
    fn odd_process_ids_break_nothing() {
        for pid in [&b"007"[..], b"", b"-1", b"1e9", b"99999999999"] {
            assert_eq!(read_back(&Record { pid: Some(pid), ..Record::default() }).pid, None);
        }
    }
}
