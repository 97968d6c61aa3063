//! Recording what was decided, together in one commit, and acting on it afterwards.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use http::StatusCode;
use reeve_protocol::{Control, JobId, OperationId};
use reeve_sdk::api::{OperationRequest, OperationState, Reason};
use tokio::sync::oneshot;

use super::state::{Cancel, Pending, Phase};
use super::{Admission, Admitted, CancelTarget, Conductor};
use crate::audit;
use crate::db::{DbError, Tx};
use crate::events::Change;
use crate::fleet::Session;
use crate::operations::output::Command;
use crate::operations::relay;
use crate::operations::rollout::Progress;
use crate::operations::row::{Ending, JobRow, OperationRow};
use crate::operations::submit::redacted;
use crate::operations::{store, terminals};
use crate::problem::ApiError;

/// Commits in a row before the loop looks at its queues again.
const MAX_ROUNDS: usize = 16;

type Picked = Vec<(OperationId, Arc<Session>)>;

/// What one commit holds.
struct Batch {
    admissions: Vec<Pending>,
    cancels: Vec<Cancel>,
    endings: Vec<(OperationId, Ending)>,
    picked: Picked,
    /// Jobs to be ended if nothing of them is open.
    unfinished: BTreeSet<JobId>,
}

/// What one commit has changed.
#[derive(Default)]
struct Outcome {
    admitted: Vec<Result<(JobRow, Vec<OperationRow>), ApiErrorOrExisting>>,
    /// Not sent after all, because they were cancelled meanwhile.
    unsent: BTreeSet<OperationId>,
    ended: Vec<OperationRow>,
    /// Operations to be told to end.
    cancelled: Vec<(OperationId, String)>,
    /// Per cancellation, whether there was anything to cancel.
    cancel_found: Vec<bool>,
    jobs_done: BTreeSet<JobId>,
}

enum ApiErrorOrExisting {
    Error(ApiError),
    Existing(JobId),
}

