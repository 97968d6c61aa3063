//! Making a stream small while it is read, in bounded memory.

use std::collections::{BTreeSet, VecDeque};

use super::{
    Excerpt, Kind, MAX_LINE, MAX_LINES, MAX_LOOK, Part, ceil_boundary, count_ends, drop_front,
    floor_boundary, is_notable,
};

/// Different notable lines remembered, so that each is kept once.
const MAX_REMEMBERED: usize = 256;

/// Keeps the beginning, the end and notable lines of what it is given.
#[derive(Clone, Debug)]
pub struct Compactor {
    head_room: usize,
    tail_room: usize,
    total: u64,
    lines: u64,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// Line ends before the first byte of `tail`.
    lines_before_tail: u64,
    /// The beginning of the line that is not over, and where it stands.
    line: Vec<u8>,
    line_from: u64,
    /// The first notable lines that are not in the head.
    first: Vec<Part>,
    /// The newest ones. Those of the tail are among them: they are shown there, so as many are
    /// kept as the tail can hold, and some.
    newest: VecDeque<Part>,
    seen: BTreeSet<Vec<u8>>,
    /// Bytes are missing somewhere.
    skipped: bool,
    /// Bytes that were skipped and that nothing came behind yet.
    pending: u64,
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
            pending: 0,
        }
    }

    /// The next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.pass_gap();
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let room = MAX_LOOK.saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            self.total += piece.len() as u64;
            if piece.ends_with(b"\n") {
                self.end_line();
                self.lines += 1;
            }
        }
        let for_head = bytes.len().min(self.head_room.saturating_sub(self.head.len()));
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

    /// Bytes that nobody has, or nobody reads: a gap in the record, the middle of gigabytes. What
    /// comes next stands behind them; when nothing comes, the end is that of what was given. Lines
    /// are not counted in them.
    pub fn skip(&mut self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.end_line();
        self.skipped = true;
        self.pending += bytes;
    }

    /// Neither beginning nor end may have a hole.
    fn pass_gap(&mut self) {
        let gap = std::mem::take(&mut self.pending);
        if gap == 0 {
            return;
        }
        self.total += gap;
        self.line_from = self.total;
        self.head_room = self.head.len();
        self.lines_before_tail += self.tail.iter().filter(|b| **b == b'\n').count() as u64;
        self.tail.clear();
    }

    /// The line is over, or no more of it is known.
    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let from = std::mem::replace(&mut self.line_from, self.total);
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let shown = !self.skipped && from + text.len() as u64 <= self.head_room as u64;
        if shown || text.is_empty() || !is_notable(text) {
            return;
        }
        let bytes = text[..floor_boundary(text, text.len().min(MAX_LINE))].to_vec();
        // Lines that differ in numbers alone say the same.
        let same: Vec<u8> = bytes.iter().copied().filter(|b| !b.is_ascii_digit()).collect();
        if self.seen.contains(&same) {
            return;
        }
        if self.seen.len() < MAX_REMEMBERED {
            self.seen.insert(same);
        }
        let part = Part { kind: Kind::Line, from, line: self.lines + 1, bytes };
        if self.first.len() < MAX_LINES / 2 {
            self.first.push(part);
            return;
        }
        self.newest.push_back(part);
        if self.newest.len() > MAX_LINES + self.tail_room / 8 {
            self.newest.pop_front();
        }
    }

    /// What is kept.
    #[must_use]
    pub fn finish(mut self) -> Excerpt {
        self.end_line();
        let (total, lines) = (self.total + self.pending, self.lines);
        let mut head = Part { kind: Kind::Head, from: 0, line: 1, bytes: self.head };
        let bytes: Vec<u8> = self.tail.into();
        let from = self.total - bytes.len() as u64;
        if from == head.to() {
            head.bytes.extend(bytes);
            let parts = if head.bytes.is_empty() { Vec::new() } else { vec![head] };
            return Excerpt { total, lines, parts };
        }
        head.bytes.truncate(floor_boundary(&head.bytes, head.bytes.len()));
        let mut tail = Part { kind: Kind::Tail, from, line: self.lines_before_tail + 1, bytes };
        let cut = ceil_boundary(&tail.bytes);
        drop_front(&mut tail, cut);
        let hidden = |part: &Part| part.from.max(head.to()) < part.to().min(tail.from);
        let mut notable: Vec<Part> = self.first.into_iter().filter(&hidden).collect();
        let newest: Vec<Part> = self.newest.into_iter().filter(&hidden).collect();
        let room = MAX_LINES - notable.len();
        notable.extend(newest.into_iter().rev().take(room).rev());
        let parts = std::iter::once(head).chain(notable).chain([tail]);
        Excerpt { total, lines, parts: parts.filter(|part| !part.bytes.is_empty()).collect() }
    }
}
