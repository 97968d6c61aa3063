//! Which machines a sentence means: by name, by label, all of them.

use std::collections::BTreeSet;

use crate::catalogue::Catalogue;
use crate::clauses::is_free_word;
use crate::plan::Machine;
use crate::words::{Kind, Word};

/// Words for many machines, behind a label's value: `web servers`.
const NOUNS: &[&str] =
    &["machines", "servers", "hosts", "boxes", "nodes", "computers", "systems", "vms", "instances"];
/// Beginnings of names of devices: `on eth0` is no machine.
const DEVICES: &[&str] = &[
    "eth", "ens", "enp", "eno", "wlan", "wlp", "sda", "sdb", "sdc", "nvme", "vda", "vdb", "xvd",
    "md", "lo", "tun", "tap", "wg", "br", "docker", "bond", "tty", "veth", "dm", "mmcblk", "ipv",
];

/// What was found of machines in a sentence.
#[derive(Debug, Default)]
pub(crate) struct Marked {
    /// The sentence, with a word of [`Kind::Machines`] for each group of machines named.
    pub words: Vec<Word>,
    /// Names that fit no machine, as written.
    pub unknown: Vec<String>,
}

/// Finds the machines that a sentence names.
pub(crate) fn mark(catalogue: &Catalogue, words: Vec<Word>, machines: &[Machine]) -> Marked {
    let mut marked = Marked::default();
    let mut at = 0;
    while at < words.len() {
        match group(catalogue, &words, at, machines) {
            Some(Group::These(found, length)) => {
                let led = is_led(&words, at);
                let raw: Vec<&str> =
                    words[at..at + length].iter().map(|word| word.raw.as_str()).collect();
                let word =
                    Word::new(&raw.join(" "), Kind::Machines(found, led), &catalogue.vocabulary);
                marked.words.push(word);
                at += length;
            }
            Some(Group::Unknown(name, length)) => {
                marked.unknown.push(name);
                // It stands where a machine stands, and names none.
                let word = Word::new("?", Kind::Machines(Vec::new(), true), &catalogue.vocabulary);
                marked.words.push(word);
                at += length;
            }
            None => {
                marked.words.push(words[at].clone());
                at += 1;
            }
        }
    }
    marked.words = join_lists(marked.words);
    marked
}

/// Machines that a sentence names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Their places in the list, each once.
    pub machines: Vec<usize>,
    /// What stands where a machine's name stands, and is none, as written.
    pub unknown: Vec<String>,
    /// Names that could have been meant by those, the nearest first, at most five.
    pub nearest: Vec<String>,
}

/// The machines that a request in words names, by name, label or `all machines`. A line that is a
/// shell command names none.
pub(crate) fn named(catalogue: &Catalogue, prompt: &str, machines: &[Machine]) -> Named {
    if crate::shell_line::recognise(prompt, &catalogue.vocabulary).is_some() {
        return Named::default();
    }
    let marked = mark(catalogue, crate::words::split(prompt, &catalogue.vocabulary), machines);
    let mut found = BTreeSet::new();
    for word in &marked.words {
        if let Kind::Machines(these, _) = &word.kind {
            found.extend(these.iter().copied());
        }
    }
    let mut near: Vec<String> = Vec::new();
    for name in marked.unknown.iter().flat_map(|name| nearest(name, machines, 3)) {
        if near.len() < 5 && !near.contains(&name) {
            near.push(name);
        }
    }
    Named { machines: found.into_iter().collect(), unknown: marked.unknown, nearest: near }
}

enum Group {
    These(Vec<usize>, usize),
    Unknown(String, usize),
}

