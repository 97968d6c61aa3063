//! The one loop that decides: what is recorded, what is sent to which machine and when, what is
//! expired, cancelled or lost. It owns every operation that has not ended. Decisions that come
//! together share a commit.

mod decide;
mod machines;
mod reconcile;
mod record;
mod state;

use std::sync::Arc;
use std::time::Duration;

use reeve_protocol::{JobId, MachineId, OperationId};
use reeve_sdk::api::OperationState;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::feed::Feeders;
use super::output::{Closing, Command};
use super::pipe::Pipes;
use super::relay::{self, Budget, Relays};
use super::rollout::Verdict;
use super::row::{JobRow, OperationRow};
use super::stdin::Stdins;
use super::store;
use crate::Clock;
use crate::audit::Head;
use crate::db::{Db, DbError};
use crate::events::{Hub, Mailbox};
use crate::fleet::{Event, Fleet};
use crate::machines::Registry;
use crate::problem::ApiError;
use state::Operation;

pub use state::{Book, Work};

/// Requests waiting for a decision. When full, whoever asks waits.
pub const REQUEST_QUEUE: usize = 1024;

/// Requests decided in one commit.
const MAX_TOGETHER: usize = 256;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_secs(1);

/// A machine that was just here is given this long to come back before operations that do not wait
/// for offline machines are given up.
const RECONNECT_GRACE: Duration = Duration::from_secs(30);

/// A job somebody asked for, checked and resolved, to be recorded and started.
pub struct Admission {
    /// The job as it will be recorded.
    pub job: JobRow,
    /// Its operations, in the order of the rollout, all queued.
    pub operations: Vec<OperationRow>,
    /// What every machine is asked.
    pub work: Arc<Work>,
    /// `Idempotency-Key` and the hash of what was asked.
    pub key: Option<(String, [u8; 32])>,
    /// For the audit.
    pub detail: serde_json::Value,
    /// Where output goes that is not kept.
    pub relays: Option<Arc<Relays>>,
}

/// What came of an admission.
pub enum Admitted {
    /// Recorded and under way; the operations as they are now.
    New(Box<JobRow>, Vec<OperationRow>),
    /// It was asked for before with the same key.
    Existing(JobId),
}

/// What is to be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelTarget {
    /// A whole job.
    Job(JobId),
    /// One operation of a job.
    Operation(OperationId),
}

/// Something to decide.
pub enum Request {
    /// Record a job and start it.
    Admit(Box<Admission>, oneshot::Sender<Result<Admitted, ApiError>>),
    /// Cancel.
    Cancel {
        /// What.
        target: CancelTarget,
        /// Who, as the audit says it.
        principal: String,
        /// Why, for the record.
        reason: String,
        /// Told when it is recorded.
        done: oneshot::Sender<Result<(), ApiError>>,
    },
    /// A machine will never come back.
    Abandon(MachineId),
}

/// The loop and what it owns.
pub struct Conductor {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) hub: Hub,
    pub(super) stdins: Stdins,
    pub(super) feeders: Feeders,
    pub(super) pipes: Pipes,
    pub(super) registry: Registry,
    pub(super) fleet: Fleet,
    pub(super) writer: Mailbox<Command>,
    pub(super) closings: Mailbox<Closing>,
    pub(super) in_flight_limit: usize,
    pub(super) relay_budget: Budget,
    /// The end of the audit as of the last commit; others may have recorded since.
    pub(super) audit_head: Option<Head>,
    pub(super) book: Book,
}

impl Conductor {
    /// Reads back what a former run left open.
    ///
    /// # Errors
    /// When the database does not answer or holds what cannot be read.
    pub async fn restore(&mut self) -> Result<(), DbError> {
        let mut conn = self.db.reader().await?;
        let rows = store::list_open(&mut conn).await?;
        self.book.unfinished.extend(store::list_unfinished_jobs(&mut conn).await?);
        let mut jobs: std::collections::BTreeMap<JobId, Vec<OperationRow>> =
            std::collections::BTreeMap::new();
        for row in rows {
            jobs.entry(row.job_id).or_default().push(row);
        }
        let now_us = self.clock.micros();
        for (id, rows) in jobs {
            let Some(job) = store::load_job(&mut conn, id).await? else { continue };
            let machines = store::list_machines(&mut conn, id).await?;
            let counts = store::counts(&mut conn, &[id]).await?.remove(&id).unwrap_or_default();
            let job_options = job.options.clone();
            let relays = job
                .options
                .relay
                .then(|| relay::orphans(rows.iter().map(|row| row.id), &self.relay_budget));
            match self.book.restore(&job, rows, &machines, &counts, now_us)? {
                Verdict::GoOn => self.release_restored(id),
                Verdict::StartNoMore => self.stop_rollout(id),
                Verdict::CancelAll => {
                    self.stop_rollout(id);
                    self.cancel_running(id, "another machine did not succeed");
                }
            }
            if let Some(relays) = relays
                && let Some(job) = self.book.jobs.get_mut(&id)
            {
                job.relays = Some(relays);
                self.cancel_running(
                    id,
                    "its reader is gone: the coordinator was restarted while it was relayed",
                );
                // What it was relayed into will not get the rest.
                if let Some(to) = job_options.output_to {
                    self.book.cancels.push(state::Cancel {
                        target: CancelTarget::Operation(to.operation),
                        principal: "system".to_owned(),
                        reason: "its input is not whole: the coordinator was restarted while it \
                                 was fed from another machine"
                            .to_owned(),
                        done: None,
                    });
                }
            }
        }
        Ok(())
    }

