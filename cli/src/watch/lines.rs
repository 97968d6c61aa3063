//! Lines of many machines in one terminal: each with its machine's name before it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reeve_protocol::{OperationId, Stream};

use crate::terminal::{Screen, escape_bytes};

/// A line that has not ended is shown when nothing has come for this long: it may be a question.
pub const IDLE: Duration = Duration::from_secs(1);
/// Longer lines are shown in parts.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// Told apart by most eyes on dark and light ground; red is for failures.
const COLORS: [&str; 6] = ["36", "33", "32", "35", "34", "96"];

struct Partial {
    bytes: Vec<u8>,
    since: Instant,
}

/// Cuts output into prefixed lines.
pub struct Lines {
    /// By machine and stream; never holding an end of line. Ordered, so that the end is, too.
    partial: BTreeMap<(OperationId, bool), Partial>,
    /// Of the longest name so far.
    width: usize,
    prefix: bool,
    stdout: Screen,
    stderr: Screen,
}

/// What is to be written where.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Lines {
    pub fn new(prefix: bool, stdout: Screen, stderr: Screen) -> Self {
        Self { partial: BTreeMap::new(), width: 0, prefix, stdout, stderr }
    }

    /// Names are aligned to the longest.
    pub fn know(&mut self, name: &str) {
        self.width = self.width.max(name.len());
    }

    /// Output of a machine; whole lines come out.
    pub fn push(
        &mut self,
        operation: OperationId,
        name: &str,
        stream: Stream,
        bytes: &[u8],
        now: Instant,
        out: &mut Written,
    ) {
        let key = (operation, stream == Stream::Stderr);
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = rest.split_at(end);
            rest = behind.get(1..).unwrap_or_default();
            match self.partial.remove(&key) {
                Some(mut partial) => {
                    partial.bytes.extend_from_slice(line);
                    self.emit(name, stream, &partial.bytes, out);
                }
                None => self.emit(name, stream, line, out),
            }
        }
        if rest.is_empty() {
            return;
        }
        let partial =
            self.partial.entry(key).or_insert_with(|| Partial { bytes: Vec::new(), since: now });
        partial.since = now;
        partial.bytes.extend_from_slice(rest);
        while partial.bytes.len() > MAX_LINE_BYTES {
            let rest = partial.bytes.split_off(MAX_LINE_BYTES);
            let part = std::mem::replace(&mut partial.bytes, rest);
            let line =
                format_line(self.prefix, self.width, self.stdout, self.stderr, name, stream, &part);
            append(stream, line, out);
            // `partial` is borrowed from the map, which `emit` would borrow again.
        }
    }

    fn emit(&self, name: &str, stream: Stream, line: &[u8], out: &mut Written) {
        let line =
            format_line(self.prefix, self.width, self.stdout, self.stderr, name, stream, line);
        append(stream, line, out);
    }

    /// When the next unfinished line is to be shown.
    pub fn next_idle(&self) -> Option<Instant> {
        self.partial.values().map(|partial| partial.since + IDLE).min()
    }

    /// Shows unfinished lines that have waited long enough, or all of them.
    pub fn flush(
        &mut self,
        before: Option<Instant>,
        name_of: impl Fn(OperationId) -> String,
        out: &mut Written,
    ) {
        let due: Vec<_> = self
            .partial
            .iter()
            .filter(|(_, partial)| before.is_none_or(|now| partial.since + IDLE <= now))
            .map(|(key, _)| *key)
            .collect();
        for key in due {
            if let Some(partial) = self.partial.remove(&key) {
                let stream = if key.1 { Stream::Stderr } else { Stream::Stdout };
                self.emit(&name_of(key.0), stream, &partial.bytes, out);
            }
        }
    }
}

fn append(stream: Stream, line: Vec<u8>, out: &mut Written) {
    match stream {
        Stream::Stdout => out.stdout.extend(line),
        Stream::Stderr => out.stderr.extend(line),
    }
}

