//! The messages of an open session.

use serde::{Deserialize, Serialize};

use crate::envelope::{Body, Kind};
use crate::facts::Facts;
use crate::ids::{JournalId, OperationId};

/// One of the ordered byte sequences of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// What the command wrote to descriptor 1.
    Stdout,
    /// What the command wrote to descriptor 2.
    Stderr,
}

/// Bytes of each sequence. `all` is the order in which the keeper read them, which is the order
/// that offsets of acknowledgement and credit count in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Both, merged.
    pub all: u64,
    /// stdout alone.
    pub stdout: u64,
    /// stderr alone.
    pub stderr: u64,
}

/// Output that was dropped: the offsets `from..to` of `all` do not exist any more. Offsets behind
/// a gap are never renumbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// First offset dropped.
    pub from: u64,
    /// First offset kept again.
    pub to: u64,
    /// Of these, stdout's.
    pub stdout: u64,
    /// Of these, stderr's.
    pub stderr: u64,
}

/// Coordinator → agent: do this. The envelope has the operation's id and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The boot the coordinator recorded for this dispatch. An agent of another boot refuses: the
    /// operation may have started before the reboot.
    pub boot_id: String,
    /// The journal it recorded, likewise.
    pub journal: JournalId,
    /// Do not start it after this many more milliseconds. Remaining time, not a clock reading, so
    /// clocks may differ.
    #[serde(default)]
    pub expires_in_ms: Option<u64>,
    /// The operation's body, decoded by whoever handles its name.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
    /// The yes this was given, when it needed one. The agent hashes the body again and refuses
    /// (`approval_mismatch`) what is not what was approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalStamp>,
    /// Secrets in what a worker writes are replaced on the machine, before anything is stored or
    /// sent. Commands say so in their body.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redact: bool,
}

/// What a yes was bound to: `digest` is the SHA-256 of the text
/// `reeve approval v1\n` ‖ SHA-256(body) ‖ SHA-256(the machines' ids, 16 bytes each, sorted) ‖
/// `expires_us` as 8 bytes, big end first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalStamp {
    /// 32 bytes.
    #[serde(with = "serde_bytes")]
    pub digest: Vec<u8>,
    /// SHA-256 of the machines' sorted ids, 32 bytes.
    #[serde(with = "serde_bytes")]
    pub machines: Vec<u8>,
    /// When the yes ends, microseconds since 1970, by the coordinator's clock. Part of what was
    /// hashed; the agent does not compare it with its own clock.
    pub expires_us: i64,
}

/// Agent → coordinator: journalled and started. Sent again, with the same values, for a duplicate
/// request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The machine's clock at the start, microseconds since 1970.
    pub started_us: i64,
    /// Process id of the command, when there is one.
    #[serde(default)]
    pub pid: Option<u32>,
    /// How its processes are held together.
    pub containment: Containment,
}

/// How the processes of an operation are held together, hence how surely all of them end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Containment {
    /// An own cgroup v2, killed by `cgroup.kill` (cgroups(7)): nothing can leave it.
    CgroupV2,
    /// Process group and subreaper (`PR_SET_CHILD_SUBREAPER`): orphans come back to the keeper.
    ProcessGroup,
    /// No process was made.
    None,
    /// A word this build does not know.
    #[serde(other)]
    Unknown,
}

/// Agent → coordinator: bytes the command wrote, or a gap where bytes were dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Whose bytes these are.
    pub stream: Stream,
    /// Offset of the first byte in its own stream.
    pub offset: u64,
    /// Offset of the first byte in the merged order.
    pub all: u64,
    /// At most [`crate::limits::MAX_DATA_BYTES`].
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// Instead of bytes: this was dropped on the machine because its spool was full and the
    /// request said to drop rather than to wait. `from` equals `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
}

/// [`Output`] whose bytes are elsewhere: in the message it came in, or where it is encoded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRef<'b> {
    /// Whose bytes these are.
    pub stream: Stream,
    /// Offset of the first byte in its own stream.
    pub offset: u64,
    /// Offset of the first byte in the merged order.
    pub all: u64,
    /// At most [`crate::limits::MAX_DATA_BYTES`].
    #[serde(borrow, with = "serde_bytes")]
    pub bytes: &'b [u8],
    /// As in [`Output`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
}

