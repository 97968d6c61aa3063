//! Whether a step did what was expected: by a model with evidence that is checked, or by rules.
//!
//! One ask may hold several results; they are then judged together. The engine asks once for each
//! class of like results, so that what one machine prints cannot sway the verdict about another.

use std::fmt::Write as _;

use reeve_protocol::Stream;
use reeve_protocol::ops::Effect;
use reeve_sdk::api::{OperationState, PlannedCommand, Verdict, VerdictOutcome};
use serde::{Deserialize, Serialize};

use crate::ask::{Ask, Message, Stage, read_object, system};
use crate::clean::{line, prose};
use crate::evidence::{Checked, Claim, quote_at, verify_all};
use crate::markers::Nonce;
use crate::plan::command_line;
use crate::sample::{Sample, fit, render};
use crate::schemas;
use crate::tokens::Window;

/// Bytes of a reason.
const MAX_REASON: usize = 1000;

/// A step as whoever judges or mends it sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepView {
    /// Its number.
    pub number: u32,
    /// What ran.
    pub command: PlannedCommand,
    /// What for.
    pub purpose: String,
    /// What a good result looks like.
    pub expected: String,
    /// What it may do.
    pub effect: Effect,
}

/// Everything a verdict depends on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Input {
    /// What somebody wants, in words.
    pub request: String,
    /// The step.
    pub step: StepView,
    /// The results to judge, together.
    pub samples: Vec<Sample>,
    /// How much the model can read.
    pub window: Window,
}

impl Input {
    /// The samples as they are shown: made to fit. Evidence is held against these.
    fn shown(&self) -> Vec<Sample> {
        let mut samples = self.samples.clone();
        fit(&mut samples, self.window.outputs());
        samples
    }
}

/// What a validator is asked.
#[must_use]
pub fn ask(input: &Input, nonce: &Nonce) -> Ask {
    let mut message = Message::new(&input.request, nonce);
    let mut step = String::new();
    let _ = writeln!(step, "command: {}", command_line(&input.step.command));
    let _ = writeln!(step, "for: {}", line(&input.step.purpose, 1000));
    let _ = writeln!(step, "expected: {}", line(&input.step.expected, 1000));
    message.data("Step", &step, input.window.share(15, 16 * 1024));
    message.data("Results", &render(&input.shown(), 0), 256 * 1024);
    // What is expected was written by a planner that may have read hostile output: it stays data.
    let task = "Judge whether the results show what was expected of the step.";
    let schema = schemas::verdict();
    Ask {
        stage: Stage::Validate,
        role: Stage::Validate.role(),
        system: system(include_str!("../prompts/validate.md"), &schema),
        messages: message.finish(&input.request, task),
        schema_name: "verdict".to_owned(),
        schema,
    }
}

/// Why an answer is no verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub struct NotVerdict(pub String);

/// A verdict and what became of its evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// What counts.
    pub verdict: Verdict,
    /// What the model said; the verdict differs when its evidence did not hold.
    pub claimed: VerdictOutcome,
    /// What became of its quotes.
    pub evidence: Checked,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    outcome: VerdictOutcome,
    evidence: Vec<Claim>,
    reason: String,
}

/// Reads what a validator answered. `by`: its `provider/model`.
///
/// # Errors
///
/// When it is not the JSON that was asked for.
pub fn read(input: &Input, answer: &str, by: &str) -> Result<Judged, NotVerdict> {
    let wire: Wire = read_object(answer).map_err(NotVerdict)?;
    let samples = input.shown();
    let evidence = verify_all(&wire.evidence, &samples);
    let mut reason = prose(&wire.reason, MAX_REASON);
    let outcome = match wire.outcome {
        VerdictOutcome::Met | VerdictOutcome::NotMet if evidence.verified.is_empty() => {
            reason = format!(
                "The model's verdict was {:?} without evidence that stands in the output. It said: {reason}",
                said(wire.outcome)
            );
            VerdictOutcome::Inconclusive
        }
        outcome => outcome,
    };
    let verdict = Verdict {
        outcome,
        evidence: evidence.verified.clone(),
        reason,
        by: by.to_owned(),
        disagreement: disagreement(wire.outcome, &samples),
    };
    Ok(Judged { verdict, claimed: wire.outcome, evidence })
}

fn said(outcome: VerdictOutcome) -> &'static str {
    match outcome {
        VerdictOutcome::Met => "met",
        VerdictOutcome::NotMet => "not met",
        VerdictOutcome::Inconclusive => "inconclusive",
    }
}

/// How a verdict and the endings of commands do not say the same.
#[must_use]
pub fn disagreement(outcome: VerdictOutcome, samples: &[Sample]) -> Option<String> {
    let against = samples.iter().find(|sample| match outcome {
        VerdictOutcome::Met => sample.state != OperationState::Succeeded,
        VerdictOutcome::NotMet => sample.state == OperationState::Succeeded,
        VerdictOutcome::Inconclusive => false,
    })?;
    Some(format!(
        "said to be {}, but it ended with {} on {}",
        said(outcome),
        against.ending(),
        against.names()
    ))
}

/// A verdict without a model, from how the command ended: 0 is met, anything else is not. What may
/// or may not have happened (`lost`, `cancelled`) is inconclusive. It quotes the last line of output
/// or the first that looks like trouble; the exit code stands by itself where there is none.
#[must_use]
pub fn by_rules(sample: &Sample) -> Verdict {
    let (outcome, quotes) = match sample.state {
        OperationState::Succeeded => {
            (VerdictOutcome::Met, last_line(sample, [Stream::Stdout, Stream::Stderr]))
        }
        OperationState::Failed | OperationState::TimedOut => {
            (VerdictOutcome::NotMet, trouble(sample))
        }
        OperationState::Refused | OperationState::Expired => (VerdictOutcome::NotMet, None),
        OperationState::Lost
        | OperationState::Cancelled
        | OperationState::Queued
        | OperationState::Sent
        | OperationState::Running => (VerdictOutcome::Inconclusive, None),
    };
    let mut reason = format!("by rules: {}", sample.ending());
    if quotes.is_none() && sample.stdout.is_empty() && sample.stderr.is_empty() {
        reason.push_str(", no output");
    }
    Verdict {
        outcome,
        evidence: quotes.into_iter().collect(),
        reason,
        by: "rules".to_owned(),
        disagreement: None,
    }
}

fn last_line(sample: &Sample, order: [Stream; 2]) -> Option<reeve_sdk::api::Quote> {
    order.into_iter().find_map(|stream| {
        let (from, bytes) = sample.stream(stream).last_line()?;
        Some(quote_at(sample, stream, from, bytes))
    })
}

fn trouble(sample: &Sample) -> Option<reeve_sdk::api::Quote> {
    [Stream::Stderr, Stream::Stdout]
        .into_iter()
        .find_map(|stream| {
            let (from, bytes) = sample.stream(stream).first_notable()?;
            Some(quote_at(sample, stream, from, bytes))
        })
        .or_else(|| last_line(sample, [Stream::Stderr, Stream::Stdout]))
}
