//! Approvals in the database. Every change of state is guarded by the state it may come from.

use reeve_protocol::ops::Effect;
use reeve_protocol::{ApiKeyId, ApprovalId, JobId, TaskId, UserId};
use reeve_sdk::api::{ApprovalDecision, ApprovalMachine, ApprovalState, JobRequest, Time};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::db::{DbError, Tx};

const COLUMNS: &str = "id, digest, state, task_id, subtask, principal, user_id, key_id, request, \
                       machines, purpose, effect, effect_reasons, undo, needed, \
                       other_than_requester, step_up, rule, created_us, expires_us, redeem_key, \
                       job_id";

/// One of them, as it is kept.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub id: ApprovalId,
    pub digest: Vec<u8>,
    pub state: ApprovalState,
    pub task: Option<(TaskId, u32)>,
    /// Who asked, as the audit says it.
    pub principal: String,
    /// The person behind.
    pub user: UserId,
    /// The API key they asked with; none with a login.
    pub key: Option<ApiKeyId>,
    /// The job it becomes. Its selector is what was asked for; `machines` is what it came to.
    pub request: JobRequest,
    pub machines: Vec<ApprovalMachine>,
    pub purpose: String,
    pub effect: Effect,
    pub effect_reasons: Vec<String>,
    pub undo: Option<String>,
    pub needed: u32,
    pub other_than_requester: bool,
    pub step_up: bool,
    pub rule: String,
    pub created_us: i64,
    pub expires_us: i64,
    /// What it was used with.
    pub redeem_key: Option<String>,
    pub job_id: Option<JobId>,
}

/// What somebody said, as it is kept.
pub(super) struct DecisionRow {
    pub user: UserId,
    pub digest: Vec<u8>,
    pub shown: ApprovalDecision,
}

/// Which approvals.
pub(super) struct Filter {
    pub before: Option<ApprovalId>,
    pub state: Option<ApprovalState>,
    pub task: Option<TaskId>,
    pub limit: i64,
    /// What is over by then counts as expired.
    pub now_us: i64,
}

fn content(what: &str) -> DbError {
    DbError::Content(format!("an approval's {what} cannot be read"))
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn read_state(text: &str) -> Result<ApprovalState, DbError> {
    use ApprovalState::{Approved, Expired, Pending, Rejected, Used, Withdrawn};
    [Pending, Approved, Rejected, Expired, Withdrawn, Used]
        .into_iter()
        .find(|each| each.as_str() == text)
        .ok_or_else(|| content("state"))
}

fn read(row: &AnyRow) -> Result<Row, DbError> {
    let parsed = |at: usize, what: &'static str| -> Result<Option<uuid::Uuid>, DbError> {
        let text = row.try_get::<Option<&str>, _>(at)?;
        text.map(str::parse).transpose().map_err(|_| content(what))
    };
    let id = |at, what| parsed(at, what)?.ok_or_else(|| content(what));
    let subtask = row.try_get::<Option<i64>, _>(4)?.and_then(|step| u32::try_from(step).ok());
    let effect: &str = row.try_get(11)?;
    Ok(Row {
        id: ApprovalId(id(0, "id")?),
        digest: row.try_get(1)?,
        state: read_state(row.try_get(2)?)?,
        task: parsed(3, "task")?.map(TaskId).zip(subtask),
        principal: row.try_get(5)?,
        user: UserId(id(6, "user")?),
        key: parsed(7, "key")?.map(ApiKeyId),
        request: serde_json::from_str(row.try_get(8)?).map_err(|_| content("request"))?,
        machines: serde_json::from_str(row.try_get(9)?).map_err(|_| content("machines"))?,
        purpose: row.try_get(10)?,
        effect: [Effect::Read, Effect::Change, Effect::Destroy]
            .into_iter()
            .find(|each| each.as_str() == effect)
            .ok_or_else(|| content("effect"))?,
        effect_reasons: serde_json::from_str(row.try_get(12)?).map_err(|_| content("reasons"))?,
        undo: row.try_get(13)?,
        needed: u32::try_from(row.try_get::<i64, _>(14)?).map_err(|_| content("number"))?,
        other_than_requester: row.try_get::<i64, _>(15)? != 0,
        step_up: row.try_get::<i64, _>(16)? != 0,
        rule: row.try_get(17)?,
        created_us: row.try_get(18)?,
        expires_us: row.try_get(19)?,
        redeem_key: row.try_get(20)?,
        job_id: parsed(21, "job")?.map(JobId),
    })
}

/// Adds one that waits for people. `key` is the `Idempotency-Key` of the request that asked.
pub(super) async fn insert(tx: &mut Tx, row: &Row, key: Option<&str>) -> Result<(), DbError> {
    sqlx::query(
        "insert into approvals (id, digest, state, task_id, subtask, principal, user_id, key_id,
             request, machines, purpose, effect, effect_reasons, undo, needed,
             other_than_requester, step_up, rule, created_us, expires_us, idempotency_key)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
             $19, $20, $21)",
    )
    .bind(row.id.to_string())
    .bind(&row.digest[..])
    .bind(row.state.as_str())
    .bind(row.task.map(|(task, _)| task.to_string()))
    .bind(row.task.map(|(_, step)| i64::from(step)))
    .bind(&row.principal)
    .bind(row.user.to_string())
    .bind(row.key.map(|key| key.to_string()))
    .bind(json(&row.request))
    .bind(json(&row.machines))
    .bind(&row.purpose)
    .bind(row.effect.as_str())
    .bind(json(&row.effect_reasons))
    .bind(row.undo.as_deref())
    .bind(i64::from(row.needed))
    .bind(i64::from(row.other_than_requester))
    .bind(i64::from(row.step_up))
    .bind(&row.rule)
    .bind(row.created_us)
    .bind(row.expires_us)
    .bind(key)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// One of them.
