//! The terminal a command is on: its size, and that nobody uses it any more.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use reeve_protocol::ops::check_terminal_size;

use super::files;
use crate::host::terminal;

/// A terminal, for as long as its command lives.
#[derive(Debug)]
pub struct Terminal {
    master: OwnedFd,
    /// See [`super::start::Started::slave`].
    slave: Option<OwnedFd>,
    idle_limit: Option<Duration>,
    /// Bytes typed and shown, when that last changed.
    used: (u64, u64),
    used_at: Instant,
}

impl Terminal {
    /// One that was just opened; `ours` is our end of it.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn new(
        asked: &files::Terminal,
        ours: &OwnedFd,
        slave: Option<OwnedFd>,
        now: Instant,
    ) -> io::Result<Self> {
        Ok(Self {
            master: ours.try_clone()?,
            slave,
            idle_limit: asked.idle_limit_ms.map(Duration::from_millis),
            used: (0, 0),
            used_at: now,
        })
    }

    /// Changes its size. Nonsense is passed over: whoever sends it was told before.
    pub fn resize(&self, columns: u16, rows: u16) {
        if check_terminal_size(columns, rows).is_ok() {
            // Fails only for what is no terminal.
            let _ = terminal::resize(&self.master, columns, rows);
        }
    }

    /// The command has ended: when whoever else has it open is gone, it is at its end.
    pub fn let_go(&mut self) {
        self.slave = None;
    }

    /// This much has been typed and shown by now.
    pub fn note_use(&mut self, typed: u64, shown: u64, now: Instant) {
        if self.used != (typed, shown) {
            self.used = (typed, shown);
            self.used_at = now;
        }
    }

    /// When it has been unused for too long.
    #[must_use]
    pub fn idle_at(&self) -> Option<Instant> {
        self.used_at.checked_add(self.idle_limit?)
    }

    /// What it shows when it is closed because nobody uses it; once.
    pub fn close_if_idle(&mut self, now: Instant) -> Option<String> {
        if self.idle_at().is_none_or(|at| at > now) {
            return None;
        }
        let limit = self.idle_limit.take()?;
        Some(format!(
            "\r\n[reeve: closed, because nothing was typed and nothing shown for {} seconds]\r\n",
            limit.as_secs()
        ))
    }
}
