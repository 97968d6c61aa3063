//! What a model sees of results: one operation for each class of like ones, made small.

use std::borrow::Cow;
use std::fmt::Write as _;

use reeve_protocol::{OperationId, Stream};
use reeve_sdk::api::OperationState;
use serde::{Deserialize, Serialize};

use crate::clean::{Clean, line};
use crate::compact::{Excerpt, Kind};
use crate::tokens;

/// Least bytes a stream is cut to when many have to fit.
const LEAST_BYTES: usize = 300;

/// Bytes that the headings of a sample take, about.
const HEADINGS: usize = 400;

/// Names of machines shown of a class.
const MAX_NAMES: usize = 8;

/// The operation that stands for a class of like results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Which operation.
    pub operation: OperationId,
    /// Its machine's name.
    pub machine: String,
    /// Names of all machines of the class, or the first of them.
    pub machines: Vec<String>,
    /// How many machines the class has.
    pub count: u64,
    /// A small class beside a dominating one.
    #[serde(default)]
    pub outlier: bool,
    /// How it ended.
    pub state: OperationState,
    /// Its exit code, when it has one.
    pub exit_code: Option<i32>,
    /// Why, when that needs saying (signal, refusal, time limit).
    #[serde(default)]
    pub reason: Option<String>,
    /// Its stdout.
    pub stdout: Excerpt,
    /// Its stderr.
    pub stderr: Excerpt,
}

impl Sample {
    /// One of its streams.
    #[must_use]
    pub fn stream(&self, stream: Stream) -> &Excerpt {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }

    /// How it ended, in words.
    #[must_use]
    pub fn ending(&self) -> String {
        let mut text = match (self.exit_code, self.state) {
            (Some(code), OperationState::Succeeded | OperationState::Failed) => {
                format!("exit code {code}")
            }
            (Some(code), state) => format!("{}, exit code {code}", state.as_str()),
            (None, state) => state.as_str().to_owned(),
        };
        if let Some(reason) = &self.reason {
            let _ = write!(text, " ({})", line(reason, 200));
        }
        text
    }

    /// The beginning and end of its output for people, at most about so many bytes: stderr behind
    /// stdout, `…` where something is left out.
    #[must_use]
    pub fn excerpt(&self, max: usize) -> String {
        let mut text = String::new();
        let sides = [&self.stdout, &self.stderr].into_iter().filter(|side| !side.is_empty());
        let each = max / sides.clone().count().max(1);
        for side in sides {
            let mut side = side.clone();
            side.parts.retain(|part| part.kind != Kind::Line);
            side.shrink(each);
            let mut behind = 0;
            for part in &side.parts {
                if part.from > behind {
                    text.push_str("…\n");
                }
                behind = part.to();
                text.push_str(Clean::of(&part.bytes).text());
                if !text.ends_with('\n') {
                    text.push('\n');
                }
            }
        }
        text
    }

    /// Names for people: `web-1, web-2 and 38 more`.
    #[must_use]
    pub fn names(&self) -> String {
        names(&self.machines, self.count)
    }
}

/// Names for people, the first few of so many.
#[must_use]
pub fn names(machines: &[String], count: u64) -> String {
    let shown = machines.len().min(MAX_NAMES);
    let list: Vec<String> = machines[..shown].iter().map(|name| line(name, 80)).collect();
    let list = list.join(", ");
    match count.saturating_sub(shown as u64) {
        0 => list,
        more if shown == 0 => format!("{more} machines"),
        more => format!("{list} and {more} more"),
    }
}

/// The label of a sample in a prompt: short, because models copy short names without mistakes.
pub(crate) fn label(index: usize) -> String {
    format!("R{}", index + 1)
}

/// The samples as a model sees them. `from`: the index of the first label.
pub(crate) fn render(samples: &[Sample], from: usize) -> String {
    let mut text = String::new();
    for (index, sample) in samples.iter().enumerate() {
        let _ = writeln!(
            text,
            "== result {} on {} ({} machine{}{}): {}",
            label(from + index),
            sample.names(),
            sample.count,
            if sample.count == 1 { "" } else { "s" },
            if sample.outlier { ", differs from most" } else { "" },
            sample.ending()
        );
        for (name, excerpt) in [("stdout", &sample.stdout), ("stderr", &sample.stderr)] {
            render_stream(name, excerpt, &mut text);
        }
    }
    text
}

