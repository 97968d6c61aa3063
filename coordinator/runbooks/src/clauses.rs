//! What the words of a clause do: which ask, which name things.

use std::collections::BTreeSet;

use crate::catalogue::Catalogue;
use crate::slots::SlotKind;
use crate::vocabulary::{Vocabulary, is_one_slip_away};
use crate::words::{Kind, Word};

/// Words that make what follows a question or a tale, anywhere before a verb.
const TELLING: &[&str] = &[
    "why", "when", "who", "which", "how", "whether", "did", "does", "has", "was", "were", "should",
    "tried", "after", "before", "since", "during", "failed", "fails", "cannot", "can't", "unable",
    "once", "refuses", "keeps", "about", "avoid", "what", "what's", "got", "been", "history",
    "show", "list", "display", "view", "print", "see",
];
/// Words that make a clause a question when they begin it.
const ASKING: &[&str] = &["is", "are", "was", "were", "do", "am", "have", "had", "shall"];

/// Whether one of these verbs is said as a request: not in a question, a tale or behind `don't`.
pub(crate) fn is_request(clause: &[Word], verbs: &[String], vocabulary: &Vocabulary) -> bool {
    let first = clause.iter().find(|word| word.kind == Kind::Word);
    if first.is_some_and(|word| ASKING.contains(&word.lower().as_str())) {
        return false;
    }
    // `can you restart` asks for it, `can I restart` asks about it.
    let polite = ["can", "could", "may", "might"];
    if clause.windows(2).any(|two| polite.iter().any(|p| two[0].is(p)) && two[1].is("i")) {
        return false;
    }
    for word in clause {
        if word.kind != Kind::Word {
            continue;
        }
        let lower = word.lower();
        if TELLING.contains(&lower.as_str()) {
            return false;
        }
        let is_verb = verbs.contains(&lower)
            || (lower.len() >= 6
                && !vocabulary.is_known(&lower)
                && !lower.ends_with("ed")
                && !lower.ends_with("ing")
                && verbs.iter().any(|v| v.len() >= 6 && is_one_slip_away(v, &lower)));
        if is_verb {
            return !word.negated;
        }
    }
    false
}

/// Words that begin a clause and say nothing of it.
const POLITE: &[&str] = &[
    "please", "pls", "can", "could", "would", "will", "you", "now", "just", "go", "ahead", "i",
    "we", "want", "need", "to", "let's", "lets", "kindly", "hey", "hi", "then", "also",
];
/// Words for changes that are nouns and adjectives as well: `open ports`, `free space`, `mount points`.
const ALSO_NOUNS: &[&str] = &["open", "free", "mount"];
/// Behind a word for a change these make a noun of it: `update history`.
const OF_NOUNS: &[&str] = &[
    "history",
    "required",
    "needed",
    "necessary",
    "pending",
    "status",
    "log",
    "logs",
    "list",
    "events",
    "errors",
    "state",
    "available",
    "settings",
];

/// Whether a clause begins with a word for a change, as orders do: whatever only looks does not
/// answer it.
pub(crate) fn is_order(clause: &[Word], vocabulary: &Vocabulary) -> bool {
    let polite = |word: &&Word| word.kind == Kind::Word && !POLITE.contains(&word.lower().as_str());
    let Some(first) = clause.iter().find(polite).map(Word::lower) else { return false };
    let noun = clause.iter().any(|word| OF_NOUNS.contains(&word.lower().as_str()));
    vocabulary.is_changing(&first)
        && !ALSO_NOUNS.contains(&first.as_str())
        && !noun
        && is_request(clause, &[first], vocabulary)
}

/// What was found for a slot.
#[derive(Debug)]
pub(crate) struct Value {
    /// The text, as the slot's kind takes it.
    pub text: String,
    /// Which words of the clause it was.
    pub places: Vec<usize>,
    /// It names a machine as something to talk to.
    pub host: bool,
}

