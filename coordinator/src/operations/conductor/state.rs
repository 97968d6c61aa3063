//! What the conductor knows: every job, operation and machine with something open.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use reeve_protocol::{JobId, JournalId, MachineId, OperationId, OperationReport, Totals, UploadId};
use reeve_sdk::api::{JobCounts, OperationState};
use tokio::sync::oneshot;

use super::{Admission, Admitted, CancelTarget};
use crate::db::DbError;
use crate::fleet::Session;
use crate::operations::approved::Approved;
use crate::operations::body::{self, Lane};
use crate::operations::relay::{Relay, Relays};
use crate::operations::rollout::{Progress, Verdict};
use crate::operations::row::{Ending, JobRow, OperationRow};
use crate::problem::ApiError;

/// What every machine of a job is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// The operation's name.
    pub name: &'static str,
    /// Its encoded body.
    pub body: Vec<u8>,
    /// Whether stdin will be sent.
    pub stdin: bool,
    /// What it takes up on its machine.
    pub lane: Lane,
    /// Secrets in what a worker writes are replaced on the machine.
    pub redact: bool,
}

/// Where an open operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its turn in the rollout has not come.
    Pending,
    /// It may start and waits for its machine.
    Waiting,
    /// It was sent; the row says so before the frame leaves.
    Sent,
    /// Its machine has started it.
    Running,
}

/// An open operation.
pub struct Operation {
    pub job: JobId,
    pub machine: MachineId,
    pub name: String,
    pub phase: Phase,
    /// The boot and journal it was sent to.
    pub sent_to: Option<(String, JournalId)>,
    /// What was durable of it when this run of the coordinator began.
    pub durable: Totals,
    /// Somebody wants it cancelled.
    pub cancel: Option<String>,
    /// What it takes up on its machine.
    pub lane: Lane,
}

/// A job with open operations.
pub struct Job {
    pub work: Arc<Work>,
    pub progress: Progress,
    /// Operations that have not ended.
    pub open: usize,
    pub expires_us: Option<i64>,
    pub output_limit: u64,
    /// The file stdin comes from.
    pub upload: Option<UploadId>,
    /// The yes it runs with, and whether that was given to what would be sent.
    pub approval: Option<(Approved, bool)>,
    /// Where output goes that is not kept.
    pub relays: Option<Arc<Relays>>,
}

impl Job {
    /// Where an operation's output goes, if it is not kept.
    pub fn relay(&self, id: OperationId) -> Option<Arc<Relay>> {
        self.relays.as_ref()?.get(&id).cloned()
    }
}

impl Job {
    /// Nothing of it starts from then on: nobody waits longer, or the yes is worth nothing more.
    pub fn start_by_us(&self) -> Option<i64> {
        let approval = self.approval.as_ref().map(|(approved, _)| approved.stamp.expires_us);
        self.expires_us.into_iter().chain(approval).min()
    }

    /// Why an operation that has not started may not any more because of its approval.
    pub fn bar(&self, now_us: i64, machine: &str) -> Option<Ending> {
        let (approved, fits) = self.approval.as_ref()?;
        approved.bar(*fits, now_us, machine)
    }
}

/// A machine with a session or with something open.
#[derive(Default)]
pub struct Machine {
    pub session: Option<Arc<Session>>,
    /// Its agent has said all that it holds, so what it did not name it does not know.
    pub reported: bool,
    pub reports: Vec<OperationReport>,
    /// What waits for a place, in order.
    pub waiting: BTreeMap<Lane, VecDeque<OperationId>>,
    pub in_flight: HashMap<OperationId, Lane>,
    /// Since when it has no session.
    pub gone_us: i64,
}

impl Machine {
    /// Whether nothing of it is left to be done.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.waiting.values().all(VecDeque::is_empty)
    }

    /// Operations of a lane that have been sent and have not ended.
    pub fn count_in_flight(&self, lane: Lane) -> usize {
        self.in_flight.values().filter(|each| **each == lane).count()
    }

    /// Forgets an operation, wherever it stands.
    pub fn forget(&mut self, id: OperationId) {
        self.in_flight.remove(&id);
        for queue in self.waiting.values_mut() {
            queue.retain(|each| *each != id);
        }
    }
}

/// A cancellation that waits to be recorded.
pub struct Cancel {
    pub target: CancelTarget,
    pub principal: String,
    pub reason: String,
    /// Told when it is recorded, or cannot be. Without it, nobody but we asked, and it is tried
    /// again until it is.
    pub done: Option<oneshot::Sender<Result<(), ApiError>>>,
}

