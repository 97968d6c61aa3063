//! What a terminal showed before, without what asks ours something: where the cursor is, what kind
//! of terminal it is, which colour it has. The answers would be typed at the machine.

/// A question is shorter than this; what is longer is none.
const MAX_SEQUENCE: usize = 256;

/// Takes questions out of what passes through.
#[derive(Debug, Default)]
pub struct Filter {
    /// The beginning of a sequence.
    held: Vec<u8>,
    /// The window may begin in the middle of something: nothing before a new line is shown.
    skipping: bool,
    /// A sequence that is too long goes by: its first two bytes are held, and the last one of it.
    dropping: bool,
}

impl Filter {
    /// For what follows; `cut` says that something was before it.
    #[must_use]
    pub fn new(cut: bool) -> Self {
        Self { held: Vec::new(), skipping: cut, dropping: false }
    }

    /// What may be shown of it.
    #[must_use]
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if self.skipping {
                self.skipping = *byte != b'\n';
                continue;
            }
            // ENQ: a question by itself, also in the middle of a sequence (ECMA-48 lets controls be there).
            if *byte == 0x05 {
                continue;
            }
            if self.dropping && self.is_dropped(*byte) {
                continue;
            }
            if self.held.is_empty() {
                match byte {
                    0x1b => self.held.push(*byte),
                    _ => out.push(*byte),
                }
                continue;
            }
            if *byte == 0x1b && !matches!(self.held.as_slice(), [0x1b, b']' | b'P', ..]) {
                // Broken off, it does nothing; shown, it would make a question with what comes behind
                // one that is taken out.
                self.held.clear();
                self.held.push(*byte);
                continue;
            }
            if matches!(self.held.as_slice(), [0x1b, b']' | b'P', .., 0x1b]) && *byte != b'\\' {
                // Only `ESC \` ends a text; anything else behind an ESC breaks it off and begins anew.
                self.held.truncate(1);
                if *byte == 0x1b {
                    continue;
                }
            }
            self.held.push(*byte);
            match is_whole(&self.held) {
                None if self.held.len() < MAX_SEQUENCE => {}
                // What draws goes on. All else may be a question that hides in its length.
                None if draws(&self.held) => out.append(&mut self.held),
                None => {
                    self.held.drain(2..);
                    self.dropping = true;
                }
                Some(true) => self.held.clear(),
                Some(false) => out.append(&mut self.held),
            }
        }
        out
    }

    /// Whether a byte belongs to a sequence that is too long. One that does not begins a new one.
    fn is_dropped(&mut self, byte: u8) -> bool {
        let ends = match self.held.as_slice() {
            // A new sequence ends this one.
            [_, b'[', ..] if byte == 0x1b => {
                self.dropping = false;
                self.held.truncate(1);
                return true;
            }
            [_, b'[', ..] => (0x40..=0x7e).contains(&byte),
            [_, _, 0x1b] if byte != b'\\' => {
                // Broken off, as where it is held.
                self.dropping = false;
                self.held.truncate(1);
                return false;
            }
            [_, kind, rest @ ..] => {
                (byte == 0x07 && *kind == b']') || (byte == b'\\' && rest.last() == Some(&0x1b))
            }
            _ => true,
        };
        self.held.truncate(2);
        if ends {
            self.held.clear();
            self.dropping = false;
        } else {
            self.held.push(byte);
        }
        true
    }
}

/// Whether a sequence that has not ended draws, such as an image, and asks nothing.
fn draws(sequence: &[u8]) -> bool {
    matches!(sequence, [0x1b, b'P', text @ ..] if !text.starts_with(b"$q") && !text.starts_with(b"+q"))
}

