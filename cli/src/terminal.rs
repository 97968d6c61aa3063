//! Terminals: colours, and keeping what machines say from driving them.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::args::Color;
use crate::failure::Failure;

/// Where something is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Screen {
    /// A person looks at it.
    pub terminal: bool,
    /// Colours are wanted.
    pub color: bool,
}

impl Screen {
    /// Where stdout goes.
    pub fn stdout(color: Color) -> Self {
        Self::new(io::stdout().is_terminal(), color)
    }

    /// Where stderr goes.
    pub fn stderr(color: Color) -> Self {
        Self::new(io::stderr().is_terminal(), color)
    }

    fn new(terminal: bool, color: Color) -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let forced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|v| !v.is_empty() && v != "0");
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto if is_set("NO_COLOR") => false,
            Color::Auto => forced || (terminal && !dumb),
        };
        Self { terminal, color }
    }

    /// In a colour (an SGR parameter), if colours are wanted.
    pub fn paint(self, color: &str, text: &str) -> String {
        if self.color { format!("\x1b[{color}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Text of unknown origin without anything a terminal obeys: control characters become visible.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        push_visible(&mut out, character);
    }
    out
}

fn push_visible(out: &mut String, character: char) {
    match character {
        '\t' | '\n' => out.push(character),
        '\0'..='\x1f' | '\x7f' => {
            out.push('^');
            out.push(char::from(character as u8 ^ 0x40));
        }
        // C1 controls, and what turns the direction of writing around.
        '\u{80}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            out.push_str(&character.escape_unicode().to_string());
        }
        _ => out.push(character),
    }
}

/// The same for bytes; what is no UTF-8 becomes U+FFFD.
pub fn escape_bytes(bytes: &[u8]) -> String {
    escape(&String::from_utf8_lossy(bytes))
}

/// A line on stderr for people. That nobody reads it is no reason to fail.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", escape(text));
}

/// Whether a person can be asked.
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question with yes or no; no is the default.
pub fn confirm(question: &str) -> Result<bool, Failure> {
    let answer = ask(&format!("{question} [y/N] "))?;
    Ok(matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Asks for a line.
pub fn ask(question: &str) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::new(format!("cannot ask: {error}"));
    io::stderr().write_all(escape(question).as_bytes()).map_err(failed)?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(failed)?;
    Ok(line.trim().to_owned())
}

/// Asks for a secret without showing it; twice when it is new.
pub fn ask_secret(question: &str, new: bool) -> Result<String, Failure> {
    let prompt =
        inquire::Password::new(question).with_display_mode(inquire::PasswordDisplayMode::Masked);
    let prompt = if new { prompt } else { prompt.without_confirmation() };
    prompt.prompt().map_err(|error| match error {
        inquire::InquireError::OperationCanceled | inquire::InquireError::OperationInterrupted => {
            Failure::silent(crate::exit::INTERRUPTED)
        }
        other => Failure::new(format!("cannot ask: {other}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_terminal_obeys_survives() {
        assert_eq!(escape("a\x1b]0;title\x07b\tc"), "a^[]0;title^Gb\tc");
        assert_eq!(escape("\u{9b}31m"), "\\u{9b}31m");
        assert_eq!(escape("\x7f\r"), "^?^M");
        assert_eq!(escape_bytes(b"ok \xff\x1b"), "ok \u{fffd}^[");
        assert_eq!(escape("grüße 你好"), "grüße 你好");
        assert!(!escape("abc\u{202e}def").contains('\u{202e}'));
    }
}
