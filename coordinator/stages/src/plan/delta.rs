//! The plan as it is being written: from pieces of JSON to pieces of text for people.

use crate::clean::clean;

/// Depth of nesting that is followed.
const MAX_DEPTH: usize = 16;

/// Text given out for one answer, bytes: what a person would look at.
const MAX_TEXT: usize = 64 * 1024;

/// Reads an answer while it arrives. Whatever arrives, it only ever yields text; what the answer is
/// worth is decided by [`super::read`] at its end.
#[derive(Clone, Debug, Default)]
pub struct Deltas {
    state: State,
    /// Containers that are open: for an object the last key, for an array nothing.
    stack: Vec<Open>,
    key: String,
    /// Digits of `\uXXXX` so far, and the first half of a surrogate pair.
    unicode: Option<String>,
    half: Option<u16>,
    /// Steps begun.
    steps: usize,
    given: usize,
    /// Text was given for the value that is being read.
    began: bool,
}

#[derive(Clone, Debug)]
enum Open {
    Object { key: String },
    Array,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing of the object has come: code fences and the like.
    #[default]
    Before,
    /// Between values.
    Between,
    /// In an object, a key or its end is next.
    Key,
    InKey,
    InKeyEscape,
    InString,
    InEscape,
    Done,
}

impl Deltas {
    /// The next piece of the answer; what to show for it.
    pub fn push(&mut self, piece: &str) -> String {
        let mut text = String::new();
        for c in piece.chars() {
            self.take(c, &mut text);
        }
        let text = clean(&text).into_owned();
        let room = MAX_TEXT - self.given;
        let text = text[..text.floor_char_boundary(room)].to_owned();
        self.given += text.len();
        text
    }

    fn take(&mut self, c: char, text: &mut String) {
        match self.state {
            State::Before if c == '{' => self.open(Open::Object { key: String::new() }),
            State::Before | State::Done => {}
            State::InKey => match c {
                '"' => {
                    let key = std::mem::take(&mut self.key);
                    if let Some(Open::Object { key: slot }) = self.stack.last_mut() {
                        *slot = key;
                    }
                    self.state = State::Between;
                }
                '\\' => self.state = State::InKeyEscape,
                // Longer keys are none of ours.
                c if self.key.len() < 64 => self.key.push(c),
                _ => {}
            },
            State::InKeyEscape => self.state = State::InKey,
            State::InString => match c {
                '"' => {
                    self.state = State::Between;
                    self.end_value(text);
                }
                '\\' => self.state = State::InEscape,
                c => self.show(c, text),
            },
            State::InEscape => self.escape(c, text),
            State::Between | State::Key => self.between(c, text),
        }
    }

    fn between(&mut self, c: char, text: &mut String) {
        match c {
            '"' if self.state == State::Key => self.state = State::InKey,
            '"' => {
                self.began = false;
                self.state = State::InString;
            }
            '{' => {
                if self.path_is(&["steps"]) {
                    self.steps += 1;
                    text.push_str(&format!("\n{}.", self.steps));
                }
                self.open(Open::Object { key: String::new() });
            }
            '[' => self.open(Open::Array),
            '}' | ']' => {
                self.stack.pop();
                self.state = if self.stack.is_empty() { State::Done } else { State::Between };
            }
            ',' if matches!(self.stack.last(), Some(Open::Object { .. })) => {
                self.state = State::Key;
            }
            _ => {}
        }
    }

    fn open(&mut self, container: Open) {
        self.state =
            if matches!(container, Open::Object { .. }) { State::Key } else { State::Between };
        self.stack.push(container);
        if self.stack.len() > MAX_DEPTH {
            self.state = State::Done;
        }
    }

    /// Whether the value being read is where the keys lead; arrays do not count.
    fn path_is(&self, keys: &[&str]) -> bool {
        let mut path = self.stack.iter().filter_map(|open| match open {
            Open::Object { key } => Some(key.as_str()),
            Open::Array => None,
        });
        keys.iter().all(|key| path.next() == Some(key)) && path.next().is_none()
    }

    /// What stands before a value that is shown; `None` for one that is not.
    fn introduction(&self) -> Option<&'static str> {
        Some(match () {
            () if self.path_is(&["summary"]) => "\n",
            () if self.path_is(&["question"]) || self.path_is(&["reason"]) => "\n",
            () if self.path_is(&["steps", "purpose"]) => "\n   ",
            () if self.path_is(&["steps", "shell"]) => "\n   $ ",
            () if self.path_is(&["steps", "argv"]) => " ",
            () if self.path_is(&["steps", "machines"]) => " ",
            () => return None,
        })
    }

    fn show(&mut self, c: char, text: &mut String) {
        let Some(introduction) = self.introduction() else { return };
        if !self.began {
            self.began = true;
            text.push_str(introduction);
        }
        text.push(c);
    }

    fn end_value(&mut self, _text: &mut String) {
        self.half = None;
        self.unicode = None;
    }

    fn escape(&mut self, c: char, text: &mut String) {
        if let Some(digits) = &mut self.unicode {
            digits.push(c);
            if digits.len() < 4 && c.is_ascii_hexdigit() {
                return;
            }
            let unit = u16::from_str_radix(digits, 16).unwrap_or(0xfffd);
            self.unicode = None;
            self.state = State::InString;
            match (self.half.take(), unit) {
                (_, 0xd800..=0xdbff) => self.half = Some(unit),
                (first, unit) => {
                    let units = first.into_iter().chain([unit]);
                    for c in char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}')) {
                        self.show(c, text);
                    }
                }
            }
            return;
        }
        if c == 'u' {
            self.unicode = Some(String::new());
            return;
        }
        self.state = State::InString;
        let c = match c {
            'n' => '\n',
            't' => '\t',
            'r' | 'b' | 'f' => ' ',
            c => c,
        };
        self.show(c, text);
    }
}
