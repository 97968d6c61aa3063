//! Terminals in the database.

use reeve_protocol::OperationId;
use reeve_protocol::ops::OpenTerminal;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::super::row::OperationRow;
use super::super::store::{COLUMN_COUNT, COLUMNS, read_operation};
use crate::db::{DbError, Tx};

/// A terminal, and its operation.
#[derive(Clone, Debug)]
pub struct TerminalRow {
    pub operation: OperationRow,
    pub opened_by: String,
    /// As asked, without the values of its environment.
    pub request: OpenTerminal,
    pub columns: u16,
    pub rows: u16,
}

/// A size it had from some moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub at_us: i64,
    /// What was durable then, in the merged order.
    pub all_from: u64,
    pub columns: u16,
    pub rows: u16,
}

/// Which terminals.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Older than this one.
    pub before: Option<OperationId>,
    /// On the machine of this name.
    pub machine: String,
    /// Open or ended; `None` for both.
    pub open: Option<bool>,
    pub limit: i64,
}

/// Sizes recorded of one terminal. Dragging the edge of a window for an hour stays below.
const MAX_SIZES: i64 = 10_000;

/// Adds one, with what is sent next.
pub fn insert(
    tx: &mut Tx,
    id: OperationId,
    opened_by: &str,
    request: &OpenTerminal,
    now_us: i64,
) -> Result<(), DbError> {
    let query = sqlx::query(
        "insert into terminals (operation_id, opened_by, request, recorded, width, height)
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(id.to_string())
    .bind(opened_by)
    .bind(serde_json::to_string(request).unwrap_or_default())
    .bind(i64::from(request.record))
    .bind(i64::from(request.columns))
    .bind(i64::from(request.rows));
    tx.later(query)?;
    let first = Size { at_us: now_us, all_from: 0, columns: request.columns, rows: request.rows };
    insert_size(tx, id, first)
}

/// Notes that it has another size. Nothing when it has it already.
pub async fn resize(tx: &mut Tx, id: OperationId, size: Size) -> Result<(), DbError> {
    let changed = sqlx::query(
        "update terminals set width = $2, height = $3
         where operation_id = $1 and (width <> $2 or height <> $3)",
    )
    .bind(id.to_string())
    .bind(i64::from(size.columns))
    .bind(i64::from(size.rows))
    .execute(&mut **tx)
    .await?;
    if changed.rows_affected() == 1 {
        insert_size(tx, id, size)?;
        tx.send().await?;
    }
    Ok(())
}

fn insert_size(tx: &mut Tx, id: OperationId, size: Size) -> Result<(), DbError> {
    let query = sqlx::query(
        "insert into terminal_sizes (operation_id, number, at_us, all_from, width, height)
         select $1, cast(coalesce(max(number), 0) + 1 as bigint), $2, $3, $4, $5
         from terminal_sizes where operation_id = $1
         having coalesce(max(number), 0) < $6",
    )
    .bind(id.to_string())
    .bind(size.at_us)
    .bind(i64::try_from(size.all_from).unwrap_or(i64::MAX))
    .bind(i64::from(size.columns))
    .bind(i64::from(size.rows))
    .bind(MAX_SIZES);
    tx.later(query)?;
    Ok(())
}

/// One of them.
pub async fn load(
    conn: &mut AnyConnection,
    id: OperationId,
) -> Result<Option<TerminalRow>, DbError> {
    let sql = format!(
        "select {COLUMNS}, opened_by, request, width, height
         from operations join terminals on operation_id = id where id = $1"
    );
    let row =
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id.to_string()).fetch_optional(conn).await?;
    row.as_ref().map(read).transpose()
}

/// Those that fit, newest first.
pub async fn list(conn: &mut AnyConnection, filter: &Filter) -> Result<Vec<TerminalRow>, DbError> {
    let open = "state in ('queued', 'sent', 'running')";
    let state = match filter.open {
        None => String::new(),
        Some(true) => format!("and {open}"),
        Some(false) => format!("and not ({open})"),
    };
    let sql = format!(
        "select {COLUMNS}, opened_by, request, width, height
         from operations join terminals on operation_id = id
         where ($1 = '' or id < $1) and ($2 = '' or machine = $2) {state}
         order by id desc limit $3"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(filter.before.map(|id| id.to_string()).unwrap_or_default())
        .bind(&*filter.machine)
        .bind(filter.limit)
        .fetch_all(conn)
        .await?;
    rows.iter().map(read).collect()
}

/// The sizes it had, in order.
pub async fn list_sizes(conn: &mut AnyConnection, id: OperationId) -> Result<Vec<Size>, DbError> {
    let rows = sqlx::query(
        "select at_us, all_from, width, height from terminal_sizes where operation_id = $1
         order by number",
    )
    .bind(id.to_string())
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Size {
                at_us: row.try_get(0)?,
                all_from: u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or_default(),
                columns: side(row, 2)?,
                rows: side(row, 3)?,
            })
        })
        .collect()
}

/// Drops what was shown by terminals that were not to be recorded and have ended.
pub async fn forget_unrecorded(tx: &mut Tx, before_us: i64) -> Result<(), DbError> {
    sqlx::query(
        "delete from output_pieces where operation_id in (
             select operation_id from terminals join operations on operation_id = id
             where recorded = 0 and finished_us < $1)",
    )
    .bind(before_us)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn read(row: &AnyRow) -> Result<TerminalRow, DbError> {
    let request: String = row.try_get(COLUMN_COUNT + 1)?;
    Ok(TerminalRow {
        operation: read_operation(row)?,
        opened_by: row.try_get(COLUMN_COUNT)?,
        request: serde_json::from_str(&request)
            .map_err(|_| DbError::Content("a terminal's request cannot be read".to_owned()))?,
        columns: side(row, COLUMN_COUNT + 2)?,
        rows: side(row, COLUMN_COUNT + 3)?,
    })
}

fn side(row: &AnyRow, at: usize) -> Result<u16, DbError> {
    Ok(u16::try_from(row.try_get::<i64, _>(at)?).unwrap_or(u16::MAX))
}
