//! Programs of awk(1): `system()`, pipes and files in them.

use reeve_protocol::ops::Effect;

use crate::options::Parsed;
use crate::walk::Walk;

pub(super) fn check(walk: &mut Walk<'_>, parsed: &Parsed<'_>, segment: &str) {
    if parsed.has(&["-f", "--file"]) {
        walk.opaque(segment, "the program of `awk` is in a file".to_owned());
        return;
    }
    let program = parsed.value_of(&["-e", "--source"]).or(parsed.operands.first());
    let Some(program) = program else { return };
    let Some(text) = program.known() else {
        walk.opaque(segment, "the program of `awk` cannot be told".to_owned());
        return;
    };
    match acts(text) {
        Some(Acts::Runs) => walk.opaque(segment, "the program of `awk` runs commands".to_owned()),
        Some(Acts::Writes) => {
            let reason = "the program of `awk` writes files".to_owned();
            walk.find(Effect::Destroy, segment, "awk", reason);
        }
        None => {}
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Acts {
    Runs,
    Writes,
}

/// The first thing that acts. A slash begins a pattern only where a value cannot have ended before it;
/// elsewhere what follows it is looked at as code.
fn acts(text: &str) -> Option<Acts> {
    let chars: Vec<char> = text.chars().collect();
    let mut word = String::new();
    // The last character that is not white space: says what a slash means.
    let mut before = '\n';
    // Inside of a print statement, and how deep in its parentheses.
    let mut printing: Option<usize> = None;
    let mut depth = 0usize;
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
            before = c;
            at += 1;
            continue;
        }
        match std::mem::take(&mut word).as_str() {
            "system" => return Some(Acts::Runs),
            "print" | "printf" => printing = Some(depth),
            _ => {}
        }
        match c {
            '"' => at = behind(&chars, at, '"'),
            '#' => {
                while at + 1 < chars.len() && chars[at + 1] != '\n' {
                    at += 1;
                }
            }
            '/' if "\n(,!~&|{};".contains(before) => at = behind(&chars, at, '/'),
            '|' if chars.get(at + 1) == Some(&'|') => at += 1,
            '|' | '@' => return Some(Acts::Runs),
            '>' if printing == Some(depth) => {
                let target: String =
                    chars[at..].iter().skip_while(|c| matches!(c, '>' | ' ')).collect();
                let harmless = ["\"/dev/stderr\"", "\"/dev/stdout\"", "\"/dev/null\""];
                // Nothing may be joined to the name.
                let rest = harmless.iter().find_map(|name| target.strip_prefix(name));
                if !rest.is_some_and(|rest| {
                    rest.trim_start().is_empty() || rest.trim_start().starts_with([';', '}', '\n'])
                }) {
                    return Some(Acts::Writes);
                }
            }
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ';' | '}' | '{' | '\n' => printing = None,
            _ => {}
        }
        if !c.is_whitespace() || c == '\n' {
            before = c;
        }
        at += 1;
    }
    (word == "system").then_some(Acts::Runs)
}

/// The index of the closing delimiter.
fn behind(chars: &[char], start: usize, delimiter: char) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != delimiter {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_print_are_told_from_those_that_act() {
        for prints in [
            "{print $1}",
            "$3 > 80 {print $1, $3}",
            "/a|b/ {print}",
            "NR>1 && $5+0>80 {print $1}",
            "{s+=$1} END {print s/1024}",
            "{print (a > b)}",
            "{if ($1 > 5) print \"x > y | z\"}",
            "{print > \"/dev/stderr\"}",
            "a || b",
        ] {
            assert_eq!(acts(prints), None, "{prints}");
        }
        assert_eq!(acts("BEGIN{system(\"id\")}"), Some(Acts::Runs));
        assert_eq!(acts("{\"date\" | getline d}"), Some(Acts::Runs));
        assert_eq!(acts("{print $1 | \"sh\"}"), Some(Acts::Runs));
        assert_eq!(acts("{print > \"/etc/passwd\"}"), Some(Acts::Writes));
        assert_eq!(acts("{print >> \"f\"}"), Some(Acts::Writes));
        assert_eq!(acts("{printf(\"x\") > \"f\"}"), Some(Acts::Writes));
        assert_eq!(acts("{x = 4 / 2; print 1 | \"sh\" / 3}"), Some(Acts::Runs));
        assert_eq!(acts("{print > \"/dev/stdout\" \"x\"}"), Some(Acts::Writes));
    }
}
