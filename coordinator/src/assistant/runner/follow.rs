//! Following a job to its end.

use std::time::Duration;

use reeve_protocol::JobId;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::{Runner, Stop};
use crate::events::Change;
use crate::operations::OperationRow;

/// How often a job is looked at although nothing was told.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Operations read from the database at once.
const PAGE: i64 = 500;

impl Runner {
    /// Waits until every operation of a job has ended.
    pub(super) async fn follow(&self, job: JobId) -> Result<(), Stop> {
        // Before anything is read, so that no change falls in between.
        let mut changes = self.assistant.0.hub.watch_job(job);
        loop {
            let rows = self.rows_of(job).await?;
            if rows.iter().all(|row| row.state.is_terminal()) {
                return Ok(());
            }
            let until = Instant::now() + LOOK_EVERY;
            loop {
                let change = tokio::select! {
                    () = self.token().cancelled() => return Err(Stop::Halted),
                    () = tokio::time::sleep_until(until) => break,
                    change = changes.recv() => change,
                };
                match change {
                    Ok(Change::Output { .. }) => {}
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
}
