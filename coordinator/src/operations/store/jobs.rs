//! Jobs in the database.

use std::collections::HashMap;

use reeve_protocol::{JobId, UploadId};
use reeve_sdk::api::{JobCounts, JobState, OperationState, Time};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::super::approved::Approved;
use super::super::row::{JobRow, OperationRow};
use super::read::{COLUMNS as OPERATION_COLUMNS, parse, read_operation};
use super::signed;
use crate::db::{Answers, Conn, DbError, Sent, Tx};
use crate::events::JobEnd;

const COLUMNS: &str = "id, principal, selector, operation, rollout, output_limit, expires_us, \
                       state, created_us, finished_us, cancel_requested_us, approval, options";

/// Which jobs.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// Older than this one.
    pub before: Option<JobId>,
    /// At most this many.
    pub limit: i64,
    /// In this state.
    pub state: Option<JobState>,
}

/// Adds a job, with what is sent next.
pub fn insert_job(
    tx: &mut Tx,
    job: &JobRow,
    key: Option<&(String, [u8; 32])>,
) -> Result<(), DbError> {
    let query = sqlx::query(
        "insert into jobs (id, principal, selector, operation, rollout, output_limit, expires_us,
                           state, created_us, finished_us, idempotency_key, request_hash,
                           approval, options, upload_id)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    )
    .bind(job.id.to_string())
    .bind(&job.principal)
    .bind(&job.selector)
    .bind(serde_json::to_string(&job.operation).unwrap_or_default())
    .bind(serde_json::to_string(&job.rollout).unwrap_or_default())
    .bind(signed(job.output_limit))
    .bind(job.expires_us)
    .bind(state_text(job.state))
    .bind(job.created_us)
    .bind(job.finished_us)
    .bind(key.map(|(key, _)| key.as_str()))
    .bind(key.map(|(_, hash)| &hash[..]))
    .bind(job.approval.as_ref().map(Approved::to_text))
    .bind(serde_json::to_string(&job.options).unwrap_or_default())
    .bind(job.options.input.map(|input| input.upload.to_string()));
    tx.later(query)?;
    Ok(())
}

/// A job is about to read an upload: it stays from now on. Whether it is there.
pub async fn use_upload(tx: &mut Tx, id: UploadId, now_us: i64) -> Result<bool, DbError> {
    let query = sqlx::query("update uploads set used_us = $2 where id = $1 and state <> 'broken'")
        .bind(id.to_string())
        .bind(now_us);
    let sent = tx.later(query)?;
    Ok(tx.send().await?.changed(sent) == 1)
}

/// What somebody asked for with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What came of it.
    pub job: JobId,
    /// The hash of what they asked then.
    pub hash: Vec<u8>,
}

/// What somebody asked for with this key.
pub async fn find_by_key(
    conn: &mut AnyConnection,
    principal: &str,
    key: &str,
) -> Result<Option<Asked>, DbError> {
    let row = sqlx::query(BY_KEY).bind(principal).bind(key).fetch_optional(conn).await?;
    row.as_ref().map(read_key).transpose()
}

/// As [`find_by_key`], with what is sent next: see [`read_key_answer`].
pub fn ask_key(tx: &mut Tx, principal: &str, key: &str) -> Result<Sent, DbError> {
    tx.later(sqlx::query(BY_KEY).bind(principal).bind(key))
}

/// The answer to [`ask_key`].
pub fn read_key_answer(answers: &Answers, sent: Sent) -> Result<Option<Asked>, DbError> {
    answers.row(sent).map(read_key).transpose()
}

const BY_KEY: &str =
    "select id, request_hash from jobs where principal = $1 and idempotency_key = $2";

fn read_key(row: &AnyRow) -> Result<Asked, DbError> {
    Ok(Asked { job: parse(&row.try_get::<String, _>(0)?)?, hash: row.try_get(1)? })
}

/// Forgets `Idempotency-Key`s of jobs made before a time.
pub async fn forget_keys(tx: &mut Tx, before_us: i64) -> Result<(), DbError> {
    sqlx::query(
        "update jobs set idempotency_key = null, request_hash = null
         where idempotency_key is not null and created_us < $1",
    )
    .bind(before_us)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Ends a job if all its operations have ended, with what is sent next: see [`read_job_end`].
pub fn finish_job_later(tx: &mut Tx, id: JobId, now_us: i64) -> Result<Sent, DbError> {
    let query = sqlx::query(
        "update jobs set finished_us = $2, state = case
             when not exists (select 1 from operations
                              where job_id = $1 and state <> 'succeeded') then 'succeeded'
             when cancel_requested_us is not null then 'cancelled'
             else 'failed' end
         where id = $1 and state = 'running'
           and not exists (select 1 from operations where state = 'queued' and job_id = $1)
           and not exists (select 1 from operations where state = 'sent' and job_id = $1)
           and not exists (select 1 from operations where state = 'running' and job_id = $1)
         returning id, state, finished_us, cancel_requested_us",
    )
    .bind(id.to_string())
    .bind(now_us);
    tx.later(query)
}

/// The answer to [`finish_job_later`]: how it has ended, if it just has.
pub fn read_job_end(answers: &Answers, sent: Sent) -> Result<Option<JobEnd>, DbError> {
    let Some(row) = answers.row(sent) else { return Ok(None) };
    Ok(Some(JobEnd {
        job: parse(&row.try_get::<String, _>(0)?)?,
        state: read_state(row.try_get(1)?)?,
        finished: Time::from_micros(row.try_get(2)?),
        cancel_requested: row.try_get::<Option<i64>, _>(3)?.map(Time::from_micros),
    }))
}

/// Jobs that have not ended and of which nothing is open, for a coordinator that starts.
pub async fn list_unfinished_jobs(conn: &mut AnyConnection) -> Result<Vec<JobId>, DbError> {
    let rows = sqlx::query(
        "select id from jobs where state = 'running' and not exists (
             select 1 from operations
             where job_id = jobs.id and operations.state in ('queued', 'sent', 'running'))",
    )
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| parse(&row.try_get::<String, _>(0)?)).collect()
}

