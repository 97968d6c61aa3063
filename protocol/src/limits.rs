//! Limits that both ends share. Each one says why it has the size it has.

use std::time::Duration;

/// Payload of one `output` frame or one piece of stdin, bytes. Small enough that a heartbeat behind
/// one waits well under a millisecond on a slow uplink's send buffer, large enough that framing
/// costs nothing.
pub const MAX_DATA_BYTES: usize = 64 * 1024;

/// One WebSocket message after `welcome`, bytes: a full data payload, twice wrapped, with room for
/// the names of fields.
pub const MAX_FRAME_BYTES: usize = MAX_DATA_BYTES + 8 * 1024;

/// One WebSocket message before `welcome`, bytes. A stranger gets no larger buffer than this.
pub const MAX_HANDSHAKE_BYTES: usize = 8 * 1024;

/// Everything before `welcome` has to be over by then.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often an agent sends `heartbeat` unless `welcome` says otherwise. Idle traffic stays under
/// 2 KiB a minute and a NAT entry stays alive.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// Silence after which either end calls the connection dead. Three heartbeats less a margin, so
/// that a half-open connection is noticed within 45 s.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(40);

/// How long the old session of a machine has to answer when a second one appears with its key.
pub const CLONE_PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Output bytes an agent may send for an operation before it has been granted any credit.
pub const INITIAL_CREDIT: u64 = 64 * 1024;

/// The widest window of unacknowledged output of one operation, bytes: what a coordinator makes
/// durable at once, and as much again that comes meanwhile.
pub const MAX_CREDIT: u64 = 32 * 1024 * 1024;

/// Stdin bytes a coordinator may send ahead of what the command has taken, before it is granted
/// more.
pub const STDIN_WINDOW: u64 = 256 * 1024;

/// The widest such window of one operation, bytes: what is in the keeper's memory when a command
/// that was fast stops reading. Covers 600 MiB/s at 5 ms from the keeper to the coordinator and back.
pub const MAX_STDIN_WINDOW: u64 = 4 * 1024 * 1024;

/// All such windows of one machine beyond the first ones, bytes: what may be in the agent's memory
/// on its way to keepers.
pub const STDIN_BUDGET: u64 = 8 * 1024 * 1024;

/// Control frames waiting to be written. They are small; a peer that does not read this many is
/// dead or hostile and its link is closed.
pub const CONTROL_QUEUE: usize = 1024;

/// Data frames of one operation waiting to be written. Two keep the writer busy while the producer
/// reads the next one from its spool.
pub const DATA_QUEUE_PER_OPERATION: usize = 4;

/// Commands running at once on one machine unless its policy says less.
pub const DEFAULT_MAX_CONCURRENT: u32 = 32;

/// The most any agent may announce.
pub const MAX_CONCURRENT: u32 = 4096;

/// Arguments of a command.
pub const MAX_ARGUMENTS: usize = 4096;

/// All arguments, or the shell line, of one command, bytes. Well under one frame and under the
/// kernel's own limit for a single argument (128 KiB, execve(2)).
pub const MAX_COMMAND_BYTES: usize = 32 * 1024;

/// Environment entries given with a command.
pub const MAX_ENVIRONMENT: usize = 256;

/// All environment entries of one command, bytes.
pub const MAX_ENVIRONMENT_BYTES: usize = 16 * 1024;

/// Operations in one `report` frame; an agent with more sends several.
pub const MAX_REPORT_OPERATIONS: usize = 256;

/// Text of one `client_log` frame, bytes.
pub const MAX_LOG_BYTES: usize = 4 * 1024;

/// Output spooled on the machine for one operation while it cannot be sent, bytes.
pub const SPOOL_BYTES: u64 = 64 * 1024 * 1024;

/// Output the coordinator keeps whole for one operation unless the job says otherwise, bytes.
pub const DEFAULT_OUTPUT_LIMIT: u64 = 4 * 1024 * 1024 * 1024;

/// Between asking a command to end and killing its cgroup, unless the request says otherwise.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// The longest grace a request may ask for.
pub const MAX_GRACE: Duration = Duration::from_secs(600);

/// After the command itself has exited: how long the rest of its output may take to arrive from
/// children that still hold the pipes.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request may wait for its machine at the most.
pub const MAX_WAIT: Duration = Duration::from_secs(7 * 24 * 3600);

/// An agent remembers the id of everything it started at least this long beyond [`MAX_WAIT`], so
/// that a late duplicate is recognised.
pub const JOURNAL_KEEP: Duration = Duration::from_secs(14 * 24 * 3600);
