//! Where in a line secrets stand.

use super::credentials::{find_bearer, find_cookie, find_credential, find_in_url};
use super::flags::{find_behind_flag, find_in_netrc};
use super::names::{self, Name};
use super::tokens::{self, Alphabet};
use super::values::{self, Separator};

/// Blanks around a separator at most.
const MAX_BLANKS: usize = 8;

/// A secret in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
    /// Said in the placeholder.
    pub kind: &'static str,
}

/// Bytes at which something may begin. Everything else is passed over quickly.
const STARTS: [bool; 256] = {
    let mut starts = [false; 256];
    let mut at = 0;
    while at < tokens::TOKENS.len() {
        starts[tokens::TOKENS[at].prefix[0] as usize] = true;
        at += 1;
    }
    let mut at = 0;
    while at < b"=:$->eBbPpLl".len() {
        starts[b"=:$->eBbPpLl"[at] as usize] = true;
        at += 1;
    }
    starts
};

/// The secrets of a line, in order, not overlapping.
#[must_use]
pub fn find_secrets(line: &[u8]) -> Vec<Span> {
    let mut found: Vec<Span> = Vec::new();
    let mut at = 0;
    while at < line.len() {
        if !STARTS[usize::from(line[at])] {
            at += 1;
            continue;
        }
        match find_at(line, at) {
            Some(span) if span.end > span.start => {
                at = span.end;
                found.push(span);
            }
            _ => at += 1,
        }
    }
    found
}

/// Whether no word goes on over this place.
fn is_boundary(line: &[u8], at: usize) -> bool {
    at.checked_sub(1).and_then(|before| line.get(before)).is_none_or(|before| {
        !before.is_ascii_alphanumeric() && !matches!(before, b'_')
            // A backslash and a letter in text that was escaped: `\nghp_…`.
            || (at >= 2 && line[at - 2] == b'\\' && matches!(before, b'n' | b't' | b'r'))
    })
}

fn find_at(line: &[u8], at: usize) -> Option<Span> {
    let rest = &line[at..];
    match rest[0] {
        b'=' => find_behind_equals(line, at),
        b':' if rest.starts_with(b"://") => find_in_url(line, at),
        b':' => find_behind_colon(line, at),
        b'>' => find_in_element(line, at),
        b'$' => find_hash(line, at),
        b'-' if rest.starts_with(b"-----BEGIN ") => find_block(line, at),
        b'-' => find_behind_flag(line, at),
        _ if !is_boundary(line, at) => None,
        b'e' if rest.starts_with(b"eyJ") => find_jwt(line, at),
        b'b' | b'B' if starts_with_word(rest, b"bearer ") => find_bearer(line, at),
        b'P' | b'p' if starts_with_word(rest, b"password ") => find_in_netrc(line, at),
        _ if !tokens::may_be_token(rest) => None,
        _ => tokens::find_token(rest).map(|(token, length)| Span {
            start: at,
            end: at + length,
            kind: token.kind,
        }),
    }
}

fn starts_with_word(bytes: &[u8], word: &[u8]) -> bool {
    bytes.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word))
}

/// Whether a byte belongs to a name.
pub fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// The name in front of a separator, and where it begins.
fn find_name(line: &[u8], separator: usize) -> Option<(usize, &[u8])> {
    let mut end = separator;
    let skip = |end: &mut usize, is: fn(u8) -> bool| {
        let mut left = MAX_BLANKS;
        while left > 0 && *end > 0 && is(line[*end - 1]) {
            *end -= 1;
            left -= 1;
        }
    };
    skip(&mut end, |byte| matches!(byte, b' ' | b'\t'));
    skip(&mut end, |byte| matches!(byte, b'"' | b'\'' | b'`' | b']' | b'\\'));
    let mut start = end;
    while start > 0 && end - start <= 80 && is_name(line[start - 1]) {
        start -= 1;
    }
    (start < end).then(|| (start, &line[start..end]))
}

/// Behind the blanks that begin here.
pub fn skip_blanks(line: &[u8], from: usize) -> usize {
    let blanks = line[from.min(line.len())..]
        .iter()
        .take(MAX_BLANKS)
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    from + blanks
}

/// The name in front of a separator.
pub fn find_name_before(line: &[u8], separator: usize) -> Option<&[u8]> {
    find_name(line, separator).map(|(_, name)| name)
}

fn find_behind_equals(line: &[u8], at: usize) -> Option<Span> {
    let next = line.get(at + 1).copied();
    let before = at.checked_sub(1).and_then(|before| line.get(before)).copied();
    if next == Some(b'=') || matches!(before, Some(b'=' | b'!' | b'<' | b'>')) {
        return None;
    }
    let name_end = if before == Some(b':') { at - 1 } else { at };
    let (_, name) = find_name(line, name_end)?;
    let value = if next == Some(b'>') { at + 2 } else { at + 1 };
    let start = skip_blanks(line, value);
    let separator = if start == at + 1 && before.is_some_and(is_name) {
        Separator::Equals
    } else {
        Separator::SpacedEquals
    };
    // In the query of an URL a signature is as good as a key.
    judge(line, names::judge(name)?, start, separator)
}

