//! Redaction of one stream as it comes. A line is looked at as a whole; of a line that is longer
//! than [`WINDOW`] a window moves over it. Where the pieces were cut makes no difference to what
//! comes out, unless time passed in between and [`Filter::rest`] let go of what is no secret.

use super::find::{self, Span};
use super::hold::find_hold;
use super::salt::{MAX_HASHED, Salt};

/// A line is looked at whole up to this length, bytes. A private key on one line fits.
const WINDOW: usize = 16 * 1024;

/// Of a longer line, this much is kept back until more is known, bytes.
const MARGIN: usize = 6 * 1024;

/// What was let go and is still looked at, because what comes may depend on it, bytes.
const CONTEXT: usize = 512;

/// A private key longer than this is none, bytes.
const MAX_BLOCK: usize = 64 * 1024;

#[derive(Debug, PartialEq, Eq)]
enum State {
    Plain,
    /// Within a private key: its beginning, for the placeholder, and its length.
    Block {
        begin: Vec<u8>,
        length: usize,
    },
    /// Within a secret that is longer than a window.
    Swallow,
}

/// One stream.
#[derive(Debug)]
pub struct Filter {
    /// The line so far; what is before `emitted` is out already.
    line: Vec<u8>,
    emitted: usize,
    state: State,
}

impl Default for Filter {
    fn default() -> Self {
        Self { line: Vec::new(), emitted: 0, state: State::Plain }
    }
}

