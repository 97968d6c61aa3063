//! What models say after there is a plan: verdicts, other commands, the summary. Each has rules to
//! fall back on, so that a task ends well without a model, and when its budget is reached.

use reeve_protocol::ops::Effect;
use reeve_sdk::api::{ModelRole, Summary, Verdict};
use reeve_stages::plan::Caps;
use reeve_stages::validate::{self, StepView};
use reeve_stages::{Sample, alternative, summary};

use super::super::record::{Alternative, MachineRef, Step};
use super::think::{Question, Thought};
use super::{Runner, Stop};

/// Outputs given to a summary.
const MAX_SAMPLES: usize = 40;

impl Runner {
    /// A model's verdict on one class of results, its evidence checked; none when rules judge.
    pub(super) async fn ask_validator(
        &self,
        step: u32,
        number: u32,
        group: usize,
        sample: &Sample,
    ) -> Result<Option<Verdict>, Stop> {
        let Some(window) = self.window(ModelRole::Validator) else { return Ok(None) };
        let found = self
            .ledger
            .read(|record| {
                let found = record.step(step)?;
                let each = record.attempt(step, number)?;
                let view = StepView { command: each.command.clone(), ..view(found) };
                Some((record.task.request.prompt.clone(), view))
            })
            .await;
        let Some((request, step_view)) = found else { return Ok(None) };
        let input =
            validate::Input { request, step: step_view, samples: vec![sample.clone()], window };
        let name = format!("validate-{step}-{number}-{group}");
        let nonce = self.nonce(&name).await;
        let question = Question {
            name,
            ask: validate::ask(&input, &nonce),
            input: serde_json::to_value(&input).unwrap_or_default(),
            nonce,
        };
        let read = |text: &str, by: &str| {
            validate::read(&input, text, by).map_err(|error| error.to_string())
        };
        match self.think(question, None, read).await? {
            Thought::Said(judged, _) => Ok(Some(judged.verdict)),
            Thought::Builtin(None) => Ok(None),
            Thought::Builtin(Some(message)) => {
                self.note_fallback("verdict", "builtin", &message).await?;
                Ok(None)
            }
            Thought::Failed { code, message } => {
                self.note_fallback("verdict", code, &message).await?;
                Ok(None)
            }
        }
    }

    /// Another command for a step that was not met; none when there is nobody to ask or nothing
    /// left to try. It goes through the same risk and the same yes as any.
    pub(super) async fn ask_alternative(
        &self,
        step: u32,
        machines: &[MachineRef],
    ) -> Result<Option<Alternative>, Stop> {
        let Some(window) = self.window(ModelRole::Planner) else { return Ok(None) };
        let builtin = self
            .ledger
            .read(|record| record.task.request.model.as_deref() == Some("builtin"))
            .await;
        let found = self
            .ledger
            .read(|record| Some((record.task.request.clone(), record.step(step)?.clone())))
            .await;
        let Some((request, found)) = found.filter(|_| !builtin) else { return Ok(None) };
        let mut failed = Vec::new();
        for each in &found.tries {
            let verdicts = each.groups.iter().filter_map(|group| group.verdict.as_ref());
            failed.push(alternative::Failed {
                command: each.command.clone(),
                reason: verdicts
                    .map(|verdict| verdict.reason.clone())
                    .collect::<Vec<_>>()
                    .join("; "),
                samples: self.samples(each).await?,
            });
        }
        let tried = u32::try_from(found.tries.len()).unwrap_or(u32::MAX);
        let input = alternative::Input {
            request: request.prompt,
            user: request.user,
            step: view(&found),
            machines: self.stage_machines(machines).await?,
            failed,
            tries_left: (alternative::MAX_ALTERNATIVES + 1).saturating_sub(tried),
            caps: Caps::default(),
            window,
        };
        let name = format!("alternative-{step}-{tried}");
        let nonce = self.nonce(&name).await;
        let question = Question {
            name,
            ask: alternative::ask(&input, &nonce),
            input: serde_json::to_value(&input).unwrap_or_default(),
            nonce,
        };
        let read = |text: &str, _: &str| {
            alternative::read(&input, text).map_err(|error| error.to_string())
        };
        match self.think(question, request.model.as_deref(), read).await? {
            Thought::Said(alternative::Reply::Try { command, why, claimed, long, .. }, _) => {
                let claimed = if long { claimed.max(Effect::Change) } else { claimed };
                Ok(Some(Alternative { command: *command, why, claimed, trusted: false }))
            }
            Thought::Said(alternative::Reply::None { .. }, _) | Thought::Builtin(_) => Ok(None),
            Thought::Failed { code, message } => {
                self.note_fallback("alternative", code, &message).await?;
                Ok(None)
            }
        }
    }

    /// A model's summary, its citations checked; none when rules sum up.
    pub(super) async fn ask_summariser(
        &self,
        input: &summary::Input,
    ) -> Result<Option<Summary>, Stop> {
        let Some(window) = self.window(ModelRole::Summariser) else { return Ok(None) };
        let tries: Vec<_> = self
            .ledger
            .read(|record| {
                record.steps.iter().filter_map(|step| step.tries.last().cloned()).collect()
            })
            .await;
        let mut input = input.clone();
        input.window = window;
        for each in &tries {
            let samples = self.samples(each).await?;
            input.samples.extend(samples);
        }
        input.samples.truncate(MAX_SAMPLES);
        let name = "summary".to_owned();
        let nonce = self.nonce(&name).await;
        let question = Question {
            name,
            ask: summary::ask(&input, &nonce),
            input: serde_json::to_value(&input).unwrap_or_default(),
            nonce,
        };
        let read = |text: &str, by: &str| {
            summary::read(&input, text, by).map_err(|error| error.to_string())
        };
        match self.think(question, None, read).await? {
            Thought::Said(summed, _) => Ok(Some(summed.summary)),
            Thought::Builtin(_) => Ok(None),
            Thought::Failed { code, message } => {
                self.note_fallback("summary", code, &message).await?;
                Ok(None)
            }
        }
    }
}

fn view(step: &Step) -> StepView {
    StepView {
        number: step.number,
        command: step.planned.command.clone(),
        purpose: step.planned.purpose.clone(),
        expected: step.planned.expected.clone(),
        effect: step.planned.effect,
    }
}
