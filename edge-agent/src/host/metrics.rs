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

/// What a file system has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes.
    pub total: u64,
    /// Bytes that an ordinary user can still write.
    pub available: u64,
    /// Files there can be; 0 where that has no limit.
    pub inodes: u64,
    /// Files an ordinary user can still make.
    pub inodes_free: u64,
}

/// What the file system at a path has room for.
#[must_use]
pub fn measure(path: impl AsRef<Path>) -> Option<Space> {
    let stat = rustix::fs::statvfs(path.as_ref()).ok()?;
    Some(Space {
        total: stat.f_blocks.saturating_mul(stat.f_frsize),
        available: stat.f_bavail.saturating_mul(stat.f_frsize),
        inodes: stat.f_files,
        inodes_free: stat.f_favail,
    })
}

/// Total bytes, and those an ordinary user can still write.
#[must_use]
pub fn measure_disk(path: impl AsRef<Path>) -> Option<(u64, u64)> {
    measure(path).map(|space| (space.total, space.available))
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
