//! Why does it hang? Another operation, through the same door, that asks the machine what a running
//! command waits for.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use reeve_protocol::ops::Findings;
use reeve_protocol::ops::explain_operation::MAX_FINDINGS_BYTES;
use reeve_protocol::{JobId, OperationId, Stream};
use reeve_sdk::api::{
    ExplainOperationRequest, JobRequest, OperationRequest, OperationState, Rollout,
};

use super::output::{Part, StreamChoice};
use super::row::OperationRow;
use super::submit::{Asking, Submitted};
use super::{Operations, not_running, offline};
use crate::events::Change;
use crate::machines::Known;
use crate::problem::ApiError;
use crate::users::Principal;

/// The agent looks twice within half a second; the rest is for a slow link and a busy disk.
const TIME_LIMIT: Duration = Duration::from_secs(20);

impl Operations {
    /// Only what runs can be looked at, and only where it runs.
    pub(super) async fn check_explained(
        &self,
        principal: &Principal,
        id: OperationId,
        targets: &[Arc<Known>],
    ) -> Result<(), ApiError> {
        let row = self.find(principal, id).await?;
        if row.state.is_terminal() {
            return Err(not_running(&row));
        }
        match targets {
            [target] if target.id == row.machine_id => Ok(()),
            _ => Err(ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "wrong_machine",
                format!("operation {id} is on '{}'; ask that machine alone", row.machine),
            )),
        }
    }

    /// Asks the machine what a running operation waits for, and waits for the answer: the
    /// machine's name, and what it found. Text in that is a stranger's.
    ///
    /// # Errors
    /// 404 and 409 when there is nothing to look at, 504 when the machine does not answer in time.
    pub(crate) async fn explain(
        &self,
        principal: &Principal,
        id: OperationId,
    ) -> Result<(String, Findings), ApiError> {
        let row = self.find(principal, id).await?;
        if row.state != OperationState::Running {
            return Err(not_running(&row));
        }
        if self.0.fleet.find(row.machine_id).is_none() {
            return Err(offline(&row));
        }
        let known = self.0.machines.registry().find(row.machine_id).ok_or_else(|| offline(&row))?;
        let request = JobRequest {
            selector: known.name.clone(),
            operation: OperationRequest::ExplainOperation(ExplainOperationRequest {
                operation: id,
            }),
            rollout: Rollout::default(),
            wait_ms: None,
            output_limit: None,
            dry_run: false,
            input: None,
            output_to: None,
            relay: false,
            redact: false,
        };
        let Submitted::Job(job) = self.submit(principal, request, Asking::default()).await? else {
            return Err(ApiError::internal("a job was only previewed"));
        };
        let asked = job.single.map(|operation| operation.id).ok_or_else(|| {
            ApiError::internal("a job for one machine has other than one operation")
        })?;
        let ended = tokio::time::timeout(TIME_LIMIT, self.wait_for_end(job.id, asked)).await;
        let Ok(ended) = ended else {
            let _ = self.cancel_operation(principal, asked, "it took too long").await;
            return Err(ApiError::new(
                StatusCode::GATEWAY_TIMEOUT,
                "no_answer",
                format!("'{}' did not answer in time; the command goes on", known.name),
            ));
        };
        let findings = self.read_findings(&ended?, &known.name).await?;
        Ok((known.name.clone(), findings))
    }

    /// Waits for an operation's end; whoever calls it sets a limit.
    async fn wait_for_end(&self, job: JobId, id: OperationId) -> Result<OperationRow, ApiError> {
        // Before the first look, so that no change falls in between.
        let mut changes = self.0.hub.watch_job(job);
        loop {
            let row = self.load(id).await?;
            if let Some(row) = row.filter(|row| row.state.is_terminal()) {
                return Ok(row);
            }
            loop {
                match changes.recv().await {
                    Ok(Change::Output { .. }) => {}
                    Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => break,
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => {
                        return Err(ApiError::draining());
                    }
                }
            }
        }
    }

    async fn read_findings(&self, row: &OperationRow, machine: &str) -> Result<Findings, ApiError> {
        let unexplained =
            |detail: String| ApiError::new(StatusCode::CONFLICT, "unexplained", detail);
        if row.state != OperationState::Succeeded {
            let reason = row.to_api().reason;
            let (code, why) = reason
                .map_or((String::new(), String::new()), |reason| (reason.code, reason.message));
            return Err(match code.as_str() {
                "not_running" => ApiError::new(
                    StatusCode::CONFLICT,
                    "not_running",
                    format!("the command on '{machine}' has just ended"),
                ),
                _ => unexplained(format!("'{machine}' could not look: {why}")),
            });
        }
        let mut reader = self.reader(row.id, StreamChoice::Only(Stream::Stdout), 0);
        let mut bytes = Vec::new();
        loop {
            let parts =
                reader.next(row.durable, MAX_FINDINGS_BYTES).await.map_err(ApiError::internal)?;
            if parts.is_empty() || bytes.len() > MAX_FINDINGS_BYTES {
                break;
            }
            for part in parts {
                if let Part::Bytes { bytes: more, .. } = part {
                    bytes.extend_from_slice(&more);
                }
            }
        }
        serde_json::from_slice(&bytes).map_err(|error| {
            unexplained(format!("'{machine}' gave an answer that makes no sense: {error}"))
        })
    }
}