/// An admission that waits to be recorded.
pub struct Pending {
    pub admission: Admission,
    pub reply: oneshot::Sender<Result<Admitted, ApiError>>,
}

/// All of it.
#[derive(Default)]
pub struct Book {
    pub jobs: HashMap<JobId, Job>,
    pub operations: HashMap<OperationId, Operation>,
    pub machines: HashMap<MachineId, Machine>,
    /// Machines that may have both a free place and something waiting.
    pub dirty_machines: BTreeSet<MachineId>,
    pub admissions: Vec<Pending>,
    pub cancels: Vec<Cancel>,
    /// Jobs without anything open that are not known to be recorded as ended: two transactions that
    /// each end one of the last two operations may each see the other as open.
    pub unfinished: BTreeSet<JobId>,
    /// Ends that the conductor has decided and that are not recorded yet.
    pub endings: Vec<(OperationId, Ending)>,
}

impl Book {
    /// Puts a job in with all its operations pending. `fits` says whether its approval, if it
    /// needed one, was given to this work on these machines.
    pub fn add(
        &mut self,
        job: &JobRow,
        rows: &[OperationRow],
        work: Arc<Work>,
        progress: Progress,
        fits: bool,
    ) {
        for row in rows {
            let operation = Operation {
                job: job.id,
                machine: row.machine_id,
                name: row.machine.clone(),
                phase: Phase::Pending,
                sent_to: None,
                durable: row.durable,
                cancel: None,
                lane: work.lane,
            };
            self.operations.insert(row.id, operation);
        }
        let job_state = Job {
            work,
            progress,
            open: rows.len(),
            expires_us: job.expires_us,
            output_limit: job.output_limit,
            upload: job.options.input.map(|input| input.upload),
            approval: job.approval.clone().map(|approved| (approved, fits)),
            relays: None,
        };
        self.jobs.insert(job.id, job_state);
    }

    /// Takes a job that was never recorded out again.
    pub fn withdraw(&mut self, job: JobId, rows: &[OperationRow]) {
        self.jobs.remove(&job);
        for row in rows {
            self.operations.remove(&row.id);
            if let Some(machine) = self.machines.get_mut(&row.machine_id) {
                machine.forget(row.id);
            }
            self.endings.retain(|(id, _)| *id != row.id);
        }
    }

    /// Puts a job in that a former run of the coordinator left open; `machines` are all of its
    /// machines. What its rollout says now.
    pub fn restore(
        &mut self,
        job: &JobRow,
        rows: Vec<OperationRow>,
        machines: &[MachineId],
        counts: &JobCounts,
        now_us: i64,
    ) -> Result<Verdict, DbError> {
        let content = |error: String| DbError::Content(format!("job {}: {error}", job.id));
        let request = body::build(&job.operation).map_err(|error| content(error.to_string()))?;
        let body = request.encode().map_err(|error| content(error.to_string()))?;
        let work = Arc::new(Work {
            name: request.name(),
            body,
            stdin: request.has_stdin(),
            lane: request.lane(),
            redact: job.options.redact,
        });
        let queued: Vec<OperationId> = rows
            .iter()
            .filter(|row| row.state == OperationState::Queued)
            .map(|row| row.id)
            .collect();
        let under_way = rows.len() - queued.len();
        let mut progress =
            Progress::new(&job.rollout, queued).map_err(|error| content(error.to_string()))?;
        let ended = counts.total - counts.queued - counts.sent - counts.running;
        let verdict = progress.resume(
            &job.rollout,
            counts.total as usize,
            under_way,
            ended - counts.succeeded.min(ended),
        );
        let fits = job
            .approval
            .as_ref()
            .is_none_or(|approved| approved.fits(&work.body, machines.iter().copied()));
        self.add(job, &rows, work, progress, fits);
        for row in rows {
            let machine = self.machines.entry(row.machine_id).or_default();
            machine.gone_us = now_us;
            let Some(operation) = self.operations.get_mut(&row.id) else { continue };
            operation.cancel =
                row.cancel_requested_us.map(|_| row.cancel_reason.unwrap_or_default());
            operation.phase = match row.state {
                OperationState::Sent => Phase::Sent,
                OperationState::Running => Phase::Running,
                _ => continue,
            };
            operation.sent_to = row.boot_id.zip(row.journal_id);
            machine.in_flight.insert(row.id, operation.lane);
        }
        Ok(verdict)
    }
}
