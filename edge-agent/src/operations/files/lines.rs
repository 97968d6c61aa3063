//! Answers that are JSON lines, written while they are found.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

use reeve_protocol::ops::Failure;
use serde::Serialize;

use crate::operations::worker::lost_answer;

/// A line waits no longer than this for others to be sent with it, once the next one comes.
const FLUSH_AFTER: Duration = Duration::from_millis(100);

/// The lines of one answer.
pub struct Lines<'a> {
    out: &'a mut BufWriter<File>,
    flushed: Instant,
}

impl<'a> Lines<'a> {
    pub fn new(out: &'a mut BufWriter<File>) -> Self {
        Self { out, flushed: Instant::now() }
    }

    /// Writes one.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn write<T: Serialize>(&mut self, item: &T) -> Result<(), Failure> {
        let written = serde_json::to_writer(&mut *self.out, item).map_err(io::Error::other);
        written
            .and_then(|()| self.out.write_all(b"\n"))
            .and_then(|()| self.flush_if_due())
            .map_err(|error| lost_answer(&error))
    }

    fn flush_if_due(&mut self) -> io::Result<()> {
        if self.flushed.elapsed() < FLUSH_AFTER {
            return Ok(());
        }
        self.out.flush()?;
        self.flushed = Instant::now();
        Ok(())
    }
}
