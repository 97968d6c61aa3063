//! Which runbook a clause asks for.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalogue::Catalogue;
use crate::clauses::{find_value, is_order, is_request};
use crate::slots::{Filled, Slot};
use crate::vocabulary::{Vocabulary, is_one_slip_away, is_swapped};
use crate::words::{Kind, Word};

/// Part of the words of a clause that has to be understood, for looking.
const ENOUGH_TO_LOOK: f64 = 0.6;
/// And for changing: a word that is not understood may be the one that matters.
const ENOUGH_TO_CHANGE: f64 = 0.85;
/// Words shorter than this are taken as written: one slip makes another word of them.
const SHORTEST_WITH_SLIP: usize = 5;
/// In words of this length two letters may be swapped, and nothing else.
const SHORT_WITH_SWAP: usize = 4;

/// A part of a phrase.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    /// One of these words.
    Word(Vec<String>),
    /// A slot; the flag: any leftover word will do, not only one that is surely of its kind.
    Slot(String, bool),
}

/// Words that together mean a runbook.
#[derive(Clone, Debug)]
pub struct Phrase(Vec<Part>);

impl Phrase {
    /// Reads `"log|error of {service}"`; `{service!}` takes any leftover word.
    pub(crate) fn parse(
        text: &str,
        vocabulary: &Vocabulary,
        slots: &BTreeMap<String, Slot>,
    ) -> Result<Self, String> {
        let mut parts = Vec::new();
        for word in text.split_whitespace() {
            if let Some(name) = word.strip_prefix('{').and_then(|w| w.strip_suffix('}')) {
                let (name, loose) =
                    name.strip_suffix('!').map_or((name, false), |name| (name, true));
                if !slots.contains_key(name) {
                    return Err(format!("phrase '{text}': no slot '{name}'"));
                }
                parts.push(Part::Slot(name.to_owned(), loose));
            } else {
                let words = word.split('|').map(|word| vocabulary.canonical(word));
                parts.push(Part::Word(words.collect()));
            }
        }
        if parts.is_empty() { Err("an empty phrase".to_owned()) } else { Ok(Self(parts)) }
    }

    pub(crate) fn words(&self) -> impl Iterator<Item = &String> {
        self.0.iter().flat_map(|part| match part {
            Part::Word(words) => words.as_slice(),
            Part::Slot(..) => &[],
        })
    }
}

/// A runbook that a clause asks for.
#[derive(Clone, Debug)]
pub(crate) struct Match {
    /// Its place in the catalogue.
    pub runbook: usize,
    /// How well it fits; comparable between runbooks.
    pub score: f64,
    /// Part of the clause's words that it explains, 0 to 1.
    pub coverage: f64,
    /// What the sentence says for its slots, as texts that passed.
    pub slots: BTreeMap<String, String>,
    /// Words that name a host to talk to, not a machine to run on: places in the clause.
    pub hosts: BTreeSet<usize>,
}

/// What clauses before this one said, for `it` and `its`.
pub(crate) type Said = BTreeMap<String, String>;

/// The best runbook for a clause, if one is good enough.
pub(crate) fn best(
    catalogue: &Catalogue,
    clause: &[Word],
    said: &Said,
    later: bool,
) -> Option<Match> {
    let mut best: Option<Match> = None;
    for runbook in 0..catalogue.runbooks.len() {
        let Some(found) = try_runbook(catalogue, runbook, clause, said, later) else { continue };
        if best.as_ref().is_none_or(|best| found.score > best.score + 1e-9) {
            best = Some(found);
        }
    }
    best
}

fn try_runbook(
    catalogue: &Catalogue,
    at: usize,
    clause: &[Word],
    said: &Said,
    later: bool,
) -> Option<Match> {
    let runbook = &catalogue.runbooks[at];
    let without = &catalogue.without[at];
    let names = |word: &Word| matches!(word.kind, Kind::Machines(..));
    if clause.iter().any(|word| !names(word) && without.contains(&word.canonical)) {
        return None;
    }
    let changes = !runbook.verbs.is_empty();
    if !changes && is_order(clause, &catalogue.vocabulary) {
        return None;
    }
    if changes && (later || !is_request(clause, &runbook.verbs, &catalogue.vocabulary)) {
        return None;
    }
    let mut best: Option<Match> = None;
    for phrase in &catalogue.phrases[at] {
        let Some(found) = try_phrase(catalogue, at, phrase, clause, said) else { continue };
        let enough = if changes { ENOUGH_TO_CHANGE } else { ENOUGH_TO_LOOK };
        if found.coverage + 1e-9 >= enough
            && best.as_ref().is_none_or(|best| found.score > best.score)
        {
            best = Some(found);
        }
    }
    best
}

