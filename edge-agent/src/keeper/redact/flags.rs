//! Secrets among the arguments of programs.

use super::find::{Span, find, is_name, judge, skip_blanks};
use super::names::{self, Name};
use super::values::{self, Separator};

/// `login NAME password SECRET` of netrc(5).
pub fn find_in_netrc(line: &[u8], at: usize) -> Option<Span> {
    find(&line[..at], b"login ")?;
    let start = skip_blanks(line, at + 8);
    judge(line, Name::Secret("password"), start, Separator::Blank)
}

/// `--password SECRET`, `-u user:SECRET`, `-pSECRET` of mysql and sshpass.
pub fn find_behind_flag(line: &[u8], at: usize) -> Option<Span> {
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
