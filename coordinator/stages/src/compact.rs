//! Output made small enough for a model: its beginning and end, lines of the middle that look like
//! trouble, and what was left out. Every part knows where it stood.

use std::collections::{BTreeSet, VecDeque};
use std::sync::LazyLock;

use regex::bytes::Regex;
use serde::{Deserialize, Serialize};

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

/// A stream made small. Parts are in order and do not overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// Bytes the stream had.
    pub total: u64,
    /// Lines it had, counted by their ends.
    pub lines: u64,
    /// What was kept.
    pub parts: Vec<Part>,
    /// Lines between that looked like trouble and were not kept.
    pub more_notable: u64,
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
            self.more_notable += 1;
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
            let cut = ceil_boundary(&tail.bytes, cut);
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

/// Makes a stream small while it is read, in bounded memory.
#[derive(Clone, Debug)]
pub struct Compactor {
    head_room: usize,
    tail_room: usize,
    total: u64,
    lines: u64,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// Line ends in the bytes that `tail` has let go of, and in the head.
    lines_before_tail: u64,
    /// The current line, its beginning at most; where it began; its number.
    line: Vec<u8>,
    line_from: u64,
    /// Notable lines, the first ones and the newest ones, and how many there were.
    first: Vec<Part>,
    newest: VecDeque<Part>,
    seen: BTreeSet<Vec<u8>>,
    skipped: bool,
    notable: u64,
}

impl Compactor {
    /// Keeps so many bytes beside notable lines.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let head_room = max * 2 / 5;
        Self {
            head_room,
            tail_room: max - head_room,
            total: 0,
            lines: 0,
            head: Vec::new(),
            tail: VecDeque::new(),
            lines_before_tail: 0,
            line: Vec::new(),
            line_from: 0,
            first: Vec::new(),
            newest: VecDeque::new(),
            seen: BTreeSet::new(),
            skipped: false,
            notable: 0,
        }
    }

    /// The next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let room = MAX_LOOK.saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            self.total += piece.len() as u64;
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
        let for_head = bytes.len().min(self.head_room - self.head.len());
        let (head, rest) = bytes.split_at(for_head);
        self.head.extend_from_slice(head);
        self.lines_before_tail += count_ends(head);
        let over = (self.tail.len() + rest.len()).saturating_sub(self.tail_room);
        let gone = over.min(self.tail.len());
        self.lines_before_tail += self.tail.drain(..gone).filter(|b| *b == b'\n').count() as u64;
        let (dropped, kept) = rest.split_at(over - gone);
        self.lines_before_tail += count_ends(dropped);
        self.tail.extend(kept);
    }

    /// Bytes that nobody has: a gap in the record, or more than is worth reading. What comes then
    /// is counted from behind them.
    pub fn skip(&mut self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.end_line();
        self.total += bytes;
        self.line_from = self.total;
        // Neither the head nor the tail may have a hole: the head ends here, the tail begins anew.
        self.head_room = self.head.len();
        self.lines_before_tail += self.tail.iter().filter(|b| **b == b'\n').count() as u64;
        self.tail.clear();
        self.skipped = true;
    }

    fn end_line(&mut self) {
        let ended = self.line.ends_with(b"\n");
        let line = std::mem::take(&mut self.line);
        let from = std::mem::replace(&mut self.line_from, self.total);
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        self.lines += u64::from(ended);
        if text.is_empty() || !is_notable(text) {
            return;
        }
        self.notable += 1;
        let bytes = text[..floor_boundary(text, text.len().min(MAX_LINE))].to_vec();
        let same: Vec<u8> = bytes.iter().copied().filter(|b| !b.is_ascii_digit()).collect();
        let number = self.lines + u64::from(!ended);
        let part = Part { kind: Kind::Line, from, line: number, bytes };
        let in_head = part.from < self.head_room as u64 && !self.skipped;
        if in_head || !self.seen.contains(&same) {
            // Bounded: the texts of lines that could still be shown.
            if self.seen.len() < 4 * MAX_LINES && !in_head {
                self.seen.insert(same);
            }
            if !in_head && self.first.len() < MAX_LINES / 2 {
                self.first.push(part);
                return;
            }
            self.newest.push_back(part);
            // Lines of the tail are shown there: as many as it can hold are kept beside.
            if self.newest.len() > MAX_LINES / 2 + self.tail_room / 4 {
                self.newest.pop_front();
            }
        }
    }

    /// What is kept.
    #[must_use]
    pub fn finish(mut self) -> Excerpt {
        if !self.line.is_empty() {
            self.end_line();
        }
        let mut head = self.head;
        let mut tail: Vec<u8> = self.tail.into();
        let tail_from = self.total - tail.len() as u64;
        if tail_from == head.len() as u64 && !self.skipped {
            // Nothing is missing between.
            head.append(&mut tail);
            let parts = if head.is_empty() {
                Vec::new()
            } else {
                vec![Part { kind: Kind::Head, from: 0, line: 1, bytes: head }]
            };
            return Excerpt { total: self.total, lines: self.lines, parts, more_notable: 0 };
        }
        head.truncate(floor_boundary(&head, head.len()));
        let mut tail = Part {
            kind: Kind::Tail,
            from: tail_from,
            line: self.lines_before_tail + 1,
            bytes: tail,
        };
        let cut = ceil_boundary(&tail.bytes, 0);
        drop_front(&mut tail, cut);
        let (gap_from, gap_to) = (head.len() as u64, tail.from);
        let in_gap = |part: &Part| part.from >= gap_from && part.to() <= gap_to;
        let outside = self.first.iter().chain(&self.newest).filter(|part| !in_gap(part)).count();
        let mut lines: Vec<Part> = self.first.into_iter().filter(in_gap).collect();
        let newest: Vec<Part> = self.newest.into_iter().filter(in_gap).collect();
        let room = MAX_LINES - lines.len();
        lines.extend(newest.into_iter().rev().take(room).collect::<Vec<_>>().into_iter().rev());
        let more = self.notable.saturating_sub((lines.len() + outside) as u64);
        let mut parts = Vec::with_capacity(lines.len() + 2);
        if !head.is_empty() {
            parts.push(Part { kind: Kind::Head, from: 0, line: 1, bytes: head });
        }
        parts.extend(lines);
        if !tail.bytes.is_empty() {
            parts.push(tail);
        }
        Excerpt { total: self.total, lines: self.lines, parts, more_notable: more }
    }
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

/// The beginning of the next character at or behind.
fn ceil_boundary(bytes: &[u8], at: usize) -> usize {
    let at = at.min(bytes.len());
    let inside = bytes[at..].iter().take(3).take_while(|b| (0x80..0xc0).contains(*b)).count();
    // A row of such bytes is no UTF-8 text: nothing is won by cutting.
    if at > 0 || inside < 3 { at + inside } else { at }
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
