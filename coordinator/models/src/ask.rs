//! One question: the list of models in order, tries at each, and what is told to whom.

mod attempt;

use std::sync::Arc;
use std::time::Duration;

use reeve_sdk::api::{ModelRole, ModelSettings, Price};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Prompt;
use crate::allowance::Allowance;
use crate::error::{AskError, ErrorCode, ModelError};
use crate::event::{Event, Stop, TokenUsage};
use crate::models::{Entry, Models};
use crate::send::Heard;
use attempt::Next;

/// Whether somebody waits for the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody looks at the screen.
    #[default]
    Interactive,
    /// Nobody does.
    Batch,
}

/// A question.
pub struct Ask<'a> {
    /// Whose list of models is asked.
    pub role: ModelRole,
    /// This `provider/model` only, whatever the list says.
    pub only: Option<&'a str>,
    /// What is asked.
    pub prompt: &'a Prompt,
    /// Whether somebody waits.
    pub urgency: Urgency,
    /// For all of it: tries, pauses and fall-backs included.
    pub deadline: Duration,
    /// Asked before each call.
    pub allowance: &'a dyn Allowance,
}

impl<'a> Ask<'a> {
    /// A question to a role, with the usual 180 s and no budget.
    #[must_use]
    pub fn new(role: ModelRole, prompt: &'a Prompt) -> Self {
        Self {
            role,
            only: None,
            prompt,
            urgency: Urgency::Interactive,
            deadline: Duration::from_secs(180),
            allowance: &crate::Unlimited,
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// As the model gave it.
    pub text: String,
    /// Parsed and checked, when a schema was asked for.
    pub json: Option<Value>,
    /// Who answered.
    pub provider: String,
    /// With which model.
    pub model: String,
    /// Why the reply ended: the end, or the limit of tokens where no schema was asked for.
    pub stop: Stop,
    /// Of all calls made for it.
    pub usage: TokenUsage,
    /// Of all calls made for it, in the currency of the price table.
    pub cost: f64,
    /// All calls made for it, failed ones included.
    pub calls: Vec<CallRecord>,
}

/// One call, for the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// When it began, microseconds since 1970.
    pub started_us: i64,
    /// How long it took.
    pub latency_ms: u64,
    /// To the first piece of text.
    pub first_text_ms: Option<u64>,
    /// `ok`, or an [`ErrorCode`]'s word.
    pub outcome: String,
    /// The status of the HTTP reply, if there was one.
    pub http_status: Option<u16>,
    /// Tokens, as far as the provider said.
    pub usage: TokenUsage,
    /// In the currency of the price table.
    pub cost: f64,
    /// Of the prompt: see [`Prompt::sha256`].
    pub prompt_sha256: String,
}

const PER: f64 = 1_000_000.0;

pub(crate) fn cost(price: Option<Price>, usage: TokenUsage) -> f64 {
    let Some(price) = price else { return 0.0 };
    let cached = usage.cached.min(usage.input);
    ((usage.input - cached) as f64 * price.input
        + cached as f64 * price.cached_input.unwrap_or(price.input)
        + usage.output as f64 * price.output)
        / PER
}

pub(crate) fn max_output(model: &ModelSettings, prompt: &Prompt) -> u64 {
    let most = model.max_output_tokens.unwrap_or(crate::options::MAX_OUTPUT_TOKENS);
    prompt.max_output_tokens.map_or(most, |wanted| wanted.clamp(1, most))
}

/// What happened so far to one question.
pub(crate) struct Story<'a> {
    pub(crate) calls: Vec<CallRecord>,
    tried: Vec<ModelError>,
    /// What the model said that could not be used.
    text: Option<String>,
    /// Partial text was told and is void once another call is made.
    void: bool,
    last_trouble: String,
    events: &'a mut (dyn FnMut(Event) + Send),
    sha256: String,
    /// By the clock's `elapsed`.
    due: Duration,
}

impl<'a> Story<'a> {
    pub(crate) fn new(
        prompt: &Prompt,
        due: Duration,
        events: &'a mut (dyn FnMut(Event) + Send),
    ) -> Self {
        Self {
            calls: Vec::new(),
            tried: Vec::new(),
            text: None,
            void: false,
            last_trouble: String::new(),
            events,
            sha256: prompt.sha256(),
            due,
        }
    }

    fn failed(self) -> AskError {
        // `max_by_key` gives the last of equals; the first is what was wanted most.
        let worst = self.tried.iter().rev().max_by_key(|error| error.code.weight());
        let code = worst.map_or(ErrorCode::Settings, |error| error.code);
        let lines: Vec<&str> = self.tried.iter().map(|error| error.message.as_str()).collect();
        let message = match lines.as_slice() {
            [] => "the role has no models; `reeve models list` shows them".to_owned(),
            lines => lines.join("; then "),
        };
        AskError::Failed { code, message, calls: self.calls, tried: self.tried, text: self.text }
    }
}

