//! The one door to machines. Whatever asks something of a machine asks here: it is authorised,
//! recorded and audited before it is sent, and whatever comes back is durable before anybody is
//! told.

mod body;
mod conductor;
mod follow;
mod output;
mod rollout;
mod routes;
mod row;
mod stdin;
mod store;
mod submit;
mod sweep;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use reeve_protocol::{Control, JobId, MachineId, OperationId, SignalName, Stream, Totals};
use reeve_sdk::api::{InputAccepted, Job, Operation, OperationState};
use tokio::sync::{mpsc, oneshot};

use crate::Clock;
use crate::config::Limits;
use crate::db::Db;
use crate::events::Hub;
use crate::fleet::{Fleet, Inbox};
use crate::machines::Machines;
use crate::problem::ApiError;
use crate::tasks::Tasks;
use crate::users::Principal;
use conductor::{CancelTarget, Conductor, REQUEST_QUEUE, Request};
use output::{HealthFlag, Reader, Segments, StreamChoice, Writer, WriterHealth};
use stdin::Stdins;

pub use routes::routes;
use row::{JobRow, OperationRow};
use store::JobFilter;
use submit::Submitted;

/// What the operations need.
pub struct Parts {
    /// The database.
    pub db: Db,
    /// The time of day.
    pub clock: Clock,
    /// Where changes are told.
    pub hub: Hub,
    /// The live sessions, and what comes from them.
    pub fleet: Fleet,
    /// What agents say.
    pub inbox: Inbox,
    /// The machines.
    pub machines: Machines,
    /// Where to spawn.
    pub tasks: Tasks,
    /// Bounds.
    pub limits: Limits,
    /// Folder for output.
    pub folder: std::path::PathBuf,
    /// How long ended jobs and their output are kept.
    pub keep: std::time::Duration,
}

/// The operations. Cheap to clone.
#[derive(Clone)]
pub struct Operations(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    hub: Hub,
    fleet: Fleet,
    machines: Machines,
    tasks: Tasks,
    limits: Limits,
    segments: Segments,
    stdins: Stdins,
    health: HealthFlag,
    requests: mpsc::Sender<Request>,
}

impl Operations {
    /// Reads back what is open and starts the loops.
    ///
    /// # Errors
    /// When the database or the folder of output cannot be read.
    pub async fn start(parts: Parts) -> anyhow::Result<Self> {
        let Parts { db, clock, hub, fleet, inbox, machines, tasks, limits, folder, keep } = parts;
        let segments = Segments::open(&folder)?;
        let writer = Writer::new(db.clone(), clock.clone(), hub.clone(), segments.clone())?;
        let stdins = Stdins::default();
        let health = writer.health.clone();
        let mut conductor = Conductor {
            db: db.clone(),
            clock: clock.clone(),
            hub: hub.clone(),
            stdins: stdins.clone(),
            writer: writer.commands.clone(),
            closings: writer.closings.clone(),
            in_flight_limit: limits.in_flight_per_machine as usize,
            book: conductor::Book::default(),
        };
        conductor.restore().await?;
        let (requests, requests_out) = mpsc::channel(REQUEST_QUEUE);
        let stop = tasks.token();
        tasks.spawn("writer", writer.run(inbox.bulk, stop.clone()));
        tasks.spawn("conductor", conductor.run(inbox.events, requests_out, stop));
        let inner = Inner {
            db,
            clock,
            hub,
            fleet,
            machines,
            tasks,
            limits,
            segments,
            stdins,
            health,
            requests,
        };
        let operations = Self(Arc::new(inner));
        let sweeper = operations.clone();
        operations.0.tasks.spawn("sweeper", async move { sweeper.sweep(keep).await });
        Ok(operations)
    }

    /// Whether what agents send can be made durable.
    #[must_use]
    pub(crate) fn health(&self) -> WriterHealth {
        self.0.health.get()
    }

