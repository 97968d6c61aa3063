//! Which machines: `@all`, names and globs, or labels. A selector never means "everything" by
//! accident: only `@all` does, and one that matches nothing is an error for whoever uses it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use globset::{Glob, GlobMatcher};
use reeve_protocol::MachineId;

/// Bytes of a selector's text. Longer lists belong in labels.
pub const MAX_SELECTOR_BYTES: usize = 16 * 1024;

/// Terms of one selector, to bound the work per machine.
const MAX_TERMS: usize = 1024;

/// A parsed selector.
#[derive(Clone, Debug)]
pub struct Selector {
    text: String,
    terms: Terms,
}

#[derive(Clone, Debug)]
enum Terms {
    All,
    /// Any of them.
    Names(Vec<NameTerm>),
    /// All of them.
    Labels(Vec<LabelTerm>),
}

#[derive(Clone, Debug)]
enum NameTerm {
    Exact(String),
    Id(MachineId),
    Glob(GlobMatcher),
}

#[derive(Clone, Debug)]
struct LabelTerm {
    key: String,
    /// `None` is an exact comparison with `text`.
    glob: Option<GlobMatcher>,
    text: String,
    equal: bool,
}

/// Why a selector's text is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum InvalidSelector {
    #[error(
        "the selector is empty; name machines (web-1,web-2 or web-*), labels (role=web) or @all"
    )]
    Empty,
    #[error(
        "the selector is longer than {MAX_SELECTOR_BYTES} bytes or {MAX_TERMS} terms; use labels"
    )]
    TooLong,
    #[error("'{0}' mixes names with labels; use either web-1,web-* or role=web,env!=prod")]
    Mixed(String),
    #[error("'{0}' in the selector is neither a name, a pattern, nor label=value")]
    Term(String),
    #[error("'{0}' is unknown; the only word with @ is @all")]
    Word(String),
}

impl Selector {
    /// Every machine.
    #[must_use]
    pub fn all() -> Self {
        Self { text: "@all".to_owned(), terms: Terms::All }
    }

    /// Whether it selects every machine there is and will be.
    #[must_use]
    pub fn is_all(&self) -> bool {
        matches!(self.terms, Terms::All)
    }

    /// The text it was made of.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it selects this machine.
    #[must_use]
    pub fn matches(&self, id: MachineId, name: &str, labels: &BTreeMap<String, String>) -> bool {
        match &self.terms {
            Terms::All => true,
            Terms::Names(terms) => terms.iter().any(|term| match term {
                NameTerm::Exact(exact) => exact == name,
                NameTerm::Id(exact) => *exact == id,
                NameTerm::Glob(glob) => glob.is_match(name),
            }),
            Terms::Labels(terms) => terms.iter().all(|term| {
                let found = labels.get(&term.key).is_some_and(|value| match &term.glob {
                    Some(glob) => glob.is_match(value),
                    None => *value == term.text,
                });
                found == term.equal
            }),
        }
    }

