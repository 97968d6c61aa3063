//! `{a,b}` and `{1..9}`, which some shells expand before anything else.

/// Words that one word may become before it counts as unknown.
const MAX_WORDS: usize = 64;

/// What `raw` becomes: itself when there is nothing to expand; `None` when it is too much to follow.
pub(crate) fn expand(raw: &str) -> Option<Vec<String>> {
    let chars: Vec<char> = raw.chars().collect();
    let mut done = Vec::new();
    let mut todo = vec![chars];
    // Each round takes the first braces of one word apart.
    while let Some(word) = todo.pop() {
        if todo.len() + done.len() >= MAX_WORDS {
            return None;
        }
        match first_braces(&word) {
            Some((start, end, members)) => {
                if members.len() > MAX_WORDS {
                    return None;
                }
                for member in members.iter().rev() {
                    let mut next = word[..start].to_vec();
                    next.extend(member);
                    next.extend(&word[end + 1..]);
                    todo.push(next);
                }
            }
            None => done.push(word.into_iter().collect()),
        }
    }
    Some(done)
}

/// The first expandable braces outside of quotes: where they start and end, and their members.
fn first_braces(word: &[char]) -> Option<(usize, usize, Vec<Vec<char>>)> {
    let mut at = 0;
    while at < word.len() {
        if word[at] == '{' && (at == 0 || word[at - 1] != '$') {
            if let Some((end, members)) = members(word, at) {
                return Some((at, end, members));
            }
            at += 1;
        } else {
            at = skip(word, at);
        }
    }
    None
}

fn members(word: &[char], start: usize) -> Option<(usize, Vec<Vec<char>>)> {
    let mut members = vec![Vec::new()];
    let mut depth = 0usize;
    let mut at = start + 1;
    while at < word.len() {
        match word[at] {
            '}' if depth == 0 => {
                if members.len() > 1 {
                    return Some((at, members));
                }
                return sequence(&word[start + 1..at]).map(|ends| (at, ends));
            }
            ',' if depth == 0 => {
                members.push(Vec::new());
                at += 1;
                continue;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        let next = skip(word, at);
        if let Some(last) = members.last_mut() {
            last.extend(&word[at..next]);
        }
        at = next;
    }
    None
}

/// The ends of `a..b`: what lies between them has the same shape.
fn sequence(inner: &[char]) -> Option<Vec<Vec<char>>> {
    let text: String = inner.iter().collect();
    let mut ends = text.split("..");
    let (from, to) = (ends.next()?, ends.next()?);
    if from.is_empty() || to.is_empty() || ends.count() > 1 {
        return None;
    }
    Some(vec![from.chars().collect(), to.chars().collect()])
}

/// Behind the character, escape, quoted text or substitution at `at`.
fn skip(word: &[char], at: usize) -> usize {
    let close = match word[at] {
        '\\' => return (at + 2).min(word.len()),
        '\'' => '\'',
        '"' => '"',
        '`' => '`',
        '$' if word.get(at + 1) == Some(&'{') => '}',
        '$' if word.get(at + 1) == Some(&'(') => ')',
        _ => return at + 1,
    };
    let open = if close == '}' || close == ')' { word.get(at + 1) } else { None };
    let mut depth = 0usize;
    let mut next = at + if open.is_some() { 2 } else { 1 };
    while next < word.len() {
        let c = word[next];
        if c == '\\' && close != '\'' {
            next += 2;
            continue;
        }
        if Some(&c) == open {
            depth += 1;
        } else if c == close {
            if depth == 0 {
                return next + 1;
            }
            depth -= 1;
        }
        next += 1;
    }
    word.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_become_words_and_quoted_ones_stay() {
        let words = |raw: &str| expand(raw).unwrap();
        assert_eq!(words("{rm,-rf,/}"), ["rm", "-rf", "/"]);
        assert_eq!(words("a{b,c{d,e}}"), ["ab", "acd", "ace"]);
        assert_eq!(words("'{a,b}'"), ["'{a,b}'"]);
        assert_eq!(words("\\{a,b}"), ["\\{a,b}"]);
        assert_eq!(words("${a,b}"), ["${a,b}"]);
        assert_eq!(words("{1..9}"), ["1", "9"]);
        assert_eq!(words("{}"), ["{}"]);
        assert_eq!(expand(&"{a,b}".repeat(40)), None);
    }
}
