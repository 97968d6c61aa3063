//! Tasks in the database.

mod calls;
mod read;

use reeve_protocol::TaskId;
use reeve_sdk::api::{TaskEvent, TaskEventKind, TaskState, Time};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::record::{Record, Step, TaskRow, Try};
use crate::db::{DbError, Tx};

pub use calls::{Call, find_call, insert_call, list_calls, usage};
use read::{COLUMNS, read_task};

/// Which tasks.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    /// Older than this one.
    pub before: Option<TaskId>,
    /// At most this many.
    pub limit: i64,
    /// In this state.
    pub state: Option<TaskState>,
}

/// States in which a runner has something to do.
const LIVE: &str = "('pending', 'planning', 'awaiting_approval', 'running')";

fn json<T: serde::Serialize>(value: &T) -> String {
    // A machine can write anything, and PostgreSQL's text cannot hold NUL.
    serde_json::to_string(value).unwrap_or_default().replace("\\u0000", "")
}

fn optional_json<T: serde::Serialize>(value: Option<&T>) -> Option<String> {
    value.map(json)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Adds a task.
pub async fn insert_task(
    tx: &mut Tx,
    task: &TaskRow,
    key: Option<&(String, [u8; 32])>,
) -> Result<(), DbError> {
    sqlx::query(
        "insert into tasks (id, principal, user_id, key_id, request, machines, seed, state,
                            answers, created_us, waited_us, last_event, idempotency_key,
                            request_hash)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, 0, $11, $12)",
    )
    .bind(task.id.to_string())
    .bind(&task.asker.name)
    .bind(task.asker.user.to_string())
    .bind(task.asker.key.map(|key| key.to_string()))
    .bind(json(&task.request))
    .bind(json(&task.machines))
    .bind(&task.seed)
    .bind(task.state.as_str())
    .bind(json(&task.answers))
    .bind(task.created_us)
    .bind(key.map(|(key, _)| key.as_str()))
    .bind(key.map(|(_, hash)| &hash[..]))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes what changes of a task. Who cancelled it is written by [`request_cancel`] alone.
