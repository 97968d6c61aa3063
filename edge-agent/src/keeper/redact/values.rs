//! What stands behind a name: how far it goes, and whether it is a secret.

use super::names::Name;

/// How a value is set off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separator {
    /// `name=value`
    Equals,
    /// `name = value`
    SpacedEquals,
    /// `name:value`, `name: value`
    Colon,
    /// `--name value`
    Blank,
}

/// Words that stand where a secret could and are none.
const WORDS: &[&[u8]] = &[
    b"null",
    b"none",
    b"nil",
    b"true",
    b"false",
    b"yes",
    b"no",
    b"on",
    b"off",
    b"undefined",
    b"empty",
    b"unset",
    b"set",
    b"string",
    b"str",
    b"bytes",
    b"int",
    b"required",
    b"optional",
    b"incorrect",
    b"invalid",
    b"expired",
    b"missing",
    b"wrong",
    b"failed",
    b"denied",
    b"rejected",
    b"changed",
    b"updated",
    b"unchanged",
    b"ok",
    b"accepted",
    b"valid",
    b"not",
    b"is",
    b"was",
    b"has",
    b"must",
    b"the",
    b"please",
    b"enter",
    b"prompt",
    b"hidden",
    b"masked",
    b"redacted",
    b"removed",
    b"basic",
    b"bearer",
    b"digest",
    b"negotiate",
    b"authentication",
    b"enabled",
    b"disabled",
    b"never",
    b"default",
    b"unknown",
    b"password",
    b"token",
    b"secret",
    b"success",
    b"successfully",
    b"generated",
    b"created",
    b"revoked",
    b"deleted",
    b"found",
    b"loaded",
    b"used",
    b"unexpected",
    b"too",
    b"cannot",
    b"could",
    b"no-password",
    b"changeme?",
    b"todo",
    b"file",
    b"stdin",
    b"env",
    b"keyring",
    b"vault",
    b"again",
    b"try",
    b"for",
    b"in",
    b"and",
    b"or",
    b"to",
];

/// Where the value that begins here ends: a quoted one at its quote. The second tells whether it
/// was quoted; the third whether the end of the bytes cut it off.
#[must_use]
pub fn find_end(bytes: &[u8], start: usize) -> (std::ops::Range<usize>, bool, bool) {
    let escaped =
        bytes.get(start) == Some(&b'\\') && matches!(bytes.get(start + 1), Some(b'"' | b'\''));
    let at = if escaped { start + 1 } else { start };
    if let Some(quote) = bytes.get(at).copied().filter(|byte| matches!(byte, b'"' | b'\'' | b'`')) {
        let from = at + 1;
        let mut end = from;
        while let Some(&byte) = bytes.get(end) {
            if escaped && byte == b'\\' && bytes.get(end + 1) == Some(&quote) {
                break;
            }
            if byte == b'\\' && !escaped && end + 1 < bytes.len() {
                end += 2;
                continue;
            }
            if matches!(byte, b'\n' | b'\r') || (byte == quote && !escaped) {
                break;
            }
            end += 1;
        }
        return (from..end, true, end >= bytes.len());
    }
    let length = bytes[start..].iter().take_while(|byte| !ends_bare(**byte)).count();
    let end = start + length;
    (start..end, false, end == bytes.len())
}

fn ends_bare(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || byte == 0
        || byte == 0x1b
        || matches!(byte, b'"' | b'\'' | b'`' | b',' | b';' | b'&' | b'<' | b'>' | b'|')
}

