//! Steps of a plan, their tries, and what was concluded of them.

use std::collections::BTreeMap;

use reeve_protocol::ops::{Effect, Findings, Mode, Network};
use reeve_protocol::{ApprovalId, JobId, OperationId, Stream};
use serde::{Deserialize, Serialize};

use super::{OperationRequest, Reason, Time};

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Subtask {
    /// Counts from 1 within the task; never changes.
    pub number: u32,
    /// Machines by name; a part of the task's.
    pub machines: Vec<String>,
    /// What runs.
    pub command: PlannedCommand,
    /// What for.
    pub purpose: String,
    /// What a good result looks like.
    pub expected: String,
    /// As computed from the command; a model can only raise it.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub effect: Effect,
    /// Why it has that effect.
    pub effect_reasons: Vec<String>,
    /// What would take it back.
    pub undo: Option<String>,
    /// Numbers of steps that have to be met before.
    pub depends_on: Vec<u32>,
    /// Where it stands.
    pub state: SubtaskState,
    /// Why, when that needs saying.
    pub reason: Option<Reason>,
    /// Yeses it waits for, or got.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub approvals: Vec<ApprovalId>,
    /// Its tries; the first is the planned command, the others alternatives.
    pub attempts: Vec<Attempt>,
}

/// What a step of a plan does: a command or an operation. Exactly one of `argv`, `shell` and
/// `operation`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PlannedCommand {
    /// Program and arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// A line for `/bin/sh -c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// An operation that needs no shell, such as one on files; nothing else here is about it but
    /// `timeout_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Box<OperationRequest>>,
    /// As whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Added to the environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Ends after this long, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// `inspect` or `normal`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub mode: Mode,
    /// In inspect mode: `none`, `view` or `use`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub network: Network,
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SubtaskState {
    /// Waits for the steps it depends on.
    Waiting,
    /// Waits for a yes.
    AwaitingApproval,
    /// An attempt runs.
    Running,
    /// Its result is being judged.
    Judging,
    /// It did what was expected.
    Met,
    /// It did not.
    NotMet,
    /// What it did could not be shown by evidence.
    Inconclusive,
    /// Not run: a step it depends on was not met, or nobody needs it any more.
    Skipped,
    /// Policy or a person said no.
    Refused,
    /// It was cancelled.
    Cancelled,
}

impl SubtaskState {
    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Waiting | Self::AwaitingApproval | Self::Running | Self::Judging)
    }
}

/// One try of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attempt {
    /// Counts from 1 within the step.
    pub number: u32,
    /// What runs.
    pub command: PlannedCommand,
    /// Why this and not the one before; empty for the first.
    pub why: String,
    /// The jobs it became. More than one when machines differ in what they need (inspect mode here,
    /// a yes there).
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub jobs: Vec<JobId>,
    /// When it started.
    pub started: Option<Time>,
    /// When all of it had ended and was judged.
    pub finished: Option<Time>,
    /// Machines whose results are alike (times, pids and names aside), largest group first.
    pub groups: Vec<Group>,
    /// Commands that hung, and what was found out.
    #[serde(default)]
    pub stalls: Vec<Stall>,
}

/// Machines with the same result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Group {
    /// Their names.
    pub machines: Vec<String>,
    /// The operation that stands for them.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub operation: OperationId,
    /// How it ended, as an operation's state.
    pub state: super::OperationState,
    /// Its exit code.
    pub exit_code: Option<i32>,
    /// A small group beside a large one: look here first.
    pub outlier: bool,
    /// What was concluded.
    pub verdict: Option<Verdict>,
    /// The beginning and end of its output, for people.
    pub excerpt: String,
}

/// Whether a step did what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum VerdictOutcome {
    /// It did.
    Met,
    /// It did not.
    NotMet,
    /// The evidence does not say, or does not stand where it was claimed to.
    Inconclusive,
}

/// A conclusion with its evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Verdict {
    /// Which.
    pub outcome: VerdictOutcome,
    /// Output it rests on, each verified to stand where it says.
    pub evidence: Vec<Quote>,
    /// Why, in a sentence or two.
    pub reason: String,
    /// `rules`, or `provider/model`.
    pub by: String,
    /// Exit code and output do not say the same; this is how.
    pub disagreement: Option<String>,
}

/// Bytes of an operation's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Quote {
    /// Whose output.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub operation: OperationId,
    /// Its machine's name.
    pub machine: String,
    /// `stdout` or `stderr`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub stream: Stream,
    /// Offset of the first byte in its stream.
    pub from: u64,
    /// Offset behind the last byte.
    pub to: u64,
    /// What stands there (invalid UTF-8 replaced).
    pub quote: String,
}

/// Why a command hangs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stall {
    /// Which command.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub operation: OperationId,
    /// On which machine.
    pub machine: String,
    /// When it was looked at.
    pub at: Time,
    /// How long there had been no output, milliseconds.
    pub silent_ms: u64,
    /// Stable, for programs: `waits_for_password`, `waits_for_input`, `waits_for_lock`,
    /// `uninterruptible`, `connecting`, `waits_for_reply`, `waits_for_peer`, `waits_for_event`,
    /// `listening`, `output_blocked`, `busy`, `working`, `sleeping`, `stopped`, `zombies`,
    /// `waits_for_child`, `unknown`.
    pub cause: String,
    /// What was found, for people, with the facts it rests on.
    pub explanation: String,
    /// Facts, one a line, such as `pid 4711 apt-get: state S, wchan do_wait`.
    pub facts: Vec<String>,
    /// What is best done.
    pub advice: StallAdvice,
    /// `rules`, or `provider/model`.
    pub by: String,
}

/// The answer to the question why a command hangs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Explained {
    /// What was made of it.
    pub stall: Stall,
    /// Whether fixed rules are sure of it.
    pub confident: bool,
    /// Everything that the machine said. Names, commands and output in it are a stranger's text.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub findings: Findings,
}

/// What to do about a command that hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StallAdvice {
    /// It will go on by itself.
    Wait,
    /// It wants something a person can give.
    Answer,
    /// It will not come to an end.
    Kill,
}