fn find_behind_colon(line: &[u8], at: usize) -> Option<Span> {
    if matches!(line.get(at + 1), Some(b':' | b'='))
        || at.checked_sub(1).and_then(|before| line.get(before)) == Some(&b':')
    {
        return None;
    }
    let (begin, name) = find_name(line, at)?;
    let start = skip_blanks(line, at + 1);
    if ends_with_word(name, b"authorization") {
        return find_credential(line, begin, start);
    }
    if name.eq_ignore_ascii_case(b"cookie") || name.eq_ignore_ascii_case(b"set-cookie") {
        return find_cookie(line, start, name.len() > 6);
    }
    let name = names::judge(name)?;
    // "primary key: …" is two words.
    if name == Name::Key && names::is_harmless(word_before(line, begin)) {
        return None;
    }
    judge(line, name, start, Separator::Colon)
}

/// The word in front of a name.
fn word_before(line: &[u8], name: usize) -> &[u8] {
    let before = line[..name].trim_ascii_end();
    let length = before.iter().rev().take(32).take_while(|byte| byte.is_ascii_alphabetic()).count();
    &before[before.len() - length..]
}

fn ends_with_word(name: &[u8], word: &[u8]) -> bool {
    name.len() >= word.len() && name[name.len() - word.len()..].eq_ignore_ascii_case(word)
}

/// The value that begins here, if it is a secret.
pub fn judge(line: &[u8], name: Name, start: usize, separator: Separator) -> Option<Span> {
    if start >= line.len() {
        return None;
    }
    let (range, is_quoted, _) = values::find_end(line, start);
    let value = line.get(range.clone())?;
    let behind = range.end + usize::from(is_quoted);
    let rest = line.get(behind..).unwrap_or_default();
    let kind = match name {
        Name::Secret(kind) => kind,
        Name::Key => "key",
    };
    if let Some(token) = whole_token(value) {
        return Some(Span { start: range.start, end: range.end, kind: token });
    }
    values::is_secret(value, rest, name, separator, is_quoted).then_some(Span {
        start: range.start,
        end: range.end,
        kind,
    })
}

/// The kind of a value that shows by itself what it is: the same secret has the same placeholder
/// wherever it stands.
fn whole_token(value: &[u8]) -> Option<&'static str> {
    if let Some((token, length)) = tokens::find_token(value) {
        return (length == value.len()).then_some(token.kind);
    }
    find_jwt(value, 0).filter(|span| span.end == value.len()).map(|span| span.kind)
}

/// `<password>…</password>`
fn find_in_element(line: &[u8], at: usize) -> Option<Span> {
    let (begin, name) = find_name(line, at)?;
    if begin == 0 || line[begin - 1] != b'<' || line[at - 1] != *name.last()? {
        return None;
    }
    let name = names::judge(name)?;
    let start = at + 1;
    let length = line.get(start..)?.iter().take_while(|byte| !matches!(byte, b'<' | b'\n')).count();
    let value = &line[start..start + length];
    values::is_secret(value, b"", name, Separator::Equals, true).then_some(Span {
        start,
        end: start + length,
        kind: "secret",
    })
}

/// `$6$salt$hash` and its kin (crypt(5)).
fn find_hash(line: &[u8], at: usize) -> Option<Span> {
    const METHODS: &[&[u8]] = &[
        b"1",
        b"2",
        b"2a",
        b"2b",
        b"2x",
        b"2y",
        b"5",
        b"6",
        b"7",
        b"y",
        b"gy",
        b"md5",
        b"sha1",
        b"argon2i",
        b"argon2d",
        b"argon2id",
        b"apr1",
        b"scrypt",
        b"pbkdf2",
        b"pbkdf2-sha256",
        b"pbkdf2-sha512",
        b"bcrypt-sha256",
    ];
    let rest = &line[at + 1..];
    let method = rest.iter().take(16).position(|byte| *byte == b'$')?;
    if !METHODS.contains(&&rest[..method]) {
        return None;
    }
    let body = &rest[method + 1..];
    let is_hash = |byte: &&u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'.' | b'/' | b'$' | b'=' | b',' | b'+' | b'-')
    };
    let length = body.iter().take_while(is_hash).count();
    (length >= 20).then_some(Span { start: at, end: at + 1 + method + 1 + length, kind: "hash" })
}

/// A private key within one line, as JSON and environment variables have them. Those over several
/// lines are the stream's business.
fn find_block(line: &[u8], at: usize) -> Option<Span> {
    let rest = &line[at..];
    if !is_private_key(rest) {
        return None;
    }
    let end = find(rest, b"-----END ")?;
    let close = find(&rest[end + 9..], b"-----")?;
    Some(Span { start: at, end: at + end + 9 + close + 5, kind: "private-key" })
}

/// Whether a private key's first line begins here.
#[must_use]
pub fn is_private_key(bytes: &[u8]) -> bool {
    let Some(label) = bytes.strip_prefix(b"-----BEGIN ") else { return false };
    let label = &label[..label.len().min(64)];
    let Some(end) = find(label, b"-----") else { return false };
    find(&label[..end], b"PRIVATE KEY").is_some()
}

/// Where something begins.
#[must_use]
pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    let first = *what.first()?;
    let mut from = 0;
    loop {
        let at = from + bytes.get(from..)?.iter().position(|byte| *byte == first)?;
        if bytes[at..].starts_with(what) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Three parts of base64url (RFC 7519).
fn find_jwt(line: &[u8], at: usize) -> Option<Span> {
    let rest = &line[at..];
    if !rest.starts_with(b"eyJ") {
        return None;
    }
    let length = rest.iter().take_while(|byte| Alphabet::Dotted.has(**byte)).count();
    let mut parts = rest[..length].split(|byte| *byte == b'.');
    let (head, body, end) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = head.len() + 1 + body.len() + 1 + end.len();
    (head.len() >= 10 && body.len() >= 4).then_some(Span {
        start: at,
        end: at + whole,
        kind: "jwt",
    })
}
