//! What it came to: by a model with citations that are checked, or by rules.

mod rules;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use reeve_protocol::ops::Effect;
use reeve_sdk::api::{
    OperationState, PlannedCommand, Quote, SubtaskState, Summary, Verdict, VerdictOutcome,
};
use serde::{Deserialize, Serialize};

pub use rules::by_rules;

use crate::ask::{Ask, Message, Stage, read_object, system};
use crate::clean::{line, prose};
use crate::evidence::{Claim, MAX_QUOTES, Unverified, verify};
use crate::markers::Nonce;
use crate::plan::command_line;
use crate::sample::{Sample, fit, names, render};
use crate::schemas;
use crate::tokens::Window;

/// Bytes of a summary.
const MAX_TEXT: usize = 8 * 1024;

/// Everything a summary depends on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Input {
    /// What somebody wants, in words.
    pub request: String,
    /// What the plan was to do.
    pub plan: String,
    /// The steps, in order.
    pub steps: Vec<Done>,
    /// What rules found, gravest first.
    pub findings: Vec<Finding>,
    /// Why the task ended before its end, if it did.
    pub stopped: Option<String>,
    /// Outputs that can be cited.
    pub samples: Vec<Sample>,
    /// How much the model can read.
    pub window: Window,
}

/// A step and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Its number.
    pub number: u32,
    /// What for.
    pub purpose: String,
    /// What ran last, or was to run.
    pub command: PlannedCommand,
    /// What it may do.
    pub effect: Effect,
    /// Where it ended.
    pub state: SubtaskState,
    /// Why, when that needs saying.
    pub reason: Option<String>,
    /// What would take it back.
    pub undo: Option<String>,
    /// How many tries there were.
    pub attempts: u32,
    /// Results of the last try, largest class first.
    pub groups: Vec<DoneGroup>,
}

/// Machines with like results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DoneGroup {
    /// Names of machines, or the first of them.
    pub machines: Vec<String>,
    /// How many there are.
    pub count: u64,
    /// How they ended.
    pub state: OperationState,
    /// Their exit code.
    pub exit_code: Option<i32>,
    /// A small class beside a dominating one.
    pub outlier: bool,
    /// What was concluded.
    pub verdict: Option<Verdict>,
}

/// Something that rules found in an output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// `ok`, `notice` or `problem`.
    pub level: Level,
    /// For people.
    pub message: String,
    /// Names of machines, or the first of them.
    pub machines: Vec<String>,
    /// How many there are.
    pub count: u64,
    /// What it rests on.
    pub quote: Option<Quote>,
}

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// All is well.
    Ok,
    /// Worth knowing.
    Notice,
    /// Something is wrong.
    Problem,
}

impl Input {
    /// The samples as they are shown: made to fit. Citations are held against these.
    fn shown(&self) -> Vec<Sample> {
        let mut samples = self.samples.clone();
        fit(&mut samples, self.window.outputs());
        samples
    }
}

/// What a summariser is asked.
#[must_use]
pub fn ask(input: &Input, nonce: &Nonce) -> Ask {
    let mut message = Message::new(&input.request, nonce);
    message.data("Steps", &steps(input), input.window.share(30, 128 * 1024));
    message.data("Results", &render(&input.shown(), 0), 256 * 1024);
    let schema = schemas::summary();
    Ask {
        stage: Stage::Summary,
        role: Stage::Summary.role(),
        system: system(include_str!("../../prompts/summary.md"), &schema),
        messages: message.finish(&input.request, "Sum up what came of the request."),
        schema_name: "summary".to_owned(),
        schema,
    }
}

