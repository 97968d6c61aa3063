//! `reeve models test`: does a model answer, and does it keep to a schema?

use reeve_sdk::api::{ModelRole, ModelTest};
use serde_json::json;

use crate::ask::{Ask, Story};
use crate::error::{ErrorCode, ModelError};
use crate::models::Models;
use crate::{CallRecord, Event, Prompt, Schema};

/// What a test found, and the calls it made.
#[derive(Clone, Debug)]
pub struct Tested {
    /// For whoever asked.
    pub report: ModelTest,
    /// To be recorded.
    pub calls: Vec<CallRecord>,
}

/// Tokens for the reply; those who think need more for their thoughts.
const TOKENS: u64 = 256;
const TOKENS_REASONING: u64 = 4_096;

impl Models {
    /// Asks a model for a sign of life: a small reply of a small schema. One call, no fall-back, and
    /// also when the provider's breaker is open. The first of the provider's models when none is
    /// named.
    ///
    /// # Errors
    /// [`ErrorCode::Settings`] when there is no such provider or model. That a model does not answer
    /// is not an error but what the test found.
    pub async fn test(&self, provider: &str, model: Option<&str>) -> Result<Tested, ModelError> {
        let entry = self.entry(provider)?;
        let Some(model) = model.or_else(|| Some(entry.settings.models.first()?.name.as_str()))
        else {
            return Err(ModelError::new(
                ErrorCode::Settings,
                format!("{provider} has no models; name one with `reeve models add {provider}`"),
            ));
        };
        let name = format!("{provider}/{model}");
        let (_, settings) = self.find(&name)?;
        let prompt = Prompt {
            schema: Some(Schema {
                name: "sign_of_life".to_owned(),
                json: json!({"type": "object", "properties": {"ok": {"type": "boolean"}},
                             "required": ["ok"], "additionalProperties": false}),
            }),
            max_output_tokens: Some(if settings.reasoning { TOKENS_REASONING } else { TOKENS }),
            ..Prompt::text("Answer in JSON.", "Say that you are there: set ok to true.")
        };
        let clock = &self.options().clock;
        let started = clock.elapsed();
        let ask = Ask { only: Some(&name), ..Ask::new(ModelRole::Planner, &prompt) };
        let mut nothing = |_: Event| {};
        let story = Story::new(&prompt, started + ask.deadline, &mut nothing);
        let (result, calls) = self.ask_single(&ask, story).await;
        let total_ms =
            u64::try_from(clock.elapsed().saturating_sub(started).as_millis()).unwrap_or(u64::MAX);
        let message = match &result {
            Ok(()) => "it answers and keeps to the schema".to_owned(),
            Err(error) => advice(error),
        };
        let usage = calls.iter().fold(crate::TokenUsage::default(), |sum, c| sum.plus(c.usage));
        let report = ModelTest {
            model: name.clone(),
            ok: result.is_ok(),
            message,
            first_text_ms: calls.last().and_then(|call| call.first_text_ms),
            total_ms,
            input_tokens: usage.input,
            output_tokens: usage.output,
            cost: calls.iter().map(|call| call.cost).sum(),
        };
        Ok(Tested { report, calls })
    }
}

/// What to do about it, where the error itself does not say.
fn advice(error: &ModelError) -> String {
    let remedy = match error.code {
        ErrorCode::VaultSealed => "unlock it: `reeve vault unlock`",
        ErrorCode::Timeout => "is it loading, or overloaded? A longer wait: first_byte_timeout_ms",
        ErrorCode::Busy => "wait a little, or ask the provider for a higher limit",
        ErrorCode::Failing => "it is their trouble; try later, or put another model into the role",
        ErrorCode::Broken => "does it speak the wire that was set? See docs/models.md",
        ErrorCode::Schema => {
            "it answers but does not keep to a schema: plans would fail; take another model"
        }
        ErrorCode::Truncated => "is it a model that thinks? Then set reasoning",
        ErrorCode::Refused => "take another model",
        _ => return error.message.clone(),
    };
    format!("{}; {remedy}", error.message)
}
