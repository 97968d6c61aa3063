//! Drain (He, Zhu, Zheng, Lyu: "Drain: An Online Log Parsing Approach with Fixed Depth Tree", ICWS
//! 2017): puts lines that differ only in their variable parts into one group, as they come, with
//! bounded memory. Why it is our own: docs/decisions/0020-logs-are-read-on-the-machine.md.

use std::collections::HashMap;

/// What stands for a variable part.
pub const WILDCARD: &str = "<*>";
/// Words at the beginning that choose the branch, besides the number of words.
const PREFIX: usize = 1;
/// Branches below one node; whatever comes then goes into the wildcard's.
const MAX_CHILDREN: usize = 100;
/// Share of words that have to be the same for a line to belong to a group.
const SIMILAR: f64 = 0.4;
/// Words of a line that are looked at. What is behind them does not tell lines apart.
const MAX_WORDS: usize = 64;

/// Groups of lines.
pub struct Drain {
    /// The branch: number of words and first words, to the groups in it.
    leaves: HashMap<Vec<String>, Vec<usize>>,
    /// The words known at each branch point, so that they stay few.
    children: HashMap<Vec<String>, usize>,
    templates: Vec<Vec<String>>,
    max_groups: usize,
}

impl Drain {
    /// No groups yet, and never more than so many.
    pub fn new(max_groups: usize) -> Self {
        Self { leaves: HashMap::new(), children: HashMap::new(), templates: Vec::new(), max_groups }
    }

    /// The group that a line belongs to; `None` when it would need a new one and there are too many.
    pub fn add(&mut self, line: &str) -> Option<usize> {
        let words: Vec<String> = words(line);
        let branch = self.branch(&words);
        let candidates = self.leaves.get(&branch).map_or(&[][..], Vec::as_slice);
        let best = candidates
            .iter()
            .filter_map(|group| {
                let (alike, wildcards) = similarity(self.templates.get(*group)?, &words);
                Some((alike, wildcards, *group))
            })
            .max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(b.2.cmp(&a.2)));
        if let Some((alike, _, group)) = best
            && alike >= SIMILAR
        {
            if let Some(template) = self.templates.get_mut(group) {
                for (known, word) in template.iter_mut().zip(&words) {
                    if known != word && known != WILDCARD {
                        WILDCARD.clone_into(known);
                    }
                }
            }
            return Some(group);
        }
        if self.templates.len() >= self.max_groups {
            return None;
        }
        let group = self.templates.len();
        self.templates.push(words);
        self.leaves.entry(branch).or_default().push(group);
        Some(group)
    }

    /// What the lines of a group have in common.
    pub fn template(&self, group: usize) -> String {
        self.templates.get(group).map(|words| words.join(" ")).unwrap_or_default()
    }

    /// The path down the tree of fixed depth.
    fn branch(&mut self, words: &[String]) -> Vec<String> {
        let mut path = vec![words.len().to_string()];
        for word in words.iter().take(PREFIX) {
            let varies = word == WILDCARD || word.chars().any(|c| c.is_ascii_digit());
            let mut step = if varies { WILDCARD } else { word };
            let mut full = path.clone();
            full.push(step.to_owned());
            if !self.children.contains_key(&full) && step != WILDCARD {
                let count = self.children.entry(path.clone()).or_insert(0);
                if *count >= MAX_CHILDREN {
                    step = WILDCARD;
                } else {
                    *count += 1;
                    self.children.insert(full, 0);
                }
            }
            path.push(step.to_owned());
        }
        path
    }
}

/// The share of words that are the same, and how many of the template stand for anything.
fn similarity(template: &[String], words: &[String]) -> (f64, usize) {
    if template.is_empty() {
        return (1.0, 0);
    }
    let mut same = 0_u32;
    let mut wildcards = 0;
    for (known, word) in template.iter().zip(words) {
        if known == WILDCARD {
            wildcards += 1;
        } else if known == word {
            same += 1;
        }
    }
    // As in the paper, a wildcard is no likeness: else a template of wildcards would take everything.
    let share = f64::from(same) / template.len() as f64;
    (share, wildcards)
}

/// The words of a line, with those that obviously vary replaced.
fn words(line: &str) -> Vec<String> {
    line.split_whitespace().take(MAX_WORDS).map(mask).collect()
}

