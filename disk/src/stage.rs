//! Memory that begins at a whole block.

use crate::BLOCK;

/// What is to be written next, where a disk can take it from. Has no memory until it is given some.
#[derive(Debug, Default)]
pub struct Stage {
    memory: Vec<u8>,
    /// Where the first whole block of it begins.
    from: usize,
    room: usize,
    length: usize,
}

impl Stage {
    /// Makes sure that so many bytes fit, in whole blocks. What was in it is gone if it has to grow.
    pub fn make(&mut self, bytes: usize) {
        let room = bytes.next_multiple_of(BLOCK);
        if self.room < room {
            self.memory = vec![0; room + BLOCK];
            self.from = self.memory.as_ptr().align_offset(BLOCK).min(BLOCK);
            self.room = room;
            self.length = 0;
        }
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// Bytes in it.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Whether nothing more fits.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.length == self.room
    }

    /// Takes what fits; gives back what does not.
    pub fn take<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let (fits, rest) = bytes.split_at(bytes.len().min(self.room - self.length));
        let at = self.from + self.length;
        if let Some(into) = self.memory.get_mut(at..at + fits.len()) {
            into.copy_from_slice(fits);
        }
        self.length += fits.len();
        rest
    }

    /// What is in it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.memory.get(self.from..self.from + self.length).unwrap_or_default()
    }

    /// What is in it, filled up with zeros to whole blocks.
    pub fn filled_up(&mut self) -> &[u8] {
        let whole = self.length.next_multiple_of(BLOCK);
        let (from, to) = (self.from + self.length, self.from + whole);
        self.memory.get_mut(from..to).unwrap_or_default().fill(0);
        self.memory.get(self.from..to).unwrap_or_default()
    }

    /// Forgets the first bytes; the rest moves to the front.
    pub fn forget(&mut self, bytes: usize) {
        let bytes = bytes.min(self.length);
        self.memory.copy_within(self.from + bytes..self.from + self.length, self.from);
        self.length -= bytes;
    }
}