    /// Names in it that stand for one machine each, to tell the user which of them do not exist.
    pub fn exact_names(&self) -> impl Iterator<Item = &str> {
        let terms = match &self.terms {
            Terms::Names(terms) => terms.as_slice(),
            Terms::All | Terms::Labels(_) => &[],
        };
        terms.iter().filter_map(|term| match term {
            NameTerm::Exact(name) => Some(name.as_str()),
            NameTerm::Id(_) | NameTerm::Glob(_) => None,
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Selector {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        let text = text.trim();
        if text.len() > MAX_SELECTOR_BYTES {
            return Err(InvalidSelector::TooLong);
        }
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        if parts.len() > MAX_TERMS {
            return Err(InvalidSelector::TooLong);
        }
        if parts.iter().any(|part| part.is_empty()) {
            return Err(InvalidSelector::Empty);
        }
        let terms = if let Some(word) = parts.iter().find(|part| part.starts_with('@')) {
            if *word != "@all" {
                return Err(InvalidSelector::Word((*word).to_owned()));
            }
            if parts.len() > 1 {
                return Err(InvalidSelector::Mixed(text.to_owned()));
            }
            Terms::All
        } else {
            let labels = parts.iter().filter(|part| part.contains('=')).count();
            if labels == 0 {
                Terms::Names(parts.iter().map(|part| parse_name(part)).collect::<Result<_, _>>()?)
            } else if labels == parts.len() {
                Terms::Labels(parts.iter().map(|part| parse_label(part)).collect::<Result<_, _>>()?)
            } else {
                return Err(InvalidSelector::Mixed(text.to_owned()));
            }
        };
        Ok(Self { text: text.to_owned(), terms })
    }
}

fn parse_name(text: &str) -> Result<NameTerm, InvalidSelector> {
    if text.contains(['*', '?', '[', '{']) {
        return parse_glob(text).map(NameTerm::Glob);
    }
    if let Ok(id) = text.parse() {
        return Ok(NameTerm::Id(id));
    }
    if is_name(text) {
        return Ok(NameTerm::Exact(text.to_owned()));
    }
    Err(InvalidSelector::Term(text.to_owned()))
}

fn parse_label(text: &str) -> Result<LabelTerm, InvalidSelector> {
    let bad = || InvalidSelector::Term(text.to_owned());
    let (key, value) = text.split_once('=').ok_or_else(bad)?;
    let (key, equal) = key.strip_suffix('!').map_or((key, true), |key| (key, false));
    let (key, value) = (key.trim(), value.trim());
    // An operator of another language (`==`, `=~`) would otherwise silently compare with "=…".
    if !is_label_key(key) || value.starts_with(['=', '~']) {
        return Err(bad());
    }
    let glob = value.contains('*').then(|| parse_glob(value)).transpose()?;
    Ok(LabelTerm { key: key.to_owned(), glob, text: value.to_owned(), equal })
}

fn parse_glob(text: &str) -> Result<GlobMatcher, InvalidSelector> {
    Ok(Glob::new(text).map_err(|_| InvalidSelector::Term(text.to_owned()))?.compile_matcher())
}

/// Whether a text can name a machine: 1 to 64 of `a-z 0-9 . _ -`, starting with a letter or digit.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

/// Whether a text can be the key of a label: 1 to 64 of `a-z 0-9 . _ / -`.
#[must_use]
pub fn is_label_key(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'/' | b'-'))
}

/// Whether a text can be the value of a label: at most 128 printable characters, none of which
/// means something in a selector.
#[must_use]
pub fn is_label_value(text: &str) -> bool {
    text.len() <= 128
        && !text.starts_with(['=', '~'])
        && text.chars().all(|char| !char.is_control() && !matches!(char, ',' | '*'))
        && text.trim() == text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn selects(selector: &str, name: &str, pairs: &[(&str, &str)]) -> bool {
        let selector: Selector = selector.parse().expect("a selector");
        selector.matches(MachineId::new(), name, &labels(pairs))
    }

    #[test]
    fn names_and_globs_are_a_union() {
        for (selector, name, expected) in [
            ("web-1", "web-1", true),
            ("web-1", "web-10", false),
            ("web-1,db-1", "db-1", true),
            ("web-*", "web-10", true),
            ("web-*", "db-1", false),
            ("web-?", "web-10", false),
            ("web-[12]", "web-2", true),
            ("@all", "anything", true),
        ] {
            assert_eq!(selects(selector, name, &[]), expected, "{selector} on {name}");
        }
    }

    #[test]
    fn labels_are_a_conjunction() {
        let web = [("role", "web"), ("env", "prod")];
        for (selector, expected) in [
            ("role=web", true),
            ("role=db", false),
            ("role=web,env=prod", true),
            ("role=web,env!=prod", false),
            ("role=w*", true),
            ("zone!=eu", true),
            ("zone=eu", false),
            ("role!=w*", false),
        ] {
            assert_eq!(selects(selector, "web-1", &web), expected, "{selector}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in [
            "",
            " ",
            ",",
            "web-1,",
            "@everything",
            "@all,web-1",
            "web-1,role=web",
            "ro le=web",
            "a==b",
            "a=~b",
            "-x",
            "WEB",
            "web-[",
            "\u{0}",
        ] {
            assert!(text.parse::<Selector>().is_err(), "{text:?}");
        }
        assert!("a,".repeat(3000).parse::<Selector>().is_err());
    }

    #[test]
    fn id_selects_its_machine_only() {
        let id = MachineId::new();
        let selector: Selector = id.to_string().parse().expect("a selector");
        assert!(selector.matches(id, "web-1", &BTreeMap::new()));
        assert!(!selector.matches(MachineId::new(), "web-1", &BTreeMap::new()));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_never_panics(text: String) {
            if let Ok(selector) = text.parse::<Selector>() {
                let _ = selector.matches(MachineId::new(), "web-1", &BTreeMap::new());
            }
        }
    }
}
