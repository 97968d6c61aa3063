//! Rows of operations, read back.

use reeve_protocol::{Containment, Totals};
use reeve_sdk::api::{OperationState, Reason};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::super::row::OperationRow;
use crate::db::DbError;

pub const COLUMNS: &str = "id, job_id, ordinal, machine_id, machine, state, boot_id, journal_id, \
    created_us, sent_us, started_us, finished_us, updated_us, cancel_requested_us, cancel_reason, \
    exit_code, signal, reason_code, reason, containment, duration_ms, leftovers_killed, usage, \
    durable_all, durable_stdout, durable_stderr";

/// How many those are.
pub const COLUMN_COUNT: usize = 26;

pub fn read_operation(row: &AnyRow) -> Result<OperationRow, DbError> {
    let text = |at: usize| -> Result<String, DbError> { Ok(row.try_get(at)?) };
    let number = |at: usize| -> Result<Option<i64>, DbError> { Ok(row.try_get(at)?) };
    let small = |at: usize| -> Result<Option<i32>, DbError> {
        Ok(number(at)?.and_then(|number| i32::try_from(number).ok()))
    };
    let count = |at: usize| -> Result<u64, DbError> {
        Ok(number(at)?.and_then(|number| u64::try_from(number).ok()).unwrap_or_default())
    };
    let reason_code: Option<String> = row.try_get(17)?;
    let reason: Option<String> = row.try_get(18)?;
    let containment: Option<String> = row.try_get(19)?;
    let usage: Option<String> = row.try_get(22)?;
    Ok(OperationRow {
        id: parse(&text(0)?)?,
        job_id: parse(&text(1)?)?,
        ordinal: row.try_get(2)?,
        machine_id: parse(&text(3)?)?,
        machine: text(4)?,
        state: parse_state(&text(5)?)?,
        boot_id: row.try_get(6)?,
        journal_id: row.try_get::<Option<String>, _>(7)?.as_deref().map(parse).transpose()?,
        created_us: row.try_get(8)?,
        sent_us: row.try_get(9)?,
        started_us: row.try_get(10)?,
        finished_us: row.try_get(11)?,
        updated_us: row.try_get(12)?,
        cancel_requested_us: row.try_get(13)?,
        cancel_reason: row.try_get(14)?,
        exit_code: small(15)?,
        signal: small(16)?,
        reason: reason_code.map(|code| Reason { code, message: reason.unwrap_or_default() }),
        containment: containment.as_deref().map(parse_containment),
        duration_ms: number(20)?.and_then(|number| u64::try_from(number).ok()),
        leftovers_killed: u32::try_from(count(21)?).unwrap_or(u32::MAX),
        usage: usage.and_then(|usage| serde_json::from_str(&usage).ok()),
        durable: Totals { all: count(23)?, stdout: count(24)?, stderr: count(25)? },
    })
}

/// An id out of the database.
pub fn parse<T: std::str::FromStr>(text: &str) -> Result<T, DbError> {
    text.parse().map_err(|_| DbError::Content(format!("'{text}' is no id")))
}

fn parse_state(text: &str) -> Result<OperationState, DbError> {
    OperationState::ALL
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| DbError::Content(format!("'{text}' is no state of an operation")))
}

fn parse_containment(text: &str) -> Containment {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .unwrap_or(Containment::Unknown)
}

/// The word for a containment.
pub fn containment_text(containment: Containment) -> Option<String> {
    match serde_json::to_value(containment) {
        Ok(serde_json::Value::String(word)) => Some(word),
        _ => None,
    }
}
