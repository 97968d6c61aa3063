//! From what the API was asked to what goes over the wire.

use http::StatusCode;
use reeve_protocol::limits;
use reeve_protocol::ops::{Command, ExecuteCommand, InvalidCommand, Stdin};
use reeve_sdk::api::{ExecuteCommandRequest, OperationRequest};

use crate::problem::ApiError;

/// What is wrong with a request's operation.
#[derive(Debug, thiserror::Error)]
pub enum InvalidOperation {
    /// Two commands, or none.
    #[error("give either argv (a program and its arguments) or shell (a line), and not both")]
    OneCommand,
    /// Something in it.
    #[error(transparent)]
    Command(#[from] InvalidCommand),
}

impl From<InvalidOperation> for ApiError {
    fn from(error: InvalidOperation) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_operation", error.to_string())
    }
}

/// The wire's body for what was asked, checked.
///
/// # Errors
/// What is wrong with it.
pub fn build(request: &OperationRequest) -> Result<ExecuteCommand, InvalidOperation> {
    let OperationRequest::ExecuteCommand(request) = request;
    let ExecuteCommandRequest {
        argv,
        shell,
        user,
        cwd,
        env,
        stdin,
        timeout_ms,
        grace_ms,
        spool_full,
        leftovers,
        mode,
        network,
        redact,
    } = request;
    let command = match (argv, shell) {
        (Some(argv), None) => Command::Argv(argv.clone()),
        (None, Some(line)) => Command::Shell(line.clone()),
        _ => return Err(InvalidOperation::OneCommand),
    };
    let default_grace = u64::try_from(limits::DEFAULT_GRACE.as_millis()).unwrap_or(5000);
    let command = ExecuteCommand {
        user: user.clone(),
        cwd: cwd.clone(),
        env: env.clone(),
        stdin: if *stdin { Stdin::Stream } else { Stdin::Null },
        timeout_ms: *timeout_ms,
        grace_ms: grace_ms.unwrap_or(default_grace),
        spool_full: *spool_full,
        leftovers: *leftovers,
        mode: *mode,
        network: *network,
        redact: *redact,
        ..ExecuteCommand::new(command)
    };
    command.validate()?;
    Ok(command)
}

/// The encoded bytes that go into a request's body for what was asked: what an approval is bound to.
///
/// # Errors
/// 422 with what is wrong with it.
pub fn encode(request: &OperationRequest) -> Result<Vec<u8>, ApiError> {
    reeve_protocol::encode(&build(request)?).map_err(ApiError::internal)
}
