//! From what the API was asked to what goes over the wire.

use http::StatusCode;
use reeve_protocol::CodecError;
use reeve_protocol::limits;
use reeve_protocol::ops::{
    AnyWork, Command, Effect, ExecuteCommand, ExplainOperation, InvalidCommand, InvalidWork,
    Operation as _, Stdin,
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
    /// Something in what a worker is to do.
    #[error(transparent)]
    Work(#[from] InvalidWork),
    /// It cannot be written down.
    #[error(transparent)]
    Codec(#[from] CodecError),
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
    /// What a worker does.
    Work(WorkBody),
}

/// What a worker is to do, as far as the coordinator has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkBody {
    name: &'static str,
    encoded: Vec<u8>,
    has_stdin: bool,
    /// What it may do to the machine.
    pub effect: Effect,
    /// It, in a few words.
    pub about: String,
}

impl WorkBody {
    fn new(work: &dyn AnyWork) -> Result<Self, InvalidOperation> {
        work.validate()?;
        Ok(Self {
            name: work.name(),
            encoded: work.encode()?,
            has_stdin: work.has_stdin(),
            effect: work.effect(),
            about: work.describe(),
        })
    }
}

/// What an operation takes up on its machine. Each lane has places and a queue of its own: a machine
/// on which every command hangs can still be asked why, and long transfers keep no command waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// The agent does it itself within seconds.
    Answer,
    /// A worker does it.
    Work,
    /// A command of the machine's.
    Command,
}

impl Body {
    /// The operation's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::ExecuteCommand(_) => ExecuteCommand::NAME,
            Self::ExplainOperation(_) => ExplainOperation::NAME,
            Self::Work(work) => work.name,
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
            Self::Work(work) => Ok(work.encoded.clone()),
        }
    }

    /// Whether stdin will be sent.
    #[must_use]
    pub fn has_stdin(&self) -> bool {
        match self {
            Self::ExecuteCommand(command) => command.stdin == Stdin::Stream,
            Self::ExplainOperation(_) => false,
            Self::Work(work) => work.has_stdin,
        }
    }

    /// What it takes up on its machine.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Self::ExecuteCommand(_) => Lane::Command,
            Self::ExplainOperation(_) => Lane::Answer,
            Self::Work(_) => Lane::Work,
        }
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
        request => match request.as_work() {
            Some(work) => Ok(Body::Work(WorkBody::new(work)?)),
            None => Err(InvalidOperation::OneCommand),
        },
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