fn render_stream(name: &str, excerpt: &Excerpt, text: &mut String) {
    if excerpt.is_empty() {
        let _ = writeln!(text, "-- {name}: empty");
        return;
    }
    let _ = writeln!(text, "-- {name}: {} bytes, {} lines", excerpt.total, excerpt.lines);
    let mut behind = 0;
    for part in &excerpt.parts {
        if part.from > behind {
            let next = excerpt.parts.iter().find(|part| part.kind == Kind::Tail);
            let to = next.map_or(excerpt.total, |tail| tail.from);
            let notable = excerpt.parts.iter().any(|part| part.kind == Kind::Line);
            let but = if notable { " but for lines that look like trouble" } else { "" };
            let _ = writeln!(text, "-- {name}: {} bytes left out here{but}", to - behind);
            behind = to;
        }
        let clean = Clean::of(&part.bytes);
        let clean = without_headings(clean.text().trim_end_matches('\n'));
        if part.kind == Kind::Line {
            let _ = writeln!(text, "-- {name} line {} (byte {}): {clean}", part.line, part.from);
            continue;
        }
        behind = part.to();
        let (from, line) = (part.from, part.line);
        let _ = writeln!(text, "-- {name} bytes {from} to {behind}, from line {line}:\n{clean}");
    }
    if behind < excerpt.total {
        let _ = writeln!(text, "-- {name}: {} bytes left out here", excerpt.total - behind);
    }
}

/// Output whose lines cannot be taken for ours: those that begin as a heading does get a blank
/// before them, which no quote minds.
fn without_headings(text: &str) -> Cow<'_, str> {
    let is_heading = |line: &str| {
        ["== result", "=== ", "-- stdout", "-- stderr"].iter().any(|begin| line.starts_with(begin))
    };
    if !text.lines().any(is_heading) {
        return Cow::Borrowed(text);
    }
    let lines = text.split_inclusive('\n');
    Cow::Owned(lines.flat_map(|line| [if is_heading(line) { " " } else { "" }, line]).collect())
}

/// Makes samples fit into so many tokens together: each stream gets the same most. When even the
/// least does not fit, classes go: the largest stays, outliers go last. Returns how many went.
pub fn fit(samples: &mut Vec<Sample>, tokens: u64) -> usize {
    let mut room = usize::try_from(tokens::bytes_in(tokens)).unwrap_or(usize::MAX);
    let most = (room / (2 * LEAST_BYTES + HEADINGS)).max(1);
    let gone = samples.len().saturating_sub(most);
    if gone > 0 {
        samples[1..].sort_by_key(|sample| !sample.outlier);
        samples.truncate(most);
    }
    if tokens::estimate(&render(samples, 0)) <= tokens {
        return gone;
    }
    let whole = samples.clone();
    // Text that is not English takes more tokens than its bytes say: then a little less, again.
    for _ in 0..8 {
        let sizes: Vec<usize> =
            samples.iter().flat_map(|s| [s.stdout.kept(), s.stderr.kept()]).collect();
        let cap = share(&sizes, room.saturating_sub(samples.len() * HEADINGS));
        for (sample, whole) in samples.iter_mut().zip(&whole) {
            sample.stdout.clone_from(&whole.stdout);
            sample.stderr.clone_from(&whole.stderr);
            sample.stdout.shrink(cap);
            sample.stderr.shrink(cap);
        }
        if tokens::estimate(&render(samples, 0)) <= tokens {
            break;
        }
        room = room / 5 * 4;
    }
    gone
}

/// The largest cap with which all sizes together stay in the room.
fn share(sizes: &[usize], room: usize) -> usize {
    let mut sorted = sizes.to_vec();
    sorted.sort_unstable();
    let (mut left, mut waiting) = (room, sorted.len());
    for size in sorted {
        if size.saturating_mul(waiting) > left {
            return left / waiting;
        }
        left -= size;
        waiting -= 1;
    }
    usize::MAX
}
