//! The command's stdin: bytes by offset in, a pipe or a terminal out.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;

use reeve_protocol::limits;

use super::wire::StdinState;
use crate::host::pipe;

/// Ctrl-D: what ends input at a terminal (VEOF, termios(3)).
const END_KEY: u8 = 4;

/// Bytes on their way to the command.
#[derive(Debug)]
pub struct Stdin {
    /// `None` once it is closed.
    pipe: Option<OwnedFd>,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that the pipe has taken.
    written: usize,
    received: u64,
    /// Length of the whole, once known.
    end: Option<u64>,
    /// It is typed into a terminal, which has no end: a key stands for it.
    is_typed: bool,
}

impl Stdin {
    /// Writes to this pipe; `None` means that the command has no stdin.
    #[must_use]
    pub fn new(pipe: Option<OwnedFd>) -> Self {
        Self { pipe, buffer: Vec::new(), written: 0, received: 0, end: None, is_typed: false }
    }

    /// Types into this terminal.
    #[must_use]
    pub fn typed(master: Option<OwnedFd>) -> Self {
        Self { is_typed: true, ..Self::new(master) }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> StdinState {
        let waiting = (self.buffer.len() - self.written) as u64;
        StdinState {
            received: self.received,
            until: self.received - waiting + limits::STDIN_WINDOW,
            closed: self.pipe.is_none(),
        }
    }

    /// The pipe, when bytes wait for it or its reader's end matters.
    #[must_use]
    pub fn pipe(&self) -> Option<(&OwnedFd, bool)> {
        self.pipe.as_ref().map(|pipe| (pipe, self.written < self.buffer.len()))
    }

    /// Takes bytes. What is known already is skipped; what lies behind a hole or beyond the window
    /// is not taken, and `received` tells the sender so.
    pub fn take(&mut self, offset: u64, bytes: &[u8]) {
        let Some(skip) = self.received.checked_sub(offset) else { return };
        let fresh = usize::try_from(skip).ok().and_then(|skip| bytes.get(skip..));
        let Some(fresh) = fresh else { return };
        if self.pipe.is_none() {
            return;
        }
        let room = usize::try_from(self.state().until - self.received).unwrap_or(usize::MAX);
        let fresh = &fresh[..fresh.len().min(room)];
        if self.written > 0 {
            self.buffer.drain(..self.written);
            self.written = 0;
        }
        self.buffer.extend_from_slice(fresh);
        self.received += fresh.len() as u64;
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
            && self.written < self.buffer.len()
        {
            match pipe::write(pipe, &self.buffer[self.written..]) {
                // A terminal that takes nothing for now may also say so.
                Ok(0) => return,
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Nobody reads it any more.
                Err(_) => return self.close(),
            }
        }
        if self.written == self.buffer.len() {
            self.buffer.clear();
            self.written = 0;
            if self.end.is_some_and(|end| end <= self.received) {
                if std::mem::take(&mut self.is_typed) {
                    self.buffer.push(END_KEY);
                    return self.push();
                }
                self.close();
            }
        }
    }

    /// The command will get no more.
    pub fn close(&mut self) {
        self.pipe = None;
        self.buffer = Vec::new();
        self.written = 0;
    }
}