fn try_phrase(
    catalogue: &Catalogue,
    at: usize,
    phrase: &Phrase,
    clause: &[Word],
    said: &Said,
) -> Option<Match> {
    let runbook = &catalogue.runbooks[at];
    let mut explained: BTreeSet<usize> = BTreeSet::new();
    let mut special = 0.0;
    for part in &phrase.0 {
        let Part::Word(words) = part else { continue };
        let (found, slip) = find_word(catalogue, words, clause, &explained)?;
        explained.insert(found);
        let weight = weight(catalogue, &clause[found]);
        special += if slip { weight * 0.7 } else { weight };
    }
    let mut values = Filled::new();
    let mut hosts = BTreeSet::new();
    // Slots that the phrase needs come first, so that the others get what is left.
    let needed = phrase.0.iter().filter_map(|part| match part {
        Part::Slot(name, loose) => Some((name, *loose, true)),
        Part::Word(_) => None,
    });
    let others = runbook.slots.keys().map(|name| (name, false, false));
    for (name, loose, need) in needed.chain(others) {
        if values.contains_key(name) {
            continue;
        }
        let slot = &runbook.slots[name];
        match find_value(catalogue, slot.kind, clause, &explained, loose) {
            Some(found) if slot.kind.fill(name, &found.text).is_ok() => {
                if found.host {
                    hosts.extend(found.places.iter().copied());
                }
                explained.extend(found.places);
                values.insert(name.clone(), found.text);
                special += if need { 0.8 } else { 0.3 };
            }
            _ => {
                let before = said.get(name).filter(|_| says_it(clause));
                match before {
                    Some(text) if slot.kind.fill(name, text).is_ok() => {
                        values.insert(name.clone(), text.clone());
                        special += if need { 0.8 } else { 0.0 };
                    }
                    _ if need => return None,
                    _ => {}
                }
            }
        }
    }
    let beside = &catalogue.beside[at];
    let (mut all, mut understood) = (0.0, 0.0);
    for (n, word) in clause.iter().enumerate() {
        let known = explained.contains(&n);
        // Where it is asked for is not what is asked for.
        if !known && (word.kind == Kind::Separator || word.canonical == "machine") {
            continue;
        }
        if !known && word.kind == Kind::Word && catalogue.vocabulary.is_filler(&word.lower()) {
            continue;
        }
        let weight = weight(catalogue, word);
        all += weight;
        let said_already = || explained.iter().any(|at| clause[*at].canonical == word.canonical);
        let said_already = !word.canonical.is_empty() && said_already();
        if known || said_already || beside.contains(&word.canonical) || word.negated {
            understood += weight;
        } else if asks_for_a_change(catalogue, clause, n) {
            // It asks for something that this runbook would not do.
            return None;
        }
    }
    let coverage = if all > 0.0 { understood / all } else { 1.0 };
    let score = special * coverage * coverage;
    (special >= 0.9).then_some(Match { runbook: at, score, coverage, slots: values, hosts })
}

/// A word of the clause that is one of these: as written, else with one slip.
fn find_word(
    catalogue: &Catalogue,
    words: &[String],
    clause: &[Word],
    taken: &BTreeSet<usize>,
) -> Option<(usize, bool)> {
    let free = |n: &usize| !taken.contains(n);
    let exact = (0..clause.len())
        .filter(free)
        .find(|n| !clause[*n].canonical.is_empty() && words.contains(&clause[*n].canonical));
    if let Some(found) = exact {
        return Some((found, false));
    }
    let slip = (0..clause.len()).filter(free).find(|n| {
        let word = &clause[*n];
        let known = catalogue.is_word(&word.canonical, &word.lower())
            || catalogue.vocabulary.is_service(&word.raw);
        if word.kind != Kind::Word || known {
            return false;
        }
        let lower = word.lower();
        words.iter().any(|w| match lower.len() {
            0..SHORT_WITH_SWAP => false,
            SHORT_WITH_SWAP => w.len() == lower.len() && is_swapped(w, &lower),
            _ => {
                w.len() >= SHORTEST_WITH_SLIP - 1
                    && (is_one_slip_away(w, &word.canonical)
                        || is_one_slip_away(w, &lower)
                        || catalogue.vocabulary.slips_to(&lower, w))
            }
        })
    });
    slip.map(|found| (found, true))
}

/// Rare words say more than common ones, words that only carry the sentence say little.
fn weight(catalogue: &Catalogue, word: &Word) -> f64 {
    if word.kind == Kind::Word && catalogue.vocabulary.is_filler(&word.lower()) {
        return 0.4;
    }
    match catalogue.spread.get(&word.canonical) {
        Some(0..=3) => 1.3,
        Some(4..=12) => 1.15,
        _ => 1.0,
    }
}

fn says_it(clause: &[Word]) -> bool {
    ["it", "its", "them", "their", "that", "this", "there"]
        .iter()
        .any(|pronoun| clause.iter().any(|word| word.is(pronoun)))
}

/// Whether a word that was not understood asks for a change.
fn asks_for_a_change(catalogue: &Catalogue, clause: &[Word], at: usize) -> bool {
    let word = &clause[at];
    word.kind == Kind::Word
        && catalogue.vocabulary.is_changing(&word.lower())
        && is_request(clause, &[word.lower()], &catalogue.vocabulary)
}

/// Runbooks that share words with a sentence, the closest first.
pub(crate) fn closest(catalogue: &Catalogue, sentence: &[Word], most: usize) -> Vec<usize> {
    let said: Vec<&Word> = sentence
        .iter()
        .filter(|word| !word.canonical.is_empty() && !catalogue.vocabulary.is_filler(&word.lower()))
        .collect();
    let mut scored: Vec<(f64, usize)> = (0..catalogue.runbooks.len())
        .map(|at| {
            let phrase = catalogue.phrases[at].iter().map(|phrase| {
                let words: Vec<&Part> =
                    phrase.0.iter().filter(|part| matches!(part, Part::Word(_))).collect();
                let hits: f64 = words
                    .iter()
                    .filter_map(|part| match part {
                        Part::Word(words) => said.iter().find(|w| words.contains(&w.canonical)),
                        Part::Slot(..) => None,
                    })
                    .map(|word| weight(catalogue, word))
                    .sum();
                if words.is_empty() { 0.0 } else { hits * hits / words.len() as f64 }
            });
            (phrase.fold(0.0, f64::max), at)
        })
        .filter(|(score, _)| *score > 0.3)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scored.into_iter().take(most).map(|(_, at)| at).collect()
}