pub async fn update_task(tx: &mut Tx, task: &TaskRow) -> Result<(), DbError> {
    sqlx::query(
        "update tasks set machines = $2, state = $3, reason_code = $4, reason = $5, question = $6,
                answers = $7, planner = $8, plan_summary = $9, summary = $10, started_us = $11,
                finished_us = $12, waiting_us = $13, waited_us = $14, last_event = $15
         where id = $1",
    )
    .bind(task.id.to_string())
    .bind(json(&task.machines))
    .bind(task.state.as_str())
    .bind(task.reason.as_ref().map(|reason| reason.code.as_str()))
    .bind(task.reason.as_ref().map(|reason| reason.message.replace('\0', "")))
    .bind(task.question.as_ref().map(|question| question.replace('\0', "")))
    .bind(json(&task.answers))
    .bind(&task.planner)
    .bind(task.plan_summary.as_ref().map(|summary| summary.replace('\0', "")))
    .bind(optional_json(task.summary.as_ref()))
    .bind(task.started_us)
    .bind(task.finished_us)
    .bind(task.waiting_us)
    .bind(task.waited_us)
    .bind(signed(task.last_event))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes a step, new or changed.
pub async fn put_step(tx: &mut Tx, task: TaskId, step: &Step) -> Result<(), DbError> {
    sqlx::query(
        "insert into subtasks (task_id, number, planned, state, reason_code, reason)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (task_id, number) do update
         set state = excluded.state, reason_code = excluded.reason_code, reason = excluded.reason",
    )
    .bind(task.to_string())
    .bind(i64::from(step.number))
    .bind(json(&step.planned))
    .bind(read::step_state_text(step.state))
    .bind(step.reason.as_ref().map(|reason| reason.code.as_str()))
    .bind(step.reason.as_ref().map(|reason| reason.message.replace('\0', "")))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes a try, new or changed.
pub async fn put_try(tx: &mut Tx, task: TaskId, step: u32, each: &Try) -> Result<(), DbError> {
    sqlx::query(
        "insert into attempts (task_id, subtask, number, detail) values ($1, $2, $3, $4)
         on conflict (task_id, subtask, number) do update set detail = excluded.detail",
    )
    .bind(task.to_string())
    .bind(i64::from(step))
    .bind(i64::from(each.number))
    .bind(json(each))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Adds an event that is kept. Again is no harm: whether a commit that failed was one is not known.
pub async fn insert_event(tx: &mut Tx, event: &TaskEvent) -> Result<(), DbError> {
    sqlx::query(
        "insert into task_events (task_id, sequence, at_us, what) values ($1, $2, $3, $4)
         on conflict (task_id, sequence) do nothing",
    )
    .bind(event.task_id.to_string())
    .bind(signed(event.sequence))
    .bind(event.at.as_micros())
    .bind(json(&event.what))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Events behind a sequence number, in order.
pub async fn list_events(
    conn: &mut AnyConnection,
    task: TaskId,
    after: u64,
    limit: i64,
) -> Result<Vec<TaskEvent>, DbError> {
    let rows = sqlx::query(
        "select sequence, at_us, what from task_events
         where task_id = $1 and sequence > $2 order by sequence limit $3",
    )
    .bind(task.to_string())
    .bind(signed(after))
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            let what: TaskEventKind = read::parse_json(&row.try_get::<String, _>(2)?, "event")?;
            Ok(TaskEvent {
                task_id: task,
                sequence: row.try_get::<i64, _>(0)?.unsigned_abs(),
                at: Time::from_micros(row.try_get(1)?),
                what,
            })
        })
        .collect()
}

/// One task alone.
pub async fn load_task(conn: &mut AnyConnection, id: TaskId) -> Result<Option<TaskRow>, DbError> {
    let sql = format!("select {COLUMNS} from tasks where id = $1");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(id.to_string()).fetch_optional(conn).await?;
    row.as_ref().map(read_task).transpose()
}

/// All of a task.
pub async fn load_record(conn: &mut AnyConnection, id: TaskId) -> Result<Option<Record>, DbError> {
    let Some(task) = load_task(conn, id).await? else { return Ok(None) };
    let rows = sqlx::query(
        "select number, planned, state, reason_code, reason from subtasks
         where task_id = $1 order by number",
    )
    .bind(id.to_string())
    .fetch_all(&mut *conn)
    .await?;
    let mut steps = rows.iter().map(read::read_step).collect::<Result<Vec<_>, _>>()?;
    let rows = sqlx::query(
        "select subtask, detail from attempts where task_id = $1 order by subtask, number",
    )
    .bind(id.to_string())
    .fetch_all(&mut *conn)
    .await?;
    let mut looks = Vec::new();
    for row in rows {
        let number = row.try_get::<i64, _>(0)?;
        let each: Try = read::parse_json(&row.try_get::<String, _>(1)?, "attempt")?;
        match steps.iter_mut().find(|step| i64::from(step.number) == number) {
            Some(step) => step.tries.push(each),
            None => looks.push(each),
        }
    }
    let usage = usage(conn, id).await?;
    Ok(Some(Record { task, steps, looks, usage }))
}

/// The task somebody asked for with this key, and the hash of what they asked then.
pub async fn find_by_key(
    conn: &mut AnyConnection,
    principal: &str,
    key: &str,
) -> Result<Option<(TaskId, Vec<u8>)>, DbError> {
    let row = sqlx::query(
        "select id, request_hash from tasks where principal = $1 and idempotency_key = $2",
    )
    .bind(principal)
    .bind(key)
    .fetch_optional(conn)
    .await?;
    row.map(|row| Ok((read::parse(&row.try_get::<String, _>(0)?)?, row.try_get(1)?))).transpose()
}

/// Forgets `Idempotency-Key`s of tasks made before a time.
pub async fn forget_keys(tx: &mut Tx, before_us: i64) -> Result<(), DbError> {
    sqlx::query(
        "update tasks set idempotency_key = null, request_hash = null
         where idempotency_key is not null and created_us < $1",
    )
    .bind(before_us)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Tasks, newest first.
pub async fn list_tasks(
    conn: &mut AnyConnection,
    filter: &TaskFilter,
) -> Result<Vec<TaskRow>, DbError> {
    let sql = format!(
        "select {COLUMNS} from tasks where ($1 = '' or id < $1) and ($2 = '' or state = $2)
         order by id desc limit $3"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(filter.before.map(|id| id.to_string()).unwrap_or_default())
        .bind(filter.state.map(TaskState::as_str).unwrap_or_default())
        .bind(filter.limit)
        .fetch_all(conn)
        .await?;
    rows.iter().map(read_task).collect()
}

/// Tasks a runner has something to do for, those already begun first, then the oldest.
pub async fn list_live(conn: &mut AnyConnection, limit: i64) -> Result<Vec<TaskId>, DbError> {
    let sql = format!(
        "select id from tasks where state in {LIVE}
         order by case when started_us is null then 1 else 0 end, id limit $1"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(limit).fetch_all(conn).await?;
    rows.iter().map(|row| read::parse(&row.try_get::<String, _>(0)?)).collect()
}

/// Notes that a task is to be cancelled, once. Whether there was something to cancel.
pub async fn request_cancel(tx: &mut Tx, id: TaskId, by: &str, why: &str) -> Result<bool, DbError> {
    let done = sqlx::query(
        "update tasks set cancelled_by = coalesce(cancelled_by, $2),
                cancel_reason = coalesce(cancel_reason, $3)
         where id = $1 and finished_us is null",
    )
    .bind(id.to_string())
    .bind(by)
    .bind(why)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Deletes tasks that ended, or were left without an answer, before a time, some at once. How many.
pub async fn delete_ended(tx: &mut Tx, before_us: i64, limit: i64) -> Result<u64, DbError> {
    let done = sqlx::query(
        "delete from tasks where id in (
             select id from tasks
             where finished_us < $1 or (state = 'needs_answer' and created_us < $1)
             order by id limit $2)",
    )
    .bind(before_us)
    .bind(limit)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}
