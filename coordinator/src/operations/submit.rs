//! From a request to a recorded job: checked, resolved, authorised.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use reeve_protocol::{JobId, MachineId, OperationId, limits};
use reeve_sdk::api::{Job, JobCounts, JobPreview, JobRequest, MachineState, Target, UploadState};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::Operations;
use super::admission::{Particulars, check_key};
use super::approved::Approved;
use super::body::{self, Body};
use super::conductor::{Admission, Admitted, Request};
use super::output::WriterHealth;
use super::relay::{self, Reader};
use super::row::{JobRow, OperationRow};
use super::store;
use crate::machines::Known;
use crate::problem::ApiError;
use crate::users::Principal;

/// The smallest limit of output that leaves room for a head and a tail.
const MIN_OUTPUT_LIMIT: u64 = 64 * 1024;

/// The largest limit of output, bytes.
const MAX_OUTPUT_LIMIT: u64 = 1 << 40;

/// A relayed job without a stream is cancelled unless a channel comes for it by then.
pub(super) const CLAIM_WITHIN: Duration = Duration::from_secs(30);

/// What comes with a request.
#[derive(Default)]
pub(crate) struct Asking {
    /// Its `Idempotency-Key`.
    pub key: Option<String>,
    /// What the job is to be called, where somebody watches it from before its start. It is called
    /// otherwise if it was asked for before.
    pub id: Option<JobId>,
}

/// What came of a request.
pub(crate) enum Submitted {
    /// It was a dry run.
    Preview(JobPreview),
    /// It is recorded, just now or before with the same key.
    Job(Box<Job>),
    /// It is recorded, and its output goes to this reader or is lost.
    Relayed(Box<Job>, Reader),
}

impl Operations {
    /// Records and starts what somebody asks for. When this answers, it is durable.
    ///
    /// # Errors
    /// 404 and 422 when it makes no sense, 503 when nothing can be recorded.
    pub(crate) async fn submit(
        &self,
        principal: &Principal,
        request: JobRequest,
        asking: Asking,
    ) -> Result<Submitted, ApiError> {
        let targets = self.0.machines.resolve(principal, &request.selector)?;
        self.submit_resolved(principal, request, &targets, asking).await
    }

    /// As [`Operations::submit`] on machines that were resolved from the request's selector already,
    /// so that what was judged is what runs.
    ///
    /// # Errors
    /// As [`Operations::submit`].
    pub(crate) async fn submit_resolved(
        &self,
        principal: &Principal,
        request: JobRequest,
        targets: &[Arc<Known>],
        asking: Asking,
    ) -> Result<Submitted, ApiError> {
        let body = self.check(&request, targets.len())?;
        if let Body::ExplainOperation(question) = &body {
            self.check_explained(principal, question.operation, targets).await?;
        }
        if request.dry_run {
            return Ok(Submitted::Preview(self.preview(targets)));
        }
        let input = self.check_input(principal, &request).await?;
        self.check_ready()?;
        let key = asking.key.map(|key| check_key(key, &request)).transpose()?;
        let targets = targets.iter().map(|known| (known.id, &*known.name)).collect::<Vec<_>>();
        let (relayed, to) = (request.relay, request.output_to);
        let id = asking.id.unwrap_or_else(JobId::new);
        let particulars = Particulars { id, key, approval: None, input };
        let admission = self.admission(principal, request, &targets, &body, particulars)?;
        if let Some(to) = to {
            return Box::pin(self.admit_piped(principal, admission, to.operation)).await;
        }
        if relayed {
            return self.admit_relayed(admission).await;
        }
        self.admit(admission).await
    }

