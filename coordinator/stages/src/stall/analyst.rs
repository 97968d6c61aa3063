//! Where the rules are not sure: the question to a model, and its answer held against the facts.

use reeve_protocol::ops::Findings;
use reeve_sdk::api::{PlannedCommand, StallAdvice};
use serde::{Deserialize, Serialize};

use super::{Cause, Diagnosis, Prompt, find_prompt};
use crate::ask::{Ask, Message, Stage, read_object};
use crate::clean::prose;
use crate::markers::Nonce;
use crate::plan::command_line;
use crate::schemas;

/// Bytes of findings that are shown.
const MAX_FINDINGS: usize = 24 * 1024;

/// Bytes of an explanation.
const MAX_EXPLANATION: usize = 1000;

/// What an analyst is asked. `request`: what somebody wanted, in words.
#[must_use]
pub fn ask(
    request: &str,
    command: &PlannedCommand,
    findings: &Findings,
    diagnosis: &Diagnosis,
    nonce: &Nonce,
) -> Ask {
    let mut message = Message::new(request, nonce);
    message.data("Command", &command_line(command), 16 * 1024);
    let facts: Vec<String> =
        diagnosis.facts.iter().zip(1..).map(|(fact, number)| format!("{number}. {fact}")).collect();
    message.data("Facts", &facts.join("\n"), MAX_FINDINGS);
    let all = serde_json::to_string(findings).unwrap_or_default();
    message.data("Everything that was found", &all, MAX_FINDINGS);
    message.data(
        "What fixed rules made of it, without being sure",
        &format!("{}: {}", diagnosis.cause.as_str(), diagnosis.explanation),
        2000,
    );
    Ask {
        stage: Stage::Stall,
        role: Stage::Stall.role(),
        system: include_str!("../../prompts/stall.md").to_owned(),
        messages: message.finish(request, "Say why the command does not go on."),
        schema_name: "stall".to_owned(),
        schema: schemas::stall(),
    }
}

/// What a model made of it: advice for a person or a policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Advised {
    /// A word of [`Cause::as_str`].
    pub cause: String,
    /// For people.
    pub explanation: String,
    /// The facts it rests on.
    pub facts: Vec<String>,
    /// What is best done.
    pub advice: StallAdvice,
    /// It wants a secret: nobody but a person may give it.
    pub password: bool,
}

/// Why an answer is no advice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub struct NotAdvice(pub String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    cause: String,
    explanation: String,
    facts: Vec<u64>,
    advice: StallAdvice,
}

/// Reads what an analyst answered. What rests on no fact is `unknown` and means to wait; that a
/// password is asked for is never unsaid.
///
/// # Errors
/// When it is not the JSON that was asked for.
pub fn read(
    findings: &Findings,
    diagnosis: &Diagnosis,
    answer: &str,
) -> Result<Advised, NotAdvice> {
    let wire: Wire = read_object(answer).map_err(NotAdvice)?;
    if !Cause::ALL.iter().any(|cause| cause.as_str() == wire.cause) {
        return Err(NotAdvice(format!("'{}' is no cause of the schema", prose(&wire.cause, 64))));
    }
    let mut facts: Vec<String> = Vec::new();
    for number in wire.facts {
        let fact = usize::try_from(number)
            .ok()
            .and_then(|number| diagnosis.facts.get(number.checked_sub(1)?));
        if let Some(fact) = fact.filter(|fact| !facts.contains(fact)) {
            facts.push(fact.clone());
        }
    }
    let asks_secret = diagnosis.password
        || wire.cause == Cause::WaitsForPassword.as_str()
        || findings.last_output.as_ref().and_then(find_prompt) == Some(Prompt::Password);
    let explanation = prose(&wire.explanation, MAX_EXPLANATION);
    if facts.is_empty() && !asks_secret {
        return Ok(Advised {
            cause: Cause::Unknown.as_str().to_owned(),
            explanation: format!(
                "A model thinks, without naming a fact that shows it: {explanation}"
            ),
            facts,
            advice: StallAdvice::Wait,
            password: false,
        });
    }
    Ok(Advised {
        cause: if asks_secret { Cause::WaitsForPassword.as_str().to_owned() } else { wire.cause },
        explanation,
        facts,
        advice: if asks_secret { StallAdvice::Answer } else { wire.advice },
        password: asks_secret,
    })
}
