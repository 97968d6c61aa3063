//! The plan as it is being written: from pieces of JSON to pieces of text for people.

use crate::clean::clean;

/// Depth of nesting that is followed.
const MAX_DEPTH: usize = 16;

/// Text given out for one answer, bytes: what a person would look at.
const MAX_TEXT: usize = 64 * 1024;

/// Bytes of a key that are looked at; ours are shorter.
const MAX_KEY: usize = 64;

/// Reads an answer while it arrives. Whatever arrives, it only ever yields text; what the answer is
/// worth is decided by [`super::read`] at its end.
#[derive(Clone, Debug, Default)]
pub struct Deltas {
    state: State,
    stack: Vec<Open>,
    key: String,
    /// Digits of `\uXXXX` so far; the first half of a surrogate pair.
    unicode: String,
    half: Option<u16>,
    /// Steps begun.
    steps: usize,
    /// Bytes given out.
    given: usize,
    /// Something was given out for the value that is being read.
    began: bool,
}

/// A container that is not closed.
#[derive(Clone, Debug)]
enum Open {
    /// An object, and its newest key.
    Object(String),
    /// An array, and how many strings in it are over.
    Array(usize),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing of the object has come; code fences and the like are passed over.
    #[default]
    Before,
    /// Outside of strings.
    Between,
    /// Outside of strings, and the next one is a key.
    BeforeKey,
    Key,
    KeyEscape,
    Value,
    Escape,
    Unicode,
    Done,
}

impl Deltas {
    /// The next piece of the answer; what to show for it, often nothing.
    pub fn push(&mut self, piece: &str) -> String {
        let mut text = String::new();
        for c in piece.chars() {
            self.take(c, &mut text);
        }
        let mut text = clean(&text).into_owned();
        text.truncate(text.floor_char_boundary(MAX_TEXT - self.given));
        self.given += text.len();
        text
    }

    fn take(&mut self, c: char, text: &mut String) {
        match (self.state, c) {
            (State::Before, '{') => self.open(Open::Object(String::new())),
            (State::Before | State::Done, _) => {}
            (State::Key, '"') => {
                let key = std::mem::take(&mut self.key);
                if let Some(Open::Object(newest)) = self.stack.last_mut() {
                    *newest = key;
                }
                self.state = State::Between;
            }
            (State::Key, '\\') => self.state = State::KeyEscape,
            (State::Key, c) if self.key.len() < MAX_KEY => self.key.push(c),
            (State::Key, _) => {}
            (State::KeyEscape, _) => self.state = State::Key,
            (State::Value, '"') => {
                self.half = None;
                self.state = State::Between;
                if let Some(Open::Array(over)) = self.stack.last_mut() {
                    *over += 1;
                }
            }
            (State::Value, '\\') => self.state = State::Escape,
            (State::Value, c) => self.show(c, text),
            (State::Escape, 'u') => {
                self.unicode.clear();
                self.state = State::Unicode;
            }
            (State::Escape, c) => {
                self.state = State::Value;
                let c = match c {
                    'n' => '\n',
                    't' => '\t',
                    'r' | 'b' | 'f' => ' ',
                    c => c,
                };
                self.show(c, text);
            }
            (State::Unicode, c) => self.unicode(c, text),
            (State::Between | State::BeforeKey, c) => self.between(c, text),
        }
    }

    fn between(&mut self, c: char, text: &mut String) {
        match c {
            '"' if self.state == State::BeforeKey => self.state = State::Key,
            '"' => {
                self.began = false;
                self.state = State::Value;
            }
            '{' => {
                if self.is_at(&["steps"]) {
                    self.steps += 1;
                    text.push_str(&format!("\n{}.", self.steps));
                }
                self.open(Open::Object(String::new()));
            }
            '[' => self.open(Open::Array(0)),
            '}' | ']' => {
                self.stack.pop();
                self.state = if self.stack.is_empty() { State::Done } else { State::Between };
            }
            ',' if matches!(self.stack.last(), Some(Open::Object(_))) => {
                self.state = State::BeforeKey;
            }
            _ => {}
        }
    }

