//! What is recorded of a request.

use std::sync::Arc;
use std::time::Duration;

use reeve_protocol::{JobId, MachineId};
use reeve_sdk::api::{JobRequest, JobState, OperationRequest};
use sha2::{Digest, Sha256};

use super::Operations;
use super::approved::Approved;
use super::body::Body;
use super::conductor::{Admission, Work};
use super::row::{JobOptions, JobRow, OperationRow};
use crate::problem::ApiError;
use crate::users::Principal;

/// The longest `Idempotency-Key`, bytes.
const MAX_KEY: usize = 255;

/// What a job has besides what was asked.
pub(super) struct Particulars {
    pub id: JobId,
    /// `Idempotency-Key` and the hash of what was asked.
    pub key: Option<(String, [u8; 32])>,
    pub approval: Option<Approved>,
    /// The file it is to read, as the audit tells of it.
    pub input: Option<serde_json::Value>,
}

impl Operations {
    /// What is recorded of a request that was checked.
    pub(super) fn admission(
        &self,
        principal: &Principal,
        request: JobRequest,
        targets: &[(MachineId, &str)],
        body: &Body,
        particulars: Particulars,
    ) -> Result<Admission, ApiError> {
        let Particulars { id, key, approval, input } = particulars;
        let now_us = self.0.clock.micros();
        let work = Work {
            name: body.name(),
            body: body.encode().map_err(ApiError::internal)?,
            stdin: body.has_stdin(),
            lane: body.lane(),
            redact: request.redact,
        };
        let operations = targets
            .iter()
            .zip(0..)
            .map(|((machine, name), ordinal)| {
                OperationRow::new(id, ordinal, *machine, name, now_us)
            })
            .collect();
        // Machine names up to a point: the operations' rows have them all.
        let names: Vec<&str> = targets.iter().take(100).map(|(_, name)| *name).collect();
        let detail = serde_json::json!({
            "selector": request.selector, "operation": redacted(&request.operation),
            "machines": targets.len(), "names": names, "rollout": request.rollout,
            "approval": approval.as_ref().map(|approved| approved.id),
            "input": input, "output_to": request.output_to,
        });
        let job = JobRow {
            id,
            principal: principal.name.clone(),
            selector: request.selector,
            operation: request.operation,
            rollout: request.rollout,
            output_limit: request.output_limit.unwrap_or(self.0.limits.output_limit),
            expires_us: request
                .wait_ms
                .map(|wait| self.0.clock.micros_after(Duration::from_millis(wait))),
            state: JobState::Running,
            created_us: now_us,
            finished_us: None,
            cancel_requested_us: None,
            approval,
            options: JobOptions {
                redact: request.redact,
                relay: request.relay || request.output_to.is_some(),
                input: request.input,
                output_to: request.output_to,
            },
        };
        Ok(Admission { job, operations, work: Arc::new(work), key, detail, relays: None })
    }
}

/// What the audit shows of an operation: values of environment variables are where secrets are.
pub(crate) fn redacted(operation: &OperationRequest) -> OperationRequest {
    let mut operation = operation.clone();
    let env = match &mut operation {
        OperationRequest::ExecuteCommand(command) => &mut command.env,
        OperationRequest::OpenTerminal(terminal) => &mut terminal.env,
        // What workers do holds no secrets.
        _ => return operation,
    };
    for value in env.values_mut() {
        "***".clone_into(value);
    }
    operation
}

/// An `Idempotency-Key` and the hash of what is asked with it.
///
/// # Errors
/// 422 when it is none.
pub(super) fn check_key(key: String, request: &JobRequest) -> Result<(String, [u8; 32]), ApiError> {
    if key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ApiError::invalid(
            "an Idempotency-Key is 1 to 255 visible ASCII characters; a UUID will do",
        ));
    }
    let bytes = serde_json::to_vec(request).map_err(ApiError::internal)?;
    Ok((key, Sha256::digest(bytes).into()))
}