    /// Its output goes into stdin of another operation of the same principal.
    async fn admit_piped(
        &self,
        principal: &Principal,
        mut admission: Admission,
        destination: OperationId,
    ) -> Result<Submitted, ApiError> {
        let refused = |code, detail: &str| ApiError::new(StatusCode::CONFLICT, code, detail);
        let source = admission.operations.first().map(|row| row.id).unwrap_or(destination);
        let mouth = self.0.pipes.reserve(source, destination);
        // Looked at only now: an end from here on is noticed.
        let row = self.find(principal, destination).await?;
        let job = store::load_job(&mut *self.0.db.reader().await?, row.job_id).await?;
        let job = job.filter(|job| job.principal == principal.name).ok_or_else(|| {
            ApiError::forbidden("the operation output would go to is somebody else's")
        })?;
        if !body::build(&job.operation)?.has_stdin() || job.options.input.is_some() {
            return Err(refused(
                "no_stdin",
                "the operation output would go to takes no stdin, or takes it from an upload",
            ));
        }
        if row.state.is_terminal() {
            return Err(refused("already_ended", "the operation output would go to has ended"));
        }
        let operations = admission.operations.iter().map(|row| row.id);
        let (relays, mut reader) =
            relay::open(admission.job.id, operations, &self.0.closings, &self.0.relay_budget);
        admission.relays = Some(relays);
        // Without a place it is admitted only if it was before, with the same key.
        if mouth.is_none() && admission.key.is_none() {
            reader.finish();
            return Err(taken());
        }
        let Some(mouth) = mouth else {
            reader.finish();
            return self.find_piped(&admission).await;
        };
        match self.admit(admission).await {
            Ok(Submitted::Job(job)) if job.id == reader.job() => {
                mouth.open(reader);
                Ok(Submitted::Job(job))
            }
            other => {
                // Nothing of it was recorded, so there is nothing to cancel.
                reader.finish();
                other
            }
        }
    }

    /// What was asked for before with the same key, while it still fills its destination's place.
    async fn find_piped(&self, admission: &Admission) -> Result<Submitted, ApiError> {
        let Some((key, hash)) = &admission.key else { return Err(taken()) };
        let mut conn = self.0.db.reader().await?;
        let found = store::find_by_key(&mut conn, &admission.job.principal, key).await?;
        drop(conn);
        match found {
            Some(before) if before.hash == hash => {
                Ok(Submitted::Job(Box::new(self.describe_job(before.job).await?)))
            }
            _ => Err(taken()),
        }
    }

    /// Its output has one reader, and that is whoever asks now: asking again cannot be answered.
    async fn admit_relayed(&self, mut admission: Admission) -> Result<Submitted, ApiError> {
        let operations = admission.operations.iter().map(|row| row.id);
        let (relays, mut reader) =
            relay::open(admission.job.id, operations, &self.0.closings, &self.0.relay_budget);
        admission.relays = Some(relays);
        match self.admit(admission).await {
            Ok(Submitted::Job(job)) if job.id == reader.job() => {
                Ok(Submitted::Relayed(job, reader))
            }
            other => {
                // Nothing of it was recorded, so there is nothing to cancel.
                reader.finish();
                other?;
                Err(ApiError::new(
                    StatusCode::CONFLICT,
                    "relay_already_asked",
                    "this was asked for before with the same Idempotency-Key, and what is relayed can be read once; use a new key",
                ))
            }
        }
    }

