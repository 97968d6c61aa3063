//! From what the API was asked to what goes over the wire.

use http::StatusCode;
use reeve_protocol::CodecError;
use reeve_protocol::limits;
use reeve_protocol::ops::{
    Command, ExecuteCommand, ExplainOperation, InvalidCommand, Operation as _, Stdin,
};
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Run a command.
    ExecuteCommand(Box<ExecuteCommand>),
    /// Look at a running command.
    ExplainOperation(ExplainOperation),
}

impl Body {
    /// The operation's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::ExecuteCommand(_) => ExecuteCommand::NAME,
            Self::ExplainOperation(_) => ExplainOperation::NAME,
        }
    }

    /// Its bytes on the wire.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        match self {
            Self::ExecuteCommand(command) => reeve_protocol::encode(command),
            Self::ExplainOperation(question) => reeve_protocol::encode(question),
        }
    }

    /// Whether stdin will be sent.
    #[must_use]
    pub fn has_stdin(&self) -> bool {
        match self {
            Self::ExecuteCommand(command) => command.stdin == Stdin::Stream,
            Self::ExplainOperation(_) => false,
        }
    }

    /// Whether the agent does it itself within seconds. Such a one waits for no place among the
    /// commands of its machine: it tells why they hang.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::ExplainOperation(_))
    }
}

/// Builds it.
///
/// # Errors
/// What is wrong with what was asked.
pub fn build(request: &OperationRequest) -> Result<Body, InvalidOperation> {
    match request {
        OperationRequest::ExecuteCommand(request) => {
            Ok(Body::ExecuteCommand(Box::new(build_command(request)?)))
        }
        OperationRequest::ExplainOperation(request) => {
            Ok(Body::ExplainOperation(ExplainOperation { operation: request.operation }))
        }
    }
}

fn build_command(request: &ExecuteCommandRequest) -> Result<ExecuteCommand, InvalidOperation> {
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
    build(request)?.encode().map_err(ApiError::internal)
}
