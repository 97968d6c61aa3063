//! Whole lines out of a file or of what it unpacks to, in blocks, with the offset behind each.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::record::MAX_TEXT;

/// Bytes held of a file at most: lines that are longer are cut.
pub const MOST: usize = 1024 * 1024;
/// And at least, when many are read at once.
pub const LEAST: usize = 32 * 1024;

/// Where lines come from.
pub enum Body {
    /// A file; can be read anywhere.
    Plain(File),
    /// What a packed file unpacks to, from front to back.
    Packed(Box<dyn Read>),
}

/// A line that was too long to be held.
struct Long {
    head: Vec<u8>,
    from: u64,
    length: u64,
}

/// What came.
pub enum Block {
    /// Whole lines, in the buffer. The last one may lack its end when it is the last of all.
    Lines,
    /// The beginning of a line that is longer than the buffer.
    Cut {
        head: Vec<u8>,
        length: u64,
        /// The offset of its first byte.
        from: u64,
        /// The offset behind it.
        next: u64,
    },
}

/// Reads lines. Remembers what came of a line that has not ended, so that it can go on when there
/// is more.
pub struct Lines {
    body: Body,
    /// Offset of the buffer's first byte.
    base: u64,
    buffer: Vec<u8>,
    /// Bytes of the buffer that hold something.
    filled: usize,
    /// Bytes of it that were handed out as a block.
    given: usize,
    /// Nothing from here on is read.
    end: u64,
    capacity: usize,
    long: Option<Long>,
}

impl Lines {
    /// Lines from an offset on, which has to be the beginning of one.
    #[must_use]
    pub fn new(body: Body, from: u64, capacity: usize) -> Self {
        Self {
            body,
            base: from,
            buffer: Vec::new(),
            filled: 0,
            given: 0,
            end: u64::MAX,
            capacity,
            long: None,
        }
    }

    /// Reads nothing from this offset on.
    pub fn stop_at(&mut self, end: u64) {
        self.end = end;
    }

    /// The last block's lines.
    #[must_use]
    pub fn block(&self) -> &[u8] {
        self.buffer.get(..self.given).unwrap_or_default()
    }

    /// The offset of the last block's first byte.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The offset of what was not handed out yet: behind the last whole line.
    #[must_use]
    pub fn position(&self) -> u64 {
        match &self.long {
            Some(long) => long.from,
            None => self.base + self.given as u64,
        }
    }

    /// How far it was read.
    #[must_use]
    pub fn reached(&self) -> u64 {
        match &self.long {
            Some(long) => long.from + long.length,
            None => self.base + self.filled as u64,
        }
    }

    /// The file, unless it is packed.
    #[must_use]
    pub fn file(&self) -> Option<&File> {
        match &self.body {
            Body::Plain(file) => Some(file),
            Body::Packed(_) => None,
        }
    }

    /// The next block; `None` when there is no whole line now. With `last`, a line without an end is
    /// one too.
    ///
    /// # Errors
    /// What read(2), or unpacking, says.
    pub fn next(&mut self, last: bool) -> io::Result<Option<Block>> {
        self.buffer.copy_within(self.given..self.filled, 0);
        self.filled -= self.given;
        self.base += self.given as u64;
        self.given = 0;
        // Behind a line that was cut, whole ones may be here already.
        let held = self.buffer.get(..self.filled).unwrap_or_default();
        if let Some(newline) = memchr::memrchr(b'\n', held) {
            self.given = newline + 1;
            return Ok(Some(Block::Lines));
        }
        loop {
            if self.long.is_some() {
                return self.skip_long(last);
            }
            if self.buffer.len() < self.capacity {
                self.buffer.resize(self.capacity, 0);
            }
            let count = self.read()?;
            if count == 0 {
                self.give_back();
                if last && self.filled > 0 {
                    self.given = self.filled;
                    return Ok(Some(Block::Lines));
                }
                return Ok(None);
            }
            let fresh = self.buffer.get(self.filled..self.filled + count).unwrap_or_default();
            let newline = memchr::memrchr(b'\n', fresh).map(|at| self.filled + at + 1);
            self.filled += count;
            if let Some(end) = newline {
                self.given = end;
                return Ok(Some(Block::Lines));
            }
            if self.filled == self.capacity {
                let head = self.buffer.get(..MAX_TEXT.min(self.filled)).unwrap_or_default();
                self.long =
                    Some(Long { head: head.to_vec(), from: self.base, length: self.filled as u64 });
                self.base += self.filled as u64;
                self.filled = 0;
            }
        }
    }

