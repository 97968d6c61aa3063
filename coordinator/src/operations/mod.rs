//! The one door to machines. Whatever asks something of a machine asks here: it is authorised,
//! recorded and audited before it is sent, and whatever comes back is durable before anybody is
//! told.

mod admission;
mod approved;
#[cfg(not(fuzzing))]
mod body;
#[cfg(fuzzing)]
pub mod body;
mod channel;
mod conductor;
mod explain;
mod feed;
mod follow;
mod look;
mod output;
mod pipe;
mod relay;
mod rollout;
mod routes;
mod row;
mod stdin;
mod store;
mod submit;
mod sweep;
#[cfg(not(fuzzing))]
mod terminals;
#[cfg(fuzzing)]
pub mod terminals;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod typing;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::StatusCode;
use reeve_protocol::{Control, JobId, MachineId, OperationId, SignalName};
use reeve_sdk::api::{InputAccepted, Job, Operation, OperationState};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::Clock;
use crate::config::Limits;
use crate::db::Db;
use crate::events::{Hub, Mailbox};
use crate::fleet::{Fleet, Inbox};
use crate::machines::Machines;
use crate::problem::ApiError;
use crate::tasks::Tasks;
use crate::uploads::Uploads;
use crate::users::Principal;
use conductor::{CancelTarget, Conductor, REQUEST_QUEUE, Request};
use feed::Feeders;
use output::{Closing, HealthFlag, Recent, Segments, Writer};
use pipe::Pipes;
use relay::{Budget, Unclaimed};
use stdin::{BodySource, Patience, Stdins};
use terminals::Viewers;

pub(crate) use admission::redacted;
pub(crate) use approved::{Approved, stamp};
pub(crate) use body::{Body, build as build_body, encode as encode_body};
pub use output::WriterHealth;
pub use routes::routes;
pub(crate) use row::OperationRow;
use store::JobFilter;
pub(crate) use submit::{Asking, Submitted};

/// Left of a request's body when its answer is known: taken, so that the answer gets through.
const DRAINED_BYTES: usize = 8 * 1024 * 1024;

/// For that.
const DRAINED_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

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
    /// Files for stdin.
    pub uploads: Uploads,
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
    uploads: Uploads,
    tasks: Tasks,
    limits: Limits,
    segments: Segments,
    recent: Recent,
    stdins: Stdins,
    pipes: Pipes,
    viewers: Viewers,
    health: HealthFlag,
    requests: mpsc::Sender<Request>,
    /// Where the conductor hears that a reader of what is relayed has gone.
    closings: Mailbox<Closing>,
    relay_budget: Budget,
    /// Readers of what is relayed that nobody has taken up yet.
    unclaimed: Unclaimed,
}

impl Operations {
    /// Reads back what is open and starts the loops.
    ///
    /// # Errors
    /// When the database or the folder of output cannot be read.
    pub async fn start(parts: Parts) -> anyhow::Result<Self> {
        let Parts { db, clock, hub, fleet, inbox, machines, uploads, tasks, limits, folder, keep } =
            parts;
        let segments = Segments::open(&folder)?;
        let writer = Writer::new(db.clone(), clock.clone(), hub.clone(), segments.clone())?;
        let recent = writer.recent.clone();
        let stdins = Stdins::default();
        let health = writer.health.clone();
        let (closings, relay_budget) = (writer.closings.clone(), Budget::default());
        let (requests, requests_out) = mpsc::channel(REQUEST_QUEUE);
        let feeders = Feeders::new(
            uploads.clone(),
            stdins.clone(),
            fleet.clone(),
            tasks.clone(),
            requests.clone(),
        );
        let pipes = Pipes::new(stdins.clone(), fleet.clone(), tasks.clone(), requests.clone());
        let mut conductor = Conductor {
            db: db.clone(),
            clock: clock.clone(),
            hub: hub.clone(),
            stdins: stdins.clone(),
            feeders,
            pipes: pipes.clone(),
            registry: machines.registry().clone(),
            fleet: fleet.clone(),
            writer: writer.commands.clone(),
            closings: closings.clone(),
            relay_budget: relay_budget.clone(),
            in_flight_limit: limits.in_flight_per_machine as usize,
            audit_head: None,
            book: conductor::Book::default(),
        };
        conductor.restore().await?;
        let stop = tasks.token();
        tasks.spawn_vital("writer", writer.run(inbox.bulk, stop.clone()));
        tasks.spawn_vital("conductor", conductor.run(inbox.events, requests_out, stop));
        let inner = Inner {
            db,
            clock,
            hub,
            fleet,
            machines,
            uploads,
            tasks,
            limits,
            segments,
            recent,
            stdins,
            pipes,
            viewers: Viewers::default(),
            health,
            requests,
            closings,
            relay_budget,
            unclaimed: Unclaimed::default(),
        };
        let operations = Self(Arc::new(inner));
        let sweeper = operations.clone();
        operations.0.tasks.spawn_lasting("sweeper", move || {
            let sweeper = sweeper.clone();
            async move { sweeper.sweep(keep).await }
        });
        Ok(operations)
    }

