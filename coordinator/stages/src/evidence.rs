//! Evidence: quotes that a model gives for what it says, held against the bytes it was shown.
//!
//! A model can quote only what it saw, so a quote is looked for in the excerpts of the record, whose
//! bytes know their offsets in the stream. A quote counts when
//! - it stands at the offsets it was given, or
//! - it was given no offsets and stands somewhere (the first place is taken), or
//! - its offsets are wrong and it stands in exactly one other place: the offsets are corrected.
//!
//! Everything else is dropped, with the reason. White space at its ends does not matter; a quote of
//! fewer than four bytes has to be a whole line, because anything that short stands somewhere.

use reeve_protocol::{OperationId, Stream};
use reeve_sdk::api::Quote;
use serde::{Deserialize, Serialize};

use crate::clean::{Clean, clean, line};
use crate::sample::{Sample, label};

/// Bytes of a quote; what is longer is no quote but a copy.
pub const MAX_QUOTE: usize = 2000;

/// Quotes looked at in one answer.
pub const MAX_QUOTES: usize = 20;

/// A quote shorter than this has to be a whole line, bytes.
const SHORT: usize = 4;

/// A quote as a model gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The label of a result (`R1`), or an operation's id.
    pub result: String,
    /// Which stream.
    pub stream: Stream,
    /// What is said to stand there.
    pub quote: String,
    /// Offset of its first byte, if it was said.
    #[serde(default)]
    pub from: Option<u64>,
    /// Offset behind its last byte, if it was said.
    #[serde(default)]
    pub to: Option<u64>,
}

/// Where a quote really stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// The quote, as it stands in the stream.
    pub quote: Quote,
    /// Its offsets were wrong, and were corrected.
    pub corrected: bool,
}

/// Why a quote does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Unverified {
    /// It names no result that was shown.
    #[error("no result is called {0}")]
    UnknownResult(String),
    /// It does not stand in what was shown of the stream.
    #[error("it does not stand in the output")]
    Absent,
    /// Its offsets are wrong, and it stands in several places.
    #[error("its place is wrong, and it stands in several others")]
    Ambiguous,
    /// It says nothing, or too little to mean one place.
    #[error("it is too short to show anything")]
    TooShort,
    /// It is too long to be a quote.
    #[error("it is longer than {MAX_QUOTE} bytes")]
    TooLong,
}

/// Checks one quote against the samples that were shown.
///
/// # Errors
///
/// When it does not count, and why.
pub fn verify(claim: &Claim, samples: &[Sample]) -> Result<Verified, Unverified> {
    let sample = find_sample(&claim.result, samples)
        .ok_or_else(|| Unverified::UnknownResult(line(&claim.result, 60)))?;
    if claim.quote.len() > MAX_QUOTE {
        return Err(Unverified::TooLong);
    }
    let wanted = clean(claim.quote.trim()).trim().to_owned();
    if wanted.is_empty() {
        return Err(Unverified::TooShort);
    }
    let mut places = Vec::new();
    let mut seen_short = false;
    for part in &sample.stream(claim.stream).parts {
        let text = Clean::of(&part.bytes);
        for (at, _) in text.text().match_indices(&wanted) {
            let to = at + wanted.len();
            if wanted.len() < SHORT && !is_line(text.text(), at, to) {
                seen_short = true;
                continue;
            }
            if let Some((from, to)) = text.raw_span(at, to) {
                let bytes = String::from_utf8_lossy(&part.bytes[from..to]).into_owned();
                let place = (part.from + from as u64, part.from + to as u64, bytes);
                // A line of the gap may repeat bytes of its neighbours.
                if !places.contains(&place) {
                    places.push(place);
                }
            }
        }
    }
    let claimed = |(from, to, _): &&(u64, u64, String)| {
        claim.from == Some(*from) && claim.to.is_none_or(|end| end == *to)
    };
    let (place, corrected) = match (places.iter().find(claimed), claim.from.or(claim.to)) {
        (Some(place), _) => (place, false),
        (None, None) => (
            places.first().ok_or(if seen_short {
                Unverified::TooShort
            } else {
                Unverified::Absent
            })?,
            false,
        ),
        (None, Some(_)) => match places.as_slice() {
            [] if seen_short => return Err(Unverified::TooShort),
            [] => return Err(Unverified::Absent),
            [only] => (only, true),
            _ => return Err(Unverified::Ambiguous),
        },
    };
    let (from, to, quote) = place.clone();
    Ok(Verified {
        quote: Quote {
            operation: sample.operation,
            machine: sample.machine.clone(),
            stream: claim.stream,
            from,
            to,
            quote,
        },
        corrected,
    })
}

fn is_line(text: &str, from: usize, to: usize) -> bool {
    let before = text[..from].trim_end_matches([' ', '\t']);
    let behind = text[to..].trim_start_matches([' ', '\t']);
    (before.is_empty() || before.ends_with('\n')) && (behind.is_empty() || behind.starts_with('\n'))
}

fn find_sample<'a>(name: &str, samples: &'a [Sample]) -> Option<&'a Sample> {
    let name = name.trim();
    if let Ok(operation) = name.parse::<OperationId>() {
        return samples.iter().find(|sample| sample.operation == operation);
    }
    samples.iter().enumerate().find(|(at, _)| label(*at).eq_ignore_ascii_case(name)).map(|(_, s)| s)
}

/// What became of a list of quotes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Those that count.
    pub verified: Vec<Quote>,
    /// How many of them had wrong offsets.
    pub corrected: u32,
    /// Those that do not: the beginning of the quote, and why not.
    pub dropped: Vec<(String, Unverified)>,
}

/// Checks a list of quotes; those beyond [`MAX_QUOTES`] are not looked at.
#[must_use]
pub fn verify_all(claims: &[Claim], samples: &[Sample]) -> Checked {
    let mut checked = Checked::default();
    for claim in claims.iter().take(MAX_QUOTES) {
        match verify(claim, samples) {
            Ok(verified) => {
                checked.corrected += u32::from(verified.corrected);
                if !checked.verified.contains(&verified.quote) {
                    checked.verified.push(verified.quote);
                }
            }
            Err(why) => checked.dropped.push((line(&claim.quote, 120), why)),
        }
    }
    checked
}

/// A quote of bytes that are known to stand there, at most 200 of them.
#[must_use]
pub(crate) fn quote_at(sample: &Sample, stream: Stream, from: u64, bytes: &[u8]) -> Quote {
    let mut end = bytes.len().min(200);
    while end < bytes.len() && end > 197 && (0x80..0xc0).contains(&bytes[end]) {
        end -= 1;
    }
    Quote {
        operation: sample.operation,
        machine: sample.machine.clone(),
        stream,
        from,
        to: from + end as u64,
        quote: String::from_utf8_lossy(&bytes[..end]).into_owned(),
    }
}
