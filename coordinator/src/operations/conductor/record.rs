//! What one commit holds. Whatever can be told without an answer goes to the database at once, so
//! that a commit is one trip to SQLite's thread, however much is in it; what has to be known first
//! is asked for together.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use http::StatusCode;
use reeve_protocol::{JobId, OperationId};
use reeve_sdk::api::{JobState, OperationRequest, OperationState, Reason, Time};

use super::state::{Cancel, Pending, Phase};
use super::{Admission, CancelTarget, Conductor};
use crate::audit::{self, Head};
use crate::db::{DbError, Sent, Tx};
use crate::events::JobEnd;
use crate::fleet::Session;
use crate::operations::admission::redacted;
use crate::operations::row::{Ending, JobRow, OperationRow};
use crate::operations::store::{self, Asked};
use crate::operations::terminals;
use crate::problem::ApiError;
use crate::uploads;

/// Operations whose turn has come, and where they go.
pub(super) type Picked = Vec<(OperationId, Arc<Session>)>;

/// What one commit holds.
pub(super) struct Batch {
    pub admissions: Vec<Pending>,
    pub cancels: Vec<Cancel>,
    pub endings: Vec<(OperationId, Ending)>,
    pub picked: Picked,
    /// Jobs to be ended if nothing of them is open.
    pub unfinished: BTreeSet<JobId>,
}

/// What one commit has changed.
#[derive(Default)]
pub(super) struct Outcome {
    pub admitted: Vec<Result<(JobRow, Vec<OperationRow>), Refused>>,
    /// Not sent after all, because they were cancelled meanwhile.
    pub unsent: BTreeSet<OperationId>,
    pub ended: Vec<OperationRow>,
    /// Operations to be told to end.
    pub cancelled: Vec<(OperationId, String)>,
    /// Per cancellation, whether there was anything to cancel.
    pub cancel_found: Vec<bool>,
    pub jobs_done: Vec<JobEnd>,
}

/// Why a job was not recorded.
pub(super) enum Refused {
    With(ApiError),
    /// It was asked for before.
    Existing(JobId),
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.admissions.is_empty()
            && self.cancels.is_empty()
            && self.endings.is_empty()
            && self.picked.is_empty()
            && self.unfinished.is_empty()
    }

    /// Whether it can be recorded without asking anything, as long as no key was used before.
    fn is_plain(&self) -> bool {
        let reads_upload = |pending: &Pending| pending.admission.job.options.input.is_some();
        self.cancels.is_empty() && !self.admissions.iter().any(reads_upload)
    }
}

impl Conductor {
    pub(super) async fn commit(&mut self, batch: &Batch) -> Result<Outcome, DbError> {
        let head = self.audit_head.take();
        if head.is_some() && batch.is_plain() {
            let mut record = Record::begin(self, batch).await?;
            record.head = head;
            match record.write(self, batch).await {
                // Somebody else has recorded meanwhile, or this was asked for before: then it has to
                // be known which, and nothing was done.
                Err(error) if error.constraint().is_some() => {}
                Err(error) => return Err(error),
                Ok((outcome, head)) => {
                    self.audit_head = head;
                    return Ok(outcome);
                }
            }
        }
        let mut record = Record::begin(self, batch).await?;
        record.ask(&batch.admissions).await?;
        let (outcome, head) = record.write(self, batch).await?;
        self.audit_head = head;
        Ok(outcome)
    }
}

/// A commit that is being written.
struct Record<'b> {
    tx: Tx,
    /// The end of the audit, once it is known.
    head: Option<Head>,
    now_us: i64,
    picked: HashMap<OperationId, &'b Arc<Session>>,
    endings: HashMap<OperationId, &'b Ending>,
    /// Requests with a key that were recorded, by principal and key.
    known: HashMap<(&'b str, &'b str), Asked>,
    outcome: Outcome,
}

