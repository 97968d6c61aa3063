//! What a good result of a step looks like: kept with the step, read by [`check`](crate::check).

use serde::{Deserialize, Serialize};

use crate::check::Level;

/// What a result is checked against.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// Exit codes other than 0 that are no failure, and what they mean.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fine: Vec<FineExit>,
    /// What to look for in the output.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// What it means when nothing was written to stdout; a finding `nothing`, level `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty: Option<String>,
    /// Ids of rules that have to find something, else the outcome is `not_met`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Ids of rules that must find nothing, else the outcome is `not_met`. For findings that are
    /// the answer to a question (`a disk is full`) that is not so: the question was answered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refuses: Vec<String>,
    /// Error texts on stderr are usual here (files that come and go while they are looked at).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub noisy: bool,
}

/// An exit code that is no failure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FineExit {
    /// The code.
    pub code: i32,
    /// What it means, such as `nothing was found`.
    pub means: String,
}

/// One thing to look for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Id of what it finds.
    pub id: String,
    /// How bad that is.
    #[serde(default)]
    pub level: Level,
    /// Where to look.
    #[serde(default)]
    pub stream: Stream,
    /// A regular expression; `^` and `$` match at lines. Its named groups can be used below.
    pub pattern: String,
    /// Values computed from groups, in order: `percent = "free / total * 100"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Comparisons that all have to hold: `percent < 10`, `state != 'active'`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<String>,
    /// What it says, with `{group}`, `{value}` and `{count}`: `One line. || {count} lines.`
    pub message: String,
    /// One finding for all matches, at the first of them, with their number as `{count}`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// What it says when the output has nothing of it; the finding's id is `ID.none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none: Option<String>,
    /// How bad it is when the output has nothing of it: `ok` unless it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none_level: Option<Level>,
}

/// Which output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// What was written to stdout.
    #[default]
    Stdout,
    /// What was written to stderr.
    Stderr,
}