/// Whether a sequence is whole, and then whether it is a question.
fn is_whole(sequence: &[u8]) -> Option<bool> {
    match sequence {
        [0x1b] | [0x1b, b'[' | b']' | b'P'] => None,
        [0x1b, b'[', .., last] => match last {
            // Device status, device attributes, window reports, mode requests.
            b'n' | b'c' | b't' | b'p' | b'x' => Some(true),
            // Keyboard protocols: only with a question mark.
            b'u' => Some(sequence.get(2) == Some(&b'?')),
            0x40..=0x7e => Some(false),
            _ => None,
        },
        [0x1b, b']', text @ ..] => {
            let text = text.strip_suffix(b"\x07").or_else(|| text.strip_suffix(b"\x1b\\"))?;
            // A colour or the clipboard is asked for with a question mark in the place of a value.
            // Several may be named in one.
            Some(
                text.split(|byte| *byte == b';').any(|part| part.starts_with(b"?"))
                    || text.starts_with(b"52;"),
            )
        }
        // Requests of settings and of terminfo; what else there is of this kind draws.
        [0x1b, b'P', text @ ..] => {
            let text = text.strip_suffix(b"\x1b\\")?;
            Some(text.starts_with(b"$q") || text.starts_with(b"+q"))
        }
        // DECID
        [0x1b, b'Z'] => Some(true),
        [0x1b, b'(' | b')' | b'*' | b'+' | b'#' | b' ' | b'%'] => None,
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(bytes: &[u8]) -> Vec<u8> {
        // In pieces of any size the same comes out.
        let whole = Filter::default().pass(bytes);
        for size in 1..bytes.len() {
            let mut filter = Filter::default();
            let pieces = bytes.chunks(size).flat_map(|piece| filter.pass(piece));
            assert_eq!(pieces.collect::<Vec<u8>>(), whole);
        }
        whole
    }

    #[test]
    fn questions_are_taken_out_and_the_rest_stays() {
        for question in [
            &b"\x1b[6n"[..],
            b"\x1b[c",
            b"\x1b[>0c",
            b"\x1b[?2026$p",
            b"\x1b]11;?\x07",
            b"\x1b]10;?\x1b\\",
            b"\x1bP+q544e\x1b\\",
            b"\x1bP$qm\x1b\\",
            b"\x1b[?u",
            b"\x1b[18t",
            b"\x05",
            b"\x1bZ",
        ] {
            let all = [b"before ", question, b" behind"].concat();
            assert_eq!(pass(&all), b"before  behind", "{}", question.escape_ascii());
        }
        for kept in [
            &b"\x1b[31mred\x1b[0m \x1b[2J\x1b[H"[..],
            b"\x1b[?1049h\x1b[?25l\x1b(B\x1b=",
            b"\x1b]0;a title\x07text",
            "grüße\r\n".as_bytes(),
            b"\x1b[u\x1b7\x1b8",
        ] {
            assert_eq!(pass(kept), kept, "{}", kept.escape_ascii());
        }
    }

    #[test]
    fn questions_in_disguise_are_taken_out_too() {
        // A control in the middle of a sequence, one of several colours, and more zeros than are held.
        assert_eq!(pass(b"a\x1b[3\x052mb"), b"a\x1b[32mb");
        assert_eq!(pass(b"a\x1b]4;1;?;2;red\x07b"), b"ab");
        // Not every terminal looks beyond the mark.
        assert_eq!(pass(b"a\x1b]11;?t\x07b"), b"ab");
        for (start, end) in [("\x1b[", "6n"), ("\x1b]11;", ";?\x07"), ("\x1b]11;", ";?\x1b\\")] {
            let long = format!("a{start}{}{end}b", "0".repeat(2 * MAX_SEQUENCE));
            assert_eq!(pass(long.as_bytes()), b"ab", "{start}");
        }
        // A new sequence in the middle of one that is too long.
        let long = format!("a\x1b[{}\x1b[6n\x1b[1mb", "0".repeat(2 * MAX_SEQUENCE));
        assert_eq!(pass(long.as_bytes()), b"a\x1b[1mb");
        // One that is put together by what is taken out of its middle.
        assert_eq!(pass(b"a\x1b\x1b[c[cb"), b"a[cb");
        assert_eq!(pass(b"a\x1b[6\x1bP$qm\x1b\\nb"), b"anb");
        // A text that is broken off by one.
        assert_eq!(pass(b"a\x1b]11;\x1b\x1b[c\x1b[1mb"), b"a\x1b[1mb");
        assert_eq!(pass(b"a\x1bP\x1b[0c\x1b[1mb"), b"a\x1b[1mb");
        for question in ["\x1b[6n", "\x1bZ"] {
            let long = format!("a\x1b]11;{}{question}b", "0".repeat(2 * MAX_SEQUENCE));
            assert_eq!(pass(long.as_bytes()), b"ab");
        }
        let image = format!("a\x1bPq{}\x1b\\b", "#0".repeat(MAX_SEQUENCE));
        assert_eq!(pass(image.as_bytes()), image.as_bytes());
    }

    #[test]
    fn window_that_begins_in_the_middle_starts_at_a_line() {
        let mut filter = Filter::new(true);
        assert_eq!(filter.pass(b"1mhalf a li"), b"");
        assert_eq!(filter.pass(b"ne\nwhole\n"), b"whole\n");
    }
}