pub(super) async fn find(conn: &mut AnyConnection, id: ApprovalId) -> Result<Option<Row>, DbError> {
    let sql = format!("select {COLUMNS} from approvals where id = $1");
    let row =
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id.to_string()).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// What somebody asked for with this `Idempotency-Key`.
pub(super) async fn find_by_key(
    conn: &mut AnyConnection,
    principal: &str,
    key: &str,
) -> Result<Option<Row>, DbError> {
    let sql =
        format!("select {COLUMNS} from approvals where principal = $1 and idempotency_key = $2");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(principal)
        .bind(key)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Approvals, newest first.
pub(super) async fn list(conn: &mut AnyConnection, filter: &Filter) -> Result<Vec<Row>, DbError> {
    let sql = format!(
        "select {COLUMNS} from approvals
         where ($1 = '' or id < $1) and ($2 = '' or task_id = $2)
           and ($3 = '' or $3 = case when state in ('pending', 'approved') and expires_us <= $4
                                     then 'expired' else state end)
         order by id desc limit $5"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(filter.before.map(|id| id.to_string()).unwrap_or_default())
        .bind(filter.task.map(|id| id.to_string()).unwrap_or_default())
        .bind(filter.state.map(ApprovalState::as_str).unwrap_or_default())
        .bind(filter.now_us)
        .bind(filter.limit)
        .fetch_all(conn)
        .await?;
    rows.iter().map(read).collect()
}

/// What is to be carried on with: approved commands that were not used, and what was used and never
/// became a job because the coordinator ended in between.
pub(super) async fn list_unfinished(
    conn: &mut AnyConnection,
    now_us: i64,
) -> Result<Vec<Row>, DbError> {
    let sql = format!(
        "select {COLUMNS} from approvals
         where expires_us > $1 and ((state = 'approved' and task_id is null)
                                    or (state = 'used' and job_id is null))
         order by id limit 1000"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(now_us).fetch_all(conn).await?;
    rows.iter().map(read).collect()
}

/// What people said about one of them, in the order they did.
pub(super) async fn list_decisions(
    conn: &mut AnyConnection,
    id: ApprovalId,
) -> Result<Vec<DecisionRow>, DbError> {
    let rows = sqlx::query(
        "select user_id, digest, principal, approved, at_us, reason from approval_decisions
         where approval_id = $1 order by at_us, user_id",
    )
    .bind(id.to_string())
    .fetch_all(conn)
    .await?;
    let read = |row: &AnyRow| {
        Ok(DecisionRow {
            user: row.try_get::<&str, _>(0)?.parse().map_err(|_| content("decision"))?,
            digest: row.try_get(1)?,
            shown: ApprovalDecision {
                by: row.try_get(2)?,
                approved: row.try_get::<i64, _>(3)? != 0,
                at: Time::from_micros(row.try_get(4)?),
                reason: row.try_get(5)?,
            },
        })
    };
    rows.iter().map(read).collect()
}

/// Keeps everybody else from deciding about it until this transaction ends. `false` when it waits
/// for nobody any more.
pub(super) async fn hold_pending(
    tx: &mut Tx,
    id: ApprovalId,
    now_us: i64,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "update approvals set state = 'pending'
         where id = $1 and state = 'pending' and expires_us > $2",
    )
    .bind(id.to_string())
    .bind(now_us)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Puts down what somebody says. `false` when they have said yes already; a no replaces that.
pub(super) async fn decide(
    tx: &mut Tx,
    id: ApprovalId,
    user: UserId,
    decision: &ApprovalDecision,
    digest: &[u8],
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "insert into approval_decisions
             (approval_id, user_id, principal, approved, digest, reason, at_us)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (approval_id, user_id) do update
             set approved = 0, reason = excluded.reason, at_us = excluded.at_us
             where excluded.approved = 0",
    )
    .bind(id.to_string())
    .bind(user.to_string())
    .bind(&decision.by)
    .bind(i64::from(decision.approved))
    .bind(digest)
    .bind(&decision.reason)
    .bind(decision.at.as_micros())
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Open → another state. `false` when it was not open.
pub(super) async fn settle(
    tx: &mut Tx,
    id: ApprovalId,
    state: ApprovalState,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "update approvals set state = $2 where id = $1 and state in ('pending', 'approved')",
    )
    .bind(id.to_string())
    .bind(state.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Approved → used, for whoever comes with this key. `false` when somebody was faster, or it is
/// over.
pub(super) async fn use_up(
    tx: &mut Tx,
    id: ApprovalId,
    key: &str,
    now_us: i64,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "update approvals set state = 'used', redeem_key = $2
         where id = $1 and state = 'approved' and expires_us > $3",
    )
    .bind(id.to_string())
    .bind(key)
    .bind(now_us)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// What it was used for.
pub(super) async fn keep_job(tx: &mut Tx, id: ApprovalId, job: JobId) -> Result<(), DbError> {
    sqlx::query("update approvals set job_id = $2 where id = $1 and state = 'used'")
        .bind(id.to_string())
        .bind(job.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Those whose time is up, once each.
pub(super) async fn expire(tx: &mut Tx, now_us: i64) -> Result<Vec<ApprovalId>, DbError> {
    let rows = sqlx::query(
        "update approvals set state = 'expired'
         where state in ('pending', 'approved') and expires_us <= $1 returning id",
    )
    .bind(now_us)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(|row| row.try_get::<&str, _>(0)?.parse().map_err(|_| content("id"))).collect()
}