fn steps(input: &Input) -> String {
    let mut text = String::new();
    if !input.plan.is_empty() {
        let _ = writeln!(text, "plan: {}", line(&input.plan, 500));
    }
    for step in &input.steps {
        let _ = writeln!(
            text,
            "step {} ({}): {}\n    {}",
            step.number,
            step.effect.as_str(),
            line(&step.purpose, 300),
            line(&command_line(&step.command), 300)
        );
        let _ = writeln!(
            text,
            "    ended: {}{}, {} tries",
            rules::state_words(step.state),
            step.reason.as_deref().map(|r| format!(" ({})", line(r, 300))).unwrap_or_default(),
            step.attempts
        );
        for group in step.groups.iter().take(20) {
            let verdict = group.verdict.as_ref().map_or_else(String::new, |verdict| {
                let outcome = match verdict.outcome {
                    VerdictOutcome::Met => "met",
                    VerdictOutcome::NotMet => "not met",
                    VerdictOutcome::Inconclusive => "inconclusive",
                };
                format!("; {outcome}: {}", line(&verdict.reason, 300))
            });
            let _ = writeln!(
                text,
                "    {} ({} machines): {}{verdict}",
                names(&group.machines, group.count),
                group.count,
                rules::ending(group)
            );
        }
        if let Some(undo) = &step.undo {
            let _ = writeln!(text, "    undo: {}", line(undo, 300));
        }
    }
    for finding in input.findings.iter().take(60) {
        let _ = writeln!(
            text,
            "found on {}: {}",
            names(&finding.machines, finding.count),
            line(&finding.message, 300)
        );
    }
    if let Some(stopped) = &input.stopped {
        let _ = writeln!(text, "it ended before its end: {}", line(stopped, 300));
    }
    text
}

/// Why an answer is no summary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub struct NotSummary(pub String);

/// A summary and what became of its citations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summed {
    /// What counts.
    pub summary: Summary,
    /// Quotes that did not count: their beginnings, and why not.
    pub dropped: Vec<(String, Unverified)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    text: String,
    quotes: Vec<WireQuote>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireQuote {
    number: u32,
    result: String,
    stream: reeve_protocol::Stream,
    quote: String,
    from: Option<u64>,
    to: Option<u64>,
}

/// Reads what a summariser answered. Citations are numbered anew in the order of the text; those
/// that do not hold are taken out, and the text says how many. `by`: its `provider/model`.
///
/// # Errors
///
/// When it is not the JSON that was asked for, or says nothing.
pub fn read(input: &Input, answer: &str, by: &str) -> Result<Summed, NotSummary> {
    let wire: Wire = read_object(answer).map_err(NotSummary)?;
    let samples = input.shown();
    let mut verified: BTreeMap<u32, Quote> = BTreeMap::new();
    let mut dropped = Vec::new();
    for quote in wire.quotes.into_iter().take(MAX_QUOTES) {
        let claim = Claim {
            result: quote.result,
            stream: quote.stream,
            quote: quote.quote,
            from: quote.from,
            to: quote.to,
        };
        match verify(&claim, &samples) {
            Ok(found) => drop(verified.entry(quote.number).or_insert(found.quote)),
            Err(why) => dropped.push((line(&claim.quote, 120), why)),
        }
    }
    let text = prose(&wire.text, MAX_TEXT);
    if text.is_empty() {
        return Err(NotSummary("the summary says nothing".to_owned()));
    }
    let (mut text, quotes, unverified) = renumber(&text, &verified);
    if unverified > 0 {
        let _ = write!(
            text,
            "\n({unverified} citation{} could not be found in the output and {} taken out.)",
            if unverified == 1 { "" } else { "s" },
            if unverified == 1 { "was" } else { "were" }
        );
    }
    Ok(Summed { summary: Summary { text, quotes, by: by.to_owned() }, dropped })
}

/// The text with citations numbered by their first place, the quotes in that order, and how many
/// citations had no quote.
fn renumber(text: &str, verified: &BTreeMap<u32, Quote>) -> (String, Vec<Quote>, usize) {
    let mut out = String::with_capacity(text.len());
    let mut order: Vec<u32> = Vec::new();
    let mut unverified = 0;
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let (before, from) = rest.split_at(open);
        let number =
            from[1..].find(']').and_then(|end| Some((from[1..=end].parse::<u32>().ok()?, end + 2)));
        let Some((number, length)) = number else {
            out.push_str(before);
            out.push('[');
            rest = &from[1..];
            continue;
        };
        rest = &from[length..];
        if verified.contains_key(&number) {
            let place = order.iter().position(|seen| *seen == number).unwrap_or_else(|| {
                order.push(number);
                order.len() - 1
            });
            let _ = write!(out, "{before}[{}]", place + 1);
        } else {
            unverified += 1;
            out.push_str(before.trim_end_matches(' '));
        }
    }
    out.push_str(rest);
    let quotes = order.iter().filter_map(|number| verified.get(number).cloned()).collect();
    (out, quotes, unverified)
}
