//! Files with endless lines, read so that no line is longer than memory allows: line feeds are put
//! in where a line goes on for too long, and it is remembered where.

use std::cell::RefCell;
use std::io::{self, Read};

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;

/// Where line feeds were put in: offsets in what was read from [`Pieces`], ascending.
#[derive(Default)]
pub struct Inserted(RefCell<Vec<u64>>);

impl Inserted {
    /// Whether there is any.
    pub fn is_used(&self) -> bool {
        !self.0.borrow().is_empty()
    }

    /// How many there are before an offset: by so much offset and line number are too high.
    pub fn before(&self, offset: u64) -> u64 {
        self.0.borrow().partition_point(|at| *at < offset) as u64
    }

    /// Whether one is exactly there.
    pub fn is_at(&self, offset: u64) -> bool {
        self.0.borrow().binary_search(&offset).is_ok()
    }
}

/// Reads with line feeds put in.
pub struct Pieces<'a, R> {
    inner: R,
    longest: usize,
    inserted: &'a Inserted,
    /// Bytes since the last line feed.
    run: usize,
    /// Bytes given out.
    given: u64,
    /// Read after a full piece, to be given behind its line feed.
    held: Option<u8>,
}

impl<'a, R: Read> Pieces<'a, R> {
    pub fn new(inner: R, longest: usize, inserted: &'a Inserted) -> Self {
        Self { inner, longest, inserted, run: 0, given: 0, held: None }
    }

    /// A piece is full: what follows says whether the line ends here anyway.
    fn end_piece(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut next = [0];
        if self.inner.read(&mut next)? == 0 {
            return Ok(0);
        }
        let [next] = next;
        if next != b'\n' {
            self.held = Some(next);
            self.inserted.0.borrow_mut().push(self.given);
        }
        self.run = 0;
        self.given += 1;
        if let Some(first) = buffer.first_mut() {
            *first = b'\n';
        }
        Ok(1)
    }
}

impl<R: Read> Read for Pieces<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if let Some(held) = self.held.take() {
            if let Some(first) = buffer.first_mut() {
                *first = held;
            }
            self.run = 1;
            self.given += 1;
            return Ok(1);
        }
        if self.run >= self.longest {
            return self.end_piece(buffer);
        }
        let most = buffer.len().min(READ_BYTES).min(self.longest - self.run);
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        let count = self.inner.read(buffer)?;
        let read = buffer.get(..count).unwrap_or_default();
        self.given += count as u64;
        self.run = match read.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => count - last - 1,
            None => self.run + count,
        };
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (String, Vec<u64>) {
        let inserted = Inserted::default();
        let mut out = String::new();
        Pieces::new(text.as_bytes(), 4, &inserted).read_to_string(&mut out).expect("read");
        (out, inserted.0.into_inner())
    }

    #[test]
    fn long_lines_come_in_pieces_and_others_as_they_are() {
        assert_eq!(read("ab\nabcd\n\nx"), ("ab\nabcd\n\nx".to_owned(), vec![]));
        assert_eq!(read("abcdefghij\nx"), ("abcd\nefgh\nij\nx".to_owned(), vec![4, 9]));
        assert_eq!(read("abcdefgh\n"), ("abcd\nefgh\n".to_owned(), vec![4]));
        assert_eq!(read("abcd"), ("abcd".to_owned(), vec![]));
        assert_eq!(read(""), (String::new(), vec![]));
    }

    #[test]
    fn offsets_can_be_had_back() {
        let inserted = Inserted(RefCell::new(vec![4, 9]));
        assert_eq!([0, 4, 5, 9, 10].map(|at| inserted.before(at)), [0, 0, 1, 1, 2]);
        assert!(inserted.is_at(9) && !inserted.is_at(8) && inserted.is_used());
    }
}
