//! Secrets in headers of HTTP and in URLs.

use super::find::{Span, skip_blanks};
use super::tokens::{self, Alphabet};
use super::values;

/// Behind `Authorization:`. A scheme stays; what follows it goes, up to the quote that stands in
/// front of the header's name, or the end of the line.
pub fn find_credential(line: &[u8], name: usize, start: usize) -> Option<Span> {
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
pub fn find_cookie(line: &[u8], start: usize, is_set: bool) -> Option<Span> {
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
pub fn find_in_url(line: &[u8], at: usize) -> Option<Span> {
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

/// `Bearer …` where no header is around it.
pub fn find_bearer(line: &[u8], at: usize) -> Option<Span> {
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