    /// Runs until told to stop. What is decided is durable; what is not will be decided again.
    pub async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut requests: mpsc::Receiver<Request>,
        stop: CancellationToken,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.closings.arrived() => {}
                event = events.recv() => match event {
                    Some(event) => self.take_event(event).await,
                    None => return,
                },
                request = requests.recv() => match request {
                    Some(request) => self.take_request(request),
                    None => return,
                },
                _ = tick.tick() => self.take_tick(),
            }
            self.take_closings();
            for _ in 0..MAX_TOGETHER {
                match requests.try_recv() {
                    Ok(request) => self.take_request(request),
                    Err(_) => break,
                }
            }
            self.decide().await;
        }
    }

    fn take_request(&mut self, request: Request) {
        match request {
            Request::Admit(admission, reply) => self.admit(*admission, reply),
            Request::Cancel { target, principal, reason, done } => {
                let done = Some(done);
                self.book.cancels.push(state::Cancel { target, principal, reason, done });
            }
            Request::Abandon(machine) => self.abandon(machine),
        }
    }

    fn take_closings(&mut self) {
        for closing in self.closings.take() {
            match closing {
                Closing::Started(id) => {
                    if let Some(operation) = self.book.operations.get_mut(&id) {
                        operation.phase = state::Phase::Running;
                    }
                }
                Closing::Ended { operation, state, job_done } => {
                    let job = self.book.operations.get(&operation).map(|found| found.job);
                    self.forget(operation, state == OperationState::Succeeded);
                    if let Some(job) = job.filter(|_| job_done) {
                        self.book.unfinished.remove(&job);
                    }
                }
                Closing::ReaderGone { job, reason } => {
                    if self.book.jobs.contains_key(&job) {
                        self.stop_rollout(job);
                        self.cancel_running(job, reason);
                    }
                }
            }
        }
    }

    /// An operation has ended and that is durable: its place is free, its job goes on.
    fn forget(&mut self, id: OperationId, succeeded: bool) {
        let Some(operation) = self.book.operations.remove(&id) else { return };
        self.stdins.close(id);
        self.pipes.ended(id, succeeded);
        if let Some(machine) = self.book.machines.get_mut(&operation.machine) {
            machine.forget(id);
            if machine.session.is_none() && machine.is_idle() {
                self.book.machines.remove(&operation.machine);
            } else {
                self.book.dirty_machines.insert(operation.machine);
            }
        }
        self.advance_job(id, &operation, succeeded);
    }

    fn advance_job(&mut self, id: OperationId, operation: &Operation, succeeded: bool) {
        let Some(job) = self.book.jobs.get_mut(&operation.job) else { return };
        job.open = job.open.saturating_sub(1);
        // One whose turn had not come says nothing about the rollout.
        if !job.progress.withdraw(id) {
            match job.progress.ended(succeeded) {
                Verdict::GoOn => {}
                Verdict::StartNoMore => self.stop_rollout(operation.job),
                Verdict::CancelAll => {
                    self.stop_rollout(operation.job);
                    self.cancel_running(operation.job, "another machine did not succeed");
                }
            }
        }
        if self.book.jobs.get(&operation.job).is_some_and(|job| job.open == 0) {
            self.book.jobs.remove(&operation.job);
            self.book.unfinished.insert(operation.job);
        } else {
            self.release(operation.job);
        }
    }

    /// Those of a job that run are cancelled because of the rollout. Nobody's decision but the
    /// requester's, who asked for it with the job.
    fn cancel_running(&mut self, job: JobId, reason: &str) {
        self.book.cancels.push(state::Cancel {
            target: CancelTarget::Job(job),
            principal: "system".to_owned(),
            reason: reason.to_owned(),
            done: None,
        });
    }
}
