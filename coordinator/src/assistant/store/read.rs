//! Rows of tasks, read back.

use reeve_sdk::api::{Reason, SubtaskState};
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::super::record::{Asker, Step, TaskRow};
use crate::db::DbError;

pub const COLUMNS: &str = "id, principal, user_id, key_id, request, machines, seed, state, \
    reason_code, reason, question, answers, planner, plan_summary, summary, created_us, \
    started_us, finished_us, waiting_us, waited_us, cancelled_by, cancel_reason, last_event";

pub fn read_task(row: &AnyRow) -> Result<TaskRow, DbError> {
    let text = |at: usize| -> Result<String, DbError> { Ok(row.try_get(at)?) };
    let key: Option<String> = row.try_get(3)?;
    let summary: Option<String> = row.try_get(14)?;
    let cancelled_by: Option<String> = row.try_get(20)?;
    let cancel_reason: Option<String> = row.try_get(21)?;
    Ok(TaskRow {
        id: parse(&text(0)?)?,
        asker: Asker {
            name: text(1)?,
            user: parse(&text(2)?)?,
            key: key.as_deref().map(parse).transpose()?,
        },
        request: parse_json(&text(4)?, "request")?,
        machines: parse_json(&text(5)?, "machines")?,
        seed: text(6)?,
        state: parse_json(&format!("\"{}\"", text(7)?), "state")?,
        reason: read_reason(row.try_get(8)?, row.try_get(9)?),
        question: row.try_get(10)?,
        answers: parse_json(&text(11)?, "answers")?,
        planner: row.try_get(12)?,
        plan_summary: row.try_get(13)?,
        summary: summary.map(|summary| parse_json(&summary, "summary")).transpose()?,
        created_us: row.try_get(15)?,
        started_us: row.try_get(16)?,
        finished_us: row.try_get(17)?,
        waiting_us: row.try_get(18)?,
        waited_us: row.try_get(19)?,
        cancelled: cancelled_by.map(|by| (by, cancel_reason.unwrap_or_default())),
        last_event: row.try_get::<i64, _>(22)?.unsigned_abs(),
    })
}

pub fn read_step(row: &AnyRow) -> Result<Step, DbError> {
    let number: i64 = row.try_get(0)?;
    Ok(Step {
        number: u32::try_from(number)
            .map_err(|_| DbError::Content(format!("{number} is no number of a step")))?,
        planned: parse_json(&row.try_get::<String, _>(1)?, "step")?,
        state: parse_json(&format!("\"{}\"", row.try_get::<String, _>(2)?), "state of a step")?,
        reason: read_reason(row.try_get(3)?, row.try_get(4)?),
        tries: Vec::new(),
    })
}

fn read_reason(code: Option<String>, message: Option<String>) -> Option<Reason> {
    code.map(|code| Reason { code, message: message.unwrap_or_default() })
}

/// An id out of the database.
pub fn parse<T: std::str::FromStr>(text: &str) -> Result<T, DbError> {
    text.parse().map_err(|_| DbError::Content(format!("'{text}' is no id")))
}

/// JSON out of the database.
pub fn parse_json<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, DbError> {
    serde_json::from_str(text)
        .map_err(|error| DbError::Content(format!("a task's {what} cannot be read: {error}")))
}

/// The word for a state of a step.
pub fn step_state_text(state: SubtaskState) -> String {
    match serde_json::to_value(state) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
