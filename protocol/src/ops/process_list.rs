//! `process_list`: what runs on a machine. Changes nothing. The answer is one JSON document on
//! stdout: [`Processes`].

use serde::{Deserialize, Serialize};

use super::{Effect, InvalidWork, Operation, Work};

/// Between the two looks that processor time is measured by, unless said otherwise, milliseconds.
pub const DEFAULT_OVER_MS: u32 = 300;

/// The longest time to measure over, milliseconds.
pub const MAX_OVER_MS: u32 = 60_000;

/// List the processes of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ProcessList {
    /// Which come first.
    #[serde(default)]
    pub sort: ProcessSort,
    /// So many at most, after sorting; left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only those of this user, by name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Milliseconds between the two looks that processor time is measured by; 300 when left out,
    /// 0 for one look, which gives what each used on average since it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_ms: Option<u32>,
}

/// An order of processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ProcessSort {
    /// Most processor time first.
    #[default]
    Cpu,
    /// Most memory first.
    Memory,
    /// By process id.
    Pid,
    /// Last started first.
    Started,
}

impl Operation for ProcessList {
    const NAME: &'static str = "process_list";
}

impl Work for ProcessList {
    fn effect(&self) -> Effect {
        Effect::Read
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        let over = self.over_ms.unwrap_or(DEFAULT_OVER_MS);
        if over > MAX_OVER_MS {
            let text = format!("over_ms is {over}; {MAX_OVER_MS} is the most");
            return Err(InvalidWork::Value(text));
        }
        Ok(())
    }

    fn describe(&self) -> String {
        match &self.user {
            Some(user) => format!("list the processes of {user}"),
            None => "list processes".to_owned(),
        }
    }
}

/// What runs on a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Processes {
    /// The boot that process ids and start times belong to.
    pub boot_id: String,
    /// When it was looked, machine's clock, microseconds since 1970.
    pub time_us: i64,
    /// How many there are that fit, before `limit`.
    pub total: u32,
    /// Processors; each may give a process 100 %.
    pub cpus: u32,
    /// Memory of the machine, bytes.
    pub memory_total: u64,
    /// They.
    pub processes: Vec<Process>,
}

/// One process. `pid` and `start_time` together name it until the machine is booted again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Ticks of the kernel between boot and its start.
    pub start_time: u64,
    /// When it started, machine's clock, microseconds since 1970.
    pub started_us: i64,
    /// Whose (effective user).
    pub uid: u32,
    /// The user's name, when the machine has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// As ps(1) writes it: `R`, `S`, `D`, `T`, `t`, `Z`, `I`, …
    pub state: String,
    /// Processor time while it was looked at, percent of one processor.
    pub cpu_percent: f32,
    /// Processor time since it started, milliseconds.
    pub cpu_ms: u64,
    /// Resident memory, bytes.
    pub memory: u64,
    /// Threads.
    pub threads: u32,
    /// Its short name, 15 bytes at most as the kernel keeps it.
    pub name: String,
    /// Its command line, cut after 4 KiB, secrets replaced; empty for the kernel's own.
    pub command: String,
    /// Its control group.
    pub cgroup: String,
    /// The unit of systemd it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}
