//! Machines in the database.

use std::collections::{BTreeMap, HashMap};

use reeve_protocol::{Facts, MachineId};
use reeve_sdk::api::{Machine, MachineState};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::arrivals::Arrival;
use super::registry::Known;
use super::time;
use crate::db::{DbError, Tx};

/// Rows that one statement changes. SQLite looks for the name of each parameter among all of them, so more
/// are slower.
const ROWS_AT_ONCE: usize = 64;

/// Every machine, for the registry.
pub async fn list_known(conn: &mut AnyConnection) -> Result<Vec<Known>, DbError> {
    let mut labels: HashMap<String, BTreeMap<String, String>> = HashMap::new();
    for row in sqlx::query("select machine_id, label, content from machine_labels")
        .fetch_all(&mut *conn)
        .await?
    {
        labels.entry(row.try_get(0)?).or_default().insert(row.try_get(1)?, row.try_get(2)?);
    }
    let rows = sqlx::query(
        "select id, name, public_key, channel_binding, quarantined_us, revoked_us from machines",
    )
    .fetch_all(&mut *conn)
    .await?;
    rows.iter()
        .map(|row| {
            let id: String = row.try_get(0)?;
            Ok(Known {
                id: parse_id(&id)?,
                name: row.try_get(1)?,
                labels: labels.remove(&id).unwrap_or_default(),
                public_key: row.try_get(2)?,
                channel_binding: row.try_get::<i64, _>(3)? != 0,
                quarantined_us: row.try_get(4)?,
                revoked_us: row.try_get(5)?,
            })
        })
        .collect()
}

/// A machine that joins.
pub async fn insert(
    tx: &mut Tx,
    known: &Known,
    facts: &Facts,
    token: &str,
    now_us: i64,
) -> Result<(), DbError> {
    sqlx::query(
        "insert into machines (id, name, public_key, channel_binding, enrolled_us, enrolled_with,
                               agent_version, boot_id, facts, epoch)
         values ($1, $2, $3, $4, $5, $6, $7, '', $8, 0)",
    )
    .bind(known.id.to_string())
    .bind(&known.name)
    .bind(&known.public_key[..])
    .bind(i64::from(known.channel_binding))
    .bind(now_us)
    .bind(token)
    .bind(&facts.agent_version)
    .bind(facts_text(facts))
    .execute(&mut **tx)
    .await?;
    insert_labels(tx, known).await
}

/// Writes everything the registry knows of a machine.
pub async fn update(tx: &mut Tx, known: &Known) -> Result<(), DbError> {
    sqlx::query(
        "update machines set name = $2, quarantined_us = $3, revoked_us = $4 where id = $1",
    )
    .bind(known.id.to_string())
    .bind(&known.name)
    .bind(known.quarantined_us)
    .bind(known.revoked_us)
    .execute(&mut **tx)
    .await?;
    sqlx::query("delete from machine_labels where machine_id = $1")
        .bind(known.id.to_string())
        .execute(&mut **tx)
        .await?;
    insert_labels(tx, known).await
}