fn group(catalogue: &Catalogue, words: &[Word], at: usize, machines: &[Machine]) -> Option<Group> {
    let word = &words[at];
    if !matches!(word.kind, Kind::Word | Kind::Quoted | Kind::Number(_)) {
        return None;
    }
    let lower = word.lower();
    let name = |machine: &Machine| machine.name.to_lowercase() == lower;
    if let Some(found) = machines.iter().position(name) {
        return Some(Group::These(vec![found], 1));
    }
    if let Some((key, value)) =
        lower.split_once('=').filter(|(key, value)| !key.is_empty() && !value.is_empty())
    {
        let found =
            with_label(machines, |k, v| k.to_lowercase() == key && v.to_lowercase() == value);
        let shaped = key.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        return match (found.is_empty(), shaped) {
            (false, _) => Some(Group::These(found, 1)),
            (true, true) if is_led(words, at) => Some(Group::Unknown(word.raw.clone(), 1)),
            _ => None,
        };
    }
    let noun = |n: usize| words.get(n).is_some_and(|w| NOUNS.contains(&w.lower().as_str()));
    if matches!(lower.as_str(), "everywhere" | "fleet") {
        return Some(Group::These((0..machines.len()).collect(), 1));
    }
    if matches!(lower.as_str(), "all" | "every" | "each" | "both") {
        let skip = usize::from(
            words
                .get(at + 1)
                .is_some_and(|w| w.is("the") || w.is("of") || w.is("my") || w.is("our")),
        );
        let next = words.get(at + 1 + skip);
        if next.is_some_and(|w| w.canonical == "machine") {
            return Some(Group::These((0..machines.len()).collect(), 2 + skip));
        }
        return None;
    }
    let by_value = with_label(machines, |_, value| is_same(catalogue, value, &lower));
    let led = is_led(words, at);
    let all = at > 0 && ["all", "every", "each"].iter().any(|w| words[at - 1].is(w))
        || at > 1 && words[at - 1].is("the") && words[at - 2].is("all");
    let one = all && words.get(at + 1).is_some_and(|w| w.canonical == "machine");
    if noun(at + 1) || one {
        if !by_value.is_empty() {
            return Some(Group::These(by_value, 2));
        }
        let plain = !catalogue.vocabulary.is_filler(&lower) && word.kind == Kind::Word;
        if plain && (led || all) {
            return Some(Group::Unknown(word.raw.clone(), 2));
        }
        return None;
    }
    if !led {
        let pattern = |text: &str| text.to_lowercase().replace(|c: char| c.is_ascii_digit(), "#");
        let same = machines.iter().any(|m| pattern(&m.name) == pattern(&lower));
        let numbered =
            lower.contains(|c: char| c.is_ascii_digit()) && lower.contains(char::is_alphabetic);
        return (same && numbered && word.kind == Kind::Word)
            .then(|| Group::Unknown(word.raw.clone(), 1));
    }
    if !by_value.is_empty() {
        return Some(Group::These(by_value, 1));
    }
    let device = DEVICES.iter().any(|d| {
        lower
            .strip_prefix(d)
            .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || "pnsvf".contains(c)))
    });
    let on =
        words[..at].iter().rev().find(|w| !w.is("the") && !w.is("all")).is_some_and(|w| w.is("on"));
    let last = words.get(at + 1).is_none_or(|w| w.kind == Kind::Separator);
    let shaped = lower.contains('-') || lower.contains(|c: char| c.is_ascii_digit());
    let free = is_free_word(catalogue, word)
        && word.kind == Kind::Word
        && !catalogue.vocabulary.is_service(&lower)
        && lower.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && !device;
    (on && free && (last || shaped)).then(|| Group::Unknown(word.raw.clone(), 1))
}

fn is_same(catalogue: &Catalogue, value: &str, word: &str) -> bool {
    let value = value.to_lowercase();
    value == word
        || word.strip_suffix('s') == Some(&value)
        || (catalogue.vocabulary.is_known(&value)
            && catalogue.vocabulary.canonical(&value) == catalogue.vocabulary.canonical(word))
}

fn with_label(machines: &[Machine], holds: impl Fn(&str, &str) -> bool) -> Vec<usize> {
    (0..machines.len())
        .filter(|n| machines[*n].labels.iter().any(|(key, value)| holds(key, value)))
        .collect()
}

/// Whether `on`, `from`, `at`, `in` stands before, with nothing but `the` and `all` between.
fn is_led(words: &[Word], at: usize) -> bool {
    words[..at]
        .iter()
        .rev()
        .find(|word| {
            !["the", "all", "my", "our", "every", "each", "machine", "host", "server"]
                .iter()
                .any(|w| word.is(w))
        })
        .is_some_and(|word| ["on", "from", "at", "in"].iter().any(|w| word.is(w)))
}

/// `web-1, web-2 and db-1` is one group.
fn join_lists(words: Vec<Word>) -> Vec<Word> {
    let mut joined: Vec<Word> = Vec::with_capacity(words.len());
    for word in words {
        if let Kind::Machines(more, _) = &word.kind {
            let separators = joined.iter().rev().take_while(|w| w.kind == Kind::Separator).count();
            let before = joined.len().checked_sub(separators + 1);
            if let (Some(before), 1..=2) = (before, separators)
                && let Kind::Machines(found, _) = &mut joined[before].kind
            {
                let all: BTreeSet<usize> = found.iter().chain(more).copied().collect();
                *found = all.into_iter().collect();
                joined.truncate(before + 1);
                continue;
            }
        }
        joined.push(word);
    }
    joined
}

/// Names of machines that could have been meant, the nearest first.
pub(crate) fn nearest(name: &str, machines: &[Machine], most: usize) -> Vec<String> {
    let name = name.to_lowercase();
    let mut scored: Vec<(usize, &str)> = machines
        .iter()
        .map(|machine| {
            let other = machine.name.to_lowercase();
            let same = name.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
            let close = usize::from(crate::vocabulary::is_one_slip_away(&name, &other)) * 100;
            (same + close, machine.name.as_str())
        })
        .filter(|(score, _)| *score > 1)
        .collect();
    scored.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(most).map(|(_, name)| name.to_owned()).collect()
}