    /// Goes on to the end of a line that is too long, counting.
    fn skip_long(&mut self, last: bool) -> io::Result<Option<Block>> {
        loop {
            if self.buffer.len() < self.capacity {
                self.buffer.resize(self.capacity, 0);
            }
            let count = self.read()?;
            let fresh = self.buffer.get(..count).unwrap_or_default();
            let newline = memchr::memchr(b'\n', fresh);
            let Some(long) = &mut self.long else { return Ok(None) };
            let skipped = newline.unwrap_or(count);
            long.length += skipped as u64;
            if newline.is_none() && count > 0 {
                self.base += count as u64;
                continue;
            }
            if newline.is_none() && !last {
                self.give_back();
                return Ok(None);
            }
            let (head, length, from) = (std::mem::take(&mut long.head), long.length, long.from);
            self.long = None;
            let used = skipped + usize::from(newline.is_some());
            self.buffer.copy_within(used..count, 0);
            self.filled = count - used;
            self.base += used as u64;
            return Ok(Some(Block::Cut { head, length, from, next: self.base }));
        }
    }

    /// Reads once behind what is there; 0 bytes are the end for now.
    fn read(&mut self) -> io::Result<usize> {
        let at = self.base + self.filled as u64;
        let room = self.buffer.get_mut(self.filled..self.capacity).unwrap_or_default();
        let limit = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let limit = limit.min(room.len());
        let Some(room) = room.get_mut(..limit).filter(|room| !room.is_empty()) else {
            return Ok(0);
        };
        loop {
            let read = match &mut self.body {
                Body::Plain(file) => file.read_at(room, at),
                Body::Packed(reader) => reader.read(room),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Keeps no more memory than the beginning of a line needs: a thousand files may be followed.
    fn give_back(&mut self) {
        self.buffer.truncate(self.filled);
        self.buffer.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn all(lines: &mut Lines, last: bool) -> Vec<(String, u64)> {
        let mut got = Vec::new();
        while let Some(block) = lines.next(last).expect("reads") {
            match block {
                Block::Lines => {
                    got.push((
                        String::from_utf8_lossy(lines.block()).into_owned(),
                        lines.position(),
                    ));
                }
                Block::Cut { head, length, next, .. } => {
                    got.push((format!("{}+{length}", head.len()), next))
                }
            }
        }
        got
    }

    #[test]
    fn cut_line_begins_where_it_begins_with_and_without_an_end() {
        for end in ["", "\n"] {
            let mut file = tempfile::tempfile().expect("a file");
            write!(file, "short\n{}{end}", "x".repeat(100)).expect("written");
            let mut lines = Lines::new(Body::Plain(file), 0, 64);
            let mut places = Vec::new();
            while let Some(block) = lines.next(true).expect("reads") {
                if let Block::Cut { from, next, .. } = block {
                    places.push((from, next));
                }
            }
            assert_eq!(places, [(6, 106 + end.len() as u64)]);
        }
    }

    #[test]
    fn line_without_an_end_is_held_until_it_is_whole() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"one\ntwo\nthr").expect("write");
        let mut lines = Lines::new(Body::Plain(file.try_clone().expect("clone")), 0, LEAST);
        assert_eq!(all(&mut lines, false), [("one\ntwo\n".to_owned(), 8)]);
        assert_eq!((lines.position(), lines.reached()), (8, 11));
        file.write_all(b"ee\nfour").expect("write");
        assert_eq!(all(&mut lines, false), [("three\n".to_owned(), 14)]);
        assert_eq!(all(&mut lines, true), [("four".to_owned(), 18)]);
    }

    #[test]
    fn line_that_is_too_long_is_cut_and_what_follows_is_whole() {
        let mut file = tempfile::tempfile().expect("a file");
        let long = vec![b'x'; 5 * LEAST + 17];
        file.write_all(b"a\n").expect("write");
        file.write_all(&long).expect("write");
        let mut lines = Lines::new(Body::Plain(file.try_clone().expect("clone")), 0, LEAST);
        assert_eq!(all(&mut lines, false), [("a\n".to_owned(), 2)]);
        assert_eq!(lines.position(), 2, "one goes on before it");
        file.write_all(b"yy\nb\n").expect("write");
        let end = (2 + long.len() + 3) as u64;
        let cut = format!("{LEAST}+{}", long.len() + 2);
        assert_eq!(all(&mut lines, false), [(cut, end), ("b\n".to_owned(), end + 2)]);
    }

    #[test]
    fn blocks_end_with_lines_whatever_the_buffer() {
        let mut file = tempfile::tempfile().expect("a file");
        let mut text = Vec::new();
        for n in 0..20_000 {
            writeln!(text, "line {n}").expect("write");
        }
        file.write_all(&text).expect("write");
        let mut lines = Lines::new(Body::Plain(file), 0, LEAST);
        lines.stop_at(1000);
        let joined: String = all(&mut lines, true).into_iter().map(|(text, _)| text).collect();
        assert_eq!(joined.as_bytes(), &text[..1000]);
        lines.stop_at(u64::MAX);
        let rest: String = all(&mut lines, true).into_iter().map(|(text, _)| text).collect();
        assert_eq!(rest.as_bytes(), &text[1000..]);
    }
}
