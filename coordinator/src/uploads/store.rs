//! Uploads in the database.

use reeve_protocol::{UploadId, UserId};
use reeve_sdk::api::UploadState;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::db::{DbError, Tx};
use crate::users::Principal;

const COLUMNS: &str = "id, principal, user_id, name, size, received, state, blake3, created_us, \
                       appended_us, used_us";

/// A running job reads it.
const IN_USE: &str = "exists (select 1 from jobs where jobs.upload_id = uploads.id
                              and jobs.state = 'running')";

/// A file.
#[derive(Clone, Debug)]
pub struct Row {
    pub id: UploadId,
    pub principal: String,
    pub user: UserId,
    pub name: Option<String>,
    pub size: u64,
    pub received: u64,
    pub state: UploadState,
    pub blake3: Option<String>,
    pub created_us: i64,
    pub appended_us: i64,
    pub used_us: i64,
}

impl Row {
    /// Whether it is theirs.
    pub fn is_of(&self, principal: &Principal) -> bool {
        self.principal == principal.name && self.user == principal.user
    }
}

/// Adds a file.
pub async fn insert(tx: &mut Tx, row: &Row) -> Result<(), DbError> {
    let sql = format!(
        "insert into uploads ({COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
    );
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(row.id.to_string())
        .bind(&row.principal)
        .bind(row.user.to_string())
        .bind(row.name.as_deref())
        .bind(signed(row.size))
        .bind(signed(row.received))
        .bind(row.state.as_str())
        .bind(row.blake3.as_deref())
        .bind(row.created_us)
        .bind(row.appended_us)
        .bind(row.used_us)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// One file.
pub async fn find(conn: &mut AnyConnection, id: UploadId) -> Result<Option<Row>, DbError> {
    let sql = format!("select {COLUMNS} from uploads where id = $1");
    let row =
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id.to_string()).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// Files of a principal, newest first.
pub async fn list_own(
    conn: &mut AnyConnection,
    principal: &str,
    limit: i64,
) -> Result<Vec<Row>, DbError> {
    let sql =
        format!("select {COLUMNS} from uploads where principal = $1 order by id desc limit $2");
    let rows =
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(principal).bind(limit).fetch_all(conn).await?;
    rows.iter().map(read).collect()
}

/// Every file.
pub async fn list_ids(conn: &mut AnyConnection) -> Result<Vec<UploadId>, DbError> {
    let rows = sqlx::query("select id from uploads").fetch_all(conn).await?;
    rows.iter().map(|row| id_of(row, 0)).collect()
}

/// Files of which everything is there and whose hash is not known.
pub async fn list_whole(conn: &mut AnyConnection, limit: i64) -> Result<Vec<UploadId>, DbError> {
    let rows = sqlx::query(
        "select id from uploads where state = 'open' and received = size order by id limit $1",
    )
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| id_of(row, 0)).collect()
}

/// Bytes that all files may take.
pub async fn sum_sizes(tx: &mut Tx) -> Result<u64, DbError> {
    let row = sqlx::query("select cast(coalesce(sum(size), 0) as bigint) from uploads")
        .fetch_one(&mut **tx)
        .await?;
    Ok(unsigned(row.try_get(0)?))
}

/// Bytes that files of a principal may take, and how many there are.
pub async fn sum_own(tx: &mut Tx, principal: &str) -> Result<(u64, i64), DbError> {
    let row = sqlx::query(
        "select cast(coalesce(sum(size), 0) as bigint), count(*) from uploads
         where principal = $1",
    )
    .bind(principal)
    .fetch_one(&mut **tx)
    .await?;
    Ok((unsigned(row.try_get(0)?), row.try_get(1)?))
}

/// More is on the disk. Whether the file is still wanted.
pub async fn keep_received(
    tx: &mut Tx,
    id: UploadId,
    received: u64,
    now_us: i64,
) -> Result<bool, DbError> {
    let done = sqlx::query(
        "update uploads set received = $2, appended_us = $3, used_us = $3
         where id = $1 and state = 'open' and received <= $2",
    )
    .bind(id.to_string())
    .bind(signed(received))
    .bind(now_us)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Everything is there, and good or not.
pub async fn settle(
    tx: &mut Tx,
    id: UploadId,
    state: UploadState,
    blake3: Option<&str>,
) -> Result<(), DbError> {
    sqlx::query(
        "update uploads set state = $2, blake3 = coalesce($3, blake3)
         where id = $1 and state = 'open'",
    )
    .bind(id.to_string())
    .bind(state.as_str())
    .bind(blake3)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes a file that no running job reads. Whether it did.
pub async fn delete_unused(tx: &mut Tx, id: UploadId) -> Result<bool, DbError> {
    let sql = format!("delete from uploads where id = $1 and not {IN_USE}");
    let done =
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id.to_string()).execute(&mut **tx).await?;
    Ok(done.rows_affected() == 1)
}

/// Gives up files that were not continued since a time. Which.
pub async fn break_stalled(tx: &mut Tx, before_us: i64) -> Result<Vec<UploadId>, DbError> {
    let rows = sqlx::query(
        "update uploads set state = 'broken' where state = 'open' and appended_us < $1
         returning id",
    )
    .bind(before_us)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(|row| id_of(row, 0)).collect()
}

/// Removes files that were not used since a time and that no running job reads. Which.
pub async fn delete_expired(tx: &mut Tx, before_us: i64) -> Result<Vec<UploadId>, DbError> {
    let sql = format!("delete from uploads where used_us < $1 and not {IN_USE} returning id");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(before_us).fetch_all(&mut **tx).await?;
    rows.iter().map(|row| id_of(row, 0)).collect()
}

fn id_of(row: &AnyRow, at: usize) -> Result<UploadId, DbError> {
    let text: String = row.try_get(at)?;
    text.parse().map_err(|_| DbError::Content(format!("'{text}' is no id of an upload")))
}

fn read(row: &AnyRow) -> Result<Row, DbError> {
    let user: String = row.try_get(2)?;
    let state: String = row.try_get(6)?;
    Ok(Row {
        id: id_of(row, 0)?,
        principal: row.try_get(1)?,
        user: user.parse().map_err(|_| DbError::Content(format!("'{user}' is no id of a user")))?,
        name: row.try_get(3)?,
        size: unsigned(row.try_get(4)?),
        received: unsigned(row.try_get(5)?),
        state: [UploadState::Open, UploadState::Complete, UploadState::Broken]
            .into_iter()
            .find(|each| each.as_str() == state)
            .ok_or_else(|| DbError::Content("an upload's state cannot be read".to_owned()))?,
        blake3: row.try_get(7)?,
        created_us: row.try_get(8)?,
        appended_us: row.try_get(9)?,
        used_us: row.try_get(10)?,
    })
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
