//! Jobs and their operations.

use std::collections::BTreeMap;

use reeve_protocol::ops::{self, Leftovers, Mode, Network, SpoolFull};
use reeve_protocol::{Containment, Gap, JobId, MachineId, OperationId, SignalName, Usage};
use serde::{Deserialize, Serialize};

use super::{JobInput, MachineState, OutputTo, Time};

/// A command to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExecuteCommandRequest {
    /// Program and arguments, untouched by any shell. Either this or `shell`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// A line for `/bin/sh -c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// As whom; left out: the agent's own user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Absolute directory; left out: the user's home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Environment variables to add.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Whether stdin will be sent, to a single machine or from the job's `input`. Otherwise it is
    /// `/dev/null`.
    #[serde(default)]
    pub stdin: bool,
    /// End it after this long, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Between asking it to end and killing it, milliseconds; 5,000 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// When the machine's spool is full: `block` the command or `drop_middle`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub spool_full: SpoolFull,
    /// Processes it leaves running: `kill` or `keep`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub leftovers: Leftovers,
    /// `normal`, or `inspect`: the kernel lets it change nothing.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub mode: Mode,
    /// In inspect mode, what it has of the network: `none`, `view` (sees it) or `use`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub network: Network,
    /// Replace secrets in its output on the machine, before anything is stored.
    #[serde(default)]
    pub redact: bool,
}

/// What another operation's processes wait for. Changes nothing. Its output is one JSON document,
/// the wire's `Findings`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExplainOperationRequest {
    /// Which one. It has to run, and on the machine that is asked.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub operation: OperationId,
}

macro_rules! operation_request {
    ($($name:ident: $about:literal,)*) => {
        /// What to do on each machine.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(rename_all = "snake_case")]
        pub enum OperationRequest {
            /// Run a command.
            ExecuteCommand(ExecuteCommandRequest),
            /// Look at what a running command waits for.
            ExplainOperation(ExplainOperationRequest),
            /// Open a terminal; see `GET /api/sessions`.
            OpenTerminal(ops::OpenTerminal),
            $(#[doc = $about] $name(ops::$name),)*
        }

        impl OperationRequest {
            /// What of it is no command: what a worker would do, or a terminal.
            #[must_use]
            pub fn as_work(&self) -> Option<&dyn ops::AnyWork> {
                match self {
                    Self::ExecuteCommand(_) | Self::ExplainOperation(_) => None,
                    Self::OpenTerminal(terminal) => Some(terminal),
                    $(Self::$name(work) => Some(work),)*
                }
            }
        }

        impl OperationRequest {
            /// Its name and its parameters on one line, exactly.
            #[must_use]
            pub fn to_line(&self) -> String {
                let text = serde_json::to_value(self).ok().and_then(|value| {
                    let (name, parameters) = value.as_object()?.iter().next()?;
                    Some(format!("{name} {parameters}"))
                });
                text.unwrap_or_default()
            }
        }

        $(impl From<ops::$name> for OperationRequest {
            fn from(work: ops::$name) -> Self {
                Self::$name(work)
            }
        })*
    };
}
reeve_protocol::for_each_work!(operation_request);

impl From<ops::OpenTerminal> for OperationRequest {
    fn from(terminal: ops::OpenTerminal) -> Self {
        Self::OpenTerminal(terminal)
    }
}

/// In which steps a job goes over its machines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// Machines per step, `2` or `10%`; the next step starts when every one of the last has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// Machines at the same time within a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forks: Option<u32>,
    /// Start no more once this many have not succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<u32>,
    /// At the first that does not succeed: start no more and cancel those that run.
    #[serde(default)]
    pub fail_fast: bool,
}

/// One request for one or many machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// Which machines: `web-1`, `web-1,db-1`, `web-*`, `role=web,env!=prod`, `@all`. Nothing that
    /// matches is an error.
    pub selector: String,
    /// What to do.
    pub operation: OperationRequest,
    /// In which steps.
    #[serde(default)]
    pub rollout: Rollout,
    /// How long an operation may wait for an offline machine, milliseconds; left out: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// Output kept whole per operation, bytes; 4 GiB when left out. Beyond it head and tail stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_limit: Option<u64>,
    /// Only say which machines it would be.
    #[serde(default)]
    pub dry_run: bool,
    /// Where stdin comes from, for operations that have one. Left out: it is sent to
    /// `/api/operations/{id}/input`, and there can only be one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<JobInput>,
    /// Where stdout leads, for one machine: into stdin of an operation of another, through the
    /// coordinator, and it is not kept. Implies `relay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_to: Option<OutputTo>,
    /// Output is not kept: it is passed on once, to whoever submits this, in the follow stream that
    /// answers it. For bulk whose source stays on the machine, such as files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relay: bool,
    /// Secrets in what workers write are replaced on the machine, before anything is stored: for
    /// output that a model will read. Commands have an option of their own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redact: bool,
}

impl JobRequest {
    /// A request with every option at its default.
    #[must_use]
    pub fn new(selector: impl Into<String>, operation: impl Into<OperationRequest>) -> Self {
        Self {
            selector: selector.into(),
            operation: operation.into(),
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
}

/// A new size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ResizeRequest {
    /// At least 1.
    pub columns: u16,
    /// At least 1.
    pub rows: u16,
}

/// A machine a job would go to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Target {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub machine_id: MachineId,
    /// Its name.
    pub machine: String,
    /// Whether it can be reached.
    pub state: MachineState,
}

