//! Text without what only a terminal or a trick would want: escape sequences, control characters,
//! marks that turn, hide or join text. Every kept byte knows where it stood, so that a quote of the
//! clean text can be found again in the bytes.

use std::borrow::Cow;

/// An operating-system command or similar string is looked for this far, bytes; one that has no end
/// by then hides nothing: only its introducer goes.
const MAX_ESCAPE_STRING: usize = 2048;

/// Clean text, and where each part of it stood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clean {
    text: String,
    runs: Vec<Run>,
}

/// Bytes that were kept together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    clean: usize,
    clean_length: usize,
    raw: usize,
    raw_length: usize,
}

impl Clean {
    /// Cleans bytes; invalid UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut clean = Self { text: String::with_capacity(bytes.len()), runs: Vec::new() };
        let mut at = 0;
        // Bytes before this belong to an escape sequence that was recognised.
        let mut skip_to = 0;
        for chunk in bytes.utf8_chunks() {
            for (offset, c) in chunk.valid().char_indices() {
                let here = at + offset;
                if here < skip_to {
                    continue;
                }
                if c == '\u{1b}' || c == '\u{9b}' {
                    skip_to = here + escape_length(&bytes[here..]);
                } else if is_kept(c) {
                    clean.keep(c, here, c.len_utf8());
                }
            }
            at += chunk.valid().len();
            let invalid = chunk.invalid().len();
            if invalid > 0 && at >= skip_to {
                clean.keep('\u{fffd}', at, invalid);
            }
            at += invalid;
        }
        clean
    }

    fn keep(&mut self, c: char, raw: usize, raw_length: usize) {
        let clean_length = c.len_utf8();
        let plain = clean_length == raw_length && c != '\u{fffd}';
        match self.runs.last_mut() {
            Some(run)
                if plain
                    && run.clean_length == run.raw_length
                    && run.raw + run.raw_length == raw =>
            {
                run.clean_length += clean_length;
                run.raw_length += raw_length;
            }
            _ => self.runs.push(Run { clean: self.text.len(), clean_length, raw, raw_length }),
        }
        self.text.push(c);
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text, given away.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }

    /// Which bytes a piece of the text came from: offsets of the first and behind the last. `None`
    /// when it is empty or outside.
    #[must_use]
    pub fn raw_span(&self, from: usize, to: usize) -> Option<(usize, usize)> {
        if from >= to || to > self.text.len() {
            return None;
        }
        let run_at = |position: usize| {
            let next = self.runs.partition_point(|run| run.clean <= position);
            self.runs.get(next.checked_sub(1)?)
        };
        let (first, last) = (run_at(from)?, run_at(to - 1)?);
        let even = |run: &Run| run.clean_length == run.raw_length;
        let start = first.raw + if even(first) { from - first.clean } else { 0 };
        let end = last.raw + if even(last) { to - last.clean } else { last.raw_length };
        Some((start, end))
    }
}

/// Cleans a text when only the text is wanted.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_kept) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(Clean::of(text.as_bytes()).into_text())
}

/// One line for people or a prompt: clean, white space squeezed, at most so many bytes.
#[must_use]
pub fn line(text: &str, max: usize) -> String {
    // What is far behind the end is not even looked at: facts are as long as machines like.
    let text = &text[..text.floor_char_boundary(max.saturating_mul(8).saturating_add(64))];
    let mut blank = true;
    let plain = text.bytes().all(|byte| {
        let fine = byte.is_ascii_graphic() || (byte == b' ' && !blank);
        blank = byte == b' ';
        fine
    });
    // Most are: facts of thousands of machines go through here.
    if plain && (text.is_empty() || !blank) {
        return cut(text, max).into_owned();
    }
    let squeezed = clean(text).split_whitespace().collect::<Vec<_>>().join(" ");
    cut(&squeezed, max).into_owned()
}

/// Text for people that a model wrote: clean, bounded, and without what a page could load or
/// follow: pictures go, links keep their words.
#[must_use]
pub fn prose(text: &str, max: usize) -> String {
    let text = clean(text);
    let mut kept = String::with_capacity(text.len().min(max));
    let mut rest: &str = &text;
    while let Some(open) = rest.find('[') {
        let (before, from) = rest.split_at(open);
        let link = from.find("](").and_then(|middle| {
            let end = from[middle..].find(')')? + middle;
            Some((&from[1..middle], end + 1))
        });
        match link {
            Some((label, end)) if !label.contains(['[', '\n']) => {
                kept.push_str(before.strip_suffix('!').unwrap_or(before));
                kept.push_str(label);
                rest = &from[end..];
            }
            _ => {
                kept.push_str(before);
                kept.push('[');
                rest = &from[1..];
            }
        }
    }
    kept.push_str(rest);
    cut(kept.trim(), max).into_owned()
}

/// The beginning, of at most so many bytes, with `…` where something is missing.
#[must_use]
pub fn cut(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(max.saturating_sub('…'.len_utf8()));
    Cow::Owned(format!("{}…", &text[..end]))
}

