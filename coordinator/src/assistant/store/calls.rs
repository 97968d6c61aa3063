//! Calls of models in the database.

use reeve_protocol::TaskId;
use reeve_sdk::api::{ModelCall, TaskUsage, Time};
use sqlx::{AnyConnection, Row};

use super::{json, signed};
use crate::db::{DbError, Tx};

/// One call of a model: what was asked, what came back, what it cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub id: uuid::Uuid,
    /// Which call of its task, such as `plan-0-1` or `validate-2-1-0`.
    pub name: String,
    pub stage: String,
    pub role: String,
    pub at_us: i64,
    /// Of system text, messages and schema, hexadecimal.
    pub prompt_sha256: String,
    /// System text, messages and schema. Output in it has gone through redaction on the machine.
    pub request: serde_json::Value,
    pub response: Option<String>,
    pub provider: String,
    pub model: String,
    /// `ok`, or the code of what went wrong.
    pub outcome: String,
    pub input_tokens: u64,
    pub cached_tokens: u64,
    pub output_tokens: u64,
    pub cost: f64,
    pub latency_ms: u64,
}

const COLUMNS: &str = "name, stage, role, at_us, prompt_sha256, request, response, provider, \
    model, outcome, input_tokens, cached_tokens, output_tokens, cost_nano, latency_ms, id";

/// Adds a call.
pub async fn insert_call(tx: &mut Tx, task: TaskId, call: &Call) -> Result<(), DbError> {
    sqlx::query(
        "insert into model_calls (id, task_id, name, stage, role, at_us, prompt_sha256, request,
                                  response, provider, model, outcome, input_tokens, cached_tokens,
                                  output_tokens, cost_nano, latency_ms)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
         on conflict (id) do nothing",
    )
    .bind(call.id.hyphenated().to_string())
    .bind(task.to_string())
    .bind(&call.name)
    .bind(&call.stage)
    .bind(&call.role)
    .bind(call.at_us)
    .bind(&call.prompt_sha256)
    .bind(json(&call.request))
    .bind(call.response.as_ref().map(|text| text.replace('\0', "")))
    .bind(&call.provider)
    .bind(&call.model)
    .bind(&call.outcome)
    .bind(signed(call.input_tokens))
    .bind(signed(call.cached_tokens))
    .bind(signed(call.output_tokens))
    .bind(to_nano(call.cost))
    .bind(signed(call.latency_ms))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The call of this name that was answered, if there was one.
pub async fn find_call(
    conn: &mut AnyConnection,
    task: TaskId,
    name: &str,
) -> Result<Option<Call>, DbError> {
    let sql = format!(
        "select {COLUMNS} from model_calls
         where task_id = $1 and name = $2 and response is not null order by id limit 1"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(task.to_string())
        .bind(name)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Every call of a task, in order.
pub async fn list_calls(conn: &mut AnyConnection, task: TaskId) -> Result<Vec<Call>, DbError> {
    let sql =
        format!("select {COLUMNS} from model_calls where task_id = $1 order by id limit 1000");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(task.to_string()).fetch_all(conn).await?;
    rows.iter().map(read).collect()
}

/// What models used for a task.
pub async fn usage(conn: &mut AnyConnection, task: TaskId) -> Result<TaskUsage, DbError> {
    let row = sqlx::query(
        "select count(*), cast(coalesce(sum(input_tokens), 0) as bigint),
                cast(coalesce(sum(output_tokens), 0) as bigint),
                cast(coalesce(sum(cost_nano), 0) as bigint)
         from model_calls where task_id = $1",
    )
    .bind(task.to_string())
    .fetch_one(conn)
    .await?;
    Ok(TaskUsage {
        calls: u32::try_from(row.try_get::<i64, _>(0)?).unwrap_or(u32::MAX),
        input_tokens: row.try_get::<i64, _>(1)?.unsigned_abs(),
        output_tokens: row.try_get::<i64, _>(2)?.unsigned_abs(),
        cost: from_nano(row.try_get(3)?),
    })
}

fn read(row: &sqlx::any::AnyRow) -> Result<Call, DbError> {
    let count =
        |at: usize| -> Result<u64, DbError> { Ok(row.try_get::<i64, _>(at)?.unsigned_abs()) };
    Ok(Call {
        id: super::read::parse(&row.try_get::<String, _>(15)?)?,
        name: row.try_get(0)?,
        stage: row.try_get(1)?,
        role: row.try_get(2)?,
        at_us: row.try_get(3)?,
        prompt_sha256: row.try_get(4)?,
        request: super::read::parse_json(&row.try_get::<String, _>(5)?, "call")?,
        response: row.try_get(6)?,
        provider: row.try_get(7)?,
        model: row.try_get(8)?,
        outcome: row.try_get(9)?,
        input_tokens: count(10)?,
        cached_tokens: count(11)?,
        output_tokens: count(12)?,
        cost: from_nano(row.try_get(13)?),
        latency_ms: count(14)?,
    })
}

/// Costs are kept as whole billionths: sums of them are exact.
#[allow(clippy::cast_possible_truncation)]
fn to_nano(cost: f64) -> i64 {
    (cost * 1e9).round() as i64
}

#[allow(clippy::cast_precision_loss)]
fn from_nano(nano: i64) -> f64 {
    nano as f64 / 1e9
}

impl Call {
    /// As the API shows it.
    pub fn into_api(self) -> ModelCall {
        ModelCall {
            name: self.name,
            stage: self.stage,
            role: self.role,
            at: Time::from_micros(self.at_us),
            model: format!("{}/{}", self.provider, self.model),
            prompt_sha256: self.prompt_sha256,
            request: self.request,
            response: self.response,
            outcome: self.outcome,
            input_tokens: self.input_tokens,
            cached_tokens: self.cached_tokens,
            output_tokens: self.output_tokens,
            cost: self.cost,
            latency_ms: self.latency_ms,
        }
    }
}