impl Models {
    /// Asks. Events come as they happen; after [`Event::Restarted`] what came before is void.
    ///
    /// # Errors
    /// [`AskError::Builtin`] when the list's turn came to `builtin`, else [`AskError::Failed`].
    pub async fn ask(
        &self,
        ask: Ask<'_>,
        events: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Answer, AskError> {
        let due = self.options().clock.elapsed() + ask.deadline;
        let mut story = Story::new(ask.prompt, due, events);
        let list = match ask.only {
            Some(only) => vec![only.to_owned()],
            None => self.list(ask.role),
        };
        for name in &list {
            if name == "builtin" {
                return Err(AskError::Builtin { calls: story.calls, tried: story.tried });
            }
            let outcome = match self.find(name) {
                Ok((entry, model)) => {
                    Box::pin(self.ask_one(&entry, &model, name, &ask, &mut story, false)).await
                }
                Err(error) => Err(error),
            };
            match outcome {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    let is_last = !error.code.tries_next_model();
                    story.last_trouble.clone_from(&error.message);
                    story.tried.push(error);
                    if is_last {
                        break;
                    }
                }
            }
        }
        Err(story.failed())
    }

    /// One call to one model, whatever its breaker says, and the records.
    pub(crate) async fn ask_single(
        &self,
        ask: &Ask<'_>,
        mut story: Story<'_>,
    ) -> (Result<(), ModelError>, Vec<CallRecord>) {
        let name = ask.only.unwrap_or_default();
        let (entry, model) = match self.find(name) {
            Ok(found) => found,
            Err(error) => return (Err(error), Vec::new()),
        };
        match Box::pin(self.ask_one(&entry, &model, name, ask, &mut story, true)).await {
            Ok(answer) => (Ok(()), answer.calls),
            Err(error) => (Err(error), story.calls),
        }
    }

    async fn ask_one(
        &self,
        entry: &Arc<Entry>,
        model: &ModelSettings,
        name: &str,
        ask: &Ask<'_>,
        story: &mut Story<'_>,
        is_single: bool,
    ) -> Result<Answer, ModelError> {
        let limits = self.options().limits(&entry.settings, model);
        let mut retries = 0;
        let mut renew = false;
        loop {
            let permit = match is_single {
                true => entry.health.admit_anyway(),
                false => entry.health.admit(&model.name)?,
            };
            let mut heard = Heard::default();
            let before = entry.quirks(&model.name);
            let tried =
                self.try_once(entry, model, name, ask, story, &mut heard, permit, renew).await?;
            story.void |= heard.told;
            let error = match tried {
                Next::Done(completed) => {
                    return self.accept(entry, model, ask, story, heard, completed);
                }
                Next::Again(error) => error,
            };
            story.last_trouble.clone_from(&error.message);
            // Not tries at bad luck but the same request, put right; each once.
            if let Some(better) = error.adjustment.and_then(|what| before.with(what)) {
                entry.learn(&model.name, better);
                continue;
            }
            if error.http_status == Some(401) && entry.shows_a_token() && !renew {
                renew = true;
                continue;
            }
            if !error.again || is_single {
                return Err(error);
            }
            let Some(delay) = self.delay(&error, retries, ask.urgency, entry, model) else {
                return Err(error);
            };
            let left = story.due.saturating_sub(self.options().clock.elapsed());
            if retries >= limits.retries || delay >= left {
                return Err(error);
            }
            retries += 1;
            tracing::debug!(model = name, error = error.message, ?delay, "is asked again");
            self.options().clock.pause(delay).await;
        }
    }

    /// How long to wait before the next try; `None`: so long that another model is asked.
    fn delay(
        &self,
        error: &ModelError,
        retries: u32,
        urgency: Urgency,
        entry: &Entry,
        model: &ModelSettings,
    ) -> Option<Duration> {
        let options = self.options();
        if let Some(wanted) = error.retry_after {
            let longest = match urgency {
                Urgency::Interactive => options.longest_delay_interactive,
                Urgency::Batch => options.longest_delay_batch,
            };
            if wanted > longest {
                entry.health.hold(&model.name, wanted);
                return None;
            }
            return Some(wanted.mul_f64(1.0 + options.delay_jitter * self.chance()));
        }
        let most = options.backoff_first.saturating_mul(1 << retries.min(16));
        Some(most.min(options.backoff_most).mul_f64(self.chance()))
    }
}
