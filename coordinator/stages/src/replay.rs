//! What was recorded of a stage gives the same result again.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ask::{Ask, Stage};
use crate::markers::Nonce;
use crate::{alternative, plan, summary, validate};

/// A call as it is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Which stage.
    pub stage: Stage,
    /// The stage's `Input`.
    pub input: Value,
    /// The number in the markers of its prompt.
    pub nonce: Nonce,
    /// The text of the answer.
    pub answer: String,
    /// Who answered: `provider/model`.
    pub by: String,
}

/// What a record gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stage", content = "result", rename_all = "snake_case")]
pub enum Replayed {
    /// Of [`plan::read`].
    Plan(Result<plan::Reply, plan::PlanError>),
    /// Of [`validate::read`].
    Validate(Result<validate::Judged, validate::NotVerdict>),
    /// Of [`alternative::read`].
    Alternative(Result<alternative::Reply, alternative::NotAlternative>),
    /// Of [`summary::read`].
    Summary(Result<summary::Summed, summary::NotSummary>),
}

/// Why a record gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Its input is not one of its stage.
    #[error("the recorded input is none of stage {}", stage.as_str())]
    Input {
        /// Which stage.
        stage: Stage,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Its stage is not replayed here.
    #[error("records of stage {} are not replayed", .0.as_str())]
    Stage(Stage),
}

/// The question that was asked.
///
/// # Errors
///
/// When the record is none.
pub fn ask(record: &Record) -> Result<Ask, ReplayError> {
    let nonce = &record.nonce;
    Ok(match record.stage {
        Stage::Plan => plan::ask(&input(record)?, nonce),
        Stage::Validate => validate::ask(&input(record)?, nonce),
        Stage::Alternative => alternative::ask(&input(record)?, nonce),
        Stage::Summary => summary::ask(&input(record)?, nonce),
        Stage::Stall => return Err(ReplayError::Stage(record.stage)),
    })
}

/// What the answer gave.
///
/// # Errors
///
/// When the record is none.
pub fn replay(record: &Record) -> Result<Replayed, ReplayError> {
    let (answer, by) = (&record.answer, &record.by);
    Ok(match record.stage {
        Stage::Plan => Replayed::Plan(plan::read(&input(record)?, answer)),
        Stage::Validate => Replayed::Validate(validate::read(&input(record)?, answer, by)),
        Stage::Alternative => Replayed::Alternative(alternative::read(&input(record)?, answer)),
        Stage::Summary => Replayed::Summary(summary::read(&input(record)?, answer, by)),
        Stage::Stall => return Err(ReplayError::Stage(record.stage)),
    })
}

fn input<T: serde::de::DeserializeOwned>(record: &Record) -> Result<T, ReplayError> {
    T::deserialize(&record.input)
        .map_err(|source| ReplayError::Input { stage: record.stage, source })
}
