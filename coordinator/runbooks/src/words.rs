//! From a sentence to words, numbers, sizes, times, paths and quoted text.

use crate::vocabulary::Vocabulary;

/// At most this many words of a sentence are looked at: what is longer is no request.
pub(crate) const MAX_WORDS: usize = 200;

/// Minutes in the units of time.
const UNITS: &[(&[&str], u64)] = &[
    (&["minute", "minutes", "min", "mins"], 1),
    (&["hour", "hours", "hr", "hrs", "h"], 60),
    (&["day", "days", "d"], 24 * 60),
    (&["week", "weeks"], 7 * 24 * 60),
    (&["month", "months"], 30 * 24 * 60),
    (&["year", "years"], 365 * 24 * 60),
];

/// What a word is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// A word.
    Word,
    /// A whole number.
    Number(u64),
    /// An amount of bytes.
    Size(u64),
    /// A time that goes back from now, minutes.
    Span(u64),
    /// A day, `2026-11-01`.
    Date,
    /// Begins with `/`.
    Path,
    /// Between quotation marks.
    Quoted,
    /// Parts two requests: a comma, a full stop, `and`.
    Separator,
    /// Names machines: places in the list of those allowed. The flag: behind `on`, `from`, `at`.
    Machines(Vec<usize>, bool),
}

/// A word of the sentence.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Word {
    /// As written, without punctuation around it.
    pub raw: String,
    /// As it is compared.
    pub canonical: String,
    /// What it is.
    pub kind: Kind,
    /// Behind `don't`, `without`, `never`.
    pub negated: bool,
}

impl Word {
    pub(crate) fn new(raw: &str, kind: Kind, vocabulary: &Vocabulary) -> Self {
        let canonical = match kind {
            Kind::Word => vocabulary.canonical(raw),
            Kind::Machines(..) => "machine".to_owned(),
            _ => String::new(),
        };
        Self { raw: raw.to_owned(), canonical, kind, negated: false }
    }

    pub(crate) fn lower(&self) -> String {
        self.raw.to_lowercase()
    }

    pub(crate) fn is(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.raw.eq_ignore_ascii_case(word)
    }
}

/// Splits a sentence into words.
pub(crate) fn split(sentence: &str, vocabulary: &Vocabulary) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = sentence.trim();
    while !rest.is_empty() && words.len() < MAX_WORDS {
        if let Some((text, behind)) = quoted(rest) {
            words.push(Word::new(text, Kind::Quoted, vocabulary));
            rest = behind.trim_start();
            continue;
        }
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        push(&rest[..end], &mut words, vocabulary);
        rest = rest[end..].trim_start();
    }
    negate(join(words, vocabulary), vocabulary)
}

/// Text between quotation marks that the rest begins with.
fn quoted(rest: &str) -> Option<(&str, &str)> {
    let open = rest.chars().next()?;
    let close = match open {
        '"' | '\'' | '`' => open,
        '“' => '”',
        '‘' => '’',
        _ => return None,
    };
    let inside = &rest[open.len_utf8()..];
    let end = inside.find(close)?;
    let behind = &inside[end + close.len_utf8()..];
    let ends = behind.chars().next().is_none_or(|c| c.is_whitespace() || ",.;:?!)".contains(c));
    (end > 0 && ends).then_some((&inside[..end], behind))
}

fn push(chunk: &str, words: &mut Vec<Word>, vocabulary: &Vocabulary) {
    let chunk = chunk.trim_start_matches(['(', '[', '{', '<', '"', '“']);
    let bare = chunk.trim_end_matches(|c: char| ".,;:?!)]}>\"”…".contains(c));
    let separates = chunk[bare.len()..].contains([',', ';', '.', '?', '!', ':', '…']);
    if !bare.is_empty() {
        push_bare(bare, words, vocabulary);
    }
    if separates {
        words.push(Word::new(",", Kind::Separator, vocabulary));
    }
}

