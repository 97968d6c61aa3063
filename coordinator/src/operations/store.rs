//! Jobs and operations in the database. Every change of state is guarded by the states it may come
//! from, so that whoever is late changes nothing.

mod jobs;
mod read;

use reeve_protocol::{JobId, JournalId, MachineId, OperationId, Totals};
use sqlx::{AnyConnection, Row};

use super::row::{Ending, OperationRow};
use crate::db::{Answers, DbError, Sent, Tx};

pub use jobs::{
    Asked, JobFilter, ask_key, count_jobs_running, counts, find_by_key, finish_job_later,
    forget_keys, insert_job, list_jobs, list_unfinished_jobs, load_job, load_whole_job,
    read_job_end, read_key_answer, request_job_cancel, use_upload,
};
pub use read::{COLUMN_COUNT, COLUMNS, containment_text, read_operation};

/// Rows in one insert, fourteen parameters each. SQLite looks for the name of each parameter among all of
/// them: with a thousand rows that took two seconds of processor time for ten thousand operations.
const ROWS_PER_INSERT: usize = 32;

/// Parameters of a row.
const PER_ROW: usize = 14;

/// States an operation is in before it has ended.
const OPEN: &str = "('queued', 'sent', 'running')";

/// Adds operations, most of them queued, some of them sent at once, with what is sent next.
pub fn insert_operations(tx: &mut Tx, rows: &[OperationRow]) -> Result<(), DbError> {
    for piece in rows.chunks(ROWS_PER_INSERT) {
        let mut sql = String::from(
            "insert into operations (id, job_id, ordinal, machine_id, machine, state, boot_id,
                journal_id, created_us, sent_us, finished_us, updated_us, reason_code, reason,
                leftovers_killed, durable_all, durable_stdout, durable_stderr) values ",
        );
        for row in 0..piece.len() {
            sql.push_str(if row == 0 { "(" } else { ", (" });
            for parameter in 1..=PER_ROW {
                sql.push_str(&format!("${}, ", row * PER_ROW + parameter));
            }
            sql.push_str("0, 0, 0, 0)");
        }
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for row in piece {
            query = query
                .bind(row.id.to_string())
                .bind(row.job_id.to_string())
                .bind(row.ordinal)
                .bind(row.machine_id.to_string())
                .bind(&*row.machine)
                .bind(row.state.as_str())
                .bind(row.boot_id.as_deref())
                .bind(row.journal_id.map(|id| id.to_string()))
                .bind(row.created_us)
                .bind(row.sent_us)
                .bind(row.finished_us)
                .bind(row.updated_us)
                .bind(row.reason.as_ref().map(|reason| &*reason.code))
                .bind(row.reason.as_ref().map(|reason| &*reason.message));
        }
        tx.later(query)?;
    }
    Ok(())
}

/// Queued → sent, naming the boot and journal it goes to, with what is sent next: it has changed the
/// operation, or that was not queued any more.
pub fn mark_sent(
    tx: &mut Tx,
    id: OperationId,
    boot_id: &str,
    journal: JournalId,
    now_us: i64,
) -> Result<Sent, DbError> {
    let query = sqlx::query(
        "update operations set state = 'sent', boot_id = $2, journal_id = $3, sent_us = $4,
                               updated_us = $4
         where id = $1 and state = 'queued' and cancel_requested_us is null",
    )
    .bind(id.to_string())
    .bind(boot_id)
    .bind(journal.to_string())
    .bind(now_us);
    tx.later(query)
}