/// The answer to a dry run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobPreview {
    /// The machines, by name.
    pub targets: Vec<Target>,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Some operation has not ended.
    Running,
    /// Every operation succeeded.
    Succeeded,
    /// Every operation ended, and not every one succeeded.
    Failed,
    /// Somebody cancelled it, and every operation ended.
    Cancelled,
}

/// Where an operation stands. Only `succeeded` means that the command exited with 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// Recorded, not yet sent.
    Queued,
    /// Sent; whether it started is not known yet.
    Sent,
    /// Started.
    Running,
    /// Exited with 0.
    Succeeded,
    /// Exited otherwise, was ended by a signal, or could not be started.
    Failed,
    /// Its time was up.
    TimedOut,
    /// Somebody cancelled it.
    Cancelled,
    /// The machine would not start it.
    Refused,
    /// Its machine did not come back in time; it never started.
    Expired,
    /// It may have started, and what became of it cannot be known.
    Lost,
}

impl OperationState {
    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Sent | Self::Running)
    }

    /// The word in API and database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Lost => "lost",
        }
    }

    /// Every state, in the order operations go through them.
    pub const ALL: [Self; 10] = [
        Self::Queued,
        Self::Sent,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::Cancelled,
        Self::Refused,
        Self::Expired,
        Self::Lost,
    ];
}

/// How many operations of a job are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
#[allow(missing_docs)]
pub struct JobCounts {
    pub total: u32,
    pub queued: u32,
    pub sent: u32,
    pub running: u32,
    pub succeeded: u32,
    pub failed: u32,
    pub timed_out: u32,
    pub cancelled: u32,
    pub refused: u32,
    pub expired: u32,
    pub lost: u32,
}

impl JobCounts {
    /// The number for one state.
    pub fn of(&mut self, state: OperationState) -> &mut u32 {
        match state {
            OperationState::Queued => &mut self.queued,
            OperationState::Sent => &mut self.sent,
            OperationState::Running => &mut self.running,
            OperationState::Succeeded => &mut self.succeeded,
            OperationState::Failed => &mut self.failed,
            OperationState::TimedOut => &mut self.timed_out,
            OperationState::Cancelled => &mut self.cancelled,
            OperationState::Refused => &mut self.refused,
            OperationState::Expired => &mut self.expired,
            OperationState::Lost => &mut self.lost,
        }
    }
}

/// A job.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Job {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub id: JobId,
    /// As asked.
    pub selector: String,
    /// As asked.
    pub operation: OperationRequest,
    /// As asked.
    pub rollout: Rollout,
    /// As asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<JobInput>,
    /// As asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_to: Option<OutputTo>,
    /// Where it stands.
    pub state: JobState,
    /// How many operations are in each state.
    pub counts: JobCounts,
    /// Who asked.
    pub created_by: String,
    /// When it was recorded.
    pub created: Time,
    /// When the last operation ended.
    pub finished: Option<Time>,
    /// When somebody asked to cancel it.
    pub cancel_requested: Option<Time>,
    /// Its output was passed on and is not kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relay: bool,
    /// The operation of a job of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub single: Option<Box<Operation>>,
}

/// Why something is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reason {
    /// Stable, for programs: `machine_offline`, `policy_user`, `command_not_found`,
    /// `keeper_killed`, `rebooted`, `rollout_stopped`, …
    pub code: String,
    /// For people.
    pub message: String,
}

/// What is kept of an operation's output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutputInfo {
    /// Bytes of both streams, merged.
    pub all: u64,
    /// Bytes of stdout.
    pub stdout: u64,
    /// Bytes of stderr.
    pub stderr: u64,
    /// What was dropped, in offsets of the merged order. Left out in lists and events: only
    /// `GET /api/operations/{id}` looks for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<Object>>))]
    pub gaps: Option<Vec<Gap>>,
}

/// One thing asked of one machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Operation {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub id: OperationId,
    /// Its job's id.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub job_id: JobId,
    /// Its machine's id.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub machine_id: MachineId,
    /// Its machine's name when it was asked.
    pub machine: String,
    /// Where it stands.
    pub state: OperationState,
    /// Whether its machine has a session now; only while it has not ended.
    pub reachable: Option<bool>,
    /// The command's exit code; 126 and 127 also when it could not be started.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why it ended so, when there is more to say than exit code and signal.
    pub reason: Option<Reason>,
    /// How its processes were held together.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub containment: Option<Containment>,
    /// When it was recorded.
    pub created: Time,
    /// When it was sent.
    pub sent: Option<Time>,
    /// When it started, by its machine's clock.
    pub started: Option<Time>,
    /// When its end became durable.
    pub finished: Option<Time>,
    /// From start to end by the machine's steady clock, milliseconds.
    pub duration_ms: Option<u64>,
    /// What is kept of its output.
    pub output: OutputInfo,
    /// Processes it left running, which were killed.
    pub leftovers_killed: u32,
    /// What it used.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub usage: Option<Usage>,
    /// Stdin bytes that have safely arrived; send on from here.
    pub stdin_received: u64,
    /// Whether the command closed its stdin, so that no more of it is wanted.
    #[serde(default)]
    pub stdin_closed: bool,
}

/// The answer to a piece of stdin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InputAccepted {
    /// Stdin bytes that have safely arrived in all; the next piece starts here.
    pub received: u64,
    /// The command reads no more; stop sending.
    pub closed: bool,
}

/// Send a signal.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SignalRequest {
    /// `HUP`, `INT`, `TERM`, `KILL`, …
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub signal: SignalName,
}

/// Cancel a job or an operation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    /// For the record.
    #[serde(default)]
    pub reason: String,
}