fn format_line(
    prefix: bool,
    width: usize,
    stdout: Screen,
    stderr: Screen,
    name: &str,
    stream: Stream,
    line: &[u8],
) -> Vec<u8> {
    let screen = match stream {
        Stream::Stdout => stdout,
        Stream::Stderr => stderr,
    };
    let mut out = Vec::with_capacity(line.len() + width + 3);
    if prefix {
        let hash = name.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31) + usize::from(byte));
        out.extend(screen.paint(COLORS[hash % COLORS.len()], &format!("{name}:")).bytes());
        out.extend(std::iter::repeat_n(b' ', 1 + width.saturating_sub(name.len())));
    }
    if screen.terminal {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        out.extend(escape_bytes(line).bytes());
    } else {
        out.extend(line);
    }
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const PIPE: Screen = Screen { terminal: false, color: false };
    const TERMINAL: Screen = Screen { terminal: true, color: false };

    fn id(number: u128) -> OperationId {
        OperationId(Uuid::from_u128(number))
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).expect("text")
    }

    #[test]
    fn lines_of_two_machines_are_never_mixed() {
        let (mut lines, mut out) = (Lines::new(true, PIPE, PIPE), Written::default());
        lines.know("web-1");
        lines.know("db");
        let now = Instant::now();
        lines.push(id(1), "web-1", Stream::Stdout, b"one\ntw", now, &mut out);
        lines.push(id(2), "db", Stream::Stdout, b"uno\ndos", now, &mut out);
        lines.push(id(1), "web-1", Stream::Stderr, b"bad\n", now, &mut out);
        lines.push(id(1), "web-1", Stream::Stdout, b"o\n", now, &mut out);
        assert_eq!(text(&out.stdout), "web-1: one\ndb:    uno\nweb-1: two\n");
        assert_eq!(text(&out.stderr), "web-1: bad\n");
        lines.flush(None, |_| "db".to_owned(), &mut out);
        assert!(text(&out.stdout).ends_with("db:    dos\n"));
        assert_eq!(lines.next_idle(), None);
    }

    #[test]
    fn an_unfinished_line_is_shown_after_a_while() {
        let (mut lines, mut out) = (Lines::new(true, PIPE, PIPE), Written::default());
        let now = Instant::now();
        lines.push(id(1), "m", Stream::Stdout, b"Continue? ", now, &mut out);
        lines.flush(Some(now + IDLE / 2), |_| "m".to_owned(), &mut out);
        assert!(out.stdout.is_empty());
        assert_eq!(lines.next_idle(), Some(now + IDLE));
        lines.flush(Some(now + IDLE), |_| "m".to_owned(), &mut out);
        assert_eq!(text(&out.stdout), "m: Continue? \n");
    }

    #[test]
    fn a_terminal_is_not_driven_by_what_machines_say_but_files_get_every_byte() {
        let now = Instant::now();
        let mut out = Written::default();
        Lines::new(true, TERMINAL, TERMINAL).push(
            id(1),
            "m",
            Stream::Stdout,
            b"\x1b[2Jgone\r\n",
            now,
            &mut out,
        );
        assert_eq!(text(&out.stdout), "m: ^[[2Jgone\n");
        let mut out = Written::default();
        Lines::new(false, PIPE, PIPE).push(
            id(1),
            "m",
            Stream::Stdout,
            b"\x1b\xff\r\n",
            now,
            &mut out,
        );
        assert_eq!(out.stdout, b"\x1b\xff\r\n");
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory() {
        let (mut lines, mut out) = (Lines::new(true, PIPE, PIPE), Written::default());
        let long = vec![b'x'; MAX_LINE_BYTES * 3 + 10];
        lines.push(id(1), "m", Stream::Stdout, &long, Instant::now(), &mut out);
        assert_eq!(out.stdout.iter().filter(|byte| **byte == b'\n').count(), 3);
        assert!(lines.partial.values().all(|partial| partial.bytes.len() <= MAX_LINE_BYTES));
    }
}
