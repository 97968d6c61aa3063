//! What models used: recorded call by call, summed for people, bounded per person and day.

use std::time::Duration;

use reeve_models::CallRecord;
use reeve_protocol::TaskId;
use reeve_sdk::api::{ModelRole, Time, Usage, UsageRow};

use super::store::{By, CallRow};
use super::{ModelRegistry, store, to_micro};
use crate::db::DbError;
use crate::tasks::Tasks;

/// A day, microseconds.
const DAY_US: i64 = 24 * 3600 * 1_000_000;

/// How long usage is kept: a year and a month, so that a bill can be compared with last year's.
const KEEP_DAYS: i64 = 396;

/// How often what is older is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(6 * 3600);

/// Rows of one answer.
const MAX_ROWS: i64 = 1000;

/// For whom and what a model was asked.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The person's name.
    pub user: &'a str,
    /// Their task.
    pub task: Option<TaskId>,
    /// Which stage of it, such as `plan`.
    pub stage: &'a str,
    /// The role that was asked.
    pub role: ModelRole,
}

/// What a person may still spend today (UTC).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DayBudget {
    /// Most per day.
    pub limit: f64,
    /// Spent today.
    pub spent: f64,
}

impl ModelRegistry {
    /// Puts down calls. They count from when this answers.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn record(&self, caller: Caller<'_>, calls: &[CallRecord]) -> Result<(), DbError> {
        if calls.is_empty() {
            return Ok(());
        }
        let mut tx = self.0.db.begin().await?;
        for call in calls {
            let row = CallRow {
                at_us: call.started_us,
                user: caller.user,
                task: caller.task,
                stage: caller.stage,
                role: caller.role,
                provider: &call.provider,
                model: &call.model,
                outcome: &call.outcome,
                http_status: call.http_status,
                latency_ms: call.latency_ms,
                first_text_ms: call.first_text_ms,
                prompt_sha256: &call.prompt_sha256,
                input_tokens: call.usage.input,
                cached_tokens: call.usage.cached,
                output_tokens: call.usage.output,
                cost_micro: to_micro(call.cost),
            };
            store::insert_call(&mut tx, &row).await?;
        }
        tx.commit().await
    }

    /// What a person has spent today, and may at most.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn day_budget(&self, user: &str) -> Result<DayBudget, DbError> {
        let (from, to) = self.today();
        let mut conn = self.0.db.reader().await?;
        let spent = store::usage_total(&mut conn, from, to, user).await?.cost;
        Ok(DayBudget { limit: self.0.config.user_day_budget, spent })
    }

    /// What everybody together used today (UTC).
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn usage_today(&self) -> Result<UsageRow, DbError> {
        let (from, to) = self.today();
        store::usage_total(&mut *self.0.db.reader().await?, from, to, "").await
    }

    fn today(&self) -> (i64, i64) {
        let start = self.0.clock.micros().div_euclid(DAY_US) * DAY_US;
        (start, start + DAY_US)
    }

    pub(super) async fn usage(
        &self,
        from: Option<Time>,
        to: Option<Time>,
        by: By,
    ) -> Result<Usage, DbError> {
        let to_us = to.map_or_else(|| self.0.clock.micros() + 1, Time::as_micros);
        let from_us = from.map_or(to_us - 30 * DAY_US, Time::as_micros);
        let mut conn = self.0.db.reader().await?;
        let mut rows = store::usage_by(&mut conn, from_us, to_us, by, MAX_ROWS).await?;
        if by == By::Day {
            for row in &mut rows {
                row.key = day_name(&row.key);
            }
            rows.sort_by(|a, b| a.key.cmp(&b.key));
        }
        let total = store::usage_total(&mut conn, from_us, to_us, "").await?;
        Ok(Usage { from: Time::from_micros(from_us), to: Time::from_micros(to_us), total, rows })
    }

    /// Forgets what is old, until the coordinator ends.
    pub async fn sweep(self, tasks: Tasks) {
        let stop = tasks.token();
        loop {
            let before_us = self.0.clock.micros() - KEEP_DAYS * DAY_US;
            if let Err(error) = self.forget(before_us).await {
                tracing::warn!(%error, "old usage of models could not be forgotten");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(SWEEP_EVERY) => {}
            }
        }
    }

    async fn forget(&self, before_us: i64) -> Result<(), DbError> {
        let mut tx = self.0.db.begin().await?;
        store::forget_usage(&mut tx, before_us).await?;
        tx.commit().await
    }
}

/// Days since 1970 as a date.
fn day_name(days: &str) -> String {
    let date = days.parse::<i64>().ok().and_then(|days| days.checked_mul(DAY_US));
    date.map_or_else(String::new, |us| Time::from_micros(us).to_string().chars().take(10).collect())
}
