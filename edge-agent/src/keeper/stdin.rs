//! The command's stdin: bytes by offset in, a pipe or a terminal out.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;

use reeve_protocol::limits;

use super::wire::StdinState;
use crate::host::pipe;

/// Ctrl-D: what ends input at a terminal (VEOF, termios(3)).
const END_KEY: u8 = 4;

/// Pieces smaller than this are put together: each kept by itself would cost more than it holds.
const SMALL_BYTES: usize = 16 * 1024;

/// Bytes on their way to the command.
#[derive(Debug)]
pub struct Stdin {
    /// `None` once it is closed.
    pipe: Option<OwnedFd>,
    /// What the pipe has not taken, as it came.
    pieces: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that the pipe has taken.
    written: usize,
    /// Bytes in all pieces that the pipe has not taken.
    waiting: u64,
    received: u64,
    /// Length of the whole, once known.
    end: Option<u64>,
    /// How much may wait. Doubles while the command takes everything at once.
    window: u64,
    /// Taken by the pipe since the window grew last.
    moved: u64,
    /// It is typed into a terminal, which has no end: a key stands for it.
    is_typed: bool,
}

impl Stdin {
    /// Writes to this pipe; `None` means that the command has no stdin.
    #[must_use]
    pub fn new(pipe: Option<OwnedFd>) -> Self {
        Self {
            pipe,
            pieces: VecDeque::new(),
            written: 0,
            waiting: 0,
            received: 0,
            end: None,
            window: limits::STDIN_WINDOW,
            moved: 0,
            is_typed: false,
        }
    }

