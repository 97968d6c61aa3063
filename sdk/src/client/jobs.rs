//! Jobs and their operations.

use reeve_protocol::{JobId, OperationId};
use uuid::Uuid;

use super::{Client, Paging};
use crate::api::{
    CancelRequest, ExecuteCommandRequest, Explained, Job, JobPreview, JobRequest, JobState,
    Operation, OperationRequest, OperationState, Page, Rollout, SignalRequest,
};
use crate::{Error, Follow, OutputStream, Which};

/// A request to run a program with every option at its default.
#[must_use]
pub fn command(
    selector: impl Into<String>,
    argv: impl IntoIterator<Item = impl Into<String>>,
) -> JobRequest {
    JobRequest {
        selector: selector.into(),
        operation: OperationRequest::ExecuteCommand(ExecuteCommandRequest {
            argv: Some(argv.into_iter().map(Into::into).collect()),
            ..Default::default()
        }),
        rollout: Rollout::default(),
        wait_ms: None,
        output_limit: None,
        dry_run: false,
        input: None,
        output_to: None,
        relay: false,
        redact: false,
    }
}

impl Client {
    /// Submits a job and follows it on the same connection. Nothing is sent before the first
    /// [`Follow::next`]. With [`JobRequest::relay`] a connection that breaks is not resumed:
    /// [`Error::RelayBroken`].
    ///
    /// # Errors
    /// When the request cannot be written.
    pub fn run(&self, request: &JobRequest) -> Result<Follow, Error> {
        let call = self
            .post(&["api", "jobs"])
            .json(request)?
            .accept(crate::api::follow::MEDIA_TYPE)
            .idempotency_key(random_key());
        Ok(Follow::submit(self.clone(), call, request.relay))
    }

    /// Submits a job and comes back as soon as it is recorded.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_job(&self, request: &JobRequest) -> Result<Job, Error> {
        self.post(&["api", "jobs"]).json(request)?.idempotency_key(random_key()).fetch().await
    }

    /// Which machines a job would go to.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn preview_job(&self, request: &JobRequest) -> Result<JobPreview, Error> {
        let request = JobRequest { dry_run: true, ..request.clone() };
        self.post(&["api", "jobs"]).json(&request)?.repeatable().fetch().await
    }

    /// Follows a job from the start of its output.
    #[must_use]
    pub fn follow(&self, job: JobId) -> Follow {
        Follow::existing(self.clone(), job, false)
    }

    /// Follows the states of a job without its output.
    #[must_use]
    pub fn follow_states(&self, job: JobId) -> Follow {
        Follow::existing(self.clone(), job, true)
    }

    /// Jobs, newest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn jobs(&self, state: Option<JobState>, paging: &Paging) -> Result<Page<Job>, Error> {
        let state = state.map(|state| match state {
            JobState::Running => "running",
            JobState::Succeeded => "succeeded",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        });
        self.get(&["api", "jobs"]).query("state", state).page(paging).fetch().await
    }

    /// One job.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn job(&self, id: JobId) -> Result<Job, Error> {
        self.get(&["api", "jobs", &id.to_string()]).fetch().await
    }

    /// The operations of a job.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn job_operations(
        &self,
        id: JobId,
        state: Option<OperationState>,
        paging: &Paging,
    ) -> Result<Page<Operation>, Error> {
        self.get(&["api", "jobs", &id.to_string(), "operations"])
            .query("state", state.map(OperationState::as_str))
            .page(paging)
            .fetch()
            .await
    }

    /// Asks for the end of a job; its operations end a little later.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cancel_job(&self, id: JobId, reason: &str) -> Result<Job, Error> {
        let request = CancelRequest { reason: reason.to_owned() };
        self.post(&["api", "jobs", &id.to_string(), "cancel"])
            .json(&request)?
            .repeatable()
            .fetch()
            .await
    }

    /// One operation.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn operation(&self, id: OperationId) -> Result<Operation, Error> {
        self.get(&["api", "operations", &id.to_string()]).fetch().await
    }

    /// Asks for the end of an operation.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cancel_operation(
        &self,
        id: OperationId,
        reason: &str,
    ) -> Result<Operation, Error> {
        let request = CancelRequest { reason: reason.to_owned() };
        self.post(&["api", "operations", &id.to_string(), "cancel"])
            .json(&request)?
            .repeatable()
            .fetch()
            .await
    }

    /// Sends a signal to an operation's processes.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn signal_operation(
        &self,
        id: OperationId,
        request: SignalRequest,
    ) -> Result<(), Error> {
        self.post(&["api", "operations", &id.to_string(), "signal"])
            .json(&request)?
            .send()
            .await
            .map(drop)
    }

    /// What a running operation waits for. Takes a few seconds.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn explain_operation(&self, id: OperationId) -> Result<Explained, Error> {
        self.post(&["api", "operations", &id.to_string(), "explain"]).fetch().await
    }

    /// The bytes an operation wrote, from an offset on; with `follow`, until it ends.
    #[must_use]
    pub fn output(&self, id: OperationId, which: Which, from: u64, follow: bool) -> OutputStream {
        OutputStream::new(self.clone(), id, which, from, follow)
    }
}

/// Names one submission. Random, so that nobody's submission is taken for another's.
fn random_key() -> String {
    Uuid::new_v4().to_string()
}
