//! A summary without a model: what failed and where, what was found, what was changed and how it is
//! taken back, what was not done and why.

use std::fmt::Write as _;

use reeve_protocol::ops::Effect;
use reeve_sdk::api::{OperationState, Quote, SubtaskState, Summary, VerdictOutcome};

use super::{DoneGroup, Input, Level};
use crate::clean::line;
use crate::plan::command_line;
use crate::sample::names;

/// Findings told in a summary; the others are counted.
const MAX_FINDINGS: usize = 20;

/// Groups told of one step.
const MAX_GROUPS: usize = 8;

/// Sums up by rules.
#[must_use]
pub fn by_rules(input: &Input) -> Summary {
    let mut telling = Telling::default();
    telling.beginning(input);
    telling.failures(input);
    telling.findings(input);
    telling.results(input);
    telling.changes(input);
    telling.not_done(input);
    Summary { text: telling.text.trim().to_owned(), quotes: telling.quotes, by: "rules".to_owned() }
}

#[derive(Default)]
struct Telling {
    text: String,
    quotes: Vec<Quote>,
}

impl Telling {
    fn say(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// ` [n]`, or nothing when there is no quote.
    fn cite(&mut self, quote: Option<&Quote>) -> String {
        let Some(quote) = quote else { return String::new() };
        let at = self.quotes.iter().position(|known| known == quote).unwrap_or_else(|| {
            self.quotes.push(quote.clone());
            self.quotes.len() - 1
        });
        format!(" [{}]", at + 1)
    }

    fn beginning(&mut self, input: &Input) {
        let count = |state: SubtaskState| input.steps.iter().filter(|s| s.state == state).count();
        let all = input.steps.len();
        let met = count(SubtaskState::Met);
        let steps = if all == 1 { "step" } else { "steps" };
        let mut text = if all == 0 {
            "Nothing was run.".to_owned()
        } else if met == all {
            match all {
                1 => "The step did what was expected.".to_owned(),
                _ => format!("All {all} steps did what was expected."),
            }
        } else {
            format!("{met} of {all} {steps} did what was expected.")
        };
        if let Some(stopped) = &input.stopped {
            let _ = write!(text, " It ended early: {}.", line(stopped, 300).trim_end_matches('.'));
        }
        self.say(&text);
    }

    fn failures(&mut self, input: &Input) {
        for step in &input.steps {
            if !matches!(step.state, SubtaskState::NotMet | SubtaskState::Inconclusive) {
                continue;
            }
            let tries = match step.attempts {
                0 | 1 => String::new(),
                tries => format!(" after {tries} tries"),
            };
            self.say(&format!(
                "Step {} {}{tries}: {}",
                step.number,
                state_words(step.state),
                line(&step.purpose, 200)
            ));
            let wrong = step.groups.iter().filter(|group| !is_met(group));
            for group in wrong.take(MAX_GROUPS) {
                self.group(group);
            }
            if let Some(reason) = &step.reason {
                self.say(&format!("  {}", line(reason, 300)));
            }
        }
    }

    fn group(&mut self, group: &DoneGroup) {
        let mut text = format!("  {}: {}", names(&group.machines, group.count), ending(group));
        let verdict = group.verdict.as_ref();
        if let Some(verdict) = verdict {
            let reason = line(&verdict.reason, 300);
            if !reason.is_empty() && reason != format!("by rules: {}", ending(group)) {
                let _ = write!(text, "; {reason}");
            }
            if let Some(disagreement) = &verdict.disagreement {
                let _ = write!(text, "; note: {}", line(disagreement, 300));
            }
        }
        text.push_str(&self.cite(verdict.and_then(|verdict| verdict.evidence.first())));
        self.say(&text);
    }

    fn findings(&mut self, input: &Input) {
        let mut findings: Vec<_> = input.findings.iter().collect();
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        let more = findings.len().saturating_sub(MAX_FINDINGS);
        for finding in findings.into_iter().take(MAX_FINDINGS) {
            let word = match finding.level {
                Level::Problem => "Problem",
                Level::Notice => "Note",
                Level::Ok => "OK",
            };
            let place = match names(&finding.machines, finding.count) {
                names if names.is_empty() => String::new(),
                names => format!(" ({names})"),
            };
            let citation = self.cite(finding.quote.as_ref());
            self.say(&format!("{word}: {}{place}{citation}", line(&finding.message, 300)));
        }
        if more > 0 {
            self.say(&format!("{more} more findings are with the steps."));
        }
    }

    /// What the steps that were met showed, where no finding tells it.
    fn results(&mut self, input: &Input) {
        for step in input.steps.iter().filter(|step| step.state == SubtaskState::Met) {
            let machines: u64 = step.groups.iter().map(|group| group.count).sum();
            let told = !input.findings.is_empty();
            let [largest, others @ ..] = step.groups.as_slice() else { continue };
            let evidence = largest.verdict.as_ref().and_then(|verdict| verdict.evidence.first());
            if others.is_empty() {
                if told {
                    continue;
                }
                let same = if machines > 1 {
                    format!(", {} identical", thousands(machines))
                } else {
                    String::new()
                };
                let shown = evidence
                    .map(|quote| format!(": {}", line(&quote.quote, 160)))
                    .unwrap_or_default();
                let citation = self.cite(evidence);
                self.say(&format!(
                    "Step {}, {}{same}{shown}{citation}",
                    step.number,
                    line(&step.purpose, 160)
                ));
                continue;
            }
            let differ = machines - largest.count;
            self.say(&format!(
                "Step {}, {}: {} identical, {} differ",
                step.number,
                line(&step.purpose, 160),
                thousands(largest.count),
                thousands(differ)
            ));
            let outliers = others.iter().filter(|group| group.outlier);
            for group in outliers.take(MAX_GROUPS) {
                self.group(group);
            }
        }
    }

    fn changes(&mut self, input: &Input) {
        let changed = input.steps.iter().filter(|step| {
            step.effect > Effect::Read
                && matches!(
                    step.state,
                    SubtaskState::Met | SubtaskState::NotMet | SubtaskState::Inconclusive
                )
        });
        for step in changed {
            let machines = step.groups.iter().map(|group| group.count).sum();
            let first: Vec<String> =
                step.groups.iter().flat_map(|group| group.machines.clone()).take(8).collect();
            let word = match (step.state, step.effect) {
                (SubtaskState::Met, Effect::Destroy) => "Removed or ended",
                (SubtaskState::Met, _) => "Changed",
                _ => "May have changed",
            };
            let undo = match &step.undo {
                Some(undo) => format!("to take it back: {}", line(undo, 300)),
                None => "there is no command that takes it back".to_owned(),
            };
            self.say(&format!(
                "{word} by step {} on {}: {} ({undo})",
                step.number,
                names(&first, machines),
                line(&command_line(&step.command), 200)
            ));
        }
    }

    fn not_done(&mut self, input: &Input) {
        for step in &input.steps {
            if matches!(
                step.state,
                SubtaskState::Met | SubtaskState::NotMet | SubtaskState::Inconclusive
            ) {
                continue;
            }
            let reason = step.reason.as_deref().map_or_else(
                || state_words(step.state).to_owned(),
                |reason| format!("{}, {}", state_words(step.state), line(reason, 300)),
            );
            self.say(&format!(
                "Not done: step {}, {} ({reason})",
                step.number,
                line(&step.purpose, 200)
            ));
        }
    }
}

fn is_met(group: &DoneGroup) -> bool {
    group.verdict.as_ref().is_some_and(|verdict| verdict.outcome == VerdictOutcome::Met)
}

/// How a group's commands ended.
pub(super) fn ending(group: &DoneGroup) -> String {
    match (group.exit_code, group.state) {
        (Some(code), OperationState::Succeeded | OperationState::Failed) => {
            format!("exit code {code}")
        }
        (_, state) => state.as_str().replace('_', " "),
    }
}

/// Where a step ended, in words.
pub(super) fn state_words(state: SubtaskState) -> &'static str {
    match state {
        SubtaskState::Met => "did what was expected",
        SubtaskState::NotMet => "did not do what was expected",
        SubtaskState::Inconclusive => "is inconclusive",
        SubtaskState::Skipped => "skipped",
        SubtaskState::Refused => "refused",
        SubtaskState::Cancelled => "cancelled",
        SubtaskState::AwaitingApproval => "waits for a yes",
        SubtaskState::Waiting => "waits for other steps",
        SubtaskState::Running | SubtaskState::Judging => "had not ended",
    }
}

/// `9981` as `9,981`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