    /// Records and starts exactly what was approved, on exactly the machines it was approved for:
    /// what has become of one of them meanwhile is that operation's result. `key` makes asking
    /// again safe, for ever. It is none that a request could bring along.
    ///
    /// # Errors
    /// 403 when a machine is no longer within the principal's scope, 409 `approval_mismatch` when
    /// this is not what was approved, 503 when nothing can be recorded.
    pub(crate) async fn submit_approved(
        &self,
        principal: &Principal,
        request: JobRequest,
        targets: &[(MachineId, &str)],
        approved: Approved,
        key: &str,
    ) -> Result<JobId, ApiError> {
        let outside = |id| match self.0.machines.registry().find(id) {
            Some(known) => !principal.scope.matches(known.id, &known.name, &known.labels),
            // It exists for nobody; its operation says so.
            None => false,
        };
        if let Some((_, name)) = targets.iter().find(|(id, _)| outside(*id)) {
            return Err(ApiError::forbidden(format!(
                "'{name}' is not within the scope of {} any more",
                principal.name
            )));
        }
        let body = self.check(&request, targets.len())?;
        if request.relay {
            return Err(ApiError::internal("what was approved cannot be relayed"));
        }
        let input = self.check_input(principal, &request).await?;
        self.check_ready()?;
        let hash = Sha256::digest(serde_json::to_vec(&request).map_err(ApiError::internal)?);
        let particulars = Particulars {
            id: JobId::new(),
            key: Some((key.to_owned(), hash.into())),
            approval: Some(approved),
            input,
        };
        let admission = self.admission(principal, request, targets, &body, particulars)?;
        let machines = targets.iter().map(|(id, _)| *id);
        let fits = admission
            .job
            .approval
            .as_ref()
            .is_some_and(|approved| approved.fits(&admission.work.body, machines));
        if !fits {
            return Err(ApiError::new(
                StatusCode::CONFLICT,
                "approval_mismatch",
                "this is not what was approved; nothing was started",
            ));
        }
        match self.admit(admission).await? {
            Submitted::Job(job) => Ok(job.id),
            Submitted::Preview(_) | Submitted::Relayed(..) => {
                Err(ApiError::internal("a preview of what was approved"))
            }
        }
    }

