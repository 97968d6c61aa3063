//! Load of the machine, read from `/proc` (proc(5)) and statvfs(3).

use std::fs;
use std::path::Path;

use reeve_protocol::Metrics;

/// What the machine does now.
#[must_use]
pub fn read(running: u32) -> Metrics {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut loads = load.split(' ').map(|text| text.parse().unwrap_or(0.0));
    let (load1, load5, load15) = (
        loads.next().unwrap_or_default(),
        loads.next().unwrap_or_default(),
        loads.next().unwrap_or_default(),
    );
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let (disk_total, disk_available) = measure_disk("/").unwrap_or_default();
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    Metrics {
        load1,
        load5,
        load15,
        memory_total: find_bytes(&memory, "MemTotal:"),
        memory_available: find_bytes(&memory, "MemAvailable:"),
        disk_total,
        disk_available,
        running,
        uptime_s: uptime.split('.').next().and_then(|text| text.parse().ok()).unwrap_or(0),
    }
}

/// A line of proc_meminfo(5), in bytes.
#[must_use]
pub fn find_bytes(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// Total bytes, and those an ordinary user can still write.
#[must_use]
pub fn measure_disk(path: impl AsRef<Path>) -> Option<(u64, u64)> {
    let stat = rustix::fs::statvfs(path.as_ref()).ok()?;
    Some((stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_this_machine() {
        let metrics = read(3);
        assert!(metrics.memory_total > metrics.memory_available);
        assert!(metrics.disk_total > 0 && metrics.uptime_s > 0);
        assert_eq!(metrics.running, 3);
    }
}
