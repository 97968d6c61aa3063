//! Providers, roles and what models used, in the database.

use std::collections::BTreeMap;

use reeve_protocol::TaskId;
use reeve_sdk::api::{ModelRole, ProviderSettings, UsageRow};
use sqlx::{AnyConnection, Row};
use uuid::Uuid;

use crate::db::{DbError, Tx};

pub async fn list_providers(conn: &mut AnyConnection) -> Result<Vec<ProviderSettings>, DbError> {
    let rows =
        sqlx::query("select settings from model_providers order by name").fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            serde_json::from_str(row.try_get::<&str, _>(0)?)
                .map_err(|error| DbError::Content(format!("a provider's settings: {error}")))
        })
        .collect()
}

pub async fn put_provider(
    tx: &mut Tx,
    settings: &ProviderSettings,
    by: &str,
    now_us: i64,
) -> Result<(), DbError> {
    let text = serde_json::to_string(settings)
        .map_err(|error| DbError::Content(format!("a provider's settings: {error}")))?;
    sqlx::query(
        "insert into model_providers (name, settings, created_us, created_by, updated_us)
         values ($1, $2, $3, $4, $3)
         on conflict (name) do update set settings = excluded.settings, updated_us = excluded.updated_us",
    )
    .bind(&settings.name)
    .bind(text)
    .bind(now_us)
    .bind(by)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// `false` when there is none.
pub async fn remove_provider(tx: &mut Tx, name: &str) -> Result<bool, DbError> {
    let done = sqlx::query("delete from model_providers where name = $1")
        .bind(name)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn list_roles(
    conn: &mut AnyConnection,
) -> Result<BTreeMap<ModelRole, Vec<String>>, DbError> {
    let rows = sqlx::query("select role, models from model_roles").fetch_all(conn).await?;
    let mut roles = BTreeMap::new();
    for row in rows {
        let (role, models): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let Some(role) = ModelRole::ALL.into_iter().find(|each| each.as_str() == role) else {
            continue;
        };
        let models = serde_json::from_str(models)
            .map_err(|error| DbError::Content(format!("a role's models: {error}")))?;
        roles.insert(role, models);
    }
    Ok(roles)
}

/// An empty list takes the row away: the default again.
pub async fn put_role(
    tx: &mut Tx,
    role: ModelRole,
    models: &[String],
    by: &str,
    now_us: i64,
) -> Result<(), DbError> {
    if models.is_empty() {
        sqlx::query("delete from model_roles where role = $1")
            .bind(role.as_str())
            .execute(&mut **tx)
            .await?;
        return Ok(());
    }
    let text = serde_json::to_string(models)
        .map_err(|error| DbError::Content(format!("a role's models: {error}")))?;
    sqlx::query(
        "insert into model_roles (role, models, updated_us, updated_by) values ($1, $2, $3, $4)
         on conflict (role) do update set models = excluded.models,
             updated_us = excluded.updated_us, updated_by = excluded.updated_by",
    )
    .bind(role.as_str())
    .bind(text)
    .bind(now_us)
    .bind(by)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// One call of a model.
pub struct CallRow<'a> {
    pub at_us: i64,
    pub user: &'a str,
    pub task: Option<TaskId>,
    pub stage: &'a str,
    pub role: ModelRole,
    pub provider: &'a str,
    pub model: &'a str,
    pub outcome: &'a str,
    pub http_status: Option<u16>,
    pub latency_ms: u64,
    pub first_text_ms: Option<u64>,
    pub prompt_sha256: &'a str,
    pub input_tokens: u64,
    pub cached_tokens: u64,
    pub output_tokens: u64,
    pub cost_micro: i64,
}

pub async fn insert_call(tx: &mut Tx, call: &CallRow<'_>) -> Result<(), DbError> {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    sqlx::query(
        "insert into model_usage (id, at_us, user_name, task_id, stage, role, provider, model,
                                  outcome, http_status, latency_ms, first_text_ms, prompt_sha256,
                                  input_tokens, cached_tokens, output_tokens, cost_micro)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
    )
    .bind(Uuid::now_v7().to_string())
    .bind(call.at_us)
    .bind(call.user)
    .bind(call.task.map(|id| id.to_string()))
    .bind(call.stage)
    .bind(call.role.as_str())
    .bind(call.provider)
    .bind(call.model)
    .bind(call.outcome)
    .bind(call.http_status.map(i64::from))
    .bind(number(call.latency_ms))
    .bind(call.first_text_ms.map(number))
    .bind(call.prompt_sha256)
    .bind(number(call.input_tokens))
    .bind(number(call.cached_tokens))
    .bind(number(call.output_tokens))
    .bind(call.cost_micro)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What usage can be divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    Provider,
    Model,
    Role,
    User,
    Task,
    Day,
}

impl By {
    /// The key as SQL: constants, nothing of a caller's.
    fn sql(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Model => "provider || '/' || model",
            Self::Role => "role",
            Self::User => "user_name",
            Self::Task => "coalesce(task_id, '')",
            Self::Day => "cast(at_us / 86400000000 as text)",
        }
    }
}

const SUMS: &str = "cast(count(*) as bigint), \
     cast(coalesce(sum(case when outcome = 'ok' then 0 else 1 end), 0) as bigint), \
     cast(coalesce(sum(input_tokens), 0) as bigint), \
     cast(coalesce(sum(cached_tokens), 0) as bigint), \
     cast(coalesce(sum(output_tokens), 0) as bigint), \
     cast(coalesce(sum(cost_micro), 0) as bigint)";

/// Everything used in a time, by something; largest cost first, at most `limit` rows.
pub async fn usage_by(
    conn: &mut AnyConnection,
    from_us: i64,
    to_us: i64,
    by: By,
    limit: i64,
) -> Result<Vec<UsageRow>, DbError> {
    let sql = format!(
        "select {key}, {SUMS} from model_usage where at_us >= $1 and at_us < $2
         group by {key} order by 7 desc, 2 desc, 1 limit $3",
        key = by.sql()
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(from_us)
        .bind(to_us)
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| read_usage(row, row.try_get::<String, _>(0)?, 1)).collect()
}

/// Everything used in a time; by one person when `user` is not empty.
pub async fn usage_total(
    conn: &mut AnyConnection,
    from_us: i64,
    to_us: i64,
    user: &str,
) -> Result<UsageRow, DbError> {
    let sql = format!(
        "select {SUMS} from model_usage
         where at_us >= $1 and at_us < $2 and ($3 = '' or user_name = $3)"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(from_us)
        .bind(to_us)
        .bind(user)
        .fetch_one(conn)
        .await?;
    read_usage(&row, String::new(), 0)
}

/// Forgets what was used before a moment.
pub async fn forget_usage(tx: &mut Tx, before_us: i64) -> Result<u64, DbError> {
    let done =
        sqlx::query("delete from model_usage where at_us < $1").bind(before_us).execute(&mut **tx);
    Ok(done.await?.rows_affected())
}

fn read_usage(row: &sqlx::any::AnyRow, key: String, at: usize) -> Result<UsageRow, DbError> {
    let number = |offset: usize| -> Result<u64, DbError> {
        Ok(u64::try_from(row.try_get::<i64, _>(at + offset)?).unwrap_or_default())
    };
    Ok(UsageRow {
        key,
        calls: number(0)?,
        failed: number(1)?,
        input_tokens: number(2)?,
        cached_tokens: number(3)?,
        output_tokens: number(4)?,
        cost: super::from_micro(row.try_get(at + 5)?),
    })
}
