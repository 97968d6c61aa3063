//! Pieces of output in the database.

use std::collections::BTreeSet;

use reeve_protocol::{Gap, OperationId, Totals};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::segments::Place;
use crate::db::{DbError, Tx};

/// A piece: a run of records that became durable together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Offsets of its first byte, in each order.
    pub from: Totals,
    /// Offsets behind its last byte.
    pub to: Totals,
    /// Bytes of records, headers included.
    pub length: u64,
    /// Where they are.
    pub body: PieceBody,
    /// When it became durable, microseconds since 1970; pieces of old releases do not say.
    pub at_us: Option<i64>,
}

/// Where the records of a piece are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PieceBody {
    /// In the row.
    Inline(Vec<u8>),
    /// In a segment.
    Placed(Place),
}

const COLUMNS: &str = "all_from, all_to, stdout_from, stdout_to, stderr_from, stderr_to, length, \
                       segment, position, content, at_us";

/// Adds a piece with what is sent next. Again is fine: after a commit whose answer was lost it is
/// not known whether the row is there.
pub fn insert(tx: &mut Tx, operation: OperationId, piece: &Piece) -> Result<(), DbError> {
    let (place, content) = match &piece.body {
        PieceBody::Inline(bytes) => (None, Some(bytes.as_slice())),
        PieceBody::Placed(place) => (Some(*place), None),
    };
    let query = sqlx::query(
        "insert into output_pieces (operation_id, all_from, all_to, stdout_from, stdout_to,
                                    stderr_from, stderr_to, length, segment, position, content,
                                    at_us)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
         on conflict (operation_id, all_from) do update set
             all_to = excluded.all_to, stdout_from = excluded.stdout_from,
             stdout_to = excluded.stdout_to, stderr_from = excluded.stderr_from,
             stderr_to = excluded.stderr_to, length = excluded.length,
             segment = excluded.segment, position = excluded.position,
             content = excluded.content, at_us = excluded.at_us",
    )
    .bind(operation.to_string())
    .bind(signed(piece.from.all))
    .bind(signed(piece.to.all))
    .bind(signed(piece.from.stdout))
    .bind(signed(piece.to.stdout))
    .bind(signed(piece.from.stderr))
    .bind(signed(piece.to.stderr))
    .bind(signed(piece.length))
    .bind(place.map(|place| place.segment))
    .bind(place.map(|place| signed(place.position)))
    .bind(content)
    .bind(piece.at_us);
    tx.later(query)?;
    Ok(())
}

/// Drops the pieces that lie wholly within a range of the merged order, with what is sent next.
pub fn delete_within(
    tx: &mut Tx,
    operation: OperationId,
    from: u64,
    to: u64,
) -> Result<(), DbError> {
    let query = sqlx::query(
        "delete from output_pieces where operation_id = $1 and all_from >= $2 and all_to <= $3",
    )
    .bind(operation.to_string())
    .bind(signed(from))
    .bind(signed(to));
    tx.later(query)?;
    Ok(())
}

/// The order in which a reader counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Both streams, merged.
    All,
    /// One stream.
    Stdout,
    /// One stream.
    Stderr,
}

/// Pieces that hold something at or behind an offset, in order.
pub async fn list_from(
    conn: &mut AnyConnection,
    operation: OperationId,
    order: Order,
    from: u64,
    limit: i64,
) -> Result<Vec<Piece>, DbError> {
    let end = match order {
        Order::All => "all_to",
        Order::Stdout => "stdout_to",
        Order::Stderr => "stderr_to",
    };
    let sql = format!(
        "select {COLUMNS} from output_pieces where operation_id = $1 and {end} > $2
         order by all_from limit $3"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(operation.to_string())
        .bind(signed(from))
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.iter().map(read).collect()
}

/// The end of the last piece that lies wholly before an offset of the merged order.
pub async fn find_end_before(
    conn: &mut AnyConnection,
    operation: OperationId,
    from: u64,
) -> Result<Totals, DbError> {
    let sql = format!(
        "select {COLUMNS} from output_pieces where operation_id = $1 and all_to <= $2
         order by all_from desc limit 1"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(operation.to_string())
        .bind(signed(from))
        .fetch_optional(conn)
        .await?;
    Ok(row.as_ref().map(read).transpose()?.map(|piece| piece.to).unwrap_or_default())
}

fn read(row: &AnyRow) -> Result<Piece, DbError> {
    let number = |at: usize| -> Result<u64, DbError> { Ok(unsigned(row.try_get::<i64, _>(at)?)) };
    let segment: Option<i64> = row.try_get(7)?;
    let body = match segment {
        Some(segment) => PieceBody::Placed(Place { segment, position: number(8)? }),
        None => PieceBody::Inline(row.try_get(9)?),
    };
    Ok(Piece {
        from: Totals { all: number(0)?, stdout: number(2)?, stderr: number(4)? },
        to: Totals { all: number(1)?, stdout: number(3)?, stderr: number(5)? },
        length: number(6)?,
        body,
        at_us: row.try_get(10)?,
    })
}

/// What of an operation's output is not kept, between 0 and its end.
///
/// # Errors
/// When the database does not answer.
pub async fn find_gaps(
    conn: &mut AnyConnection,
    operation: OperationId,
    end: Totals,
) -> Result<Vec<Gap>, DbError> {
    let rows = sqlx::query(
        "select all_from, all_to, stdout_from, stdout_to, stderr_from, stderr_to
         from output_pieces where operation_id = $1 order by all_from",
    )
    .bind(operation.to_string())
    .fetch_all(conn)
    .await?;
    let mut gaps = Vec::new();
    let mut reached = Totals::default();
    for row in &rows {
        let number =
            |at: usize| -> Result<u64, DbError> { Ok(unsigned(row.try_get::<i64, _>(at)?)) };
        let from = Totals { all: number(0)?, stdout: number(2)?, stderr: number(4)? };
        gaps.extend(gap_between(reached, from));
        reached = Totals { all: number(1)?, stdout: number(3)?, stderr: number(5)? };
    }
    gaps.extend(gap_between(reached, end));
    Ok(gaps)
}

/// The gap from one place to a later one, if it is later.
pub fn gap_between(from: Totals, to: Totals) -> Option<Gap> {
    (to.all > from.all).then(|| Gap {
        from: from.all,
        to: to.all,
        stdout: to.stdout.saturating_sub(from.stdout),
        stderr: to.stderr.saturating_sub(from.stderr),
    })
}

/// Bytes of output kept, headers of records included.
///
/// # Errors
/// When the database does not answer.
pub async fn total_bytes(conn: &mut AnyConnection) -> Result<u64, DbError> {
    let row = sqlx::query("select cast(coalesce(sum(length), 0) as bigint) from output_pieces")
        .fetch_one(conn)
        .await?;
    Ok(unsigned(row.try_get(0)?))
}

/// The segments that rows refer to.
pub async fn list_segments(conn: &mut AnyConnection) -> Result<BTreeSet<i64>, DbError> {
    let rows = sqlx::query("select distinct segment from output_pieces where segment is not null")
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