impl<'b> Record<'b> {
    async fn begin(conductor: &Conductor, batch: &'b Batch) -> Result<Self, DbError> {
        Ok(Self {
            tx: conductor.db.begin_later().await?,
            head: None,
            now_us: conductor.clock.micros(),
            picked: batch.picked.iter().map(|(id, session)| (*id, session)).collect(),
            endings: batch.endings.iter().map(|(id, ending)| (*id, ending)).collect(),
            known: HashMap::new(),
            outcome: Outcome::default(),
        })
    }

    /// Which of the keys were used before.
    async fn ask(&mut self, admissions: &'b [Pending]) -> Result<(), DbError> {
        let mut sent = Vec::new();
        for Pending { admission, .. } in admissions {
            if let Some((key, _)) = &admission.key {
                let principal = &*admission.job.principal;
                sent.push((principal, &**key, store::ask_key(&mut self.tx, principal, key)?));
            }
        }
        if sent.is_empty() {
            return Ok(());
        }
        let answers = self.tx.send().await?;
        for (principal, key, sent) in sent {
            if let Some(asked) = store::read_key_answer(&answers, sent)? {
                self.known.insert((principal, key), asked);
            }
        }
        Ok(())
    }

    /// Writes all of it and commits. With it comes the end of the audit, where it is known.
    async fn write(
        mut self,
        conductor: &Conductor,
        batch: &'b Batch,
    ) -> Result<(Outcome, Option<Head>), DbError> {
        for pending in &batch.admissions {
            let admitted = self.admit(&pending.admission).await?;
            self.outcome.admitted.push(admitted);
        }
        if !batch.cancels.is_empty() {
            self.tx.send().await?;
        }
        for cancel in &batch.cancels {
            let found = self.cancel(conductor, cancel).await?;
            self.outcome.cancel_found.push(found);
        }
        let (tx, now_us) = (&mut self.tx, self.now_us);
        let mut marks: Vec<(OperationId, Sent)> = Vec::new();
        for (id, session) in self.picked {
            let sent = store::mark_sent(tx, id, &session.boot_id, session.journal, now_us)?;
            marks.push((id, sent));
        }
        let mut jobs = batch.unfinished.clone();
        jobs.extend(self.outcome.ended.iter().map(|row| row.job_id));
        let mut ends = Vec::new();
        for (id, ending) in self.endings {
            jobs.extend(conductor.book.operations.get(&id).map(|operation| operation.job));
            ends.push(store::finish_later(tx, id, ending, None, now_us)?);
        }
        let mut finished = Vec::new();
        for job in jobs {
            finished.push(store::finish_job_later(tx, job, now_us)?);
        }
        let answers = self.tx.commit_answered().await?;
        let mut outcome = self.outcome;
        let unsent = marks.into_iter().filter(|(_, sent)| answers.changed(*sent) != 1);
        outcome.unsent.extend(unsent.map(|(id, _)| id));
        for sent in ends {
            outcome.ended.extend(store::read_answer(&answers, sent)?);
        }
        for sent in finished {
            outcome.jobs_done.extend(store::read_job_end(&answers, sent)?);
        }
        Ok((outcome, self.head))
    }