    /// Keeps the one reader of a relayed job of one operation for the channel that is to come for
    /// it within this time.
    ///
    /// # Errors
    /// 503 when too many wait already; the job is cancelled.
    pub(crate) fn leave_for_channel(
        &self,
        job: &Job,
        mut reader: Reader,
        within: Duration,
    ) -> Result<(), ApiError> {
        let id = job.single.as_ref().map(|single| single.id);
        let id = id.ok_or_else(|| ApiError::internal("a relay of several without a stream"))?;
        reader.set_reason("nobody came in time for what was to be relayed");
        if !self.0.unclaimed.leave(id, reader) {
            return Err(ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_relays",
                "too many relayed operations wait for their channel; try again in half a minute",
            )
            .retry_after(within));
        }
        let (unclaimed, stop) = (self.0.unclaimed.clone(), self.0.tasks.token());
        self.0.tasks.spawn("unclaimed relay", async move {
            tokio::select! {
                () = tokio::time::sleep(within) => {}
                () = stop.cancelled() => {}
            }
            drop(unclaimed.take(id));
        });
        Ok(())
    }

    async fn admit(&self, admission: Admission) -> Result<Submitted, ApiError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Admit(Box::new(admission), reply);
        self.0.requests.send(request).await.map_err(|_| ApiError::draining())?;
        match answer.await.map_err(|_| ApiError::draining())?? {
            Admitted::New(job, rows) => Ok(Submitted::Job(Box::new(self.fresh(&job, &rows)))),
            Admitted::Existing(id) => Ok(Submitted::Job(Box::new(self.describe_job(id).await?))),
        }
    }

    /// A job just recorded, without asking the database for what we have in hand.
    fn fresh(&self, job: &JobRow, rows: &[OperationRow]) -> Job {
        let mut counts = JobCounts::default();
        for row in rows {
            *counts.of(row.state) += 1;
            counts.total += 1;
        }
        let single = match rows {
            [row] => {
                let mut operation = row.to_api();
                self.complete(&mut operation);
                Some(operation)
            }
            _ => None,
        };
        job.to_api(counts, single)
    }

    /// The machines of a request, when it could be submitted.
    ///
    /// # Errors
    /// 404 and 422 when it makes no sense.
    pub(crate) fn check_request(
        &self,
        principal: &Principal,
        request: &JobRequest,
    ) -> Result<Vec<Arc<Known>>, ApiError> {
        let targets = self.0.machines.resolve(principal, &request.selector)?;
        self.check(request, targets.len())?;
        Ok(targets)
    }

    fn check(&self, request: &JobRequest, targets: usize) -> Result<Body, ApiError> {
        let body = body::build(&request.operation)?;
        let invalid = |detail: String| Err(ApiError::invalid(detail));
        if targets > self.0.limits.max_targets as usize {
            return invalid(format!(
                "'{}' matches {targets} machines; a job may have {} (limits.max_targets)",
                request.selector, self.0.limits.max_targets
            ));
        }
        if request.input.is_some() && !body.has_stdin() {
            return invalid(
                "there is an input, and the operation reads no stdin; a command does with \
                 \"stdin\": true"
                    .to_owned(),
            );
        }
        if body.has_stdin() && targets > 1 && request.input.is_none() {
            return invalid(format!(
                "stdin can be sent to one machine, and '{}' matches {targets}; for many, upload it \
                 first (POST /api/uploads) and give it as the job's input",
                request.selector
            ));
        }
        if request.output_to.is_some() && targets != 1 {
            return invalid(format!(
                "the output of one machine can be sent to another, and '{}' matches {targets}",
                request.selector
            ));
        }
        let max_wait = u64::try_from(limits::MAX_WAIT.as_millis()).unwrap_or(u64::MAX);
        if request.wait_ms.is_some_and(|wait| wait == 0 || wait > max_wait) {
            return invalid("wait_ms must be more than 0 and at most 7 days".to_owned());
        }
        if let Some(limit) = request.output_limit
            && !(MIN_OUTPUT_LIMIT..=MAX_OUTPUT_LIMIT).contains(&limit)
        {
            return invalid(format!(
                "output_limit must be between {MIN_OUTPUT_LIMIT} and {MAX_OUTPUT_LIMIT} bytes"
            ));
        }
        super::rollout::Progress::new(&request.rollout, Vec::new()).map_err(|error| {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_rollout", error.to_string())
        })?;
        Ok(body)
    }

    /// The file a job is to read, as the audit tells of it.
    async fn check_input(
        &self,
        principal: &Principal,
        request: &JobRequest,
    ) -> Result<Option<serde_json::Value>, ApiError> {
        let Some(input) = &request.input else { return Ok(None) };
        let kept = self.0.uploads.find(principal, input.upload).await?;
        let progress = kept.progress();
        if progress.state == UploadState::Broken {
            return Err(ApiError::new(
                StatusCode::CONFLICT,
                "upload_broken",
                "that upload is not what was announced, or was not continued in time; nothing was \
                 started; upload it again",
            ));
        }
        Ok(Some(serde_json::json!({
            "upload": input.upload, "size": kept.size, "blake3": progress.blake3,
        })))
    }

    /// New work is refused while it could not be made durable: better a clear no than a maybe.
    pub(crate) fn check_ready(&self) -> Result<(), ApiError> {
        if self.0.tasks.token().is_cancelled() || self.0.fleet.is_draining() {
            return Err(ApiError::draining());
        }
        let (code, detail) = match self.health() {
            WriterHealth::Good => return Ok(()),
            WriterHealth::DatabaseDown => (
                "database_down",
                "the coordinator cannot write to its database; nothing was started; try again later",
            ),
            WriterHealth::DiskFull => (
                "disk_full",
                "the coordinator's disk is full; nothing was started; free some space in its data folder",
            ),
        };
        Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
            .retry_after(Duration::from_secs(5)))
    }

    fn preview(&self, targets: &[Arc<Known>]) -> JobPreview {
        let targets = targets
            .iter()
            .map(|known| Target {
                machine_id: known.id,
                machine: known.name.clone(),
                state: match known.quarantined_us {
                    Some(_) => MachineState::Quarantined,
                    None if self.0.fleet.is_online(known.id) => MachineState::Online,
                    None => MachineState::Offline,
                },
            })
            .collect();
        JobPreview { targets }
    }
}

fn taken() -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        "already_fed",
        "the operation output would go to is being fed from another one already",
    )
}
