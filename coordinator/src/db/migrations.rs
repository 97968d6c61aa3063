//! Schema changes: an append-only list, each run once in a transaction of its own.

use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Row};

use super::{Db, DbError, Engine};

struct Migration {
    number: i64,
    name: &'static str,
    /// One text for both engines; `blob` becomes `bytea` on PostgreSQL.
    sql: &'static str,
}

/// Never change one that was released: add another.
const MIGRATIONS: &[Migration] = &[
    Migration { number: 1, name: "people", sql: include_str!("../../migrations/0001_people.sql") },
    Migration {
        number: 2,
        name: "machines",
        sql: include_str!("../../migrations/0002_machines.sql"),
    },
    Migration {
        number: 3,
        name: "operations",
        sql: include_str!("../../migrations/0003_operations.sql"),
    },
    Migration {
        number: 4,
        name: "approvals",
        sql: include_str!("../../migrations/0004_approvals.sql"),
    },
    Migration { number: 5, name: "vault", sql: include_str!("../../migrations/0005_vault.sql") },
    Migration { number: 6, name: "models", sql: include_str!("../../migrations/0006_models.sql") },
    Migration { number: 7, name: "tasks", sql: include_str!("../../migrations/0007_tasks.sql") },
    Migration {
        number: 8,
        name: "job_options",
        sql: include_str!("../../migrations/0008_job_options.sql"),
    },
    Migration {
        number: 9,
        name: "uploads",
        sql: include_str!("../../migrations/0009_uploads.sql"),
    },
    Migration {
        number: 10,
        name: "terminals",
        sql: include_str!("../../migrations/0010_terminals.sql"),
    },
];

/// Any number that nobody else uses: two coordinators that start at once take turns.
const POSTGRES_LOCK: i64 = 0x7265_6576_6531;

pub(super) async fn run(db: &Db) -> Result<(), DbError> {
    let mut tx = begin(db).await?;
    sqlx::query(
        "create table if not exists migrations (
            number bigint primary key, name text not null, checksum text not null)",
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    for migration in MIGRATIONS {
        apply(db, migration).await?;
    }
    let newest = MIGRATIONS.last().map_or(0, |migration| migration.number);
    let mut conn = db.reader().await?;
    let unknown = sqlx::query("select number, name from migrations where number > $1 limit 1")
        .bind(newest)
        .fetch_optional(&mut *conn)
        .await?;
    match unknown {
        None => Ok(()),
        Some(row) => Err(DbError::Schema(format!(
            "it was made by a newer release (migration {} {}); start that one",
            row.try_get::<i64, _>(0)?,
            row.try_get::<String, _>(1)?
        ))),
    }
}

async fn begin(db: &Db) -> Result<super::Tx, DbError> {
    let mut tx = db.begin().await?;
    if db.engine == Engine::Postgres {
        sqlx::query("select pg_advisory_xact_lock($1)")
            .bind(POSTGRES_LOCK)
            .execute(&mut *tx)
            .await?;
    }
    Ok(tx)
}

async fn apply(db: &Db, migration: &Migration) -> Result<(), DbError> {
    let Migration { number, name, sql } = *migration;
    let checksum = crate::hex(&Sha256::digest(sql.as_bytes()));
    let mut tx = begin(db).await?;
    let applied = sqlx::query("select checksum from migrations where number = $1")
        .bind(number)
        .fetch_optional(&mut *tx)
        .await?;
    if let Some(row) = applied {
        return if row.try_get::<&str, _>(0)? == checksum {
            Ok(())
        } else {
            Err(DbError::Schema(format!("migration {number} ({name}) was changed after it ran")))
        };
    }
    let text = match db.engine {
        Engine::Sqlite => sql.to_owned(),
        Engine::Postgres => replace_word(sql, "BLOB", "BYTEA"),
    };
    sqlx::raw_sql(AssertSqlSafe(text))
        .execute(&mut *tx)
        .await
        .map_err(|source| DbError::Migration { number, name, source })?;
    sqlx::query("insert into migrations (number, name, checksum) values ($1, $2, $3)")
        .bind(number)
        .bind(name)
        .bind(checksum)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    tracing::info!(number, name, "database schema brought up to date");
    Ok(())
}

/// Replaces `word`, in capitals or not, where it stands alone.
fn replace_word(text: &str, word: &str, by: &str) -> String {
    text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .map(|piece| {
            let end = piece.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let (name, rest) = piece.split_at(end.unwrap_or(piece.len()));
            if name.eq_ignore_ascii_case(word) { format!("{by}{rest}") } else { piece.to_owned() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_words_are_replaced() {
        assert_eq!(
            replace_word("a blob, BLOBS BLOB_x xBLOB BLOB", "BLOB", "BYTEA"),
            "a BYTEA, BLOBS BLOB_x xBLOB BYTEA"
        );
    }

    #[test]
    fn migrations_are_numbered_without_holes() {
        for (at, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.number, i64::try_from(at).expect("few") + 1);
        }
    }
}
