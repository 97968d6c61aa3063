//! How much of an unfinished line may be shown: everything but a suffix that a secret may begin with.

use super::find;
use super::names;
use super::tokens;
use super::values;

/// Up to where the line may be let go; at least `emitted`.
#[must_use]
pub fn find_hold(line: &[u8], emitted: usize) -> usize {
    let secret = find::find_secrets(line)
        .last()
        .filter(|span| span.end == line.len())
        .map(|span| span.start);
    let hold = [secret, find_open_value(line), find_open_word(line), find_open_block(line)]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(line.len());
    hold.max(emitted)
}

/// Where a value begins that stands behind a telling name and goes on to the end.
fn find_open_value(line: &[u8]) -> Option<usize> {
    let is_separator = |byte: &u8| matches!(byte, b'=' | b':' | b'>');
    let mut at = line.len();
    while let Some(separator) = line[..at].iter().rposition(is_separator) {
        at = separator;
        let Some(name) = find::find_name_before(line, separator) else { continue };
        let begins = [&b"authorization"[..], b"cookie"];
        let is_header = begins.iter().any(|word| {
            name.len() >= word.len() && name[name.len() - word.len()..].eq_ignore_ascii_case(word)
        });
        if !is_header && names::judge(name).is_none() {
            continue;
        }
        let start = find::skip_blanks(line, separator + 1);
        if start >= line.len() {
            continue;
        }
        if is_header || values::find_end(line, start).2 {
            return Some(start);
        }
    }
    None
}

/// Where the last word begins, if a token may begin in it, an URL, a hash, or what a flag takes.
fn find_open_word(line: &[u8]) -> Option<usize> {
    let start = line
        .iter()
        .rposition(|byte| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | 0))
        .map_or(0, |at| at + 1);
    let word = &line[start..];
    if word.is_empty() {
        return None;
    }
    let before = line[..start].trim_ascii_end();
    let flag = before.iter().rposition(u8::is_ascii_whitespace).map_or(0, |at| at + 1);
    let behind_flag = before[flag..].starts_with(b"-") && before.len() > flag + 1;
    let behind_word =
        [&b"bearer"[..], b"password"].iter().any(|each| before[flag..].eq_ignore_ascii_case(each));
    let may_be_token = (0..word.len()).any(|at| {
        let is_boundary = at == 0 || !word[at - 1].is_ascii_alphanumeric();
        is_boundary && may_begin(&word[at..])
    });
    (behind_flag || behind_word || may_be_token || find::find(word, b"://").is_some())
        .then_some(start)
}

/// Whether a secret may begin here of which too little is there to be sure.
fn may_begin(bytes: &[u8]) -> bool {
    let marks: [&[u8]; 5] = [b"eyJ", b"$", b"-----BEGIN ", b"-p", b"Bearer"];
    marks.iter().any(|mark| bytes.starts_with(mark) || mark.starts_with(bytes))
        || tokens::TOKENS.iter().any(|token| match bytes.strip_prefix(token.prefix) {
            Some(rest) => rest.iter().all(|byte| token.alphabet.has(*byte)),
            None => token.prefix.starts_with(bytes),
        })
}

/// Where a private key begins of which the end is not there yet.
fn find_open_block(line: &[u8]) -> Option<usize> {
    let at = find::find(line, b"-----BEGIN ")?;
    let is_closed = find::find(&line[at..], b"-----END ")
        .is_some_and(|end| find::find(&line[at + end + 9..], b"-----").is_some());
    (!is_closed).then_some(at)
}