    /// Whether what agents send can be made durable.
    #[must_use]
    pub(crate) fn health(&self) -> WriterHealth {
        self.0.health.get()
    }

    /// Gives up what is open on a machine that will never come back.
    pub async fn abandon(&self, machine: MachineId) {
        let _ = self.0.requests.send(Request::Abandon(machine)).await;
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

    /// Cancels a job for what it was part of: whoever asked may no longer see its machines. `by` is
    /// what the audit says.
    ///
    /// # Errors
    /// 409 when it has ended.
    pub(crate) async fn end_job(&self, id: JobId, by: &str, reason: &str) -> Result<(), ApiError> {
        self.ask_to_cancel(by, CancelTarget::Job(id), reason).await
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
        self.ask_to_cancel(&principal.name, target, reason).await
    }

    /// Cancelled as soon as the coordinator begins to stop. Whoever watches lets go then, and asks
    /// the next one: the stop would wait for them, and nothing more comes from the machines.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.0.fleet.draining()
    }

    async fn ask_to_cancel(
        &self,
        by: &str,
        target: CancelTarget,
        reason: &str,
    ) -> Result<(), ApiError> {
        let (done, answer) = oneshot::channel();
        let reason = reason.replace('\0', "").chars().take(512).collect();
        let request = Request::Cancel { target, principal: by.to_owned(), reason, done };
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

    /// Passes a request's body on as stdin, as it comes. Answers when all of it has arrived, or when
    /// nothing moves any more, with how much has.
    ///
    /// # Errors
    /// 404, 409 when the operation takes no stdin or has ended.
    pub(crate) async fn input<S, E>(
        &self,
        principal: &Principal,
        id: OperationId,
        offset: u64,
        mut body: S,
        last: bool,
    ) -> Result<InputAccepted, ApiError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: std::fmt::Display + Send,
    {
        let machine =
            self.0.stdins.machine(id).filter(|machine| self.is_visible(principal, *machine));
        if machine.is_some() {
            let mut source = BodySource::new(&mut body, offset, last);
            let poured = self.0.stdins.pour(&self.0.fleet, id, &mut source, Patience::Answer).await;
            match poured {
                Some(Ok(state)) => {
                    drain(&mut body).await;
                    return Ok(InputAccepted { received: state.received, closed: state.closed });
                }
                Some(Err(error)) => {
                    return Err(ApiError::new(
                        StatusCode::BAD_REQUEST,
                        "malformed_body",
                        error.to_string(),
                    ));
                }
                None => {}
            }
        }
        drain(&mut body).await;
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
}

/// Takes what is left of a body, up to a point: a connection that is closed on bytes nobody read
/// is reset, and the answer may be lost with it.
async fn drain<S, E>(body: &mut S)
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
{
    let mut left = DRAINED_BYTES;
    let draining = async {
        while left > 0
            && let Some(Ok(bytes)) = body.next().await
        {
            left = left.saturating_sub(bytes.len());
        }
    };
    let _ = tokio::time::timeout(DRAINED_WITHIN, draining).await;
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