impl Conductor {
    /// A job to record: known here from now on, so that its operations get their places.
    pub(super) fn admit(
        &mut self,
        admission: Admission,
        reply: oneshot::Sender<Result<Admitted, ApiError>>,
    ) {
        let order = admission.operations.iter().map(|row| row.id).collect();
        let progress = match Progress::new(&admission.job.rollout, order) {
            Ok(progress) => progress,
            Err(error) => {
                let error = ApiError::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "invalid_rollout",
                    error.to_string(),
                );
                let _ = reply.send(Err(error));
                return;
            }
        };
        let work = Arc::clone(&admission.work);
        let machines = admission.operations.iter().map(|row| row.machine_id);
        let approval = admission.job.approval.as_ref();
        let fits = approval.is_none_or(|approved| approved.fits(&work.body, machines));
        self.book.add(&admission.job, &admission.operations, work, progress, fits);
        if let Some(relays) = &admission.relays {
            // Whoever asked may be gone before this was even looked at.
            let gone = relays.values().any(|relay| relay.is_discarded());
            if let Some(job) = self.book.jobs.get_mut(&admission.job.id) {
                job.relays = Some(Arc::clone(relays));
            }
            if gone {
                self.cancel_running(admission.job.id, relay::READER_GONE);
            }
        }
        self.release(admission.job.id);
        self.book.admissions.push(Pending { admission, reply });
    }

    /// Records and acts until nothing is left to decide.
    pub(super) async fn decide(&mut self) {
        for _ in 0..MAX_ROUNDS {
            let batch = Batch {
                admissions: std::mem::take(&mut self.book.admissions),
                cancels: std::mem::take(&mut self.book.cancels),
                endings: std::mem::take(&mut self.book.endings),
                picked: self.pick(),
                unfinished: std::mem::take(&mut self.book.unfinished),
            };
            if batch.admissions.is_empty()
                && batch.cancels.is_empty()
                && batch.endings.is_empty()
                && batch.picked.is_empty()
                && batch.unfinished.is_empty()
            {
                return;
            }
            match self.commit(&batch).await {
                Ok(outcome) => self.apply(batch, outcome),
                Err(error) => {
                    self.give_back(batch, &error);
                    return;
                }
            }
        }
    }

    async fn commit(&self, batch: &Batch) -> Result<Outcome, DbError> {
        let now_us = self.clock.micros();
        let mut tx = self.db.begin_later().await?;
        let mut outcome = Outcome::default();
        let mut picked: HashMap<OperationId, &Arc<Session>> =
            batch.picked.iter().map(|(id, session)| (*id, session)).collect();
        let mut endings: HashMap<OperationId, &Ending> =
            batch.endings.iter().map(|(id, ending)| (*id, ending)).collect();
        for pending in &batch.admissions {
            let admitted = record_job(
                &mut tx,
                &pending.admission,
                &mut picked,
                &mut endings,
                now_us,
                &mut outcome.jobs_done,
            )
            .await?;
            outcome.admitted.push(admitted);
        }
        for cancel in &batch.cancels {
            tx.send().await?;
            let found =
                self.record_cancel(&mut tx, cancel, &mut picked, now_us, &mut outcome).await?;
            outcome.cancel_found.push(found);
        }
        for (id, session) in picked {
            if !store::mark_sent(&mut tx, id, &session.boot_id, session.journal, now_us).await? {
                outcome.unsent.insert(id);
            }
        }
        let mut jobs = batch.unfinished.clone();
        for (id, ending) in endings {
            if let Some(row) = store::finish(&mut tx, id, ending, None, now_us).await? {
                jobs.insert(row.job_id);
                outcome.ended.push(row);
            }
        }
        jobs.extend(outcome.ended.iter().map(|row| row.job_id));
        for job in jobs {
            if store::finish_job_if_done(&mut tx, job, now_us).await? {
                outcome.jobs_done.insert(job);
            }
        }
        tx.commit().await?;
        Ok(outcome)
    }

    async fn record_cancel(
        &self,
        tx: &mut Tx,
        cancel: &Cancel,
        picked: &mut HashMap<OperationId, &Arc<Session>>,
        now_us: i64,
        outcome: &mut Outcome,
    ) -> Result<bool, DbError> {
        let (target, ids) = match cancel.target {
            CancelTarget::Job(job) => {
                if !store::request_job_cancel(tx, job, now_us).await? {
                    return Ok(false);
                }
                let ids: Vec<_> = self
                    .book
                    .operations
                    .iter()
                    .filter(|(_, operation)| operation.job == job)
                    .map(|(id, _)| *id)
                    .collect();
                (format!("job:{job}"), ids)
            }
            CancelTarget::Operation(id) => (format!("operation:{id}"), vec![id]),
        };
        let mut found = matches!(cancel.target, CancelTarget::Job(_));
        for id in ids {
            let Some(operation) = self.book.operations.get(&id) else { continue };
            found = true;
            // Its turn has come in this very batch: it was not sent yet, and now it is not.
            let unsent = picked.remove(&id).is_some();
            if unsent {
                outcome.unsent.insert(id);
            }
            if unsent || matches!(operation.phase, Phase::Pending | Phase::Waiting) {
                let ending = Ending::decided(
                    OperationState::Cancelled,
                    "cancelled",
                    format!("cancelled before it started: {}", cancel.reason),
                );
                outcome.ended.extend(store::finish(tx, id, &ending, None, now_us).await?);
            } else if store::request_cancel(tx, id, &cancel.reason, now_us).await?.is_some() {
                outcome.cancelled.push((id, cancel.reason.clone()));
            }
        }
        if found {
            audit::record(
                tx,
                &audit::Entry {
                    principal: &cancel.principal,
                    action: "job.cancel",
                    target: &target,
                    detail: serde_json::json!({ "reason": cancel.reason }),
                },
            )
            .await?;
        }
        Ok(found)
    }

    fn apply(&mut self, batch: Batch, outcome: Outcome) {
        for (pending, admitted) in batch.admissions.into_iter().zip(outcome.admitted) {
            let Admission { job, operations, .. } = pending.admission;
            match admitted {
                Ok((row, rows)) => {
                    metrics::counter!("reeve_jobs_total").increment(1);
                    // Those that ended at once were never open.
                    for ended in rows.iter().filter(|row| row.state.is_terminal()) {
                        self.forget(ended.id, false);
                    }
                    let _ = pending.reply.send(Ok(Admitted::New(Box::new(row), rows)));
                }
                Err(refused) => {
                    self.book.withdraw(job.id, &operations);
                    let _ = pending.reply.send(match refused {
                        ApiErrorOrExisting::Error(error) => Err(error),
                        ApiErrorOrExisting::Existing(id) => Ok(Admitted::Existing(id)),
                    });
                }
            }
        }
        let mut unsent = Vec::new();
        for (id, session) in batch.picked {
            if outcome.unsent.contains(&id) {
                unsent.push((id, session));
            } else {
                self.send(id, &session);
            }
        }
        self.put_back(unsent);
        for (id, reason) in outcome.cancelled {
            let Some(operation) = self.book.operations.get_mut(&id) else { continue };
            operation.cancel = Some(reason.clone());
            let machine = self.book.machines.get(&operation.machine);
            if let Some(session) = machine.and_then(|machine| machine.session.as_ref()) {
                session.tell(Some(id), &Control::Cancel { reason });
            }
        }
        for row in outcome.ended {
            self.writer.put(Command::Forget(row.id));
            self.hub.tell(Change::Operation(Arc::new(row.to_api())));
            self.forget(row.id, false);
        }
        for job in outcome.jobs_done {
            self.book.unfinished.remove(&job);
            self.hub.tell(Change::Job(job));
        }
        for (cancel, found) in batch.cancels.into_iter().zip(outcome.cancel_found) {
            let answer = if found {
                Ok(())
            } else {
                Err(ApiError::new(
                    StatusCode::CONFLICT,
                    "already_ended",
                    "it has ended already; there is nothing to cancel",
                ))
            };
            if let Some(done) = cancel.done {
                let _ = done.send(answer);
            }
        }
    }

    /// Nothing was recorded. Whoever asked is told; what we decided ourselves is tried again.
    fn give_back(&mut self, batch: Batch, error: &DbError) {
        tracing::error!(%error, "decisions could not be recorded");
        self.put_back(batch.picked);
        self.book.endings = batch.endings;
        self.book.unfinished.extend(batch.unfinished);
        for pending in batch.admissions {
            let admission = pending.admission;
            self.book.withdraw(admission.job.id, &admission.operations);
            let _ = pending.reply.send(Err(ApiError::unavailable(error)));
        }
        for cancel in batch.cancels {
            match cancel.done {
                Some(done) => {
                    let _ = done.send(Err(ApiError::unavailable(error)));
                }
                None => self.book.cancels.push(cancel),
            }
        }
    }

    /// No more of a job's operations start; those that have not are over.
    pub(super) fn stop_rollout(&mut self, id: JobId) {
        let Some(job) = self.book.jobs.get_mut(&id) else { return };
        for operation in job.progress.stop() {
            let ending = Ending::decided(
                OperationState::Cancelled,
                "rollout_stopped",
                "not started: too many machines before it did not succeed",
            );
            self.book.endings.push((operation, ending));
        }
    }
}

