//! Terminals: which there are and were, how large, who is connected to them. What they show is an
//! operation's output and what is typed its stdin.

#[cfg(not(fuzzing))]
mod recording;
#[cfg(fuzzing)]
pub mod recording;
pub(super) mod store;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use reeve_protocol::ops::check_terminal_size;
use reeve_protocol::{Control, JobId, OperationId};
use reeve_sdk::api::{Page, SessionViewer, TerminalSession, Time};

use super::row::OperationRow;
use super::{Operations, offline};
use crate::audit;
use crate::problem::ApiError;
use crate::users::Principal;
pub(super) use store::{Filter, TerminalRow};

/// Who is connected to which terminal now. Cheap to clone.
#[derive(Clone, Default)]
pub struct Viewers(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    next: u64,
    all: HashMap<OperationId, Vec<(u64, SessionViewer)>>,
}

/// Somebody's connection to a terminal; over when it is dropped.
pub struct Presence {
    viewers: Viewers,
    operation: OperationId,
    number: u64,
}

impl Viewers {
    fn list(&self, operation: OperationId) -> Vec<SessionViewer> {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let viewers = book.all.get(&operation).into_iter().flatten();
        viewers.map(|(_, viewer)| viewer.clone()).collect()
    }

    fn add(&self, operation: OperationId, viewer: SessionViewer) -> Presence {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.next += 1;
        let number = book.next;
        book.all.entry(operation).or_default().push((number, viewer));
        Presence { viewers: self.clone(), operation, number }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut book = self.viewers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(viewers) = book.all.get_mut(&self.operation) {
            viewers.retain(|(number, _)| *number != self.number);
            if viewers.is_empty() {
                book.all.remove(&self.operation);
            }
        }
    }
}

impl Operations {
    /// Somebody connects to a terminal of a job. That is in the audit before they see anything.
    ///
    /// # Errors
    /// 404, 503 when the audit cannot be written.
    pub(crate) async fn join(
        &self,
        principal: &Principal,
        job: JobId,
        id: OperationId,
        types: bool,
    ) -> Result<Presence, ApiError> {
        let terminal = self.find_terminal(principal, id).await?;
        if terminal.operation.job_id != job {
            return Err(not_found(id));
        }
        let mut tx = self.0.db.begin().await?;
        audit::record(
            &mut tx,
            &audit::Entry {
                principal: &principal.name,
                action: "terminal.attach",
                target: &format!("operation:{id}"),
                detail: serde_json::json!({
                    "machine": terminal.operation.machine, "types": types
                }),
            },
        )
        .await?;
        tx.commit().await?;
        let since = Time::from_micros(self.0.clock.micros());
        let viewer = SessionViewer { principal: principal.name.clone(), types, since };
        Ok(self.0.viewers.add(id, viewer))
    }

    /// Whether an operation is a terminal.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn is_terminal(&self, id: OperationId) -> Result<bool, ApiError> {
        Ok(store::load(&mut *self.0.db.reader().await?, id).await?.is_some())
    }

    /// Tells an operation's terminal its size, and notes when it was so.
    ///
    /// # Errors
    /// 409 when its machine is away, 422 when the size makes no sense.
    pub(super) async fn tell_size(
        &self,
        row: &OperationRow,
        columns: u16,
        rows: u16,
    ) -> Result<(), ApiError> {
        check_terminal_size(columns, rows).map_err(|error| {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_size", error.to_string())
        })?;
        let session = self.0.fleet.find(row.machine_id).ok_or_else(|| offline(row))?;
        let terminal = store::load(&mut *self.0.db.reader().await?, row.id).await?;
        if let Some(terminal) = terminal
            && (terminal.columns, terminal.rows) != (columns, rows)
        {
            let all_from = terminal.operation.durable.all;
            let size = store::Size { at_us: self.0.clock.micros(), all_from, columns, rows };
            let mut tx = self.0.db.begin().await?;
            store::resize(&mut tx, row.id, size).await?;
            tx.commit().await?;
        }
        session.tell(Some(row.id), &Control::Resize { columns, rows });
        Ok(())
    }

    /// A terminal that exists for the caller.
    ///
    /// # Errors
    /// 404.
    pub(crate) async fn find_terminal(
        &self,
        principal: &Principal,
        id: OperationId,
    ) -> Result<TerminalRow, ApiError> {
        let found = store::load(&mut *self.0.db.reader().await?, id).await?;
        found
            .filter(|row| self.is_visible(principal, row.operation.machine_id))
            .ok_or_else(|| not_found(id))
    }

    /// Terminals that exist for the caller, newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn list_terminals(
        &self,
        principal: &Principal,
        mut filter: Filter,
    ) -> Result<Page<TerminalSession>, ApiError> {
        let mut conn = self.0.db.reader().await?;
        let wanted = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        let mut more = true;
        while more && found.len() <= wanted {
            filter.limit = i64::try_from(wanted).unwrap_or(1000) + 1;
            let rows = store::list(&mut conn, &filter).await?;
            more = rows.len() > wanted;
            filter.before = rows.last().map(|row| row.operation.id);
            let visible = |row: &TerminalRow| self.is_visible(principal, row.operation.machine_id);
            found.extend(rows.into_iter().filter(visible));
        }
        let next = (found.len() > wanted)
            .then(|| found.get(wanted.saturating_sub(1)).map(|row| row.operation.id.to_string()))
            .flatten();
        found.truncate(wanted);
        let items = found.iter().map(|row| self.describe_terminal(row)).collect();
        Ok(Page { items, next })
    }

    /// A terminal as the API shows it.
    #[must_use]
    pub(crate) fn describe_terminal(&self, terminal: &TerminalRow) -> TerminalSession {
        let row = &terminal.operation;
        let is_open = !row.state.is_terminal();
        TerminalSession {
            id: row.id,
            job_id: row.job_id,
            machine_id: row.machine_id,
            machine: row.machine.clone(),
            state: row.state,
            reachable: is_open.then(|| self.0.fleet.is_online(row.machine_id)),
            opened_by: terminal.opened_by.clone(),
            user: terminal.request.user.clone(),
            command: terminal.request.command.clone(),
            opened: Time::from_micros(row.created_us),
            finished: row.finished_us.map(Time::from_micros),
            exit_code: row.exit_code,
            columns: terminal.columns,
            rows: terminal.rows,
            shown: row.durable.all,
            recorded: terminal.request.record,
            viewers: self.0.viewers.list(row.id),
        }
    }
}

fn not_found(id: OperationId) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "session_not_found",
        format!("there is no terminal {id}; 'reeve sessions list' shows them"),
    )
}
