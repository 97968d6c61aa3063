//! Text that is written out: escapes, and commands whose output has a known shape.

use crate::word::Value;

/// What is known of the output of a command, from its text.
pub(crate) fn output_of(text: &str) -> Value {
    const NUMBERS: &[&str] =
        &["date +%s", "nproc", "id -u", "id -g", "getconf CLK_TCK", "getconf PAGESIZE"];
    const NAMES: &[&str] = &[
        "hostname",
        "hostname -s",
        "hostname -f",
        "uname -r",
        "uname -m",
        "uname -s",
        "whoami",
        "id -un",
        "pwd",
        "dpkg --print-architecture",
        "lsb_release -cs",
        "date",
        "date +%F",
        "logname",
        "arch",
        "tty",
    ];
    let text = text.trim();
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with('-')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    let finds_processes = ["pidof ", "pgrep ", "pgrep -x ", "pgrep -o ", "pgrep -n ", "pgrep -f "]
        .iter()
        .any(|prefix| text.strip_prefix(prefix).is_some_and(is_name));
    if NUMBERS.contains(&text) || finds_processes {
        Value::DIGITS
    } else if NAMES.contains(&text) {
        Value::TAME
    } else {
        Value::ANYTHING
    }
}

/// Inside backquotes a backslash escapes backquotes, dollars and itself.
pub(crate) fn unescape_backquoted(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(&next @ ('`' | '$' | '\\')) if c == '\\' => {
                plain.push(next);
                chars.next();
            }
            _ => plain.push(c),
        }
    }
    plain
}

/// The text of `$'…'`.
pub(crate) fn unescape_ansi_c(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
                  radix: u32,
                  most: usize,
                  start: u32| {
        let mut value = start;
        for _ in 0..most {
            let Some(digit) = chars.peek().and_then(|c| c.to_digit(radix)) else { break };
            value = value * radix + digit;
            chars.next();
        }
        char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER)
    };
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        let Some(escape) = chars.next() else { break };
        plain.push(match escape {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\x07',
            'b' => '\x08',
            'e' | 'E' => '\x1b',
            'f' => '\x0c',
            'v' => '\x0b',
            'x' => number(&mut chars, 16, 2, 0),
            'u' => number(&mut chars, 16, 4, 0),
            'U' => number(&mut chars, 16, 7, 0),
            digit @ '0'..='7' => number(&mut chars, 8, 2, digit.to_digit(8).unwrap_or(0)),
            other => other,
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_become_what_they_stand_for() {
        assert_eq!(unescape_ansi_c(r"\x72m\t\162\u0041\\"), "rm\trA\\");
        assert_eq!(unescape_backquoted(r"a \`b\` \$c \d"), r"a `b` $c \d");
    }
}
