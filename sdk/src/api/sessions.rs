//! Terminals that people have open on machines, or had.

use reeve_protocol::{JobId, MachineId, OperationId};
use serde::{Deserialize, Serialize};

use super::{OperationState, Time};

/// A terminal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TerminalSession {
    /// The id of its operation.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub id: OperationId,
    /// Its job's id.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub job_id: JobId,
    /// Its machine's id.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub machine_id: MachineId,
    /// Its machine's name when it was opened.
    pub machine: String,
    /// Where it stands; `running` is open.
    pub state: OperationState,
    /// Whether its machine has a session now; only while it has not ended.
    pub reachable: Option<bool>,
    /// Who opened it.
    pub opened_by: String,
    /// As whom; left out: the agent's own user.
    pub user: Option<String>,
    /// What runs on it, when that is not the user's shell.
    pub command: Option<Vec<String>>,
    /// When it was asked for.
    pub opened: Time,
    /// When its end became durable.
    pub finished: Option<Time>,
    /// The shell's exit code.
    pub exit_code: Option<i32>,
    /// Characters in a line, now.
    pub columns: u16,
    /// Lines, now.
    pub rows: u16,
    /// Bytes shown so far.
    pub shown: u64,
    /// Whether what was shown is kept after its end.
    pub recorded: bool,
    /// Who is connected to it now.
    pub viewers: Vec<SessionViewer>,
}

/// Somebody who is connected to a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionViewer {
    /// Who.
    pub principal: String,
    /// Whether they can type.
    pub types: bool,
    /// Since when.
    pub since: Time,
}

/// Where a piece of what somebody typed belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct TypedPiece {
    /// Who types, by a random id of their own; several may, each with one.
    #[cfg_attr(feature = "openapi", param(value_type = String, format = "uuid"))]
    pub typist: uuid::Uuid,
    /// Bytes they had typed before this piece.
    pub offset: u64,
    /// `seen` of the last answer, so that a restart of the coordinator loses and doubles nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
}

/// The answer to a piece of what was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Typed {
    /// Bytes of this typist that have safely arrived; the next piece starts here.
    pub taken: u64,
    /// Bytes of everybody that have arrived.
    pub seen: Option<u64>,
    /// The terminal takes no more.
    pub closed: bool,
}