/// Notes that a job is to be cancelled. Nothing if it has ended.
pub async fn request_job_cancel(tx: &mut Tx, id: JobId, now_us: i64) -> Result<bool, DbError> {
    let done = sqlx::query(
        "update jobs set cancel_requested_us = coalesce(cancel_requested_us, $2)
         where id = $1 and state = 'running'",
    )
    .bind(id.to_string())
    .bind(now_us)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// One job.
pub async fn load_job(conn: &mut AnyConnection, id: JobId) -> Result<Option<JobRow>, DbError> {
    let sql = format!("select {COLUMNS} from jobs where id = $1");
    let row =
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id.to_string()).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// One job, how many of its operations are in which state, and its operation if it has but one.
pub async fn load_whole_job(
    conn: &mut Conn,
    id: JobId,
) -> Result<Option<(JobRow, JobCounts, Option<OperationRow>)>, DbError> {
    let job = format!("select {COLUMNS} from jobs where id = $1");
    let first = format!(
        "select {OPERATION_COLUMNS} from operations where job_id = $1 order by ordinal limit 1"
    );
    let text = id.to_string();
    let queries = [
        sqlx::query(sqlx::AssertSqlSafe(job)).bind(&text),
        sqlx::query(COUNTS).bind(&text),
        sqlx::query(sqlx::AssertSqlSafe(first)).bind(&text),
    ];
    let (answers, [job, states, first]) = conn.ask(queries).await?;
    let Some(job) = answers.row(job).map(read).transpose()? else { return Ok(None) };
    let mut counts = JobCounts::default();
    answers.rows(states).iter().try_for_each(|row| add_count(&mut counts, row))?;
    let single = answers.row(first).filter(|_| counts.total == 1);
    Ok(Some((job, counts, single.map(read_operation).transpose()?)))
}

/// Jobs, newest first.
pub async fn list_jobs(
    conn: &mut AnyConnection,
    filter: &JobFilter,
) -> Result<Vec<JobRow>, DbError> {
    let sql = format!(
        "select {COLUMNS} from jobs where ($1 = '' or id < $1) and ($2 = '' or state = $2)
         order by id desc limit $3"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(filter.before.map(|id| id.to_string()).unwrap_or_default())
        .bind(filter.state.map(state_text).unwrap_or_default())
        .bind(filter.limit)
        .fetch_all(conn)
        .await?;
    rows.iter().map(read).collect()
}

/// How many operations of each job are in each state.
pub async fn counts(
    conn: &mut AnyConnection,
    jobs: &[JobId],
) -> Result<HashMap<JobId, JobCounts>, DbError> {
    let mut counts: HashMap<JobId, JobCounts> = HashMap::new();
    for job in jobs {
        let entry = counts.entry(*job).or_default();
        let rows = sqlx::query(COUNTS).bind(job.to_string()).fetch_all(&mut *conn).await?;
        rows.iter().try_for_each(|row| add_count(entry, row))?;
    }
    Ok(counts)
}

const COUNTS: &str = "select state, count(*) from operations where job_id = $1 group by state";

fn add_count(counts: &mut JobCounts, row: &AnyRow) -> Result<(), DbError> {
    let state: String = row.try_get(0)?;
    let number = u32::try_from(row.try_get::<i64, _>(1)?).unwrap_or(u32::MAX);
    if let Some(state) = OperationState::ALL.into_iter().find(|each| each.as_str() == state) {
        *counts.of(state) = number;
        counts.total += number;
    }
    Ok(())
}

/// Jobs that have not ended.
pub async fn count_jobs_running(conn: &mut AnyConnection) -> Result<u32, DbError> {
    let row =
        sqlx::query("select count(*) from jobs where state = 'running'").fetch_one(conn).await?;
    Ok(u32::try_from(row.try_get::<i64, _>(0)?).unwrap_or(u32::MAX))
}

fn read(row: &AnyRow) -> Result<JobRow, DbError> {
    let content = |what: &str| DbError::Content(format!("a job's {what} cannot be read"));
    let operation: String = row.try_get(3)?;
    let rollout: String = row.try_get(4)?;
    let state: String = row.try_get(7)?;
    Ok(JobRow {
        id: parse(&row.try_get::<String, _>(0)?)?,
        principal: row.try_get(1)?,
        selector: row.try_get(2)?,
        operation: serde_json::from_str(&operation).map_err(|_| content("operation"))?,
        rollout: serde_json::from_str(&rollout).map_err(|_| content("rollout"))?,
        output_limit: u64::try_from(row.try_get::<i64, _>(5)?).unwrap_or_default(),
        expires_us: row.try_get(6)?,
        state: read_state(&state)?,
        created_us: row.try_get(8)?,
        finished_us: row.try_get(9)?,
        cancel_requested_us: row.try_get(10)?,
        approval: row.try_get::<Option<&str>, _>(11)?.map(Approved::from_text),
        options: serde_json::from_str(row.try_get(12)?).map_err(|_| content("options"))?,
    })
}

fn read_state(text: &str) -> Result<JobState, DbError> {
    [JobState::Running, JobState::Succeeded, JobState::Failed, JobState::Cancelled]
        .into_iter()
        .find(|each| state_text(*each) == text)
        .ok_or_else(|| DbError::Content("jobs.state".to_owned()))
}

fn state_text(state: JobState) -> &'static str {
    match state {
        JobState::Running => "running",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    }
}