async fn insert_labels(tx: &mut Tx, known: &Known) -> Result<(), DbError> {
    for (label, content) in &known.labels {
        sqlx::query("insert into machine_labels (machine_id, label, content) values ($1, $2, $3)")
            .bind(known.id.to_string())
            .bind(label)
            .bind(content)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Takes a machine out.
pub async fn delete(tx: &mut Tx, id: MachineId) -> Result<(), DbError> {
    sqlx::query("delete from machines where id = $1")
        .bind(id.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The epochs of sessions that begin now, each of another machine.
pub async fn begin_sessions(
    tx: &mut Tx,
    coming: &[Arrival],
    now_us: i64,
) -> Result<HashMap<MachineId, u64>, DbError> {
    let mut epochs = HashMap::new();
    for coming in coming.chunks(ROWS_AT_ONCE) {
        let sql = format!(
            "update machines set epoch = machines.epoch + 1, agent_version = come.column2,
                boot_id = come.column3, last_seen_us = $1
         from ({}) as come where machines.id = come.column1
         returning machines.id, machines.epoch",
            values(2, coming.len(), &["", "", ""])
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(now_us);
        for arrival in coming {
            query = query
                .bind(arrival.machine.to_string())
                .bind(&arrival.agent_version)
                .bind(&arrival.boot_id);
        }
        for row in query.fetch_all(&mut **tx).await? {
            let id: String = row.try_get(0)?;
            epochs.insert(parse_id(&id)?, row.try_get::<i64, _>(1)?.unsigned_abs());
        }
    }
    Ok(epochs)
}

/// What machines say of themselves.
pub async fn keep_facts(tx: &mut Tx, said: &[(MachineId, Box<Facts>)]) -> Result<(), DbError> {
    for said in said.chunks(ROWS_AT_ONCE) {
        let sql = format!(
            "update machines set facts = said.column2, agent_version = said.column3
         from ({}) as said where machines.id = said.column1",
            values(1, said.len(), &["", "", ""])
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for (id, facts) in said {
            query = query.bind(id.to_string()).bind(facts_text(facts)).bind(&facts.agent_version);
        }
        query.execute(&mut **tx).await?;
    }
    Ok(())
}

/// When machines were last heard.
pub async fn keep_last_seen(tx: &mut Tx, seen: &[(MachineId, i64)]) -> Result<(), DbError> {
    for seen in seen.chunks(ROWS_AT_ONCE) {
        let sql = format!(
            "update machines set last_seen_us = seen.column2
         from ({}) as seen where machines.id = seen.column1",
            values(1, seen.len(), &["", "bigint"])
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for (id, at_us) in seen {
            query = query.bind(id.to_string()).bind(*at_us);
        }
        query.execute(&mut **tx).await?;
    }
    Ok(())
}

/// A table of parameters from number `first` on, whose columns both engines call `column1` and so on.
/// `kinds`: what each column is cast to; nothing for text.
fn values(first: usize, rows: usize, kinds: &[&str]) -> String {
    let mut sql = String::from("values ");
    for row in 0..rows {
        sql.push_str(if row == 0 { "(" } else { ", (" });
        for (column, kind) in kinds.iter().enumerate() {
            let comma = if column == 0 { "" } else { ", " };
            let number = first + row * kinds.len() + column;
            match *kind {
                "" => sql.push_str(&format!("{comma}${number}")),
                kind => sql.push_str(&format!("{comma}cast(${number} as {kind})")),
            }
        }
        sql.push(')');
    }
    sql
}

/// A machine as the API shows it, its live part left at "offline".
pub async fn describe(conn: &mut AnyConnection, known: &Known) -> Result<Option<Machine>, DbError> {
    let row = sqlx::query(
        "select enrolled_us, last_seen_us, agent_version, boot_id, facts from machines where id = $1",
    )
    .bind(known.id.to_string())
    .fetch_optional(&mut *conn)
    .await?;
    row.map(|row| read_machine(known, &row)).transpose()
}

fn read_machine(known: &Known, row: &AnyRow) -> Result<Machine, DbError> {
    let facts: String = row.try_get(4)?;
    Ok(Machine {
        id: known.id,
        name: known.name.clone(),
        labels: known.labels.clone(),
        state: match (known.revoked_us, known.quarantined_us) {
            (Some(_), _) => MachineState::Revoked,
            (None, Some(_)) => MachineState::Quarantined,
            (None, None) => MachineState::Offline,
        },
        enrolled: time(row.try_get(0)?),
        last_seen: row.try_get::<Option<i64>, _>(1)?.map(time),
        agent_version: row.try_get(2)?,
        boot_id: row.try_get(3)?,
        facts: serde_json::from_str(&facts).unwrap_or_default(),
        metrics: None,
        running: 0,
        clock_skew_ms: None,
    })
}

fn parse_id(text: &str) -> Result<MachineId, DbError> {
    text.parse().map_err(|_| DbError::Content(format!("'{text}' is no machine id")))
}

/// PostgreSQL's text cannot hold NUL, and a machine can say anything of itself.
fn facts_text(facts: &Facts) -> String {
    serde_json::to_string(facts).unwrap_or_default().replace("\\u0000", "")
}
