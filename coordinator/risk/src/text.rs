//! The text itself, before anybody parses it: characters that deceive, and sizes.

use crate::rule::Rules;
use crate::word::UNKNOWN;
use reeve_protocol::ops::Effect;

/// Shell text that is parsed, bytes. Longer lines are not read-only.
pub(crate) const MAX_PARSED: usize = 16 * 1024;
/// Openers and keywords in one text: a bound of its nesting, and so of the parser's stack and time.
const MAX_OPENERS: usize = 200;
/// How deep openers may be inside each other at the most, quotes not considered.
const MAX_DEPTH: usize = 12;
/// Operators in a text with `[[`.
const MAX_TESTS: usize = 64;
/// Shell texts parsed for one command: substitutions, `sh -c`, `eval`.
pub(crate) const MAX_TEXTS: usize = 64;

/// A character that hides or reorders text on a screen, or that terminals act on.
pub(crate) fn deceiving(text: &str) -> Option<char> {
    text.chars().find(|&c| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c,
                '\u{a0}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{1680}'
                | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2000}'..='\u{200f}'
                | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' | '\u{2800}' | '\u{3000}'
                | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
            || c == UNKNOWN
    })
}

/// Whether a text is small and flat enough to be parsed.
pub(crate) fn is_parsable(text: &str) -> bool {
    if text.len() > MAX_PARSED {
        return false;
    }
    let (mut openers, mut depth, mut deepest, mut backquotes) = (0usize, 0usize, 0usize, 0usize);
    for byte in text.bytes() {
        match byte {
            b'(' | b'{' => {
                openers += 1;
                depth += 1;
                deepest = deepest.max(depth);
            }
            b')' | b'}' => depth = depth.saturating_sub(1),
            b'`' => backquotes += 1,
            _ => {}
        }
    }
    let is_keyword = |word: &&str| {
        matches!(
            *word,
            "if" | "while" | "until" | "for" | "case" | "select" | "coproc" | "!" | "time"
        )
    };
    let keywords = text
        .split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')' | '{' | '}'))
        .filter(is_keyword)
        .count();
    // Each of these is a level of the tree of `[[ … ]]`.
    let tests = text.matches("&&").count() + text.matches("||").count() + text.matches('!').count();
    if text.contains("[[") && tests > MAX_TESTS {
        return false;
    }
    openers <= MAX_OPENERS && deepest <= MAX_DEPTH && keywords <= 32 && backquotes <= 64
}

/// The first word of a text that names a program which destroys, quotes and grammar not considered.
pub(crate) fn destroying_word<'t>(rules: &Rules, text: &'t str) -> Option<&'t str> {
    let boundary = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+'));
    text.split(boundary).filter(|word| !word.is_empty()).find(|word| {
        let name = *word;
        rules.find(name).is_some_and(|rule| rule.effect == Effect::Destroy)
            || matches!(name.to_ascii_uppercase().as_str(), "TRUNCATE" | "DROP")
            || matches!(
                name,
                "rmtree"
                    | "unlink"
                    | "os.remove"
                    | "os.unlink"
                    | "shutil.rmtree"
                    | "File.delete"
                    | "FileUtils.rm_rf"
            )
    })
}

/// A stretch of text for a finding: one line, without characters that act, not too long.
pub(crate) fn shown(text: &str) -> String {
    const MAX: usize = 200;
    let mut shown: String = text
        .trim()
        .chars()
        .take(MAX)
        .map(|c| match c {
            UNKNOWN => '…',
            '\n' | '\t' => ' ',
            c if deceiving(c.encode_utf8(&mut [0; 4])).is_some() => '\u{fffd}',
            c => c,
        })
        .collect();
    if text.trim().chars().nth(MAX).is_some() {
        shown.push('…');
    }
    shown
}
