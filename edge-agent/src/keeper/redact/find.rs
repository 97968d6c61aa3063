//! Where in a line secrets stand.

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

fn is_name(byte: u8) -> bool {
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

fn skip_blanks(line: &[u8], from: usize) -> usize {
    let blanks = line[from.min(line.len())..]
        .iter()
        .take(MAX_BLANKS)
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    from + blanks
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
    judge(line, names::judge(name)?, start, Separator::Colon)
}

fn ends_with_word(name: &[u8], word: &[u8]) -> bool {
    name.len() >= word.len() && name[name.len() - word.len()..].eq_ignore_ascii_case(word)
}

fn judge(line: &[u8], name: Name, start: usize, separator: Separator) -> Option<Span> {
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

/// Behind `Authorization:`. A scheme stays; what follows it goes, up to the quote that stands in
/// front of the header's name, or the end of the line.
fn find_credential(line: &[u8], name: usize, start: usize) -> Option<Span> {
    let quote =
        name.checked_sub(1).map(|before| line[before]).filter(|byte| matches!(byte, b'"' | b'\''));
    let mut from = start;
    let mut quote = quote;
    if let Some(own) = line.get(start).copied().filter(|byte| matches!(byte, b'"' | b'\'')) {
        from += 1;
        quote = Some(own);
    }
    let end = from
        + line
            .get(from..)?
            .iter()
            .take_while(|byte| !matches!(byte, b'\r' | b'\n' | b'\\') && Some(**byte) != quote)
            .count();
    let value = &line[from..end];
    let scheme =
        value.iter().take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'-').count();
    let (kind, from) = match value.get(scheme) {
        Some(b' ') if scheme > 0 => {
            let kind = match value[..scheme].to_ascii_lowercase().as_slice() {
                b"bearer" => "bearer",
                b"basic" => "basic",
                _ => "authorization",
            };
            (kind, skip_blanks(line, from + scheme))
        }
        _ => ("authorization", from),
    };
    let secret = line.get(from..end)?;
    let is_sentence = kind == "authorization" && !values::looks_random(secret, 8);
    (!is_sentence
        && secret.len() >= 6
        && !secret.starts_with(b"$")
        && !secret.starts_with(b"<")
        && !secret.starts_with(b"{"))
    .then_some(Span { start: from, end, kind })
}

/// Behind `Cookie:` everything up to the end; behind `Set-Cookie:` the first pair's value.
fn find_cookie(line: &[u8], start: usize, is_set: bool) -> Option<Span> {
    let length = line
        .get(start..)?
        .iter()
        .take_while(|byte| {
            !(matches!(byte, b'\r' | b'\n' | b'"' | b'\'') || is_set && **byte == b';')
        })
        .count();
    let value = &line[start..start + length];
    let equals = value.iter().position(|byte| *byte == b'=')?;
    let from = if is_set { start + equals + 1 } else { start };
    let end = start + length;
    (end - from >= 4).then_some(Span { start: from, end, kind: "cookie" })
}

/// `scheme://user:password@host`
fn find_in_url(line: &[u8], at: usize) -> Option<Span> {
    if at == 0 || !line[at - 1].is_ascii_alphanumeric() {
        return None;
    }
    let start = at + 3;
    let length = line
        .get(start..)?
        .iter()
        .take_while(|byte| {
            !byte.is_ascii_whitespace()
                && !matches!(byte, b'/' | b'?' | b'#' | b'"' | b'\'' | b'<' | b'>')
        })
        .count();
    let authority = &line[start..start + length];
    let end = authority.iter().rposition(|byte| *byte == b'@')?;
    let colon = authority[..end].iter().position(|byte| *byte == b':')?;
    let password = &authority[colon + 1..end];
    let is_hidden = password.is_empty()
        || password.iter().all(|byte| matches!(byte, b'*' | b'x'))
        || password.starts_with(b"$")
        || password.starts_with(b"{")
        || password.starts_with(b"[redacted");
    (!is_hidden).then_some(Span { start: start + colon + 1, end: start + end, kind: "url" })
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

/// `Bearer …` where no header is around it.
fn find_bearer(line: &[u8], at: usize) -> Option<Span> {
    let start = skip_blanks(line, at + 6);
    let rest = line.get(start..)?;
    if let Some(kind) =
        tokens::find_token(rest).map(|(token, _)| token.kind).filter(|kind| *kind == "reeve")
    {
        let length = rest.iter().take_while(|byte| Alphabet::Base64.has(**byte)).count();
        return Some(Span { start, end: start + length, kind });
    }
    let length = rest.iter().take_while(|byte| Alphabet::Base64.has(**byte)).count();
    let secret = &rest[..length];
    let digits = secret.iter().any(u8::is_ascii_digit);
    (length >= 12 && digits).then_some(Span { start, end: start + length, kind: "bearer" })
}

/// `login NAME password SECRET` of netrc(5).
fn find_in_netrc(line: &[u8], at: usize) -> Option<Span> {
    find(&line[..at], b"login ")?;
    let start = skip_blanks(line, at + 8);
    judge(line, Name::Secret("password"), start, Separator::Blank)
}

/// `--password SECRET`, `-u user:SECRET`, `-pSECRET` of mysql and sshpass.
fn find_behind_flag(line: &[u8], at: usize) -> Option<Span> {
    if at > 0 && !matches!(line[at - 1], b' ' | b'\t' | b'"' | b'\'' | b'[' | b',' | 0) {
        return None;
    }
    let rest = &line[at..];
    let name_length = rest.iter().take_while(|byte| is_name(**byte)).count();
    let flag = &rest[..name_length];
    let behind = at + name_length;
    if let Some(password) = flag.strip_prefix(b"-p").filter(|password| !password.is_empty()) {
        let takes = [&b"mysql"[..], b"mariadb", b"sshpass"]
            .iter()
            .any(|name| find(&line[..at], name).is_some());
        let whole = line[behind..].iter().take_while(|byte| !byte.is_ascii_whitespace()).count();
        return (takes && !password.starts_with(b"-")).then_some(Span {
            start: at + 2,
            end: behind + whole,
            kind: "password",
        });
    }
    if line.get(behind) != Some(&b' ') {
        return None;
    }
    let start = skip_blanks(line, behind);
    if flag == b"-u" || flag == b"--user" || flag == b"--proxy-user" {
        let (range, _, _) = values::find_end(line, start);
        let value = line.get(range.clone())?;
        let colon = value.iter().position(|byte| *byte == b':')?;
        let secret = range.start + colon + 1;
        return (range.end > secret + 2 && !value[colon + 1..].starts_with(b"$")).then_some(Span {
            start: secret,
            end: range.end,
            kind: "password",
        });
    }
    let name = names::judge(flag.strip_prefix(b"--")?)?;
    if name == Name::Key || line.get(start) == Some(&b'-') {
        return None;
    }
    judge(line, name, start, Separator::Blank)
}