/// A word with numbers, addresses and ids in it replaced; what is around them stays.
fn mask(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    // Between what sets parts of a word apart, such as `key=value`, `[7]`, `/path/to`.
    let is_edge = |c: char| !c.is_alphanumeric() && !"._-:+".contains(c);
    let mut part = String::new();
    for c in word.chars() {
        if is_edge(c) {
            push_part(&mut out, &part);
            part.clear();
            out.push(c);
        } else {
            part.push(c);
        }
    }
    push_part(&mut out, &part);
    out
}

fn push_part(out: &mut String, part: &str) {
    let core = part.trim_end_matches([':', '.']);
    out.push_str(if varies(core) { WILDCARD } else { core });
    out.push_str(part.get(core.len()..).unwrap_or_default());
}

/// Whether a part is a number, an address, a time, or an id in hexadecimal.
fn varies(part: &str) -> bool {
    let digits = part.chars().filter(char::is_ascii_digit).count();
    if digits == 0 {
        // An id without digits is a word, unless it is long and of no other letters.
        return part.len() >= 16 && part.chars().all(|c| c.is_ascii_hexdigit());
    }
    let hexadecimal = part
        .strip_prefix("0x")
        .unwrap_or(part)
        .chars()
        .all(|c| c.is_ascii_hexdigit() || ":-.".contains(c));
    let letters = part.chars().filter(|c| c.is_alphabetic()).count();
    // 12ms, 4.5GiB, v1.2.3 and times vary; ipv4, sha256, eth0 are names.
    hexadecimal
        || (part.starts_with(|c: char| c.is_ascii_digit()) && letters <= 3)
        || digits * 2 > part.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_differ_in_what_varies_are_one_group() {
        let table: &[(&[&str], &str)] = &[
            (
                &[
                    "connect() failed (111: refused) to 10.0.0.7:8080",
                    "connect() failed (110: refused) to 10.0.0.9:8080",
                ],
                "connect() failed (<*>: refused) to <*>",
            ),
            (
                &["user alice logged in from 10.1.1.1", "user bob logged in from 10.9.9.9"],
                "user <*> logged in from <*>",
            ),
            (
                &[
                    "request 550e8400-e29b-41d4-a716-446655440000 took 12ms",
                    "request 6ba7b810-9dad-11d1-80b4-00c04fd430c8 took 7ms",
                ],
                "request <*> took <*>",
            ),
            (&["disk sda1 is full", "disk sdb1 is full"], "disk <*> is full"),
            (&["pid=71 code=3 oom", "pid=9 code=4 oom"], "pid=<*> code=<*> oom"),
        ];
        for (lines, template) in table {
            let mut drain = Drain::new(100);
            let groups: Vec<_> = lines.iter().map(|line| drain.add(line)).collect();
            assert!(groups.iter().all(|group| *group == Some(0)), "{lines:?}: {groups:?}");
            assert_eq!(drain.template(0), *template);
        }
    }

    #[test]
    fn lines_that_say_something_else_are_others() {
        let mut drain = Drain::new(100);
        let lines = [
            "connection refused by upstream",
            "out of memory",
            "connection reset by peer now",
            "no space left on device",
            "",
        ];
        let groups: Vec<_> = lines.iter().map(|line| drain.add(line)).collect();
        assert_eq!(groups, [Some(0), Some(1), Some(2), Some(3), Some(4)]);
    }

    #[test]
    fn names_with_digits_stay() {
        assert_eq!(mask("eth0:"), "eth0:");
        assert_eq!(mask("[12345]"), "[<*>]");
        assert_eq!(mask("/srv/app-7/x"), "/srv/app-7/x");
        assert_eq!(mask("0xdeadbeef"), "<*>");
        assert_eq!(mask("12.5s"), "<*>");
        assert_eq!(mask("deadbeefdeadbeef"), "<*>");
        assert_eq!(mask("facade"), "facade");
    }

    #[test]
    fn groups_and_branches_are_bounded() {
        let mut drain = Drain::new(50);
        for n in 0..2_000 {
            // Words without digits, so that each is a branch of its own.
            let word: String =
                n.to_string().chars().map(|c| (c as u8 - b'0' + b'k') as char).collect();
            drain.add(&format!("{word} {word}x {word}y {word}z"));
        }
        assert_eq!(drain.templates.len(), 50);
        assert!(drain.children.values().all(|count| *count <= MAX_CHILDREN));
    }
}
