//! The vault in the database: everything secret in it is sealed.

use reeve_sdk::api::{Time, VaultEntry};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::seal::Lock;
use crate::db::{DbError, Tx};

/// An entry with its sealed secret.
pub struct EntryRow {
    pub shown: VaultEntry,
    pub sealed: Vec<u8>,
}

pub async fn find_lock(conn: &mut AnyConnection) -> Result<Option<Lock>, DbError> {
    let row = sqlx::query(
        "select salt, memory_kib, passes, lanes, keyring from vault_locks where id = 1",
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        let number = |at: usize| -> Result<u32, DbError> {
            u32::try_from(row.try_get::<i64, _>(at)?)
                .map_err(|_| DbError::Content("a lock of the vault makes no sense".to_owned()))
        };
        Ok(Lock {
            salt: row.try_get(0)?,
            memory_kib: number(1)?,
            passes: number(2)?,
            lanes: number(3)?,
            keyring: row.try_get(4)?,
        })
    })
    .transpose()
}

/// `false` when there was one already.
pub async fn insert_lock(tx: &mut Tx, lock: &Lock, by: &str, now_us: i64) -> Result<bool, DbError> {
    let done = sqlx::query(
        "insert into vault_locks (id, salt, memory_kib, passes, lanes, keyring, created_us, created_by)
         values (1, $1, $2, $3, $4, $5, $6, $7) on conflict (id) do nothing",
    )
    .bind(&lock.salt[..])
    .bind(i64::from(lock.memory_kib))
    .bind(i64::from(lock.passes))
    .bind(i64::from(lock.lanes))
    .bind(&lock.keyring[..])
    .bind(now_us)
    .bind(by)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Puts an entry in, or in place of the one of the same name.
pub async fn put_entry(tx: &mut Tx, entry: &EntryRow, now_us: i64) -> Result<(), DbError> {
    let shown = &entry.shown;
    sqlx::query(
        "insert into vault_entries (name, kind, sealed, ends_with, account, expires_us, created_us,
                                    created_by, updated_us)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $7)
         on conflict (name) do update set kind = excluded.kind, sealed = excluded.sealed,
             ends_with = excluded.ends_with, account = excluded.account,
             expires_us = excluded.expires_us, updated_us = excluded.updated_us",
    )
    .bind(&shown.name)
    .bind(&shown.kind)
    .bind(&entry.sealed[..])
    .bind(shown.ends_with.as_deref())
    .bind(shown.account.as_deref())
    .bind(shown.expires.map(Time::as_micros))
    .bind(now_us)
    .bind(&shown.created_by)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// `false` when there is none.
pub async fn remove_entry(tx: &mut Tx, name: &str) -> Result<bool, DbError> {
    let done = sqlx::query("delete from vault_entries where name = $1")
        .bind(name)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

const COLUMNS: &str = "name, kind, ends_with, account, expires_us, created_by, created_us, sealed";

pub async fn find_entry(conn: &mut AnyConnection, name: &str) -> Result<Option<EntryRow>, DbError> {
    let sql = format!("select {COLUMNS} from vault_entries where name = $1");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(name).fetch_optional(conn).await?;
    row.map(|row| Ok(EntryRow { shown: read(&row)?, sealed: row.try_get(7)? })).transpose()
}

pub async fn list_entries(conn: &mut AnyConnection) -> Result<Vec<VaultEntry>, DbError> {
    let sql = format!("select {COLUMNS} from vault_entries order by name");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(conn).await?;
    rows.iter().map(read).collect()
}

pub async fn count_entries(conn: &mut AnyConnection) -> Result<u32, DbError> {
    let row =
        sqlx::query("select cast(count(*) as bigint) from vault_entries").fetch_one(conn).await?;
    Ok(u32::try_from(row.try_get::<i64, _>(0)?).unwrap_or(u32::MAX))
}

fn read(row: &AnyRow) -> Result<VaultEntry, DbError> {
    Ok(VaultEntry {
        name: row.try_get(0)?,
        kind: row.try_get(1)?,
        ends_with: row.try_get(2)?,
        account: row.try_get(3)?,
        expires: row.try_get::<Option<i64>, _>(4)?.map(Time::from_micros),
        created_by: row.try_get(5)?,
        created: Time::from_micros(row.try_get(6)?),
    })
}
