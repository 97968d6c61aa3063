//! What differs between like outputs is made the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// What stands for anything that may differ. No output has it by chance.
const SAME: &[u8] = b"\x00~";

/// What may differ among like results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Volatile {
    /// Dates and times of day, seconds since 1970, `3 days ago`, `up 3 days`.
    Time,
    /// How long something took: `in 0.31s`, `took 12 ms`, `real 0m0.3s`.
    Duration,
    /// `pid 4711`, `PID: 4711`, `name[4711]:`.
    Pid,
    /// The machine's own names.
    Host,
    /// UUIDs, with and without hyphens.
    Uuid,
    /// `0x7ffd…`.
    Hex,
    /// `/tmp/tmp.Xa83k`, `/var/tmp/…`, `/run/user/1000`.
    Temporary,
    /// What stands for a secret that was taken out on the machine: `[redacted:bearer:3f9a]`.
    Secret,
}

impl Volatile {
    /// Everything.
    pub const ALL: [Self; 8] = [
        Self::Time,
        Self::Duration,
        Self::Pid,
        Self::Host,
        Self::Uuid,
        Self::Hex,
        Self::Temporary,
        Self::Secret,
    ];

    fn patterns(self) -> &'static [&'static str] {
        match self {
            Self::Time => &[
                r"\b[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}(?:[T_ ]{1,2}[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?(?: ?(?:Z|UTC|GMT|[A-Z]{3,4}\b|[+-][0-9]{2}:?[0-9]{2}))?)?",
                r"\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? +)?(?:[0-9]{1,2} +)?(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]* +[0-9]{1,4}(?: +[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?)?(?: +(?:[AP]M\b))?(?: +(?:[A-Z]{3,4}\b|[+-][0-9]{4}))?(?: +[0-9]{4}\b)?",
                r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b",
                r"\b[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?(?: ?[AP]M\b)?",
                r"\b[0-2]?[0-9]:[0-5][0-9]\b(?: ?[AP]M\b)?",
                r"\b[0-9]+ ?(?:s|sec|seconds?|min|minutes?|h|hours?|days?|weeks?|months?|years?)(?: [0-9]+ ?(?:s|sec|seconds?|min|minutes?|h|hours?|days?))*,? ago\b",
                r"\bup +[0-9]+ (?:min|minutes?|hours?|days?|weeks?|years?)(?:, +[0-9]+ ?(?:min|minutes?|hours?|days?|weeks?))*",
                r"\b1[4-9][0-9]{8}(?:\.[0-9]+)?\b",
                r"^\[ *[0-9]+\.[0-9]{6}\]",
            ],
            Self::Duration => &[
                r"\b(?i:in|took|after|elapsed|elapsed:|time:|real|user|sys|duration[=:]?)[ \t]+[0-9]+(?:\.[0-9]+)?(?:m[0-9.]+)? ?(?:ns|us|µs|ms|s|sec|secs|seconds?|min|minutes?|m|h|hours?)\b",
            ],
            Self::Pid => &[
                r"\b(?i:pid)(?:[ =:#]{1,3}|\[)[0-9]+",
                r"\b(?i:process|pids?) +[0-9]+\b",
                r"[\w.@-]\[[0-9]{1,7}\]",
            ],
            Self::Host => &[],
            Self::Uuid => &[
                r"\b(?i:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\b",
                r"\b[0-9a-f]{32}\b",
            ],
            Self::Hex => &[r"\b0x[0-9a-fA-F]+\b"],
            Self::Secret => &[r"\[redacted:[a-z0-9_-]{1,40}:[0-9a-f]{1,16}\]"],
            Self::Temporary => &[
                r"/(?:var/)?tmp/[^\s:;,'\x22/)]*[.\-_][A-Za-z0-9]{6,}",
                r"\btmp\.?[A-Za-z0-9_]{6,12}\b",
                r"/run/user/[0-9]+",
            ],
        }
    }
}

/// What of outputs does not count when they are compared.
#[derive(Clone, Debug)]
pub struct Normaliser {
    kinds: BTreeSet<Volatile>,
    /// All patterns as one; `None` when there are none.
    pattern: Option<Arc<Regex>>,
}

impl Normaliser {
    /// With a choice of what may differ.
    #[must_use]
    pub fn new(kinds: impl IntoIterator<Item = Volatile>) -> Self {
        let kinds: BTreeSet<Volatile> = kinds.into_iter().collect();
        let all: Vec<&str> =
            kinds.iter().flat_map(|kind| kind.patterns().iter().copied()).collect();
        let pattern = if all.is_empty() {
            None
        } else {
            // That they compile is tested.
            RegexBuilder::new(&all.join("|")).unicode(false).build().ok().map(Arc::new)
        };
        Self { kinds, pattern }
    }

    /// For the output of a machine with these names.
    #[must_use]
    pub(super) fn for_host(&self, names: &[&str]) -> ForHost {
        let mut hosts: Vec<Vec<u8>> = Vec::new();
        if self.kinds.contains(&Volatile::Host) {
            // A short name stands in the middle of everything.
            hosts.extend(
                names.iter().filter(|name| name.len() >= 3).map(|name| name.to_lowercase().into()),
            );
            hosts.sort_by_key(|name: &Vec<u8>| std::cmp::Reverse(name.len()));
            hosts.dedup();
        }
        let mut begins = [false; 256];
        for first in hosts.iter().filter_map(|host| host.first()) {
            begins[usize::from(*first)] = true;
            begins[usize::from(first.to_ascii_uppercase())] = true;
        }
        ForHost { pattern: self.pattern.clone(), hosts, begins }
    }
}

impl Default for Normaliser {
    fn default() -> Self {
        Self::new(Volatile::ALL)
    }
}

/// A normaliser that knows the machine's names.
#[derive(Clone, Debug)]
pub(super) struct ForHost {
    pattern: Option<Arc<Regex>>,
    hosts: Vec<Vec<u8>>,
    /// Whether a host begins with this byte, in either case.
    begins: [bool; 256],
}

impl ForHost {
    /// Adds a line to `into`, with what may differ made the same.
    pub(super) fn normalise(&self, line: &[u8], into: &mut Vec<u8>) {
        let Some(pattern) = &self.pattern else {
            self.without_hosts(line, into);
            return;
        };
        let mut behind = 0;
        for found in pattern.find_iter(line) {
            self.without_hosts(&line[behind..found.start()], into);
            into.extend_from_slice(SAME);
            behind = found.end();
        }
        self.without_hosts(&line[behind..], into);
    }

    fn without_hosts(&self, text: &[u8], into: &mut Vec<u8>) {
        let mut rest = text;
        'text: while !rest.is_empty() && !self.hosts.is_empty() {
            let word =
                |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
            for at in 0..rest.len() {
                if !self.begins[usize::from(rest[at])] || (at > 0 && word(rest.get(at - 1))) {
                    continue;
                }
                let host = self.hosts.iter().find(|host| {
                    rest.len() >= at + host.len()
                        && rest[at..at + host.len()].eq_ignore_ascii_case(host)
                        && !word(rest.get(at + host.len()))
                });
                if let Some(host) = host {
                    into.extend_from_slice(&rest[..at]);
                    into.extend_from_slice(SAME);
                    rest = &rest[at + host.len()..];
                    continue 'text;
                }
            }
            break;
        }
        into.extend_from_slice(rest);
    }
}
