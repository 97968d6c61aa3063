//! The words the matcher knows, from `catalogue/words.toml`, and how words are made comparable.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// `catalogue/words.toml` as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    synonyms: Vec<Vec<String>>,
    filler: String,
    pronouns: String,
    later: String,
    changing: String,
    services: String,
    service_units: BTreeMap<String, String>,
    programs: Programs,
}

/// Programs that begin a shell line.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Programs {
    /// No English words: a line that begins with one is a command.
    plain: String,
    /// English words too: a line that begins with one is a command if the rest looks like one.
    words: String,
    /// Programs whose second word is one of a list.
    subcommands: BTreeMap<String, String>,
}

/// The words, ready to be asked.
#[derive(Debug, Default)]
pub struct Vocabulary {
    synonyms: BTreeMap<String, String>,
    filler: BTreeSet<String>,
    pronouns: BTreeSet<String>,
    later: BTreeSet<String>,
    changing: BTreeSet<String>,
    services: BTreeSet<String>,
    service_units: BTreeMap<String, String>,
    /// Programs that are no English words.
    pub(crate) plain_programs: BTreeSet<String>,
    /// Programs that are English words too.
    pub(crate) word_programs: BTreeSet<String>,
    /// Second words of programs that have some.
    pub(crate) subcommands: BTreeMap<String, BTreeSet<String>>,
}

impl Vocabulary {
    /// Reads `words.toml`.
    pub(crate) fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let file: File = toml::from_str(text)?;
        let set = |text: &str| text.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
        let mut synonyms = BTreeMap::new();
        for group in &file.synonyms {
            let Some(first) = group.first() else { continue };
            for word in group {
                synonyms.insert(word.clone(), first.clone());
            }
        }
        Ok(Self {
            synonyms,
            filler: set(&file.filler),
            pronouns: set(&file.pronouns),
            later: set(&file.later),
            changing: set(&file.changing),
            services: set(&file.services),
            service_units: file.service_units,
            plain_programs: set(&file.programs.plain),
            word_programs: set(&file.programs.words),
            subcommands: file
                .programs
                .subcommands
                .iter()
                .map(|(k, v)| (k.clone(), set(v)))
                .collect(),
        })
    }

    /// The form in which words are compared: the first of their synonyms, or the stem.
    pub(crate) fn canonical(&self, word: &str) -> String {
        let word = word.to_lowercase();
        if let Some(found) = self.synonyms.get(&word) {
            return found.clone();
        }
        let stem = stem(&word);
        let known = self.synonyms.get(&stem).or_else(|| self.synonyms.get(&format!("{stem}e")));
        known.cloned().unwrap_or(stem)
    }

    pub(crate) fn is_known(&self, word: &str) -> bool {
        self.synonyms.contains_key(word) || self.filler.contains(word)
    }

    pub(crate) fn is_filler(&self, word: &str) -> bool {
        self.filler.contains(word)
    }

    pub(crate) fn is_pronoun(&self, word: &str) -> bool {
        self.pronouns.contains(word)
    }

    pub(crate) fn is_later(&self, word: &str) -> bool {
        self.later.contains(word)
    }

    pub(crate) fn is_changing(&self, word: &str) -> bool {
        self.changing.contains(word)
    }

    pub(crate) fn is_service(&self, word: &str) -> bool {
        let word = word.to_lowercase();
        self.services.contains(word.strip_suffix(".service").unwrap_or(&word))
    }

    /// The unit people mean by a name.
    pub(crate) fn unit_of(&self, service: &str) -> String {
        self.service_units.get(service).cloned().unwrap_or_else(|| service.to_owned())
    }
}

/// Takes the commonest English endings off, so that `certificates` meets `certificate`.
fn stem(word: &str) -> String {
    if word.len() < 4 || !word.chars().all(|c| c.is_ascii_alphabetic()) {
        return word.to_owned();
    }
    let cut = |end: &str| word.strip_suffix(end).filter(|rest| rest.len() >= 3).map(str::to_owned);
    let base = if let Some(rest) = cut("ies") {
        format!("{rest}y")
    } else if let Some(rest) = cut("ing").or_else(|| cut("ed")) {
        let doubled = rest.as_bytes().windows(2).last().is_some_and(|two| {
            two[0] == two[1] && !matches!(two[0], b'l' | b's' | b'z' | b'e' | b'o')
        });
        if doubled { rest[..rest.len() - 1].to_owned() } else { rest }
    } else if let Some(rest) = ["sses", "ches", "shes", "xes"]
        .iter()
        .find(|end| word.ends_with(**end))
        .and_then(|_| cut("es"))
    {
        rest
    } else if !word.ends_with("ss") && !word.ends_with("us") && !word.ends_with("is") {
        cut("s").unwrap_or_else(|| word.to_owned())
    } else {
        word.to_owned()
    };
    match base.strip_suffix('e') {
        Some(rest) if rest.len() >= 4 => rest.to_owned(),
        _ => base,
    }
}

/// Whether two words differ by one slip: a letter too many, too few, another, or two swapped.
#[must_use]
pub(crate) fn is_one_slip_away(left: &str, right: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let (short, long) = if a.len() <= b.len() { (&a, &b) } else { (&b, &a) };
    if long.len() - short.len() > 1 || a == b {
        return a == b;
    }
    let same = short.iter().zip(long.iter()).take_while(|(x, y)| x == y).count();
    if short.len() < long.len() {
        return short[same..] == long[same + 1..];
    }
    let replaced = short[same + 1..] == long[same + 1..];
    let swapped = same + 1 < short.len()
        && short[same] == long[same + 1]
        && short[same + 1] == long[same]
        && short[same + 2..] == long[same + 2..];
    replaced || swapped
}

/// Whether two words are one slip apart with the same letters: two of them are swapped.
#[must_use]
pub(crate) fn is_swapped(left: &str, right: &str) -> bool {
    let sorted = |word: &str| {
        let mut letters: Vec<char> = word.chars().collect();
        letters.sort_unstable();
        letters
    };
    left != right && sorted(left) == sorted(right) && is_one_slip_away(left, right)
}

impl Vocabulary {
    /// Whether a word is one slip away from one that means `canonical`.
    pub(crate) fn slips_to(&self, word: &str, canonical: &str) -> bool {
        self.synonyms
            .iter()
            .any(|(from, to)| to == canonical && from.len() >= 5 && is_one_slip_away(from, word))
    }
}