    /// Jobs that have not ended, operations sent or running, bytes of output kept.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn summary(&self) -> Result<(u32, u32, u64), crate::db::DbError> {
        let mut conn = self.0.db.reader().await?;
        let jobs = store::count_jobs_running(&mut conn).await?;
        let running = store::count_under_way(&mut conn, None).await?;
        let bytes = output::total_bytes(&mut conn).await?;
        Ok((jobs, running, bytes))
    }

    /// Operations sent to or running on a machine.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn count_on(&self, machine: MachineId) -> Result<u32, ApiError> {
        Ok(store::count_under_way(&mut *self.0.db.reader().await?, Some(machine)).await?)
    }

    /// Gives up what is open on a machine that will never come back.
    pub async fn abandon(&self, machine: MachineId) {
        let _ = self.0.requests.send(Request::Abandon(machine)).await;
    }

    /// One operation that exists for the caller.
    ///
    /// # Errors
    /// 404.
    pub(crate) async fn find(
        &self,
        principal: &Principal,
        id: OperationId,
    ) -> Result<OperationRow, ApiError> {
        let row = store::load(&mut *self.0.db.reader().await?, id).await?;
        row.filter(|row| self.is_visible(principal, row.machine_id)).ok_or_else(|| {
            ApiError::new(
                StatusCode::NOT_FOUND,
                "operation_not_found",
                format!("there is no operation {id}"),
            )
        })
    }

    /// One operation, for whoever has been let in already.
    async fn load(&self, id: OperationId) -> Result<Option<OperationRow>, ApiError> {
        Ok(store::load(&mut *self.0.db.reader().await?, id).await?)
    }

    /// Operations of a job behind an ordinal, likewise.
    async fn load_page(
        &self,
        job: JobId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<OperationRow>, ApiError> {
        let mut conn = self.0.db.reader().await?;
        Ok(store::list_of_job(&mut conn, job, after, limit, "").await?)
    }

    /// One operation as the API shows it, with gaps.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn describe(&self, row: &OperationRow) -> Result<Operation, ApiError> {
        let mut operation = row.to_api();
        let mut conn = self.0.db.reader().await?;
        operation.output.gaps = output::find_gaps(&mut conn, row.id, row.durable).await?;
        self.complete(&mut operation);
        Ok(operation)
    }

    /// Fills in what only the live sessions know.
    fn complete(&self, operation: &mut Operation) {
        if operation.state.is_terminal() {
            return;
        }
        operation.reachable = Some(self.0.fleet.is_online(operation.machine_id));
        if let Some(stdin) = self.0.stdins.arrived(operation.id) {
            operation.stdin_received = stdin.received;
            operation.stdin_closed = stdin.closed;
        }
    }

    /// Whether the machine exists for the caller. One that was removed does only for those who may
    /// see everything.
    fn is_visible(&self, principal: &Principal, machine: MachineId) -> bool {
        match self.0.machines.registry().find(machine) {
            Some(known) => principal.scope.matches(known.id, &known.name, &known.labels),
            None => principal.scope.is_all(),
        }
    }

    /// A job that exists for the caller.
    ///
    /// # Errors
    /// 404.
    pub(crate) async fn find_job(
        &self,
        principal: &Principal,
        id: JobId,
    ) -> Result<JobRow, ApiError> {
        let mut conn = self.0.db.reader().await?;
        let not_found = || {
            ApiError::new(StatusCode::NOT_FOUND, "job_not_found", format!("there is no job {id}"))
        };
        let job = store::load_job(&mut conn, id).await?.ok_or_else(not_found)?;
        if self.is_job_visible(principal, &mut conn, &job).await? {
            Ok(job)
        } else {
            Err(not_found())
        }
    }

    async fn is_job_visible(
        &self,
        principal: &Principal,
        conn: &mut sqlx::AnyConnection,
        job: &JobRow,
    ) -> Result<bool, ApiError> {
        if principal.scope.is_all() || job.principal == principal.name {
            return Ok(true);
        }
        let machines = store::list_machines(conn, job.id).await?;
        Ok(machines.into_iter().any(|machine| self.is_visible(principal, machine)))
    }

    /// Jobs that exist for the caller, newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn list_jobs(
        &self,
        principal: &Principal,
        mut filter: JobFilter,
    ) -> Result<reeve_sdk::api::Page<Job>, ApiError> {
        let mut conn = self.0.db.reader().await?;
        let wanted = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        let mut more = true;
        while more && found.len() <= wanted {
            filter.limit = i64::try_from(wanted).unwrap_or(1000) + 1;
            let rows = store::list_jobs(&mut conn, &filter).await?;
            more = rows.len() > wanted;
            filter.before = rows.last().map(|row| row.id);
            for row in rows {
                if self.is_job_visible(principal, &mut conn, &row).await? {
                    found.push(row);
                }
            }
        }
        let next = (found.len() > wanted)
            .then(|| found.get(wanted.saturating_sub(1)).map(|row| row.id.to_string()))
            .flatten();
        found.truncate(wanted);
        let ids: Vec<JobId> = found.iter().map(|row| row.id).collect();
        let mut counts = store::counts(&mut conn, &ids).await?;
        let items = found
            .iter()
            .map(|row| row.to_api(counts.remove(&row.id).unwrap_or_default(), None))
            .collect();
        Ok(reeve_sdk::api::Page { items, next })
    }

    /// A job as the API shows it.
    ///
    /// # Errors
    /// 404, or when the database does not answer.
    pub(crate) async fn describe_job(&self, id: JobId) -> Result<Job, ApiError> {
        let mut conn = self.0.db.reader().await?;
        let job = store::load_job(&mut conn, id).await?.ok_or_else(|| {
            ApiError::new(StatusCode::NOT_FOUND, "job_not_found", format!("there is no job {id}"))
        })?;
        let counts = store::counts(&mut conn, &[id]).await?.remove(&id).unwrap_or_default();
        let single = if counts.total == 1 {
            let rows = store::list_of_job(&mut conn, id, -1, 1, "").await?;
            rows.first().map(|row| {
                let mut operation = row.to_api();
                self.complete(&mut operation);
                operation
            })
        } else {
            None
        };
        Ok(job.to_api(counts, single))
    }

    /// Operations of a job that exist for the caller, in order, behind an ordinal.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn list_operations(
        &self,
        principal: &Principal,
        job: JobId,
        after: i64,
        limit: i64,
        state: Option<OperationState>,
    ) -> Result<reeve_sdk::api::Page<Operation>, ApiError> {
        let mut conn = self.0.db.reader().await?;
        let state = state.map_or("", OperationState::as_str);
        let rows = store::list_of_job(&mut conn, job, after, limit + 1, state).await?;
        let page = usize::try_from(limit).unwrap_or(usize::MAX);
        let next = (rows.len() > page)
            .then(|| rows.get(page.saturating_sub(1)).map(|row| row.ordinal.to_string()))
            .flatten();
        let items = rows
            .iter()
            .take(page)
            .filter(|row| self.is_visible(principal, row.machine_id))
            .map(|row| {
                let mut operation = row.to_api();
                self.complete(&mut operation);
                operation
            })
            .collect();
        Ok(reeve_sdk::api::Page { items, next })
    }

    /// Cancels a job with all its operations, which must all be within the caller's scope.
    ///
    /// # Errors
    /// 403, 404, 409 when it has ended.
    pub(crate) async fn cancel_job(
        &self,
        principal: &Principal,
        id: JobId,
        reason: &str,
    ) -> Result<Job, ApiError> {
        self.find_job(principal, id).await?;
        let machines = store::list_machines(&mut *self.0.db.reader().await?, id).await?;
        if !machines.into_iter().all(|machine| self.is_visible(principal, machine)) {
            return Err(ApiError::forbidden(
                "this job also runs on machines outside your scope; cancel its operations one by one",
            ));
        }
        self.cancel(principal, CancelTarget::Job(id), reason).await?;
        self.describe_job(id).await
    }

    /// Cancels one operation.
    ///
    /// # Errors
    /// 404, 409 when it has ended.
    pub(crate) async fn cancel_operation(
        &self,
        principal: &Principal,
        id: OperationId,
        reason: &str,
    ) -> Result<Operation, ApiError> {
        self.find(principal, id).await?;
        self.cancel(principal, CancelTarget::Operation(id), reason).await?;
        let row = self.find(principal, id).await?;
        self.describe(&row).await
    }

    async fn cancel(
        &self,
        principal: &Principal,
        target: CancelTarget,
        reason: &str,
    ) -> Result<(), ApiError> {
        let (done, answer) = oneshot::channel();
        let reason = reason.replace('\0', "").chars().take(512).collect();
        let request = Request::Cancel { target, principal: principal.name.clone(), reason, done };
        self.0.requests.send(request).await.map_err(|_| ApiError::draining())?;
        answer.await.map_err(|_| ApiError::draining())?
    }

    /// Sends a signal to a running command.
    ///
    /// # Errors
    /// 404, 409 when it does not run or its machine is away.
    pub(crate) async fn signal(
        &self,
        principal: &Principal,
        id: OperationId,
        signal: SignalName,
    ) -> Result<(), ApiError> {
        let row = self.find(principal, id).await?;
        if row.state != OperationState::Running {
            return Err(not_running(&row));
        }
        let session = self.0.fleet.find(row.machine_id).ok_or_else(|| offline(&row))?;
        let mut tx = self.0.db.begin().await?;
        crate::audit::record(
            &mut tx,
            &crate::audit::Entry {
                principal: &principal.name,
                action: "operation.signal",
                target: &format!("operation:{id}"),
                detail: serde_json::json!({ "signal": signal, "machine": row.machine }),
            },
        )
        .await?;
        tx.commit().await?;
        session.tell(Some(id), &Control::Signal { signal });
        Ok(())
    }

    /// Passes a piece of stdin on.
    ///
    /// # Errors
    /// 404, 409 when the operation takes no stdin or has ended.
    pub(crate) async fn input(
        &self,
        principal: &Principal,
        id: OperationId,
        offset: u64,
        bytes: Bytes,
        last: bool,
    ) -> Result<InputAccepted, ApiError> {
        if let Some(accepted) = self.pass_input(principal, id, offset, &bytes, last).await? {
            return Ok(accepted);
        }
        let row = self.find(principal, id).await?;
        if row.state.is_terminal() {
            // Whoever still sends to a command that has ended should just stop.
            return Ok(InputAccepted { received: offset, closed: true });
        }
        if row.state == OperationState::Queued {
            return Ok(InputAccepted { received: 0, closed: false });
        }
        Err(ApiError::new(
            StatusCode::CONFLICT,
            "no_stdin",
            "this operation takes no stdin now: it was not asked for with stdin, or its machine has not reported since the coordinator started; try again",
        ))
    }

    async fn pass_input(
        &self,
        principal: &Principal,
        id: OperationId,
        offset: u64,
        bytes: &Bytes,
        last: bool,
    ) -> Result<Option<InputAccepted>, ApiError> {
        let Some(machine) = self.0.stdins.machine(id) else { return Ok(None) };
        if !self.is_visible(principal, machine) {
            return Ok(None);
        }
        Ok(self.0.stdins.pass(&self.0.fleet, id, offset, bytes.clone(), last).await)
    }

    /// A reader of an operation's output.
    #[must_use]
    pub(crate) fn reader(&self, id: OperationId, choice: StreamChoice, from: u64) -> Reader {
        Reader::new(self.0.db.clone(), self.0.segments.clone(), id, choice, from)
    }
}

/// Bytes of a stream that are durable.
fn durable_of(row: &OperationRow, choice: StreamChoice) -> u64 {
    let Totals { all, stdout, stderr } = row.durable;
    match choice {
        StreamChoice::All => all,
        StreamChoice::Only(Stream::Stdout) => stdout,
        StreamChoice::Only(Stream::Stderr) => stderr,
    }
}

fn not_running(row: &OperationRow) -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        "not_running",
        format!("the operation on '{}' is {}, not running", row.machine, row.state.as_str()),
    )
}

fn offline(row: &OperationRow) -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        "machine_offline",
        format!("'{}' is offline; the command goes on there", row.machine),
    )
}