    fn open(&mut self, container: Open) {
        let object = matches!(container, Open::Object(_));
        self.state = if object { State::BeforeKey } else { State::Between };
        self.stack.push(container);
        if self.stack.len() > MAX_DEPTH {
            self.state = State::Done;
        }
    }

    /// Whether the value being read is where these keys lead; arrays have none.
    fn is_at(&self, keys: &[&str]) -> bool {
        let path = self.stack.iter().filter_map(|open| match open {
            Open::Object(key) => Some(key.as_str()),
            Open::Array(_) => None,
        });
        path.eq(keys.iter().copied())
    }

    /// What stands before a value that is shown; `None` for one that is not.
    fn introduction(&self) -> Option<&'static str> {
        let again = matches!(self.stack.last(), Some(Open::Array(over)) if *over > 0);
        let is_at = |keys: &[&str]| self.is_at(keys);
        if is_at(&["summary"]) || is_at(&["question"]) || is_at(&["reason"]) {
            Some("\n")
        } else if is_at(&["steps", "purpose"]) {
            Some("\n   ")
        } else if is_at(&["steps", "shell"]) {
            Some("\n   $ ")
        } else if is_at(&["steps", "argv"]) {
            Some(if again { " " } else { "\n   $ " })
        } else if is_at(&["steps", "machines"]) {
            Some(if again { ", " } else { "\n   on " })
        } else {
            None
        }
    }

    fn show(&mut self, c: char, text: &mut String) {
        let Some(introduction) = self.introduction() else { return };
        if !self.began {
            self.began = true;
            text.push_str(introduction);
        }
        text.push(c);
    }

    /// The next digit of `\uXXXX`.
    fn unicode(&mut self, c: char, text: &mut String) {
        self.unicode.push(c);
        if self.unicode.len() < 4 && c.is_ascii_hexdigit() {
            return;
        }
        self.state = State::Value;
        let unit = u16::from_str_radix(&self.unicode, 16).unwrap_or(0xfffd);
        if (0xd800..0xdc00).contains(&unit) {
            self.half = Some(unit);
            return;
        }
        let units = self.half.take().into_iter().chain([unit]);
        for c in char::decode_utf16(units) {
            self.show(c.unwrap_or('\u{fffd}'), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANSWER: &str = r#"```json
{"kind":"plan","question":null,"steps":[{"argv":["df","-h","/va\u0072"],"id":1,"machines":["web-1","web-2"],
"purpose":"Look at \"disks\" \ud83d\ude00","shell":null,"undo":"hidden"},{"shell":"a | b\nc","id":2,"argv":null}],
"summary":"Find what fills the disk"}
```"#;

    const SHOWN: &str = "\n1.\n   $ df -h /var\n   on web-1, web-2\n   Look at \"disks\" 😀\n2.\n   $ a | b\nc\nFind what fills the disk";

    #[test]
    fn a_plan_can_be_read_while_it_is_written() {
        assert_eq!(Deltas::default().push(ANSWER), SHOWN);
    }

    #[test]
    fn terminals_are_not_written_to_and_the_text_is_bounded() {
        let mut deltas = Deltas::default();
        let shown = deltas.push("{\"summary\":\"\\u001b[31mred\\u202e");
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
        assert!(deltas.push(&"x".repeat(200_000)).len() <= MAX_TEXT);
        assert_eq!(deltas.push("more"), "");
        assert_eq!(Deltas::default().push(&"{\"a\":[".repeat(1000)), "");
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(cuts in proptest::collection::vec(0..ANSWER.len(), 0..40)) {
            let mut cuts: Vec<usize> = cuts;
            cuts.sort_unstable();
            let (mut deltas, mut text, mut behind) = (Deltas::default(), String::new(), 0);
            for cut in cuts.into_iter().chain([ANSWER.len()]) {
                text += &deltas.push(&ANSWER[behind..cut]);
                behind = cut;
            }
            prop_assert_eq!(text, SHOWN);
        }

        #[test]
        fn anything_may_arrive(piece in "[\\[\\]{}\",:\\\\ua0steps ]{0,200}") {
            let mut deltas = Deltas::default();
            deltas.push("{\"steps\":[{\"shell\":");
            deltas.push(&piece);
        }
    }
}