fn push_bare(bare: &str, words: &mut Vec<Word>, vocabulary: &Vocabulary) {
    let lower = bare.to_lowercase().replace('’', "'");
    if bare.starts_with('/') && bare.len() > 1 {
        words.push(Word::new(bare, Kind::Path, vocabulary));
        return;
    }
    if bare == "/" {
        words.push(Word::new(bare, Kind::Path, vocabulary));
        return;
    }
    if matches!(
        lower.as_str(),
        "&" | "+" | "-" | "–" | "—" | "then" | "but" | "plus" | "and" | "also"
    ) {
        words.push(Word::new(bare, Kind::Separator, vocabulary));
        return;
    }
    if lower != "i/o"
        && lower.matches('/').count() == 1
        && lower.chars().all(|c| c.is_ascii_alphabetic() || c == '/')
        && !lower.ends_with('/')
    {
        for (n, part) in bare.split('/').enumerate() {
            if n > 0 {
                words.push(Word::new("/", Kind::Separator, vocabulary));
            }
            words.push(Word::new(part, Kind::Word, vocabulary));
        }
        return;
    }
    // The bytes of the lower case may be others than those that were written.
    let owner = ["'s", "’s", "'S"].iter().find_map(|end| bare.strip_suffix(end));
    let kind = if let Ok(number) = lower.parse::<u64>() {
        Kind::Number(number)
    } else if is_date(&lower) {
        Kind::Date
    } else if let Some(bytes) = size(&lower) {
        Kind::Size(bytes)
    } else {
        Kind::Word
    };
    let raw = owner.filter(|raw| kind == Kind::Word && !raw.is_empty()).unwrap_or(bare);
    words.push(Word::new(raw, kind, vocabulary));
}

fn is_date(text: &str) -> bool {
    text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10
}

/// Bytes that `2gb`, `500mib`, `1.5g` mean (powers of 1024).
pub(crate) fn size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let (digits, unit) = text.split_at(end);
    let value: f64 = digits.parse().ok()?;
    let bytes = value * unit_bytes(unit)?;
    // Beyond this a number of bytes is a slip of the keyboard.
    (1.0..=1e18).contains(&bytes).then_some(bytes as u64)
}

fn unit_bytes(unit: &str) -> Option<f64> {
    let power = match unit {
        "k" | "kb" | "kib" | "kilobytes" => 1,
        "m" | "mb" | "mib" | "meg" | "megs" | "megabyte" | "megabytes" => 2,
        "g" | "gb" | "gib" | "gig" | "gigs" | "gigabyte" | "gigabytes" => 3,
        "t" | "tb" | "tib" | "terabyte" | "terabytes" => 4,
        _ => return None,
    };
    Some(1024_f64.powi(power))
}

fn unit_minutes(unit: &str) -> Option<u64> {
    let unit = unit.to_lowercase();
    UNITS.iter().find(|(names, _)| names.contains(&unit.as_str())).map(|(_, minutes)| *minutes)
}

/// Minutes that `24h`, `30min`, `7d` mean; `30m` and `2h` are for the caller to tell from sizes.
fn short_span(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(end);
    let unit = if unit == "m" { "min" } else { unit };
    digits.parse::<u64>().ok()?.checked_mul(unit_minutes(unit)?)
}

