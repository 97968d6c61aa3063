//! `system_watch`: how busy a machine is, again and again. Changes nothing. stdout is a stream of JSON
//! lines, one [`WatchSample`] each; it ends after `count` of them or when it is cancelled.

use serde::{Deserialize, Serialize};

use super::{Effect, InvalidWork, Operation, Process, ProcessSort, Work};

/// The shortest time between samples, milliseconds.
pub const MIN_INTERVAL_MS: u32 = 500;
/// The longest, milliseconds.
pub const MAX_INTERVAL_MS: u32 = 3_600_000;
/// Between samples unless said otherwise, milliseconds.
pub const DEFAULT_INTERVAL_MS: u32 = 2_000;
/// Processes of one sample at the most.
pub const MAX_PROCESSES: u32 = 1_000;

/// Watch how busy a machine is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SystemWatch {
    /// Milliseconds between samples, at least 500; 2,000 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u32>,
    /// End after so many; left out: go on until cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Tell of so many processes in each sample; 0 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    /// Which processes these are.
    #[serde(default)]
    pub sort: ProcessSort,
}

impl Operation for SystemWatch {
    const NAME: &'static str = "system_watch";
}

impl Work for SystemWatch {
    fn effect(&self) -> Effect {
        Effect::Read
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        let interval = self.interval_ms.unwrap_or(DEFAULT_INTERVAL_MS);
        let fault = if !(MIN_INTERVAL_MS..=MAX_INTERVAL_MS).contains(&interval) {
            format!(
                "interval_ms is {interval}; it has to be {MIN_INTERVAL_MS} to {MAX_INTERVAL_MS}"
            )
        } else if self.count == Some(0) {
            "count is 0, which is nothing to watch".to_owned()
        } else if self.processes.is_some_and(|count| count > MAX_PROCESSES) {
            format!("{MAX_PROCESSES} processes are the most in a sample")
        } else {
            return Ok(());
        };
        Err(InvalidWork::Value(fault))
    }

    fn describe(&self) -> String {
        "watch how busy it is".to_owned()
    }
}

/// One sample: what happened since the one before. What the machine does not know is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WatchSample {
    /// When, machine's clock, microseconds since 1970.
    pub time_us: i64,
    /// What it tells of, milliseconds.
    pub over_ms: u64,
    /// The boot that process ids belong to.
    pub boot_id: String,
    /// All processors together, then each.
    pub processors: Vec<CpuShare>,
    /// Load of 1, 5 and 15 minutes.
    pub load: [f32; 3],
    /// Memory and swap.
    pub memory: MemoryUse,
    /// By name.
    pub disks: Vec<DiskActivity>,
    /// By name.
    pub networks: Vec<NetworkActivity>,
    /// What was waited for (PSI).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressures>,
    /// Space in the root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<SpaceUse>,
    /// Since boot, seconds.
    pub uptime_s: u64,
    /// How many processes there are.
    pub process_count: u32,
    /// Those that were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<Process>,
}

/// What a processor did, percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct CpuShare {
    pub user: f32,
    pub system: f32,
    pub iowait: f32,
    pub steal: f32,
}

impl CpuShare {
    /// All that it did for somebody.
    #[must_use]
    pub fn busy(self) -> f32 {
        self.user + self.system + self.steal
    }
}

/// Memory, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct MemoryUse {
    pub total: u64,
    pub available: u64,
    pub free: u64,
    pub buffers: u64,
    pub cached: u64,
    pub swap_total: u64,
    pub swap_free: u64,
}

/// Space in a file system, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct SpaceUse {
    pub total: u64,
    pub available: u64,
}

/// What went through a disk, per second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskActivity {
    /// Its name.
    pub name: String,
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    /// Requests to read.
    pub reads: u64,
    /// Requests to write.
    pub writes: u64,
    /// Percent of the time with a request under way.
    pub busy: f32,
    /// Counts in a sum over all disks: its bytes are not another's too.
    pub counts: bool,
}

/// What went through a network interface, per second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkActivity {
    /// Its name.
    pub name: String,
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Errors and drops, both ways.
    pub faults: u64,
    /// Counts in a sum over all interfaces: its bytes are not another's too.
    pub counts: bool,
}

/// Percent of the last ten seconds in which something had to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Pressures {
    pub cpu: f32,
    pub memory: f32,
    pub memory_full: f32,
    pub io: f32,
    pub io_full: f32,
}
