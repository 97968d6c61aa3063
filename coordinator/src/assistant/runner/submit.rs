//! From a planned command to a job.

use reeve_protocol::ops::Mode;
use reeve_protocol::{JobId, TaskId};
use reeve_sdk::api::{
    ExecuteCommandRequest, JobRequest, OperationRequest, PlannedCommand, Rollout,
};

use super::super::record::{MachineRef, Part, Try};
use super::{Runner, Stop};
use crate::operations::{Asking, Submitted};
use crate::problem::ApiError;

/// Put into every command's environment: nothing may wait for somebody to press a key, and output
/// is the same everywhere.
pub(super) const ENVIRONMENT: [(&str, &str); 6] = [
    ("PAGER", "cat"),
    ("GIT_PAGER", "cat"),
    ("SYSTEMD_PAGER", ""),
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("LC_ALL", "C.UTF-8"),
    ("TERM", "dumb"),
];

/// Output kept of one command, bytes: what is longer is read by nobody.
const OUTPUT_LIMIT: u64 = 64 * 1024 * 1024;

/// What runs, byte for byte. Follows from the record alone.
pub(super) fn operation(command: &PlannedCommand, mode: Mode) -> OperationRequest {
    if let Some(operation) = &command.operation {
        return (**operation).clone();
    }
    let mut env: std::collections::BTreeMap<String, String> =
        ENVIRONMENT.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    env.extend(command.env.clone());
    OperationRequest::ExecuteCommand(ExecuteCommandRequest {
        argv: command.argv.clone(),
        shell: command.shell.clone(),
        user: command.user.clone(),
        cwd: command.cwd.clone(),
        env,
        timeout_ms: command.timeout_ms,
        mode,
        network: match mode {
            Mode::Inspect => command.network,
            Mode::Normal => reeve_protocol::ops::Network::None,
        },
        // A model may read it, and so may everybody who sees the task.
        redact: true,
        ..ExecuteCommandRequest::default()
    })
}

/// Names a job for good, so that it is found and not started again.
pub(super) fn job_key(task: TaskId, step: u32, number: u32, part: &str) -> String {
    format!("task-{task}-s{step}-a{number}-{part}")
}

impl Runner {
    /// The machines of a part as a selector: their names as they are now.
    pub(super) fn selector(&self, machines: &[MachineRef]) -> String {
        let registry = self.assistant.0.machines.registry();
        let names: Vec<String> = machines
            .iter()
            .map(|each| {
                registry
                    .find(each.id)
                    .map_or_else(|| each.id.to_string(), |known| known.name.clone())
            })
            .collect();
        names.join(",")
    }

    pub(super) fn job_request(&self, part: &Part, command: &PlannedCommand) -> JobRequest {
        JobRequest {
            selector: self.selector(&part.machines),
            operation: operation(command, part.mode),
            rollout: Rollout::default(),
            wait_ms: None,
            output_limit: Some(OUTPUT_LIMIT),
            dry_run: false,
            input: None,
            output_to: None,
            relay: false,
            redact: command.operation.is_some(),
        }
    }

    /// The job of a part that was submitted before, by this coordinator or the one before it.
    pub(super) async fn find_job(&self, key: &str) -> Result<Option<JobId>, Stop> {
        let asker = self.ledger.read(|record| record.task.asker.name.clone()).await;
        loop {
            match self.assistant.0.operations.find_submitted(&asker, key).await {
                Ok(found) => return Ok(found),
                Err(error) => self.wait_out(&error).await?,
            }
        }
    }

    /// Starts a part that needs no yes. A refusal is the part's end.
    pub(super) async fn submit(
        &self,
        step: u32,
        each: &Try,
        part: &Part,
    ) -> Result<Result<JobId, ApiError>, Stop> {
        let key = job_key(self.id, step, each.number, &part.name);
        loop {
            self.check()?;
            let principal = self.principal(&part.machines).await?;
            let request = self.job_request(part, &each.command);
            let asking = Asking { key: Some(key.clone()), id: None };
            match self.assistant.0.operations.submit(&principal, request, asking).await {
                Ok(Submitted::Job(job)) => return Ok(Ok(job.id)),
                Ok(Submitted::Preview(_) | Submitted::Relayed(..)) => {
                    return Ok(Err(ApiError::internal("a job that was no dry run was one")));
                }
                Err(error) if error.status().as_u16() == 503 => self.wait_out(&error).await?,
                Err(error) => return Ok(Err(error)),
            }
        }
    }
}
