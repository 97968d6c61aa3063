//! Secrets in output are replaced before anything of it is stored or sent. What counts as one is
//! in `tokens.rs` (by how it looks), `names.rs` and `values.rs` (by what stands before it) and
//! `find.rs`; `stream.rs` does it to bytes that come piece by piece.
//!
//! No regular expressions: the engine would be larger than the rest of the keeper.

mod credentials;
mod find;
mod flags;
mod hold;
mod names;
mod salt;
mod stream;
#[cfg(test)]
mod tests;
mod tokens;
mod values;

use std::time::{Duration, Instant};

use reeve_protocol::Stream;

use salt::Salt;
use stream::Filter;

/// A line that does not go on for so long is shown as far as it can be: it may be a prompt.
const PATIENCE: Duration = Duration::from_millis(100);

/// Replaces secrets in a text that is there as a whole, by placeholders that say only of what kind
/// they are.
#[must_use]
pub fn plain(bytes: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let mut done = 0;
        for span in find::find_secrets(line) {
            result.extend_from_slice(&line[done..span.start]);
            result.extend_from_slice(format!("[redacted:{}]", span.kind).as_bytes());
            done = span.end;
        }
        result.extend_from_slice(&line[done..]);
    }
    result
}

/// Redacts both streams of one operation.
pub struct Redactor {
    salt: Salt,
    stdout: Filter,
    stderr: Filter,
    /// When what is kept back is to be looked at again.
    look_at: Option<Instant>,
}

impl Redactor {
    /// For a new operation.
    #[must_use]
    pub fn new() -> Self {
        let (stdout, stderr) = (Filter::default(), Filter::default());
        Self { salt: Salt::new(), stdout, stderr, look_at: None }
    }

    /// Bytes came on a stream: what may be stored of it.
    pub fn push(&mut self, stream: Stream, bytes: &[u8], now: Instant, out: &mut Vec<u8>) {
        let filter = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        filter.push(bytes, &self.salt, out);
        if self.stdout.is_holding() || self.stderr.is_holding() {
            self.look_at = now.checked_add(PATIENCE);
        }
    }

    /// Nothing came for a while, or the other stream goes on: what of this one may be stored.
    pub fn rest(&mut self, stream: Stream, out: &mut Vec<u8>) {
        let filter = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        filter.rest(&self.salt, out);
    }

    /// A stream is over: the rest of it.
    pub fn finish(&mut self, stream: Stream, out: &mut Vec<u8>) {
        let filter = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        filter.finish(&self.salt, out);
    }

    /// When [`Self::rest`] is due for both streams.
    #[must_use]
    pub fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Whether it is due now; not again before more comes.
    pub fn is_due(&mut self, now: Instant) -> bool {
        self.look_at.take_if(|at| *at <= now).is_some()
    }
}

impl Default for Redactor {
    fn default() -> Self {
        Self::new()
    }
}