/// Finds what a clause says for a kind of slot, among the words that are not `taken`.
pub(crate) fn find_value(
    catalogue: &Catalogue,
    kind: SlotKind,
    clause: &[Word],
    taken: &BTreeSet<usize>,
    loose: bool,
) -> Option<Value> {
    let free = |n: usize| !taken.contains(&n);
    let first =
        |test: &dyn Fn(&Word) -> bool| (0..clause.len()).find(|n| free(*n) && test(&clause[*n]));
    let at = |n: usize, text: String| Value { text, places: vec![n], host: false };
    match kind {
        SlotKind::Path => {
            first(&|w| w.kind == Kind::Path || (w.kind == Kind::Quoted && w.raw.starts_with('/')))
                .map(|n| at(n, clause[n].raw.clone()))
        }
        SlotKind::Size => {
            first(&|w| matches!(w.kind, Kind::Size(_))).map(|n| at(n, clause[n].raw.clone()))
        }
        SlotKind::Since => first(&|w| matches!(w.kind, Kind::Span(_) | Kind::Date)).map(|n| {
            at(
                n,
                match clause[n].kind {
                    Kind::Span(minutes) => format!("{minutes} minutes"),
                    _ => clause[n].raw.clone(),
                },
            )
        }),
        SlotKind::Port => number_behind(clause, taken, &["port"], loose).or_else(|| {
            first(&|w| {
                w.kind == Kind::Word
                    && w.raw.strip_prefix(':').is_some_and(|p| p.parse::<u16>().is_ok())
            })
            .map(|n| at(n, clause[n].raw[1..].to_owned()))
        }),
        SlotKind::Pid => number_behind(clause, taken, &["pid", "process", "kill", "id"], loose),
        SlotKind::Count => {
            number_behind(clause, taken, &["top", "recent", "large", "first", "last"], loose)
        }
        SlotKind::Name => first(&|w| w.kind == Kind::Quoted)
            .or_else(|| {
                behind(clause, taken, &["name"], |w| {
                    is_free_word(catalogue, w) || w.raw.contains(['.', '*'])
                })
            })
            .or_else(|| {
                first(&|w| w.kind == Kind::Word && (w.raw.contains('*') || is_file_name(&w.raw)))
            })
            .map(|n| at(n, clause[n].raw.clone())),
        SlotKind::Text => first(&|w| w.kind == Kind::Quoted)
            .or_else(|| {
                behind(
                    clause,
                    taken,
                    &[
                        "contain",
                        "text",
                        "string",
                        "word",
                        "for",
                        "with",
                        "mention",
                        "mentioning",
                        "say",
                        "saying",
                    ],
                    |w| is_free_word(catalogue, w),
                )
            })
            .or_else(|| loose.then(|| first(&|w| is_free_word(catalogue, w))).flatten())
            .map(|n| at(n, clause[n].raw.clone())),
        SlotKind::Host => find_host(catalogue, clause, taken, loose),
        SlotKind::Service
        | SlotKind::User
        | SlotKind::Package
        | SlotKind::Process
        | SlotKind::Container => find_name(catalogue, kind, clause, taken, loose).map(|n| {
            let raw = clause[n].raw.trim_end_matches("'s").to_owned();
            let text = if kind == SlotKind::Service {
                let lower =
                    if catalogue.vocabulary.is_service(&raw) { raw.to_lowercase() } else { raw };
                let bare = lower.strip_suffix(".service").unwrap_or(&lower).to_owned();
                catalogue.vocabulary.unit_of(&bare)
            } else {
                raw
            };
            at(n, text)
        }),
    }
}

/// A number behind one of these words, or any number.
fn number_behind(
    clause: &[Word],
    taken: &BTreeSet<usize>,
    leads: &[&str],
    loose: bool,
) -> Option<Value> {
    let number = |n: usize| match clause[n].kind {
        Kind::Number(number) if !taken.contains(&n) => Some(number),
        _ => None,
    };
    let led = (1..clause.len()).find_map(|n| {
        let lead = &clause[n - 1];
        let leads = leads.contains(&lead.canonical.as_str()) || leads.iter().any(|l| lead.is(l));
        leads.then(|| number(n).map(|value| (n, value))).flatten()
    });
    let any = || loose.then(|| (0..clause.len()).find_map(|n| number(n).map(|v| (n, v)))).flatten();
    led.or_else(any).map(|(n, value)| Value {
        text: value.to_string(),
        places: vec![n],
        host: false,
    })
}

/// A word that passes, with nothing but filler between it and one of the leads.
fn behind(
    clause: &[Word],
    taken: &BTreeSet<usize>,
    leads: &[&str],
    passes: impl Fn(&Word) -> bool,
) -> Option<usize> {
    (1..clause.len()).find(|n| {
        let lead = clause[..*n]
            .iter()
            .rev()
            .find(|w| !["the", "a", "an", "is", "to"].iter().any(|f| w.is(f)));
        !taken.contains(n)
            && lead.is_some_and(|lead| {
                leads.contains(&lead.canonical.as_str()) || leads.iter().any(|l| lead.is(l))
            })
            && passes(&clause[*n])
    })
}

/// A word that could be a name: nothing else is known of it.
pub(crate) fn is_free_word(catalogue: &Catalogue, word: &Word) -> bool {
    let lower = word.lower();
    (word.kind == Kind::Word || word.kind == Kind::Quoted)
        && !catalogue.vocabulary.is_filler(&lower)
        && !catalogue.vocabulary.is_pronoun(&lower)
        && !catalogue.vocabulary.is_later(&lower)
        && (word.kind == Kind::Quoted || !catalogue.is_word(&word.canonical, &lower))
}

fn is_file_name(raw: &str) -> bool {
    raw.rsplit_once('.').is_some_and(|(name, end)| {
        !name.is_empty()
            && (1..=5).contains(&end.len())
            && end.chars().all(|c| c.is_ascii_alphanumeric())
            && !raw.chars().all(|c| c.is_ascii_digit() || c == '.')
    })
}

