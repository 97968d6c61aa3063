//! Join tokens in the database.

use reeve_protocol::EnrolmentTokenId;
use reeve_sdk::api::{EnrolmentToken, Page};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::super::time;
use super::labels_text;
use crate::db::{DbError, Tx};

/// A token with the hash of its secret.
pub struct TokenRow {
    /// What may be shown.
    pub details: EnrolmentToken,
    /// SHA-256 of the secret.
    pub secret_hash: [u8; 32],
}

const COLUMNS: &str = "id, labels, name, uses_left, uses, created_us, created_by, expires_us, \
                       revoked_us, secret_hash";

pub async fn insert(
    tx: &mut Tx,
    token: &EnrolmentToken,
    secret_hash: &[u8; 32],
) -> Result<(), DbError> {
    sqlx::query(
        "insert into enrolment_tokens (id, secret_hash, labels, name, uses, uses_left, created_us,
                                       created_by, expires_us)
         values ($1, $2, $3, $4, $5, $5, $6, $7, $8)",
    )
    .bind(token.id.to_string())
    .bind(&secret_hash[..])
    .bind(labels_text(&token.labels))
    .bind(token.name.as_deref())
    .bind(i64::from(token.uses))
    .bind(token.created.as_micros())
    .bind(&token.created_by)
    .bind(token.expires.as_micros())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn find(tx: &mut Tx, id: EnrolmentTokenId) -> Result<Option<TokenRow>, DbError> {
    let sql = format!("select {COLUMNS} from enrolment_tokens where id = $1");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(id.to_string())
        .fetch_optional(&mut **tx)
        .await?;
    row.map(|row| {
        let hash: Vec<u8> = row.try_get(9)?;
        let secret_hash = hash
            .try_into()
            .map_err(|_| DbError::Content("a token hash of another length".to_owned()))?;
        Ok(TokenRow { details: read(&row)?, secret_hash })
    })
    .transpose()
}

/// One use less. `false` when another machine was quicker.
pub async fn take(tx: &mut Tx, id: EnrolmentTokenId) -> Result<bool, DbError> {
    let taken = sqlx::query(
        "update enrolment_tokens set uses_left = uses_left - 1 where id = $1 and uses_left > 0",
    )
    .bind(id.to_string())
    .execute(&mut **tx)
    .await?;
    Ok(taken.rows_affected() == 1)
}

pub async fn revoke(tx: &mut Tx, id: EnrolmentTokenId, now_us: i64) -> Result<bool, DbError> {
    let done = sqlx::query(
        "update enrolment_tokens set revoked_us = coalesce(revoked_us, $2) where id = $1",
    )
    .bind(id.to_string())
    .bind(now_us)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

pub async fn list(
    conn: &mut AnyConnection,
    before: Option<EnrolmentTokenId>,
    limit: u32,
) -> Result<Page<EnrolmentToken>, DbError> {
    let sql = format!(
        "select {COLUMNS} from enrolment_tokens where ($1 = '' or id < $1) order by id desc limit $2"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(before.map(|id| id.to_string()).unwrap_or_default())
        .bind(i64::from(limit) + 1)
        .fetch_all(conn)
        .await?;
    let limit = limit as usize;
    let items = rows.iter().take(limit).map(read).collect::<Result<Vec<_>, _>>()?;
    let next =
        if rows.len() > limit { items.last().map(|token| token.id.to_string()) } else { None };
    Ok(Page { items, next })
}

fn read(row: &AnyRow) -> Result<EnrolmentToken, DbError> {
    let id: String = row.try_get(0)?;
    let labels: String = row.try_get(1)?;
    let count = |at: usize| -> Result<u32, DbError> {
        Ok(u32::try_from(row.try_get::<i64, _>(at)?).unwrap_or_default())
    };
    Ok(EnrolmentToken {
        id: id.parse().map_err(|_| DbError::Content(format!("'{id}' is no token id")))?,
        labels: serde_json::from_str(&labels).unwrap_or_default(),
        name: row.try_get(2)?,
        uses_left: count(3)?,
        uses: count(4)?,
        created: time(row.try_get(5)?),
        created_by: row.try_get(6)?,
        expires: time(row.try_get(7)?),
        revoked: row.try_get::<Option<i64>, _>(8)?.map(time),
    })
}
