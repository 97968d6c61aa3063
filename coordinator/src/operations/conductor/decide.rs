//! Admitting jobs, having what was decided recorded, and acting on it afterwards.

use std::sync::Arc;

use http::StatusCode;
use reeve_protocol::{Control, JobId};
use reeve_sdk::api::OperationState;
use tokio::sync::oneshot;

use super::record::{Batch, Outcome, Refused};
use super::state::Pending;
use super::{Admission, Admitted, Conductor};
use crate::db::DbError;
use crate::events::Change;
use crate::operations::output::Command;
use crate::operations::relay;
use crate::operations::rollout::Progress;
use crate::operations::row::Ending;
use crate::problem::ApiError;

/// Commits in a row before the loop looks at its queues again.
const MAX_ROUNDS: usize = 16;

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
            if batch.is_empty() {
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

    fn apply(&mut self, batch: Batch, outcome: Outcome) {
        let mut replies = Vec::with_capacity(batch.admissions.len());
        for (pending, admitted) in batch.admissions.into_iter().zip(outcome.admitted) {
            let Admission { job, operations, .. } = pending.admission;
            let answer = match admitted {
                Ok((row, rows)) => {
                    metrics::counter!("reeve_jobs_total").increment(1);
                    // Those that ended at once were never open.
                    for ended in rows.iter().filter(|row| row.state.is_terminal()) {
                        self.forget(ended.id, false);
                    }
                    Ok(Admitted::New(Box::new(row), rows))
                }
                Err(refused) => {
                    self.book.withdraw(job.id, &operations);
                    match refused {
                        Refused::With(error) => Err(error),
                        Refused::Existing(id) => Ok(Admitted::Existing(id)),
                    }
                }
            };
            replies.push((pending.reply, answer));
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
        // Behind what goes to machines: each of these wakes somebody, who might be given this
        // processor.
        for (reply, answer) in replies {
            let _ = reply.send(answer);
        }
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
            if !self.book.operations.contains_key(&row.id) {
                // Nobody here knew its job, so that was not looked at.
                self.book.unfinished.insert(row.job_id);
            }
            self.forget(row.id, false);
        }
        for end in outcome.jobs_done {
            self.book.unfinished.remove(&end.job);
            self.hub.tell(Change::Job(end));
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
