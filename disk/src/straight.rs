//! Appending to a file: what is large goes straight to the disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use crate::{BLOCK, Stage, direct_flag, is_unfit};

/// The beginning of every file goes through the page cache: whoever makes a small file reads it soon.
const CACHED_BYTES: u64 = 8 * 1024 * 1024;

/// Less at once is not worth a way of its own to the disk.
const WORTH_BYTES: usize = 64 * 1024;

/// Copied and written at once.
const STAGE_BYTES: usize = 1024 * 1024;

/// Appends to one file. Less than a block may be held back until [`Self::finish`].
#[derive(Debug, Default)]
pub struct Straight {
    /// The same file once more. It stays open even when it turns out to be of no use: closing it
    /// would give up locks of the process on the file (fcntl(2), F_SETLK).
    direct: Option<File>,
    state: State,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing large has come.
    #[default]
    Untried,
    Fit,
    Unfit,
}

impl Straight {
    /// Puts bytes at `at`, which is behind everything that was appended before.
    ///
    /// # Errors
    /// When the disk does not take them. What was appended before may be cut by less than a block
    /// then, and nothing can be appended any more.
    pub fn append(&mut self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        if at < CACHED_BYTES || bytes.len() < WORTH_BYTES || !self.is_fit(file) {
            self.finish(file, at)?;
            return file.write_all_at(bytes, at);
        }
        let (mut at, mut rest) = (at, bytes);
        if self.stage.length() == 0 {
            let over = usize::try_from(at % BLOCK as u64).unwrap_or(0);
            let (before, blocks) = rest.split_at((BLOCK - over) % BLOCK);
            file.write_all_at(before, at)?;
            at += before.len() as u64;
            rest = blocks;
        }
        while !rest.is_empty() {
            self.stage.make(STAGE_BYTES);
            let from = at - self.stage.length() as u64;
            let behind = self.stage.take(rest);
            at += (rest.len() - behind.len()) as u64;
            rest = behind;
            self.write_blocks(file, from)?;
        }
        Ok(())
    }

    /// Writes what was held back; `end` is behind everything that was appended.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn finish(&mut self, file: &File, end: u64) -> io::Result<()> {
        let held = self.stage.bytes();
        if held.is_empty() {
            return Ok(());
        }
        file.write_all_at(held, end.saturating_sub(held.len() as u64))?;
        self.stage.clear();
        Ok(())
    }

    fn write_blocks(&mut self, file: &File, from: u64) -> io::Result<()> {
        let whole = self.stage.length() / BLOCK * BLOCK;
        let blocks = self.stage.bytes().get(..whole).unwrap_or_default();
        let direct = self.direct.as_ref().filter(|_| self.state == State::Fit);
        match direct.map(|direct| direct.write_all_at(blocks, from)) {
            Some(Ok(())) => {}
            Some(Err(error)) if !is_unfit(&error) => return Err(error),
            _ => {
                self.state = State::Unfit;
                file.write_all_at(blocks, from)?;
            }
        }
        self.stage.forget(whole);
        Ok(())
    }

    fn is_fit(&mut self, file: &File) -> bool {
        if self.state == State::Untried {
            self.direct = open_direct(file);
            self.state = if self.direct.is_some() { State::Fit } else { State::Unfit };
        }
        self.state == State::Fit
    }
}

/// The same file once more, whatever became of its name.
fn open_direct(file: &File) -> Option<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().write(true).custom_flags(direct_flag()?).open(path).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Appends pieces of these lengths to a file that has `before` bytes, and reads it back. How they
    /// were written.
    fn append(mut straight: Straight, before: usize, lengths: &[usize]) -> State {
        let mut file = tempfile::tempfile().expect("a file");
        let mut all: Vec<u8> = vec![1; before];
        file.write_all_at(&all, 0).expect("written");
        for (number, length) in lengths.iter().enumerate() {
            let piece: Vec<u8> = (0..*length).map(|n| (n % 251 + number) as u8).collect();
            straight.append(&file, all.len() as u64, &piece).expect("appended");
            all.extend(piece);
        }
        straight.finish(&file, all.len() as u64).expect("finished");
        let mut read = Vec::new();
        file.read_to_end(&mut read).expect("read");
        assert!(read == all, "{} bytes of {} after {lengths:?}", read.len(), all.len());
        straight.state
    }

    const LENGTHS: [usize; 11] = [
        1 << 20,
        WORTH_BYTES,
        3,
        WORTH_BYTES + 1,
        0,
        1 << 20,
        5000,
        STAGE_BYTES - 1,
        STAGE_BYTES * 2 + 77,
        1 << 20,
        BLOCK - 1,
    ];

    #[test]
    fn every_byte_is_where_it_belongs_whatever_comes() {
        let start = usize::try_from(CACHED_BYTES).expect("fits");
        // Where the disk takes blocks at all, it takes all of ours.
        let usual = append(Straight::default(), start, &[1 << 20]);
        append(Straight::default(), 1, &LENGTHS);
        for before in [start - 1, start, start + 1, start + BLOCK / 2] {
            assert_eq!(append(Straight::default(), before, &LENGTHS), usual, "{before} before");
        }
        assert_eq!(append(Straight::default(), 0, &[1 << 20; 10]), usual);
    }

    #[test]
    fn file_that_turns_out_to_be_unfit_is_written_all_the_same() {
        let start = usize::try_from(CACHED_BYTES).expect("fits");
        append(Straight { state: State::Unfit, ..Straight::default() }, start, &LENGTHS);
        // Open for reading alone, so that every write fails; not in the way that says so.
        let direct = File::open("/dev/null").ok();
        let mut broken = Straight { direct, state: State::Fit, ..Straight::default() };
        let file = tempfile::tempfile().expect("a file");
        assert!(broken.append(&file, CACHED_BYTES, &[7; WORTH_BYTES]).is_err());
    }

    #[test]
    fn less_than_a_block_is_held_back() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(CACHED_BYTES).expect("set");
        let mut straight = Straight::default();
        let piece = vec![7; 1 << 20];
        let mut at = CACHED_BYTES;
        for length in [1 << 20, 100_000, 200_001] {
            straight.append(&file, at, &piece[..length]).expect("appended");
            at += length as u64;
            let size = file.metadata().expect("metadata").len();
            assert!(size <= at && at - size < BLOCK as u64, "{size} of {at}");
        }
    }
}