    /// Writes a job with its operations in the states they are in by now.
    async fn admit(
        &mut self,
        admission: &'b Admission,
    ) -> Result<Result<(JobRow, Vec<OperationRow>), Refused>, DbError> {
        let mut job = admission.job.clone();
        if let Some(refused) = self.refuse(admission).await? {
            // It was given places before this was known; they are taken back with it.
            for row in &admission.operations {
                self.picked.remove(&row.id);
                self.endings.remove(&row.id);
            }
            return Ok(Err(refused));
        }
        let mut rows = admission.operations.clone();
        for row in &mut rows {
            if let Some(session) = self.picked.remove(&row.id) {
                row.state = OperationState::Sent;
                row.boot_id = Some(session.boot_id.clone());
                row.journal_id = Some(session.journal);
                row.sent_us = Some(self.now_us);
            } else if let Some(ending) = self.endings.remove(&row.id) {
                row.state = ending.state;
                row.finished_us = Some(self.now_us);
                row.reason = ending.reason.as_ref().map(|reason| Reason {
                    code: reason.code.clone(),
                    message: reason.message.clone(),
                });
            }
        }
        if rows.iter().all(|row| row.state.is_terminal()) {
            job.state = JobState::Failed;
            job.finished_us = Some(self.now_us);
            self.outcome.jobs_done.push(JobEnd {
                job: job.id,
                state: job.state,
                finished: Time::from_micros(self.now_us),
                cancel_requested: None,
            });
        }
        store::insert_job(&mut self.tx, &job, admission.key.as_ref())?;
        store::insert_operations(&mut self.tx, &rows)?;
        if let OperationRequest::OpenTerminal(asked) = redacted(&job.operation) {
            for row in &rows {
                let (tx, now_us) = (&mut self.tx, self.now_us);
                terminals::store::insert(tx, row.id, &job.principal, &asked, now_us)?;
            }
        }
        let entry = audit::Entry {
            principal: &job.principal,
            action: "job.create",
            target: &format!("job:{}", job.id),
            detail: admission.detail.clone(),
        };
        audit::record_later(&mut self.tx, &mut self.head, &entry).await?;
        Ok(Ok((job, rows)))
    }

    /// Why a job is not to be recorded, if it is not.
    async fn refuse(&mut self, admission: &'b Admission) -> Result<Option<Refused>, DbError> {
        let key = admission.key.as_ref();
        let key = key.map(|(key, hash)| ((&*admission.job.principal, &**key), hash.to_vec()));
        if let Some((key, hash)) = &key
            && let Some(before) = self.known.get(key)
        {
            return Ok(Some(if before.hash == *hash {
                Refused::Existing(before.job)
            } else {
                Refused::With(ApiError::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "idempotency_mismatch",
                    "this Idempotency-Key was used for another request; use a new key",
                ))
            }));
        }
        if let Some(input) = &admission.job.options.input
            && !store::use_upload(&mut self.tx, input.upload, self.now_us).await?
        {
            return Ok(Some(Refused::With(uploads::not_found(input.upload))));
        }
        if let Some((key, hash)) = key {
            self.known.insert(key, Asked { job: admission.job.id, hash });
        }
        Ok(None)
    }

    async fn cancel(&mut self, conductor: &Conductor, cancel: &Cancel) -> Result<bool, DbError> {
        let (tx, now_us, book) = (&mut self.tx, self.now_us, &conductor.book);
        let (target, ids) = match cancel.target {
            CancelTarget::Job(job) => {
                if !store::request_job_cancel(tx, job, now_us).await? {
                    return Ok(false);
                }
                let of_job = book.operations.iter().filter(|(_, operation)| operation.job == job);
                (format!("job:{job}"), of_job.map(|(id, _)| *id).collect())
            }
            CancelTarget::Operation(id) => (format!("operation:{id}"), vec![id]),
        };
        let mut found = matches!(cancel.target, CancelTarget::Job(_));
        for id in ids {
            let Some(operation) = book.operations.get(&id) else { continue };
            found = true;
            // Its turn has come in this very batch: it was not sent yet, and now it is not.
            let unsent = self.picked.remove(&id).is_some();
            if unsent {
                self.outcome.unsent.insert(id);
            }
            if unsent || matches!(operation.phase, Phase::Pending | Phase::Waiting) {
                let ending = Ending::decided(
                    OperationState::Cancelled,
                    "cancelled",
                    format!("cancelled before it started: {}", cancel.reason),
                );
                self.outcome.ended.extend(store::finish(tx, id, &ending, None, now_us).await?);
            } else if store::request_cancel(tx, id, &cancel.reason, now_us).await?.is_some() {
                self.outcome.cancelled.push((id, cancel.reason.clone()));
            }
        }
        if found {
            let entry = audit::Entry {
                principal: &cancel.principal,
                action: "job.cancel",
                target: &target,
                detail: serde_json::json!({ "reason": cancel.reason }),
            };
            audit::record_later(tx, &mut self.head, &entry).await?;
            tx.send().await?;
        }
        Ok(found)
    }
}