impl Filter {
    /// Takes bytes, and gives those of which all is known.
    pub fn push(&mut self, mut bytes: &[u8], salt: &Salt, out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if self.state == State::Swallow {
                let end = bytes.iter().position(|byte| ends_swallowed(*byte));
                let Some(end) = end else { return };
                bytes = &bytes[end..];
                self.state = State::Plain;
            }
            let room = WINDOW - self.line.len();
            let newline = bytes.iter().take(room).position(|byte| *byte == b'\n');
            let taken = newline.map_or(room.min(bytes.len()), |at| at + 1);
            self.line.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if newline.is_some() {
                self.take_line(salt, out);
            } else if self.line.len() == WINDOW {
                self.take_window(salt, out);
            }
        }
    }

    /// Whether something is kept back.
    pub fn is_holding(&self) -> bool {
        self.emitted < self.line.len() || matches!(self.state, State::Block { .. })
    }

    /// No more came for a while: lets go of what cannot be part of a secret, such as a prompt.
    pub fn rest(&mut self, salt: &Salt, out: &mut Vec<u8>) {
        if self.state != State::Plain || self.emitted == self.line.len() {
            return;
        }
        let upto = find_hold(&self.line, self.emitted);
        self.emit(upto, salt, out);
    }

    /// The stream is over: gives the rest.
    pub fn finish(&mut self, salt: &Salt, out: &mut Vec<u8>) {
        if !self.line.is_empty() {
            self.take_line(salt, out);
        }
        self.end_block(salt, out);
        self.line = Vec::new();
    }

    fn take_line(&mut self, salt: &Salt, out: &mut Vec<u8>) {
        if matches!(self.state, State::Block { .. }) && !self.take_block(true, salt, out) {
            self.line.clear();
            return;
        }
        self.begin_block(salt, out);
        if self.state == State::Plain {
            self.emit(self.line.len(), salt, out);
        }
        self.line.clear();
        self.emitted = 0;
    }

    /// The window is full and the line goes on.
    fn take_window(&mut self, salt: &Salt, out: &mut Vec<u8>) {
        if matches!(self.state, State::Block { .. }) && !self.take_block(false, salt, out) {
            return;
        }
        self.begin_block(salt, out);
        if matches!(self.state, State::Block { .. }) {
            self.line.clear();
            self.emitted = 0;
            return;
        }
        let spans = find::find_secrets(&self.line);
        let limit = WINDOW - MARGIN;
        let across = spans.iter().find(|span| span.start < limit && limit < span.end);
        match across {
            Some(span) if span.end == self.line.len() => {
                // All of the rest is secret, and what follows up to its end.
                self.emit(self.line.len(), salt, out);
                self.line.clear();
                self.emitted = 0;
                self.state = State::Swallow;
            }
            across => {
                let cut = across.map_or(limit, |span| span.end);
                self.emit(cut, salt, out);
                let gone = self.emitted.saturating_sub(CONTEXT);
                self.line.drain(..gone);
                self.emitted -= gone;
            }
        }
    }

    /// Writes the line up to a place that is within no secret.
    fn emit(&mut self, upto: usize, salt: &Salt, out: &mut Vec<u8>) {
        let mut done = self.emitted.min(upto);
        for Span { start, end, kind } in find::find_secrets(&self.line) {
            if end <= done {
                continue;
            }
            if start >= upto {
                break;
            }
            out.extend_from_slice(&self.line[done..start.max(done)]);
            salt.write(kind, &self.line[start..end], out);
            done = end;
        }
        if done < upto {
            out.extend_from_slice(&self.line[done..upto]);
            done = upto;
        }
        self.emitted = done;
    }

    /// A private key that goes on over the line's end begins in it: from there on nothing is let go.
    fn begin_block(&mut self, salt: &Salt, out: &mut Vec<u8>) {
        let Some(at) = find_open_block(&self.line) else { return };
        self.emit(at.max(self.emitted), salt, out);
        let begin = self.line[at..].to_vec();
        self.state = State::Block { length: begin.len(), begin };
    }

    /// A line, or a window of one, within a private key. Whether the key is over; then what follows
    /// it in the line is left there.
    fn take_block(&mut self, is_whole: bool, salt: &Salt, out: &mut Vec<u8>) -> bool {
        let State::Block { begin, length } = &mut self.state else { return true };
        let after = find::find(&self.line, b"-----END ")
            .and_then(|end| Some(end + 9 + find::find(&self.line[end + 9..], b"-----")? + 5));
        if after.is_none() && *length < MAX_BLOCK && is_body(&self.line) {
            // The mark of the end may be cut by the window's.
            let kept = if is_whole { 0 } else { 64.min(self.line.len()) };
            let taken = self.line.len() - kept;
            *length += taken;
            let room = MAX_HASHED.saturating_sub(begin.len());
            begin.extend_from_slice(&self.line[..taken.min(room)]);
            self.line.drain(..taken);
            self.emitted = 0;
            return false;
        }
        if let Some(after) = after {
            let room = MAX_HASHED.saturating_sub(begin.len());
            begin.extend_from_slice(&self.line[..after.min(room)]);
            self.line.drain(..after);
        }
        self.emitted = 0;
        self.end_block(salt, out);
        true
    }

    fn end_block(&mut self, salt: &Salt, out: &mut Vec<u8>) {
        if let State::Block { begin, .. } = std::mem::replace(&mut self.state, State::Plain) {
            salt.write("private-key", &begin, out);
        }
    }
}

/// Where a private key begins that does not end in the same line.
fn find_open_block(line: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + find::find(&line[from..], b"-----BEGIN ")?;
        if find::is_private_key(&line[at..]) && find::find(&line[at..], b"-----END ").is_none() {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Whether a line can be part of a private key: base64, a header, or nothing.
fn is_body(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let is_base64 = |word: &[u8]| {
        word.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
    };
    let headers: [&[u8]; 4] = [b"Proc-Type:", b"DEK-Info:", b"Comment:", b"Version:"];
    let mut words = line.split(|byte| {
        byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b',' | b'\\' | b':' | b'|')
    });
    is_base64(line)
        || headers.iter().any(|header| line.starts_with(header))
        || words.any(|word| word.len() >= 32 && is_base64(word))
}

fn ends_swallowed(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || matches!(byte, 0 | b'"' | b'\'' | b'`' | b',' | b';' | b'&' | b'<' | b'>')
}
