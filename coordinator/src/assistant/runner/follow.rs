//! Following a job to its end, and noticing commands that hang.

use std::collections::HashMap;
use std::time::Duration;

use reeve_protocol::{JobId, OperationId};
use reeve_sdk::api::OperationState;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::{Runner, Stop, shell};
use crate::events::Change;
use crate::operations::OperationRow;

/// How often a job is looked at although nothing was told.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Operations read from the database at once.
const PAGE: i64 = 500;

/// Commands of one try that are looked into when they hang.
const MAX_STALLED: usize = 10;

/// How often one command is looked into; each time after twice the silence.
const MAX_LOOKS: u32 = 4;

/// Since when a running command has written nothing.
struct Silence {
    since: Instant,
    written: u64,
    looks: u32,
}

impl Runner {
    /// Waits until every operation of a job has ended.
    pub(super) async fn follow(&self, step: u32, number: u32, job: JobId) -> Result<(), Stop> {
        // Before anything is read, so that no change falls in between.
        let mut changes = self.assistant.0.hub.watch_job(job);
        let command = self
            .ledger
            .read(|record| record.attempt(step, number).map(|t| t.command.clone()))
            .await;
        let settings = &self.assistant.0.settings;
        let patience = match command {
            Some(command) if shell::runs_package_manager(&command) => settings.stall_after_packages,
            _ => settings.stall_after,
        };
        let mut silences: HashMap<OperationId, Silence> = HashMap::new();
        loop {
            let rows = self.rows_of(job).await?;
            if rows.iter().all(|row| row.state.is_terminal()) {
                return Ok(());
            }
            for row in &rows {
                listen(&mut silences, row);
            }
            let wait = self.look_into(step, number, &rows, &mut silences, patience).await?;
            let until = Instant::now() + wait.min(LOOK_EVERY);
            loop {
                let change = tokio::select! {
                    () = self.token().cancelled() => return Err(Stop::Halted),
                    () = tokio::time::sleep_until(until) => break,
                    change = changes.recv() => change,
                };
                match change {
                    Ok(Change::Output { operation, durable, .. }) => {
                        if let Some(silence) = silences.get_mut(&operation)
                            && durable.all > silence.written
                        {
                            *silence =
                                Silence { since: Instant::now(), written: durable.all, looks: 0 };
                        }
                    }
                    Ok(Change::Operation(operation)) if !operation.state.is_terminal() => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return Err(Stop::Halted),
                }
            }
        }
    }

    /// Every operation of a job.
    pub(super) async fn rows_of(&self, job: JobId) -> Result<Vec<OperationRow>, Stop> {
        let mut rows: Vec<OperationRow> = Vec::new();
        loop {
            let after = rows.last().map_or(-1, |row| row.ordinal);
            match self.assistant.0.operations.load_page(job, after, PAGE).await {
                Ok(page) => {
                    let full = i64::try_from(page.len()).unwrap_or(PAGE) == PAGE;
                    rows.extend(page);
                    if !full {
                        return Ok(rows);
                    }
                }
                Err(error) => self.wait_out(&error).await?,
            }
        }
    }

    /// Looks into commands that have been silent for long; how long until the next one is.
    async fn look_into(
        &self,
        step: u32,
        number: u32,
        rows: &[OperationRow],
        silences: &mut HashMap<OperationId, Silence>,
        patience: Duration,
    ) -> Result<Duration, Stop> {
        let mut next = LOOK_EVERY;
        let looked_at = silences.values().filter(|silence| silence.looks > 0).count();
        let mut room = MAX_STALLED.saturating_sub(looked_at);
        for row in rows.iter().filter(|row| row.state == OperationState::Running) {
            let Some(silence) = silences.get_mut(&row.id) else { continue };
            if silence.looks >= MAX_LOOKS || (silence.looks == 0 && room == 0) {
                continue;
            }
            let due = silence.since + patience * 2_u32.pow(silence.looks);
            let left = due.saturating_duration_since(Instant::now());
            if left > Duration::ZERO {
                next = next.min(left);
                continue;
            }
            room = room.saturating_sub(usize::from(silence.looks == 0));
            silence.looks += 1;
            self.explain(step, number, row).await?;
        }
        Ok(next)
    }
}

/// Notes whether a command has written something since it was last looked at.
fn listen(silences: &mut HashMap<OperationId, Silence>, row: &OperationRow) {
    let fresh = Silence { since: Instant::now(), written: row.durable.all, looks: 0 };
    if row.state == OperationState::Running {
        let silence = silences.entry(row.id).or_insert_with(|| Silence { ..fresh });
        if row.durable.all > silence.written {
            *silence = Silence { since: Instant::now(), written: row.durable.all, looks: 0 };
        }
    } else {
        silences.remove(&row.id);
    }
}