/// Whether a character may stand in a prompt.
fn is_kept(c: char) -> bool {
    match c {
        '\n' | '\t' => true,
        c if c.is_control() => false,
        // Soft hyphen, combining grapheme joiner, Hangul fillers, Mongolian separators.
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' => false,
        '\u{180b}'..='\u{180f}' => false,
        // Marks of direction.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}' => {
            false
        }
        // Zero width; separators that look like nothing.
        '\u{200b}'..='\u{200d}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2065}' => false,
        '\u{feff}' | '\u{fff0}'..='\u{fffb}' => false,
        // Variation selectors and tags: whole sentences can be written in them unseen.
        '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e0fff}' => false,
        // Private use has no meaning here.
        '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}' => false,
        _ => true,
    }
}

/// Length of the escape sequence (ECMA-48) at the beginning, at least its introducer.
fn escape_length(bytes: &[u8]) -> usize {
    let (introducer, kind) = match bytes {
        [0x1b, kind, ..] => (2, *kind),
        [0xc2, 0x9b, ..] => (2, b'['),
        _ => return 1,
    };
    let rest = &bytes[introducer..];
    match kind {
        b'[' => {
            let parameters = rest.iter().take_while(|b| (0x20..=0x3f).contains(*b)).count();
            match rest.get(parameters) {
                Some(0x40..=0x7e) => introducer + parameters + 1,
                _ => introducer + parameters,
            }
        }
        b']' | b'P' | b'X' | b'^' | b'_' => {
            let window = &rest[..rest.len().min(MAX_ESCAPE_STRING)];
            for (at, byte) in window.iter().enumerate() {
                match byte {
                    0x07 => return introducer + at + 1,
                    0x1b if window.get(at + 1) == Some(&b'\\') => return introducer + at + 2,
                    b'\n' => break,
                    _ => {}
                }
            }
            introducer
        }
        0x20..=0x2f => {
            let between = rest.iter().take_while(|b| (0x20..=0x2f).contains(*b)).count();
            let last = rest.get(between).is_some_and(|b| (0x30..=0x7e).contains(b));
            introducer + between + usize::from(last)
        }
        0x30..=0x7e => introducer,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_controls_and_unseen_characters_go() {
        for (dirty, expected) in [
            ("a\x1b[31mred\x1b[0m b", "ared b"),
            ("\x1b]0;title\x07shown", "shown"),
            ("\x1b]8;;http://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1b]0;no end\nnext", "0;no end\nnext"),
            ("\x1b]0;not hidden\nnor this\x07", "0;not hidden\nnor this"),
            ("over\rwritten\x08\x08", "overwritten"),
            ("zero\u{200b}width\u{202e}turned", "zerowidthturned"),
            ("tag\u{e0041}\u{e0042}s", "tags"),
            ("\u{9b}31mred", "red"),
            ("\x1b(Bset", "set"),
            ("keeps\ttabs\nand ümläuts 日本", "keeps\ttabs\nand ümläuts 日本"),
        ] {
            let cleaned = Clean::of(dirty.as_bytes());
            assert_eq!(cleaned.text(), expected, "{dirty:?}");
            assert_eq!(clean(dirty), expected, "{dirty:?}");
        }
    }

    #[test]
    fn clean_text_is_found_again_in_its_bytes() {
        let raw = b"ok \x1b[1mbold\x1b[0m \xff\xfe end";
        let cleaned = Clean::of(raw);
        let at = cleaned.text().find("bold").unwrap();
        assert_eq!(cleaned.raw_span(at, at + 4), Some((7, 11)));
        let at = cleaned.text().find("end").unwrap();
        let (from, to) = cleaned.raw_span(at, at + 3).unwrap();
        assert_eq!(&raw[from..to], b"end");
        assert_eq!(cleaned.raw_span(3, 3), None);
        assert_eq!(cleaned.raw_span(0, 1000), None);
    }

    #[test]
    fn prose_loses_pictures_and_addresses_of_links_and_keeps_citations() {
        assert_eq!(
            prose("see ![x](http://evil.example/?d=1) and [docs](http://a.example) [1] [2](y", 500),
            "see x and docs [1] [2](y"
        );
        assert_eq!(prose("[[a](b)](c)", 500), "[a](c)");
        assert_eq!(cut("äöü", 5), "ä…");
    }

    proptest! {
        #[test]
        fn any_bytes_come_out_clean_and_map_back(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let cleaned = Clean::of(&bytes);
            prop_assert!(cleaned.text().chars().all(is_kept));
            let indices: Vec<usize> = cleaned.text().char_indices().map(|(at, _)| at).collect();
            for at in indices {
                let c = cleaned.text()[at..].chars().next().unwrap();
                let (from, to) = cleaned.raw_span(at, at + c.len_utf8()).unwrap();
                if c != '\u{fffd}' {
                    let text = c.to_string();
                    prop_assert_eq!(&bytes[from..to], text.as_bytes());
                }
            }
        }
    }
}