/// Whether a value is a secret. `rest` is what follows it in its line.
#[must_use]
pub fn is_secret(
    value: &[u8],
    rest: &[u8],
    name: Name,
    separator: Separator,
    is_quoted: bool,
) -> bool {
    if is_placeholder(value) {
        return false;
    }
    if name == Name::Key {
        return looks_random(value, 20);
    }
    let is_number = value.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    if is_number && (name != Name::Secret("password") || value.len() < 4) {
        return false;
    }
    if is_quoted {
        // A sentence is no password; a passphrase of words with a digit or so is one.
        return value.len() >= 3;
    }
    if is_code(value, separator) || is_path(value) {
        return false;
    }
    // The end of a quoted text in which it stands.
    let is_quote = matches!(rest.first(), Some(b'"' | b'\''));
    match separator {
        Separator::Equals | Separator::Blank => value.len() >= 3,
        Separator::SpacedEquals => value.len() >= 3 && (is_last(rest) || looks_random(value, 6)),
        // In a sentence something else follows.
        Separator::Colon => {
            value.len() >= 4
                && (is_last(rest) || looks_random(value, 8) || (is_quote && looks_random(value, 6)))
        }
    }
}

/// Whether a line ends behind a value, but for what does not belong to it.
fn is_last(rest: &[u8]) -> bool {
    let rest = rest.trim_ascii_start();
    matches!(rest.first(), None | Some(b',' | b';' | b'#' | b'}' | b']' | b')' | b'|'))
}

/// Stands for a value, or says that there is none.
fn is_placeholder(value: &[u8]) -> bool {
    let Some(&first) = value.first() else { return true };
    if value
        .iter()
        .all(|byte| matches!(byte, b'*' | b'x' | b'X' | b'.' | b'-' | b'_' | b'?' | b'!'))
    {
        return true;
    }
    let begins = |text: &[u8]| value.starts_with(text);
    if begins(b"${")
        || begins(b"$(")
        || begins(b"{{")
        || begins(b"%(")
        || begins(b"<")
        || begins(b"[redacted")
        || begins(b"[REDACTED")
        || begins(b"%s")
        || begins(b"%v")
        || begins(b"{")
        || begins(b"[")
        || begins(b"(")
        || begins(b"//")
        || begins(b"=")
        || begins(b"***")
        || begins(b"\\n")
        || begins(b"@")
    {
        return true;
    }
    if first == b'$'
        && value.get(1).is_some_and(|byte| byte.is_ascii_uppercase() || *byte == b'_')
        && value[1..].iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    {
        return true;
    }
    let word = value.trim_ascii_end();
    let word = word.strip_suffix(b".").or(word.strip_suffix(b":")).unwrap_or(word);
    WORDS.iter().any(|each| each.eq_ignore_ascii_case(word))
}

/// `os.environ["X"]`, `getpass()`, `self.token`
fn is_code(value: &[u8], separator: Separator) -> bool {
    let call = value.iter().position(|byte| matches!(byte, b'(' | b'['));
    if let Some(at) = call
        && at > 0
        && value[..at]
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':'))
    {
        return true;
    }
    let is_dotted = value.contains(&b'.')
        && value.iter().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'.'));
    is_dotted && separator != Separator::Equals
}

/// Where a secret is kept is none.
fn is_path(value: &[u8]) -> bool {
    let rooted = value.starts_with(b"/")
        || value.starts_with(b"./")
        || value.starts_with(b"~/")
        || value.starts_with(b"file:");
    rooted
        && value.iter().filter(|byte| **byte == b'/').count() >= 2
        && value.iter().all(|byte| {
            byte.is_ascii_lowercase()
                || byte.is_ascii_digit()
                || matches!(byte, b'/' | b'.' | b'_' | b'-' | b'~' | b':')
        })
}

/// Long enough, of several kinds of characters, and not a word.
#[must_use]
pub fn looks_random(value: &[u8], least: usize) -> bool {
    if value.len() < least {
        return false;
    }
    let count = |is: fn(&u8) -> bool| value.iter().filter(|byte| is(byte)).count();
    let digits = count(u8::is_ascii_digit);
    let letters = count(u8::is_ascii_alphabetic);
    let odd = value.len() - digits - letters;
    let mut seen = [false; 256];
    value.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    let different = seen.iter().filter(|seen| **seen).count();
    digits > 0 && letters > 0 && odd * 3 <= value.len() && different > value.len().min(20) / 3
}