/// A word that names a service, user, package, process or container.
fn find_name(
    catalogue: &Catalogue,
    kind: SlotKind,
    clause: &[Word],
    taken: &BTreeSet<usize>,
    loose: bool,
) -> Option<usize> {
    let cues: &[&str] = match kind {
        SlotKind::Service => &["service"],
        SlotKind::User => &["user"],
        SlotKind::Package => &["package", "installed"],
        SlotKind::Process => &["process"],
        _ => &["container"],
    };
    let free = |n: &usize| !taken.contains(n) && is_free_word(catalogue, &clause[*n]);
    let sure = |n: &usize| {
        let word = &clause[*n];
        let open = !taken.contains(n) && (word.kind == Kind::Word || word.kind == Kind::Quoted);
        match kind {
            SlotKind::Service => {
                open && (catalogue.vocabulary.is_service(&word.raw)
                    || [".service", ".timer", ".socket"].iter().any(|end| word.raw.ends_with(end)))
            }
            SlotKind::User => {
                open && matches!(
                    word.lower().as_str(),
                    "root" | "www-data" | "nobody" | "ubuntu" | "admin"
                )
            }
            SlotKind::Process | SlotKind::Package | SlotKind::Container => {
                open && catalogue.vocabulary.is_service(&word.raw)
                    && !cues.contains(&word.canonical.as_str())
                    && (kind == SlotKind::Package
                        || !matches!(word.canonical.as_str(), "docker" | "cron"))
            }
            _ => false,
        }
    };
    if let Some(found) = (0..clause.len()).filter(free).find(|n| clause[*n].kind == Kind::Quoted) {
        return Some(found);
    }
    if let Some(found) = (0..clause.len()).find(sure) {
        return Some(found);
    }
    let is_cue = |n: usize| {
        clause.get(n).is_some_and(|w| w.kind == Kind::Word && cues.contains(&w.canonical.as_str()))
    };
    // Beside the word that says what it is, a name may be a word of the catalogue too.
    let beside = |w: &Word| {
        let lower = w.lower();
        is_free_word(catalogue, w)
            || (w.kind == Kind::Word
                && !catalogue.vocabulary.is_filler(&lower)
                && match kind {
                    SlotKind::Container => !catalogue.vocabulary.is_pronoun(&lower),
                    SlotKind::User => catalogue.vocabulary.is_changing(&lower),
                    _ => false,
                })
    };
    if let Some(found) = behind(clause, taken, cues, beside) {
        return Some(found);
    }
    let before = |n: &usize| !taken.contains(n) && beside(&clause[*n]) && is_cue(n + 1);
    if let Some(found) = (0..clause.len()).find(before) {
        return Some(found);
    }
    // `stop worrying` names nothing.
    let named = |n: &usize| {
        free(n) && {
            let raw = &clause[*n].raw;
            !(raw.ends_with("ing") && raw.chars().all(char::is_alphabetic))
        }
    };
    loose.then(|| (0..clause.len()).find(named)).flatten()
}

/// A host to talk to: an address, a name with dots, a machine that is not said with `on`.
fn find_host(
    catalogue: &Catalogue,
    clause: &[Word],
    taken: &BTreeSet<usize>,
    loose: bool,
) -> Option<Value> {
    let shaped = |raw: &str| {
        raw.parse::<std::net::IpAddr>().is_ok()
            || (raw.contains('.')
                && raw.chars().any(|c| c.is_ascii_alphabetic())
                && raw.split('.').all(|part| {
                    !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                }))
            || raw == "localhost"
    };
    let named = (0..clause.len()).find(|n| {
        let word = &clause[*n];
        !taken.contains(n)
            && (word.kind == Kind::Word || word.kind == Kind::Quoted)
            && shaped(&word.raw)
            && !catalogue.vocabulary.is_service(&word.raw)
    });
    let led = || {
        behind(clause, taken, &["ping", "resolve", "to", "machine", "domain", "reach"], |w| {
            is_free_word(catalogue, w)
        })
    };
    let any = || {
        loose
            .then(|| {
                (0..clause.len())
                    .find(|n| !taken.contains(n) && is_free_word(catalogue, &clause[*n]))
            })
            .flatten()
    };
    if let Some(n) = named.or_else(led).or_else(any) {
        return Some(Value { text: clause[n].raw.clone(), places: vec![n], host: false });
    }
    // `the address of web-1` is asked of web-1, `ping web-1` is not.
    let talks = ["ping", "resolve", "connect", "connection", "route"];
    if !clause.iter().any(|word| talks.contains(&word.canonical.as_str())) {
        return None;
    }
    let machine = (0..clause.len())
        .find(|n| matches!(&clause[*n].kind, Kind::Machines(at, false) if at.len() == 1))?;
    Some(Value { text: clause[machine].raw.clone(), places: vec![machine], host: true })
}