/// Sent → running, and how much output is durable, with what is sent next: the answer is the row, or
/// nothing if it was not open any more.
pub fn mark_running(
    tx: &mut Tx,
    id: OperationId,
    started_us: i64,
    containment: Option<String>,
    durable: Totals,
    now_us: i64,
) -> Result<Sent, DbError> {
    let sql = format!(
        "update operations set state = 'running', started_us = $2, containment = $3,
                durable_all = $4, durable_stdout = $5, durable_stderr = $6, updated_us = $7
         where id = $1 and state in ('sent', 'running') returning {COLUMNS}"
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(id.to_string())
        .bind(started_us)
        .bind(containment)
        .bind(signed(durable.all))
        .bind(signed(durable.stdout))
        .bind(signed(durable.stderr))
        .bind(now_us);
    tx.later(query)
}

/// How much output is durable, with what is sent next.
pub fn keep_durable(tx: &mut Tx, id: OperationId, durable: Totals) -> Result<(), DbError> {
    let query = sqlx::query(
        "update operations set durable_all = $2, durable_stdout = $3, durable_stderr = $4
         where id = $1",
    )
    .bind(id.to_string())
    .bind(signed(durable.all))
    .bind(signed(durable.stdout))
    .bind(signed(durable.stderr));
    tx.later(query)?;
    Ok(())
}

/// Open → ended, whoever decides it. Nothing if it had ended before.
pub async fn finish(
    tx: &mut Tx,
    id: OperationId,
    ending: &Ending,
    durable: Option<Totals>,
    now_us: i64,
) -> Result<Option<OperationRow>, DbError> {
    let sent = finish_later(tx, id, ending, durable, now_us)?;
    read_answer(&tx.send().await?, sent)
}

/// As [`finish`], with what is sent next: the answer is the row.
pub fn finish_later(
    tx: &mut Tx,
    id: OperationId,
    ending: &Ending,
    durable: Option<Totals>,
    now_us: i64,
) -> Result<Sent, DbError> {
    let sql = format!(
        "update operations set state = $2, exit_code = $3, signal = $4, reason_code = $5,
                reason = $6, started_us = coalesce($7, started_us),
                containment = coalesce($8, containment), duration_ms = $9, leftovers_killed = $10,
                usage = $11, durable_all = coalesce($12, durable_all),
                durable_stdout = coalesce($13, durable_stdout),
                durable_stderr = coalesce($14, durable_stderr), finished_us = $15, updated_us = $15
         where id = $1 and state in {OPEN} returning {COLUMNS}"
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(id.to_string())
        .bind(ending.state.as_str())
        .bind(ending.exit_code.map(i64::from))
        .bind(ending.signal.map(i64::from))
        .bind(ending.reason.as_ref().map(|reason| reason.code.clone()))
        .bind(ending.reason.as_ref().map(|reason| reason.message.clone()))
        .bind(ending.started_us)
        .bind(ending.containment.and_then(read::containment_text))
        .bind(ending.duration_ms.map(signed))
        .bind(i64::from(ending.leftovers_killed))
        .bind(ending.usage.and_then(|usage| serde_json::to_string(&usage).ok()))
        .bind(durable.map(|totals| signed(totals.all)))
        .bind(durable.map(|totals| signed(totals.stdout)))
        .bind(durable.map(|totals| signed(totals.stderr)))
        .bind(now_us);
    tx.later(query)
}

/// The operation that a statement has answered with.
pub fn read_answer(answers: &Answers, sent: Sent) -> Result<Option<OperationRow>, DbError> {
    answers.row(sent).map(read_operation).transpose()
}

/// Notes that an open operation is to be cancelled, once.
pub async fn request_cancel(
    tx: &mut Tx,
    id: OperationId,
    reason: &str,
    now_us: i64,
) -> Result<Option<OperationRow>, DbError> {
    let sql = format!(
        "update operations set cancel_requested_us = coalesce(cancel_requested_us, $2),
                cancel_reason = coalesce(cancel_reason, $3)
         where id = $1 and state in {OPEN} returning {COLUMNS}"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(id.to_string())
        .bind(now_us)
        .bind(reason)
        .fetch_optional(&mut **tx)
        .await?;
    row.as_ref().map(read_operation).transpose()
}

/// One operation.
pub async fn load(
    conn: &mut AnyConnection,
    id: OperationId,
) -> Result<Option<OperationRow>, DbError> {
    let sql = format!("select {COLUMNS} from operations where id = $1");
    let row =
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id.to_string()).fetch_optional(conn).await?;
    row.as_ref().map(read_operation).transpose()
}

/// Operations of a job behind an ordinal, in order.
pub async fn list_of_job(
    conn: &mut AnyConnection,
    job: JobId,
    after: i64,
    limit: i64,
    state: &str,
) -> Result<Vec<OperationRow>, DbError> {
    let sql = format!(
        "select {COLUMNS} from operations
         where job_id = $1 and ordinal > $2 and ($3 = '' or state = $3) order by ordinal limit $4"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(job.to_string())
        .bind(after)
        .bind(state)
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.iter().map(read_operation).collect()
}

/// Every operation that has not ended, for a coordinator that starts.
pub async fn list_open(conn: &mut AnyConnection) -> Result<Vec<OperationRow>, DbError> {
    let sql = format!("select {COLUMNS} from operations where state in {OPEN} order by id");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(conn).await?;
    rows.iter().map(read_operation).collect()
}

/// Operations that are with their machines, of one machine or of all.
pub async fn count_under_way(
    conn: &mut AnyConnection,
    machine: Option<MachineId>,
) -> Result<u32, DbError> {
    let row = sqlx::query(
        "select count(*) from operations
         where state in ('sent', 'running') and ($1 = '' or machine_id = $1)",
    )
    .bind(machine.map(|id| id.to_string()).unwrap_or_default())
    .fetch_one(conn)
    .await?;
    Ok(u32::try_from(row.try_get::<i64, _>(0)?).unwrap_or(u32::MAX))
}

/// The machines of a job.
pub async fn list_machines(
    conn: &mut AnyConnection,
    job: JobId,
) -> Result<Vec<MachineId>, DbError> {
    let rows = sqlx::query("select distinct machine_id from operations where job_id = $1")
        .bind(job.to_string())
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| read::parse(&row.try_get::<String, _>(0)?)).collect()
}

/// Deletes jobs that ended before a time, with their operations and output, some at once. How many.
pub async fn delete_ended(tx: &mut Tx, before_us: i64, limit: i64) -> Result<u64, DbError> {
    let done = sqlx::query(
        "delete from jobs where id in (
             select id from jobs where state <> 'running' and finished_us < $1
             order by id limit $2)",
    )
    .bind(before_us)
    .bind(limit)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
