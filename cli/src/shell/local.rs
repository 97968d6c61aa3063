//! Our own terminal: every key comes to us while somebody sits at a remote one, and everything is as
//! it was afterwards, however that ends.

use std::io::{self, IsTerminal, Write};

use reeve_protocol::ops::MAX_TERMINAL_SIDE;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Our terminal in raw mode, until this is dropped.
pub struct LocalTerminal {
    before: Termios,
    /// Whether what was shown has switched to the other screen, as editors do.
    on_other_screen: bool,
    /// The end of what was shown: a sequence may lie in two pieces.
    tail: Vec<u8>,
}

/// Bytes of the longest sequence that is looked for, less one.
const TAIL: usize = 7;

/// Whether somebody can type here.
pub fn is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Columns and rows of our terminal. What knows none, or says nonsense, is taken as 80 × 24.
pub fn find_size() -> (u16, u16) {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin()));
    match size {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            (size.ws_col.min(MAX_TERMINAL_SIDE), size.ws_row.min(MAX_TERMINAL_SIDE))
        }
        _ => (80, 24),
    }
}

impl LocalTerminal {
    /// Takes over the terminal on stdin.
    pub fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self { before, on_other_screen: false, tail: Vec::new() })
    }

    /// Remembers what has to be undone of what was shown.
    pub fn note_shown(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        let text = &self.tail;
        let last = |what: &[u8]| text.windows(what.len()).rposition(|part| part == what);
        match (last(b"\x1b[?1049h"), last(b"\x1b[?1049l")) {
            (Some(on), Some(off)) => self.on_other_screen = on > off,
            (Some(_), None) => self.on_other_screen = true,
            (None, Some(_)) => self.on_other_screen = false,
            (None, None) => {}
        }
        let keep = self.tail.len().min(TAIL);
        self.tail.drain(..self.tail.len() - keep);
    }

    /// Gives it back. Whether it was.
    pub fn leave(self) -> bool {
        drop(self);
        true
    }
}

impl Drop for LocalTerminal {
    fn drop(&mut self) {
        let mut out = io::stdout();
        if self.on_other_screen {
            let _ = out.write_all(b"\x1b[?1049l");
        }
        // Keys of the mouse and of pasting, the cursor, colours: whoever set them may not have had
        // the time to take them back.
        let _ = out.write_all(
            b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b[?25h\x1b[m",
        );
        let _ = out.flush();
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}