/// Joins what belongs together: `2 GB`, `last 3 days`, `since yesterday`.
fn join(words: Vec<Word>, vocabulary: &Vocabulary) -> Vec<Word> {
    let mut joined: Vec<Word> = Vec::with_capacity(words.len());
    let mut at = 0;
    while at < words.len() {
        let word = &words[at];
        let next = words.get(at + 1);
        let backwards = joined.last().is_some_and(|before| {
            ["last", "past", "since", "previous", "for", "than", "within", "the", "under", "over"]
                .iter()
                .any(|w| before.is(w))
        });
        let raw = |n: usize| {
            words[at..at + n].iter().map(|w| w.raw.as_str()).collect::<Vec<_>>().join(" ")
        };
        let unit = next.filter(|n| n.kind == Kind::Word).map(|n| n.lower());
        if let (Kind::Number(number), Some(unit)) = (&word.kind, &unit) {
            if let Some(minutes) = unit_minutes(unit).filter(|_| unit.len() > 1) {
                drop_lead(&mut joined);
                joined.push(Word::new(
                    &raw(2),
                    Kind::Span(number.saturating_mul(minutes)),
                    vocabulary,
                ));
                at += 2;
                continue;
            }
            if let Some(factor) = unit_bytes(unit).filter(|_| unit.len() > 1 || unit == "g") {
                let bytes = number.saturating_mul(factor as u64);
                joined.push(Word::new(&raw(2), Kind::Size(bytes), vocabulary));
                at += 2;
                continue;
            }
        }
        let lower = word.lower();
        if let (Some(minutes), true) =
            (short_span(&lower), backwards || !matches!(word.kind, Kind::Size(_)))
        {
            drop_lead(&mut joined);
            joined.push(Word::new(&word.raw, Kind::Span(minutes), vocabulary));
            at += 1;
            continue;
        }
        let led = joined.last().is_some_and(|before| {
            ["last", "past", "previous", "this"].iter().any(|w| before.is(w))
        });
        let span = match lower.as_str() {
            // Yesterday began at most two days ago: too much is shown, never too little.
            "yesterday" => Some(2 * 24 * 60),
            "today" | "overnight" => Some(24 * 60),
            "hour" | "day" | "week" | "month" if led => unit_minutes(&lower),
            "night" | "morning" | "evening" | "afternoon" if led => Some(24 * 60),
            _ => None,
        };
        if let (Some(minutes), Kind::Word) = (span, &word.kind) {
            drop_lead(&mut joined);
            joined.push(Word::new(&word.raw, Kind::Span(minutes), vocabulary));
            at += 1;
            continue;
        }
        if word.kind == Kind::Date {
            drop_lead(&mut joined);
        }
        joined.push(word.clone());
        at += 1;
    }
    joined
}

/// Takes `in the last`, `since`, `older than` before a time away: they say nothing of their own.
fn drop_lead(words: &mut Vec<Word>) {
    while words.last().is_some_and(|word| {
        [
            "last", "past", "previous", "since", "the", "in", "within", "for", "during", "over",
            "this", "than", "from",
        ]
        .iter()
        .any(|lead| word.is(lead))
    }) {
        words.pop();
    }
}

/// Marks what is not to be done: `don't restart`, `without rebooting`, `never delete`.
fn negate(mut words: Vec<Word>, vocabulary: &Vocabulary) -> Vec<Word> {
    for at in 0..words.len() {
        let lower = words[at].lower().replace('’', "'");
        let not = matches!(
            lower.as_str(),
            "don't" | "dont" | "without" | "never" | "avoid" | "instead" | "rather"
        ) || (lower == "not"
            && at.checked_sub(1).and_then(|b| words.get(b)).is_none_or(|before| {
                ["do", "and", "but", "please", "should", "must", "to"].iter().any(|w| before.is(w))
                    || before.kind == Kind::Separator
            }))
            || (lower == "no"
                && words.get(at + 1).is_some_and(|n| base(&n.lower(), vocabulary).is_some()));
        if !not || words[at].kind != Kind::Word {
            continue;
        }
        for word in words.iter_mut().skip(at + 1).take(4) {
            if word.kind == Kind::Separator
                && !matches!(word.raw.as_str(), "and" | "or" | "/" | ",")
            {
                break;
            }
            if base(&word.lower(), vocabulary).is_some() {
                word.negated = true;
            }
        }
    }
    words
}

/// The word for a change that a word is a form of: `restarting` → `restart`.
pub(crate) fn base(word: &str, vocabulary: &Vocabulary) -> Option<String> {
    let mut forms = vec![word.to_owned()];
    for end in ["ing", "ed", "s", "es"] {
        if let Some(rest) = word.strip_suffix(end) {
            forms.push(rest.to_owned());
            forms.push(format!("{rest}e"));
            let mut chars = rest.chars();
            if let (Some(last), true) = (chars.next_back(), rest.len() > 3)
                && chars.next_back() == Some(last)
            {
                forms.push(rest[..rest.len() - last.len_utf8()].to_owned());
            }
        }
    }
    forms.into_iter().find(|form| vocabulary.is_changing(form))
}