impl Output {
    /// The same, without its bytes.
    #[must_use]
    pub fn as_ref(&self) -> OutputRef<'_> {
        let Self { stream, offset, all, ref bytes, gap } = *self;
        OutputRef { stream, offset, all, bytes, gap }
    }
}

/// How far the peer may send. Absolute offsets: saying it twice changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Credit {
    /// Coordinator → agent: output may be sent up to this merged offset.
    Output {
        /// Exclusive.
        until: u64,
    },
    /// Agent → coordinator: stdin may be sent up to `until`; the keeper has taken `received`.
    Stdin {
        /// Bytes that will reach the command whatever happens to agent or link.
        received: u64,
        /// Exclusive.
        until: u64,
        /// The command closed its stdin: send no more, nobody reads it.
        #[serde(default)]
        closed: bool,
    },
}

/// A signal a user may send (signal(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum SignalName {
    Hup,
    Int,
    Quit,
    Term,
    Kill,
    Usr1,
    Usr2,
    Stop,
    Cont,
}

/// Coordinator → agent: something about a running operation. `Input` and `CloseInput` travel in
/// order with each other; `Signal` and `Cancel` overtake them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Control {
    /// Bytes for the command's stdin.
    Input {
        /// Offset of the first byte. Bytes the keeper already has are skipped.
        offset: u64,
        /// At most [`crate::limits::MAX_DATA_BYTES`].
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// End of stdin.
    CloseInput {
        /// Length of the whole stdin, so that a missing piece is noticed.
        offset: u64,
    },
    /// New terminal size.
    Resize {
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// Signal to the command's process group.
    Signal {
        /// Which.
        signal: SignalName,
    },
    /// End it: TERM and CONT, the grace, then the whole cgroup is killed.
    Cancel {
        /// For the record.
        reason: String,
    },
}

/// Why an operation was not started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Stable, for programs: `policy_exec`, `policy_user`, `unknown_user`, `busy`, `unsupported`,
    /// `expired`, `rebooted`, `invalid`, `disk_full`, …
    pub code: String,
    /// For people: what, why, and what to do.
    pub message: String,
}

/// What is known about something that vanished.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Stable, for programs: `keeper_killed`, `rebooted`, `journal_gone`, `spool_damaged`.
    pub code: String,
    /// For people.
    pub message: String,
    /// The boot it was started in.
    #[serde(default)]
    pub boot_id: Option<String>,
    /// The last merged offset that was read.
    #[serde(default)]
    pub last_byte: Option<u64>,
    /// When the machine last knew it alive, microseconds since 1970, machine's clock.
    #[serde(default)]
    pub last_seen_us: Option<i64>,
    /// Processes of it that were found alive and killed.
    #[serde(default)]
    pub killed: u32,
}

/// How an operation ended. There is no success here: success is `Exited` with code 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Outcome {
    /// The command exited by itself.
    Exited {
        /// Its exit code, 0–255.
        code: i32,
    },
    /// A signal ended it that we did not send.
    Signaled {
        /// Number, signal(7).
        signal: i32,
    },
    /// The command could not be started; nothing of it ran.
    NotStarted {
        /// 127 not found, 126 found and not executable, as shells say.
        exit_code: i32,
        /// Stable: `command_not_found`, `not_executable`, `bad_directory`, `start_failed`.
        code: String,
        /// For people.
        message: String,
    },
    /// Its time was up and it was ended.
    TimedOut {
        /// How it went down, when it exited.
        exit_code: Option<i32>,
        /// How it went down, when a signal ended it.
        signal: Option<i32>,
    },
    /// Somebody cancelled it and it was ended.
    Cancelled {
        /// How it went down, when it exited.
        exit_code: Option<i32>,
        /// How it went down, when a signal ended it.
        signal: Option<i32>,
    },
    /// The machine would not start it.
    Refused(Refusal),
    /// It started, and what became of it cannot be known. It was not and will not be run again.
    Lost(Evidence),
}

/// What the command used (getrusage(2), waited-for children).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time in user mode, microseconds.
    pub user_us: u64,
    /// CPU time in the kernel, microseconds.
    pub system_us: u64,
    /// Largest resident size, KiB.
    pub max_rss_kib: u64,
}

