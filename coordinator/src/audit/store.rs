//! The audit chain in the database.

use reeve_sdk::api::{AuditEntry, AuditVerdict, Page, Time};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::{Entry, GENESIS, Link};
use crate::db::{DbError, Tx};

/// Entries read at a time while verifying.
const VERIFY_BATCH: i64 = 1000;

/// Where the chain ends, as somebody knows who recorded what is last in it.
#[derive(Clone, Debug)]
pub struct Head {
    sequence: i64,
    hash: [u8; 32],
}

/// Adds an entry in the caller's transaction: it is there exactly if what it tells of is.
///
/// Transactions that record something run one after the other from here to their commit, so record
/// last and do not wait for anything else in between.
///
/// # Errors
/// When the database fails.
pub async fn record(tx: &mut Tx, entry: &Entry<'_>) -> Result<(), DbError> {
    record_later(tx, &mut None, entry).await?;
    tx.send().await.map(drop)
}

/// As [`record`], with the last of it put down to be sent with the commit. Behind a head that is
/// known nothing is asked; should others have recorded since, the commit is a duplicate of
/// [`SEQUENCE`], and nothing of it is done. `head` is the new one, once that is committed.
///
/// # Errors
/// When the database fails.
pub async fn record_later(
    tx: &mut Tx,
    head: &mut Option<Head>,
    entry: &Entry<'_>,
) -> Result<(), DbError> {
    let last = match head.take() {
        Some(last) => last,
        None => find_head(tx).await?,
    };
    let at = jiff::Timestamp::now().as_microsecond();
    let sequence = last.sequence + 1;
    let detail = entry.detail.to_string();
    let link = Link {
        sequence,
        at,
        principal: entry.principal,
        action: entry.action,
        target: entry.target,
        detail: &detail,
    };
    let hash = link.hash(&last.hash);
    // The head first: whoever else records meanwhile waits here, and nowhere else.
    let query = sqlx::query(
        "update audit_head set sequence = $1, hash = $2 where id = 1 and sequence = $3",
    );
    tx.later(query.bind(sequence).bind(hash.as_slice()).bind(last.sequence))?;
    let query = sqlx::query(
        "insert into audit (sequence, at, principal, action, target, detail, hash)
         values ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(sequence)
    .bind(at)
    .bind(entry.principal)
    .bind(entry.action)
    .bind(entry.target)
    .bind(&*detail)
    .bind(hash.as_slice());
    tx.later(query)?;
    *head = Some(Head { sequence, hash });
    Ok(())
}

/// The end of the chain, which is nobody else's until the transaction is over.
async fn find_head(tx: &mut Tx) -> Result<Head, DbError> {
    let query = sqlx::query(
        "insert into audit_head (id, sequence, hash) values (1, 0, $1)
         on conflict (id) do update set sequence = audit_head.sequence
         returning sequence, hash",
    )
    .bind(GENESIS.as_slice());
    let sent = tx.later(query)?;
    let answers = tx.send().await?;
    let none = || DbError::Content("no head of the audit".to_owned());
    let row = answers.row(sent).ok_or_else(none)?;
    let hash: &[u8] = row.try_get(1)?;
    Ok(Head { sequence: row.try_get(0)?, hash: hash.try_into().map_err(|_| none())? })
}

/// Which entries to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Entries older than this sequence number.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: i64,
    /// Only this action, or with a trailing `.` all that begin so.
    pub action: Option<String>,
    /// Only by this principal.
    pub principal: Option<String>,
}

/// The newest entries first.
///
/// # Errors
/// When the database fails.
pub async fn list(conn: &mut AnyConnection, filter: &Filter) -> Result<Page<AuditEntry>, DbError> {
    let rows = sqlx::query(
        "select sequence, at, principal, action, target, detail, hash from audit
         where sequence < $1
           and ($2 = '' or action = $2 or substr(action, 1, length($2)) = $2 and $2 like '%.')
           and ($3 = '' or principal = $3)
         order by sequence desc limit $4",
    )
    .bind(filter.before.unwrap_or(i64::MAX))
    .bind(filter.action.as_deref().unwrap_or_default())
    .bind(filter.principal.as_deref().unwrap_or_default())
    .bind(filter.limit + 1)
    .fetch_all(&mut *conn)
    .await?;
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let items = rows.iter().take(limit).map(read_entry).collect::<Result<Vec<_>, DbError>>()?;
    let next = if rows.len() > limit {
        items.last().map(|entry| entry.sequence.to_string())
    } else {
        None
    };
    Ok(Page { items, next })
}

fn read_entry(row: &AnyRow) -> Result<AuditEntry, DbError> {
    let detail: &str = row.try_get(5)?;
    Ok(AuditEntry {
        sequence: row.try_get(0)?,
        at: Time::from_micros(row.try_get(1)?),
        principal: row.try_get(2)?,
        action: row.try_get(3)?,
        target: row.try_get(4)?,
        // Shown as it is if somebody changed it to what is no JSON; `verify` tells.
        detail: serde_json::from_str(detail)
            .unwrap_or_else(|_| serde_json::Value::String(detail.to_owned())),
        hash: crate::hex(row.try_get::<&[u8], _>(6)?),
    })
}

/// Computes every hash again, from the first entry to the head.
///
/// # Errors
/// When the database fails.
pub async fn verify(conn: &mut AnyConnection) -> Result<AuditVerdict, DbError> {
    // The head first: entries that come while this runs are beyond it and not looked at.
    let head = sqlx::query("select sequence, hash from audit_head where id = 1")
        .fetch_optional(&mut *conn)
        .await?;
    let (last, head_hash) = match &head {
        Some(row) => (row.try_get::<i64, _>(0)?, row.try_get::<Vec<u8>, _>(1)?),
        None => (0, GENESIS.to_vec()),
    };
    let mut previous = GENESIS.to_vec();
    let mut checked = 0_i64;
    let broken = |checked: i64, at: i64| AuditVerdict {
        intact: false,
        entries: checked.unsigned_abs(),
        broken_at: Some(at),
    };
    while checked < last {
        let rows = sqlx::query(
            "select sequence, at, principal, action, target, detail, hash from audit
             where sequence > $1 and sequence <= $2 order by sequence limit $3",
        )
        .bind(checked)
        .bind(last)
        .bind(VERIFY_BATCH)
        .fetch_all(&mut *conn)
        .await?;
        if rows.is_empty() {
            return Ok(broken(checked, checked + 1));
        }
        for row in rows {
            let link = Link {
                sequence: row.try_get(0)?,
                at: row.try_get(1)?,
                principal: row.try_get(2)?,
                action: row.try_get(3)?,
                target: row.try_get(4)?,
                detail: row.try_get(5)?,
            };
            let stored: &[u8] = row.try_get(6)?;
            if link.sequence != checked + 1 || link.hash(&previous) != stored {
                return Ok(broken(checked, checked + 1));
            }
            previous = stored.to_vec();
            checked += 1;
        }
    }
    if previous != head_hash {
        return Ok(broken(checked, last));
    }
    if head.is_none() {
        let strays = sqlx::query("select sequence from audit order by sequence limit 1")
            .fetch_optional(&mut *conn)
            .await?;
        if let Some(row) = strays {
            return Ok(broken(0, row.try_get(0)?));
        }
    }
    Ok(AuditVerdict { intact: true, entries: checked.unsigned_abs(), broken_at: None })
}
