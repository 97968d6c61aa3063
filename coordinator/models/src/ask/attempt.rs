//! One call with all around it: key, budget, record, breaker; and what its reply is worth.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use reeve_sdk::api::ModelSettings;

use super::{Answer, Ask, CallRecord, Story, cost, max_output};
use crate::allowance::Reservation;
use crate::credential::Credential;
use crate::error::{ErrorCode, ModelError};
use crate::event::{Completed, Event, Stop, TokenUsage};
use crate::health::Permit;
use crate::models::{Entry, Models};
use crate::schema;
use crate::send::{Attempt, Heard};
use crate::wires::{Call, spoken};

/// What one try gave, to be acted upon.
pub(super) enum Next {
    Done(Completed),
    Again(ModelError),
}

impl Models {
    /// One call with all around it: key, budget, record, breaker. An error ends the tries at this
    /// model; `Next::Again` leaves it to the caller.
    #[expect(clippy::too_many_arguments, reason = "one caller, which holds each of them")]
    pub(super) async fn try_once(
        &self,
        entry: &Arc<Entry>,
        model: &ModelSettings,
        name: &str,
        ask: &Ask<'_>,
        story: &mut Story<'_>,
        heard: &mut Heard,
        permit: Permit,
        renew: bool,
    ) -> Result<Next, ModelError> {
        let clock = Arc::clone(&self.options().clock);
        let left = story.due.saturating_sub(clock.elapsed());
        if left.is_zero() {
            return Err(deadline(ask.deadline));
        }
        let wire = spoken(entry.settings.wire)
            .ok_or_else(|| ModelError::new(ErrorCode::Settings, "builtin is no model"))?;
        let endpoint = entry.endpoint.as_ref().map_err(Clone::clone)?;
        let asked = self.credentials().credential(&entry.settings, renew);
        let credential = match select(asked, clock.limit(left)).await {
            Either::Left((credential, _)) => {
                credential.inspect_err(|error| entry.health.note_error(error))?
            }
            Either::Right(_) => return Err(deadline(ask.deadline)),
        };
        entry.note_token(matches!(credential, Credential::Bearer(_)));
        let max_output = max_output(model, ask.prompt);
        let read = TokenUsage { input: ask.prompt.most_tokens(), ..TokenUsage::default() };
        let most = cost(model.price, TokenUsage { output: max_output, ..read });
        let reservation = Reservation::new(ask.allowance, name, most, cost(model.price, read))?;
        if std::mem::take(&mut story.void) {
            let reason = story.last_trouble.clone();
            (story.events)(Event::Restarted { model: name.to_owned(), reason });
        }
        let attempt = Attempt {
            call: Call {
                prompt: ask.prompt,
                provider: &entry.settings,
                model,
                base: &endpoint.base,
                quirks: entry.quirks(&model.name),
                max_output,
            },
            wire,
            endpoint,
            credentials: self.credentials(),
            credential: &credential,
            limits: self.options().limits(&entry.settings, model),
            clock: Arc::clone(&clock),
        };
        let (started, started_at) = (clock.elapsed(), clock.now());
        let left = story.due.saturating_sub(started);
        let result = {
            let make = Box::pin(attempt.make(heard, &mut *story.events));
            match select(make, clock.limit(left)).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => Err(deadline(ask.deadline)),
            }
        };
        entry.health.note_limits(&heard.limits);
        let spent = cost(model.price, heard.usage);
        reservation.spent(spent);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        story.calls.push(CallRecord {
            provider: entry.settings.name.clone(),
            model: model.name.clone(),
            started_us: started_at.as_micros(),
            latency_ms: millis(clock.elapsed().saturating_sub(started)),
            first_text_ms: heard.first_text.map(millis),
            outcome: result.as_ref().map_or_else(|e| e.code.as_str(), |_| "ok").to_owned(),
            http_status: heard.http_status,
            usage: heard.usage,
            cost: spent,
            prompt_sha256: story.sha256.clone(),
        });
        match result {
            Ok(completed) => {
                permit.went_well();
                Ok(Next::Done(completed))
            }
            Err(error) if error.code == ErrorCode::Deadline => {
                drop(permit);
                Err(error)
            }
            Err(error) => {
                permit.failed(&error);
                Ok(Next::Again(error))
            }
        }
    }

    /// Makes an answer of a complete reply, or the reason why it is none.
    pub(super) fn accept(
        &self,
        entry: &Entry,
        model: &ModelSettings,
        ask: &Ask<'_>,
        story: &mut Story<'_>,
        heard: Heard,
        completed: Completed,
    ) -> Result<Answer, ModelError> {
        let name = format!("{}/{}", entry.settings.name, model.name);
        let trouble = |story: &mut Story<'_>, code: ErrorCode, message: String, text: String| {
            if let Some(call) = story.calls.last_mut() {
                call.outcome = code.as_str().to_owned();
            }
            story.text = Some(text);
            Err(ModelError::new(code, message))
        };
        if completed.stop == Stop::Refused {
            let message = format!("{name} refuses to answer this");
            return trouble(story, ErrorCode::Refused, message, heard.text);
        }
        let json = match &ask.prompt.schema {
            None => None,
            Some(wanted) => match schema::read_reply(&heard.text, &wanted.json) {
                Ok(json) => Some(json),
                Err(_) if completed.stop == Stop::Length => {
                    let tokens = max_output(model, ask.prompt);
                    let message = format!(
                        "the reply of {name} does not fit {tokens} tokens; raise max_output_tokens of the model"
                    );
                    return trouble(story, ErrorCode::Truncated, message, heard.text);
                }
                Err(why) => {
                    let message = format!("the reply of {name} is not the schema: {why}");
                    return trouble(story, ErrorCode::Schema, message, heard.text);
                }
            },
        };
        (story.events)(Event::Completed(completed.clone()));
        let calls = std::mem::take(&mut story.calls);
        Ok(Answer {
            text: heard.text,
            json,
            provider: entry.settings.name.clone(),
            model: model.name.clone(),
            stop: completed.stop,
            usage: calls.iter().fold(TokenUsage::default(), |sum, call| sum.plus(call.usage)),
            cost: calls.iter().map(|call| call.cost).sum(),
            calls,
        })
    }
}

fn deadline(time: Duration) -> ModelError {
    ModelError::new(
        ErrorCode::Deadline,
        format!("no model answered within {} s", time.as_secs_f64()),
    )
}