/// Agent → coordinator: how it ended. Sent after the last byte of output, and again after every
/// reconnect until acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationResult {
    /// How.
    pub outcome: Outcome,
    /// Machine's clock, microseconds since 1970; `None` when it never started.
    pub started_us: Option<i64>,
    /// Machine's clock, microseconds since 1970.
    pub finished_us: i64,
    /// By a clock that never jumps, milliseconds.
    pub duration_ms: u64,
    /// How its processes were held together.
    pub containment: Containment,
    /// Bytes read from the command, dropped ones included.
    pub totals: Totals,
    /// Processes still alive after the command had exited, which were killed with its cgroup.
    #[serde(default)]
    pub leftovers_killed: u32,
    /// What it used.
    #[serde(default)]
    pub usage: Usage,
}

/// Coordinator → agent: this much is on disk here, the machine may forget it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledge {
    /// Merged offset, exclusive.
    pub durable: u64,
    /// The result is durable too; the operation is over.
    #[serde(default)]
    pub result: bool,
}

/// Load of a machine, cheap enough to read every few seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Load average, 1 minute.
    pub load1: f32,
    /// Load average, 5 minutes.
    pub load5: f32,
    /// Load average, 15 minutes.
    pub load15: f32,
    /// Bytes.
    pub memory_total: u64,
    /// Bytes a new program could have (`MemAvailable`, proc_meminfo(5)).
    pub memory_available: u64,
    /// Bytes of the root file system.
    pub disk_total: u64,
    /// Bytes of it that an ordinary user can still write.
    pub disk_available: u64,
    /// Operations running.
    pub running: u32,
    /// Seconds since boot.
    pub uptime_s: u64,
}

/// Either way: alive. The coordinator answers each of an agent's with one without metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The sender's clock, microseconds since 1970.
    pub time_us: i64,
    /// From the coordinator: answer at once with a heartbeat that says the same number. From the
    /// agent: that answer. It tells a live session from one that only has not been noticed dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<u64>,
    /// From agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// From agents: what the machine did since the last one, at most
    /// [`MAX_SAMPLES`](crate::sample::MAX_SAMPLES).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<crate::Sample>,
}

/// Agent → coordinator: a line of the agent's own log that somebody should see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientLog {
    /// `error`, `warn` or `info`.
    pub level: String,
    /// At most [`crate::limits::MAX_LOG_BYTES`].
    pub message: String,
    /// Machine's clock, microseconds since 1970.
    pub time_us: i64,
}

/// Where an operation stands on its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportedState {
    /// Running.
    Running,
    /// Ended; the result follows when the output has been sent.
    Finished,
    /// A word this build does not know.
    #[serde(other)]
    Unknown,
}

/// One operation the agent still holds something of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationReport {
    /// Which.
    pub id: OperationId,
    /// Where it stands.
    pub state: ReportedState,
    /// First merged offset still on the machine.
    pub spool_from: u64,
    /// Merged offset behind the last byte read so far.
    pub spool_to: u64,
    /// As in [`Accepted`].
    pub accepted: Accepted,
    /// Stdin bytes the keeper has taken.
    pub stdin_received: u64,
}

/// Agent → coordinator, first after `welcome`: all it holds that was not acknowledged. An operation
/// that is not in it is not known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// At most [`crate::limits::MAX_REPORT_OPERATIONS`].
    pub operations: Vec<OperationReport>,
    /// No further `report` follows in this session.
    pub last: bool,
}

/// Why a connection ends on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoodbyeReason {
    /// The sender stops; come back.
    Restarting,
    /// The machine was revoked; do not come back.
    Revoked,
    /// A newer session of this machine has taken over.
    Replaced,
    /// Two agents use this machine's key.
    Cloned,
    /// The receiver broke the protocol.
    Protocol,
    /// A word this build does not know.
    #[serde(other)]
    Unknown,
}

/// Either way: this connection ends on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// Why, for programs.
    pub reason: GoodbyeReason,
    /// Why, for people.
    #[serde(default)]
    pub message: String,
    /// Do not come back before, milliseconds. Different for every agent, so that they spread.
    #[serde(default)]
    pub retry_after_ms: u64,
}

macro_rules! bodies {
    ($($name:ident => $kind:ident),* $(,)?) => {
        $(impl Body for $name { const KIND: Kind = Kind::$kind; })*
    };
}
bodies! {
    Request => Request,
    Accepted => Accepted,
    Output => Output,
    Credit => Credit,
    Control => Control,
    OperationResult => Result,
    Acknowledge => Acknowledge,
    Heartbeat => Heartbeat,
    ClientLog => ClientLog,
    Report => Report,
    Facts => Facts,
    Goodbye => Goodbye,
}
