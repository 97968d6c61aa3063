//! Output made small enough for a model: its beginning and end, lines of the middle that look like
//! trouble, and what was left out. Every part knows where it stood.

mod stream;

use std::sync::LazyLock;

use regex::bytes::Regex;
use serde::{Deserialize, Serialize};

pub use stream::Compactor;

/// Bytes of one command's output that are kept, beside notable lines. 40 % are its beginning.
pub const MAX_BYTES: usize = 10_000;

/// Notable lines kept of what was left out.
pub const MAX_LINES: usize = 20;

/// Bytes kept of a notable line.
const MAX_LINE: usize = 240;

/// Bytes of a line that are looked at; what follows is not searched.
const MAX_LOOK: usize = 4096;

/// Which part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The beginning.
    Head,
    /// A line between that looks like trouble.
    Line,
    /// The end.
    Tail,
}

/// Bytes of a stream and where they stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which part.
    pub kind: Kind,
    /// Offset of the first byte in the stream.
    pub from: u64,
    /// Line number of the first byte, from 1.
    pub line: u64,
    /// The bytes.
    #[serde(with = "as_text")]
    pub bytes: Vec<u8>,
}

impl Part {
    /// Offset behind the last byte.
    #[must_use]
    pub fn to(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }
}

/// A stream made small. Parts are in order: the beginning, notable lines, the end. A line that was
/// cut at the beginning of the gap or at its end is there whole, and so are some bytes twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// Bytes the stream had.
    pub total: u64,
    /// Lines it had, counted by their ends.
    pub lines: u64,
    /// What was kept.
    pub parts: Vec<Part>,
}

impl Excerpt {
    /// Of a whole output.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut compactor = Compactor::new(MAX_BYTES);
        compactor.push(bytes);
        compactor.finish()
    }

    /// Bytes kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.len()).sum()
    }

    /// Whether there was no output.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Makes it smaller still: notable lines from the middle go first, then beginning and end are
    /// cut, 40 to 60.
    pub fn shrink(&mut self, max: usize) {
        while self.kept() > max {
            let Some(line) = self.parts.iter().rposition(|part| part.kind == Kind::Line) else {
                break;
            };
            self.parts.remove(line);
        }
        if self.kept() <= max {
            return;
        }
        let parts = std::mem::take(&mut self.parts);
        let mut head = parts.iter().find(|part| part.kind == Kind::Head).cloned();
        let mut tail = parts.into_iter().find(|part| part.kind == Kind::Tail);
        if let (Some(whole), None) = (&head, &tail) {
            // It was whole until now: its end is as good as its beginning.
            let middle = floor_boundary(&whole.bytes, whole.bytes.len() * 2 / 5);
            let mut rest = whole.clone();
            rest.kind = Kind::Tail;
            drop_front(&mut rest, middle);
            tail = Some(rest);
            if let Some(head) = &mut head {
                head.bytes.truncate(middle);
            }
        }
        let for_head =
            (max * 2 / 5).max(max.saturating_sub(tail.as_ref().map_or(0, |p| p.bytes.len())));
        if let Some(head) = &mut head {
            let end = floor_boundary(&head.bytes, for_head.min(head.bytes.len()));
            head.bytes.truncate(end);
        }
        if let Some(tail) = &mut tail {
            let room = max.saturating_sub(head.as_ref().map_or(0, |part| part.bytes.len()));
            let cut = tail.bytes.len().saturating_sub(room);
            let cut = cut + ceil_boundary(&tail.bytes[cut..]);
            drop_front(tail, cut);
        }
        self.parts = [head, tail].into_iter().flatten().filter(|p| !p.bytes.is_empty()).collect();
    }

    /// Its last line that is not blank, with its offset.
    #[must_use]
    pub fn last_line(&self) -> Option<(u64, &[u8])> {
        let part = self.parts.last()?;
        let mut end = part.bytes.len();
        while end > 0 && part.bytes[end - 1].is_ascii_whitespace() {
            end -= 1;
        }
        if end == 0 {
            return None;
        }
        let start = part.bytes[..end].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        Some((part.from + start as u64, &part.bytes[start..end]))
    }

    /// Its first line that looks like trouble, with its offset.
    #[must_use]
    pub fn first_notable(&self) -> Option<(u64, &[u8])> {
        self.parts.iter().find_map(|part| {
            let mut from = part.from;
            part.bytes.split_inclusive(|b| *b == b'\n').find_map(|line| {
                let at = from;
                from += line.len() as u64;
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                is_notable(line).then_some((at, line))
            })
        })
    }
}

fn drop_front(part: &mut Part, bytes: usize) {
    part.line += part.bytes[..bytes].iter().filter(|b| **b == b'\n').count() as u64;
    part.from += bytes as u64;
    part.bytes.drain(..bytes);
}

/// Whether a line looks like trouble.
#[must_use]
pub fn is_notable(line: &[u8]) -> bool {
    static TROUBLE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(
            r"(?i-u)error|fail|fatal|panic|denied|refused|cannot|can't|could not|unable|timed? ?out|not found|no such|no space|segfault|killed|out of memory|oom-|traceback|exception|critical|emerg|warn|corrupt|unreachable|invalid|abort|read-only file",
        )
        .ok()
    });
    TROUBLE.as_ref().is_some_and(|trouble| trouble.is_match(&line[..line.len().min(MAX_LOOK)]))
}

fn count_ends(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|b| **b == b'\n').count() as u64
}

/// The end of the last whole character at or before; bytes that are no UTF-8 are cut anywhere.
fn floor_boundary(bytes: &[u8], at: usize) -> usize {
    let mut start = at.min(bytes.len());
    let end = start;
    // At the end of a cut piece the next byte is not known: look at the last character itself.
    for _ in 0..4 {
        if start == 0 {
            return end;
        }
        start -= 1;
        let byte = bytes[start];
        if byte < 0x80 {
            return end;
        }
        if byte >= 0xc0 {
            let width = if byte >= 0xf0 {
                4
            } else if byte >= 0xe0 {
                3
            } else {
                2
            };
            return if start + width > end { start } else { end };
        }
    }
    end
}

/// Bytes of a character whose beginning is missing, at the beginning.
fn ceil_boundary(bytes: &[u8]) -> usize {
    let inside = bytes.iter().take(4).take_while(|b| (0x80..0xc0).contains(*b)).count();
    // Four in a row are no UTF-8: nothing is won by cutting.
    if inside < 4 { inside } else { 0 }
}

/// Bytes as text where they are, else as base64: records stay readable.
mod as_text {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Form<'a> {
        Text(std::borrow::Cow<'a, str>),
        Base64(String),
    }

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Form::Text(text.into()).serialize(to),
            Err(_) => Form::Base64(STANDARD.encode(bytes)).serialize(to),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        match Form::deserialize(from)? {
            Form::Text(text) => Ok(text.into_owned().into_bytes()),
            Form::Base64(text) => STANDARD.decode(text).map_err(D::Error::custom),
        }
    }
}
