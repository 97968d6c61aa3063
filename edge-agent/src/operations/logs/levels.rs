//! How urgent a line says it is. Programs write a word for it near the beginning; which, and how it is
//! set apart, is up to each.

/// Bytes of a line that are looked at.
const LOOKED_AT: usize = 256;

/// Words and what they mean (syslog(3)).
const WORDS: &[(&[u8], u8)] = &[
    (b"emerg", 0),
    (b"emergency", 0),
    (b"panic", 0),
    (b"alert", 1),
    (b"crit", 2),
    (b"critical", 2),
    (b"fatal", 2),
    (b"severe", 2),
    (b"error", 3),
    (b"err", 3),
    (b"eror", 3),
    (b"warning", 4),
    (b"warn", 4),
    (b"wrn", 4),
    (b"notice", 5),
    (b"info", 6),
    (b"inf", 6),
    (b"information", 6),
    (b"informational", 6),
    (b"debug", 7),
    (b"dbg", 7),
    (b"trace", 7),
    (b"verbose", 7),
];

/// Words that also occur as ordinary words of a sentence. They count only where they are set apart as
/// levels are: in capitals, in brackets, or behind a `level` key.
const ALSO_PROSE: &[&[u8]] = &[b"notice", b"alert", b"information", b"trace", b"verbose", b"debug"];

/// The level that a line names first; `None` when it names none.
#[must_use]
pub fn find(line: &[u8]) -> Option<u8> {
    let head = line.get(..LOOKED_AT).unwrap_or(line);
    if let Some(level) = klog(head) {
        return Some(level);
    }
    let mut at = 0;
    while at < head.len() {
        let rest = head.get(at..)?;
        let length = rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        if length == 0 {
            at += 1;
            continue;
        }
        let word = rest.get(..length)?;
        let before = at.checked_sub(1).and_then(|before| head.get(before)).copied();
        let after = rest.get(length).copied();
        if let Some(level) = level_of(word, before, after) {
            return Some(level);
        }
        at += length;
    }
    None
}

fn level_of(word: &[u8], before: Option<u8>, after: Option<u8>) -> Option<u8> {
    if !(3..=13).contains(&word.len()) {
        return None;
    }
    // Part of a name, such as error_log, x-info or debug.txt.
    let joined =
        |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b));
    let dotted = matches!(after, Some(b'.'));
    if joined(before) || (joined(after) && !dotted) {
        return None;
    }
    let (known, level) =
        WORDS.iter().find(|(known, _)| word.eq_ignore_ascii_case(known)).copied()?;
    let apart = word.iter().all(u8::is_ascii_uppercase)
        || before.is_some_and(|byte| b"[(<\"=|".contains(&byte));
    if ALSO_PROSE.contains(&known) && !apart {
        return None;
    }
    Some(level)
}

/// `E1121 08:34:09.123456`: what Kubernetes' programs write.
fn klog(head: &[u8]) -> Option<u8> {
    let digits = head.get(1..5)?.iter().all(u8::is_ascii_digit) && head.get(5) == Some(&b' ');
    if !digits {
        return None;
    }
    match head.first()? {
        b'F' => Some(2),
        b'E' => Some(3),
        b'W' => Some(4),
        b'I' => Some(6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn levels_are_found_where_programs_write_them() {
        let table: &[(&str, Option<u8>)] = &[
            ("2026-11-21 08:34:09,123 ERROR [main] boom", Some(3)),
            ("2026-11-21T08:34:09Z WARN  pool is full", Some(4)),
            ("[Sat Nov 21 08:34:09.1 2026] [core:error] [pid 7] no file", Some(3)),
            ("2026/11/21 08:34:09 [crit] 7#7: *1 connect() failed", Some(2)),
            ("{\"level\":\"error\",\"msg\":\"x\"}", Some(3)),
            ("ts=1 level=debug msg=\"an error\"", Some(7)),
            ("E1121 08:34:09.123456       1 main.go:7] x", Some(3)),
            ("I1121 08:34:09.123456       1 main.go:7] x", Some(6)),
            ("kernel panic - not syncing", Some(0)),
            ("error: no such thing", Some(3)),
            ("all is well", None),
            ("GET /error_log.txt 200", None),
            ("GET /x?debug 200 notice of nothing", None),
            ("no-error here", None),
            ("", None),
            ("FATAL: out of memory", Some(2)),
        ];
        for (line, level) in table {
            assert_eq!(find(line.as_bytes()), *level, "{line}");
        }
    }
}