    /// Types into this terminal.
    #[must_use]
    pub fn typed(master: Option<OwnedFd>) -> Self {
        Self { is_typed: true, ..Self::new(master) }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> StdinState {
        StdinState {
            received: self.received,
            until: (self.received + self.window).saturating_sub(self.waiting),
            closed: self.pipe.is_none(),
        }
    }

    /// The pipe, when bytes wait for it or its reader's end matters.
    #[must_use]
    pub fn pipe(&self) -> Option<(&OwnedFd, bool)> {
        self.pipe.as_ref().map(|pipe| (pipe, self.waiting > 0))
    }

    /// Takes bytes. What is known already is skipped; what lies behind a hole or beyond the window
    /// is not taken, and `received` tells the sender so.
    pub fn take(&mut self, offset: u64, mut bytes: Vec<u8>) {
        let Some(skip) = self.received.checked_sub(offset) else { return };
        let Some(skip) = usize::try_from(skip).ok().filter(|skip| *skip < bytes.len()) else {
            return;
        };
        if self.pipe.is_none() {
            return;
        }
        let room = usize::try_from(self.window - self.waiting.min(self.window));
        bytes.truncate(skip.saturating_add(room.unwrap_or(usize::MAX)));
        let fresh = bytes.len().saturating_sub(skip);
        if fresh == 0 {
            return;
        }
        self.received += fresh as u64;
        self.waiting += fresh as u64;
        match self.pieces.back_mut() {
            Some(last) if last.len() + fresh <= SMALL_BYTES => {
                last.extend_from_slice(bytes.get(skip..).unwrap_or_default());
            }
            Some(_) => {
                bytes.drain(..skip);
                self.pieces.push_back(bytes);
            }
            None => {
                self.written = skip;
                self.pieces.push_back(bytes);
            }
        }
        self.push();
    }

    /// There are `offset` bytes in all.
    pub fn finish(&mut self, offset: u64) {
        self.end = Some(offset);
        self.push();
    }

    /// Writes what the pipe takes, and closes it behind the last byte.
    pub fn push(&mut self) {
        while let Some(pipe) = &self.pipe
            && let Some(first) = self.pieces.front()
        {
            match pipe::write(pipe, first.get(self.written..).unwrap_or_default()) {
                // A terminal that takes nothing for now may also say so.
                Ok(0) => return,
                Ok(count) => {
                    self.written += count;
                    self.waiting -= count as u64;
                    self.moved += count as u64;
                    if self.written >= first.len() {
                        self.pieces.pop_front();
                        self.written = 0;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Nobody reads it any more.
                Err(_) => return self.close(),
            }
        }
        if self.moved >= self.window && self.window < limits::MAX_STDIN_WINDOW {
            // A whole window has gone through, and the command waits for more.
            self.window *= 2;
            self.moved = 0;
        }
        if self.end.is_some_and(|end| end <= self.received) {
            if std::mem::take(&mut self.is_typed) {
                self.pieces.push_back(vec![END_KEY]);
                self.waiting += 1;
                return self.push();
            }
            self.close();
        }
    }

    /// The command will get no more.
    pub fn close(&mut self) {
        self.pipe = None;
        self.pieces = VecDeque::new();
        self.written = 0;
        self.waiting = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(stdin: &mut Stdin) {
        let state = stdin.state();
        let length = usize::try_from(state.until - state.received).expect("small");
        stdin.take(state.received, vec![1; length]);
    }

    fn empty(reader: &OwnedFd, mut bytes: u64) {
        let mut buffer = vec![0; 65536];
        while bytes > 0 {
            bytes -= pipe::read(reader, &mut buffer).expect("bytes") as u64;
        }
    }

    #[test]
    fn window_grows_for_who_takes_everything_and_is_bounded() {
        let (reader, writer) = pipe::make().expect("a pipe");
        pipe::set_nonblocking(&writer).expect("set");
        let mut stdin = Stdin::new(Some(writer));
        let mut taken = 0;
        for _ in 0..64 {
            fill(&mut stdin);
            while taken < stdin.state().received {
                let there = stdin.received - stdin.waiting - taken;
                empty(&reader, there);
                taken += there;
                stdin.push();
            }
        }
        assert_eq!(stdin.window, limits::MAX_STDIN_WINDOW);
        assert_eq!(stdin.waiting, 0);
    }

    #[test]
    fn what_nobody_reads_is_bounded() {
        let (_reader, writer) = pipe::make().expect("a pipe");
        pipe::set_nonblocking(&writer).expect("set");
        let mut stdin = Stdin::new(Some(writer));
        let mut fills = 0;
        while stdin.state().until > stdin.state().received {
            fill(&mut stdin);
            fills += 1;
            assert!(fills < 64, "no end to the window");
        }
        assert!(stdin.waiting <= stdin.window);
        let full = stdin.state();
        stdin.take(full.received, vec![2; 100]);
        stdin.take(full.received + 5, vec![3; 100]);
        assert_eq!(stdin.state(), full, "beyond the window, or behind a hole");
        assert!(stdin.pieces.iter().map(Vec::len).sum::<usize>() <= 4 << 20);
    }

    #[test]
    fn known_bytes_are_skipped_and_small_pieces_put_together() {
        let (reader, writer) = pipe::make().expect("a pipe");
        pipe::set_nonblocking(&writer).expect("set");
        let mut stdin = Stdin::new(Some(writer));
        stdin.take(0, b"abc".to_vec());
        stdin.take(1, b"bcde".to_vec());
        stdin.take(0, b"abcde".to_vec());
        assert_eq!(stdin.state().received, 5);
        let mut buffer = [0; 16];
        assert_eq!(pipe::read(&reader, &mut buffer).expect("bytes"), 5);
        assert_eq!(&buffer[..5], b"abcde");
        // Nobody reads now.
        let mut at = 5;
        while stdin.waiting == 0 {
            stdin.take(at, vec![0; 65536]);
            at = stdin.state().received;
        }
        let before = stdin.pieces.len();
        for n in 0..1000 {
            stdin.take(at + n, vec![0; 1]);
        }
        assert!(stdin.pieces.len() <= before + 1, "{}", stdin.pieces.len());
        assert_eq!(stdin.state().received, at + 1000);
    }
}
