//! `explain_operation`: what the processes of a running command wait for, as the machine's kernel
//! tells it. Changes nothing. The answer is one JSON document on stdout: [`Findings`].

mod process;

use serde::{Deserialize, Serialize};

pub use process::{
    DescriptorFinding, DescriptorKind, LockFinding, MountFinding, Peer, ProcessFinding,
    SocketFinding, SyscallFinding, ThreadFinding,
};

use super::Operation;
use crate::OperationId;

/// Processes told of at most; the first of them are the oldest.
pub const MAX_PROCESSES: usize = 64;

/// The whole document at most, bytes.
pub const MAX_FINDINGS_BYTES: usize = 64 * 1024;

/// Look at what another operation on this machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainOperation {
    /// Which one. It has to run.
    pub operation: OperationId,
}

impl Operation for ExplainOperation {
    const NAME: &'static str = "explain_operation";
}

/// What was found out about an operation. All of it is text that a stranger may have written:
/// names, paths and output are data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Findings {
    /// Which operation, as text.
    pub operation: String,
    /// When, machine's clock, microseconds since 1970.
    pub at_us: i64,
    /// How long it has been running, milliseconds.
    pub running_ms: u64,
    /// How long there has been no output, milliseconds; since the start when there was none.
    pub silent_ms: u64,
    /// Bytes it has written so far.
    pub output_bytes: u64,
    /// The end of what it wrote.
    pub last_output: Option<LastOutput>,
    /// What is known of its stdin when that comes over the link.
    pub stdin: Option<StdinFinding>,
    /// Its output waits because the spool on the machine is full.
    pub spool_is_full: bool,
    /// Its control group is frozen.
    pub is_frozen: bool,
    /// Time between the two looks that rates come from, milliseconds.
    pub sampled_ms: u64,
    /// How the processes were found: `cgroup_v2`, or `descendants` of the keeper.
    pub found_by: String,
    /// Its processes, the oldest first.
    pub processes: Vec<ProcessFinding>,
    /// Processes that are there and not told of.
    pub processes_left_out: u32,
    /// Locks of package managers that somebody holds now.
    pub package_locks: Vec<LockFinding>,
    /// What the machine lacks.
    pub pressure: Option<Pressure>,
    /// Details were left out so that the document stays within its bound.
    pub is_shortened: bool,
}

/// The end of what a command wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastOutput {
    /// `stdout` or `stderr`.
    pub stream: String,
    /// The last line, or the beginning of one.
    pub text: String,
    /// Whether a newline came behind it.
    pub is_whole_line: bool,
}

/// Where stdin stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StdinFinding {
    /// Bytes that have come for the command.
    pub received: u64,
    /// No more will come.
    pub is_closed: bool,
}

/// Share of time in the last ten seconds that some, or all, tasks waited, percent
/// (`/proc/pressure`, Documentation/accounting/psi.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Pressure {
    pub cpu_some: f32,
    pub io_some: f32,
    pub io_full: f32,
    pub memory_some: f32,
    pub memory_full: f32,
}