/// Writes a job with its operations in the states they are in by now.
async fn record_job(
    tx: &mut Tx,
    admission: &Admission,
    picked: &mut HashMap<OperationId, &Arc<Session>>,
    endings: &mut HashMap<OperationId, &Ending>,
    now_us: i64,
    done: &mut BTreeSet<JobId>,
) -> Result<Result<(JobRow, Vec<OperationRow>), ApiErrorOrExisting>, DbError> {
    let mut job = admission.job.clone();
    if let Some((key, hash)) = &admission.key
        && let Some((existing, old_hash)) =
            store::find_by_key_within(tx, &job.principal, key).await?
    {
        // It was given places before this was known; they are taken back with it.
        for row in &admission.operations {
            picked.remove(&row.id);
            endings.remove(&row.id);
        }
        return Ok(Err(if old_hash == hash {
            ApiErrorOrExisting::Existing(existing)
        } else {
            ApiErrorOrExisting::Error(ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_mismatch",
                "this Idempotency-Key was used for another request; use a new key",
            ))
        }));
    }
    if let Some(input) = &job.options.input
        && !store::use_upload(tx, input.upload, now_us).await?
    {
        for row in &admission.operations {
            picked.remove(&row.id);
            endings.remove(&row.id);
        }
        return Ok(Err(ApiErrorOrExisting::Error(crate::uploads::not_found(input.upload))));
    }
    let mut rows = admission.operations.clone();
    for row in &mut rows {
        if let Some(session) = picked.remove(&row.id) {
            row.state = OperationState::Sent;
            row.boot_id = Some(session.boot_id.clone());
            row.journal_id = Some(session.journal);
            row.sent_us = Some(now_us);
        } else if let Some(ending) = endings.remove(&row.id) {
            row.state = ending.state;
            row.finished_us = Some(now_us);
            row.reason = ending.reason.as_ref().map(|reason| Reason {
                code: reason.code.clone(),
                message: reason.message.clone(),
            });
        }
    }
    if rows.iter().all(|row| row.state.is_terminal()) {
        job.state = reeve_sdk::api::JobState::Failed;
        job.finished_us = Some(now_us);
        done.insert(job.id);
    }
    store::insert_job(tx, &job, admission.key.as_ref())?;
    store::insert_operations(tx, &rows)?;
    if let OperationRequest::OpenTerminal(asked) = redacted(&job.operation) {
        tx.send().await?;
        for row in &rows {
            terminals::store::insert(tx, row.id, &job.principal, &asked, now_us).await?;
        }
    }
    audit::record_later(
        tx,
        &audit::Entry {
            principal: &job.principal,
            action: "job.create",
            target: &format!("job:{}", job.id),
            detail: admission.detail.clone(),
        },
    )
    .await?;
    Ok(Ok((job, rows)))
}
