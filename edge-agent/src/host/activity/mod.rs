//! How busy the machine is: processors, memory, disks, networks, pressure, from `/proc` (proc(5)) and
//! `/sys`. Counters are read twice and told as what happened in between.

mod devices;
mod memory;
mod processors;
mod sampler;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub use devices::{DiskCounters, NetworkCounters};
pub use memory::{Memory, Pressure};
pub use processors::CpuTicks;
pub use sampler::Sampler;

/// Where the kernel shows itself.
#[derive(Clone, Debug)]
pub struct Kernel {
    proc: PathBuf,
    sys: PathBuf,
}

impl Default for Kernel {
    fn default() -> Self {
        Self::at(Path::new("/"))
    }
}

impl Kernel {
    /// The kernel as it shows itself below another root, for tests.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { proc: root.join("proc"), sys: root.join("sys") }
    }

    /// A file below `/proc`; empty when it is not there.
    fn proc(&self, name: &str) -> String {
        let bytes = fs::read(self.proc.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn has_sys(&self, name: &str) -> bool {
        self.sys.join(name).exists()
    }

    /// Every counter, now.
    #[must_use]
    pub fn look(&self) -> Look {
        let stat = self.proc("stat");
        Look {
            at: Instant::now(),
            processors: processors::parse(&stat),
            disks: self.disks(),
            networks: self.networks(),
        }
    }

    /// Memory, now.
    #[must_use]
    pub fn memory(&self) -> Memory {
        memory::parse(&self.proc("meminfo"))
    }

    /// The load of 1, 5 and 15 minutes.
    #[must_use]
    pub fn load(&self) -> [f32; 3] {
        let text = self.proc("loadavg");
        let mut words = text.split_ascii_whitespace().map(|word| word.parse().unwrap_or(0.0));
        std::array::from_fn(|_| words.next().unwrap_or(0.0))
    }

    /// What waited for `cpu`, `memory` or `io`; `None` when the kernel does not say.
    #[must_use]
    pub fn pressure(&self, of: &str) -> Option<Pressure> {
        memory::parse_pressure(&self.proc(&format!("pressure/{of}")))
    }
}

/// Counters at one moment.
#[derive(Clone, Debug)]
pub struct Look {
    /// When.
    pub at: Instant,
    /// All processors together, then each.
    pub processors: Vec<CpuTicks>,
    /// By name.
    pub disks: BTreeMap<String, DiskCounters>,
    /// By name.
    pub networks: BTreeMap<String, NetworkCounters>,
}

impl Look {
    /// Seconds between another look and this one.
    #[must_use]
    pub fn seconds_since(&self, before: &Self) -> f64 {
        self.at.saturating_duration_since(before.at).as_secs_f64().max(0.001)
    }
}

/// So many per second. A counter that went back (a device that was replaced) counts as nothing.
#[must_use]
pub fn rate(now: u64, before: u64, seconds: f64) -> u64 {
    // The cast saturates.
    (now.saturating_sub(before) as f64 / seconds).round() as u64
}
