//! What is kept of a machine: one column each, in the order they have on the disk. New ones go behind
//! the last; a column never changes what it means.

use reeve_protocol::{Metrics, Sample};

use super::ring::Values;

/// Columns of a record. More than there are series, so that more of them need no new files.
pub const COLUMNS: usize = 16;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// Its name in the API.
    pub name: &'static str,
    /// What it counts.
    pub unit: &'static str,
}

const fn series(name: &'static str, unit: &'static str) -> Series {
    Series { name, unit }
}

/// All of them, by column.
pub const ALL: &[Series] = &[
    series("cpu", "percent"),
    series("cpu_user", "percent"),
    series("cpu_system", "percent"),
    series("cpu_iowait", "percent"),
    series("cpu_steal", "percent"),
    series("load", "processes"),
    series("memory", "bytes"),
    series("swap", "bytes"),
    series("disk", "bytes"),
    series("disk_read", "bytes_per_second"),
    series("disk_write", "bytes_per_second"),
    series("network_in", "bytes_per_second"),
    series("network_out", "bytes_per_second"),
    series("pressure_cpu", "percent"),
    series("pressure_memory", "percent"),
    series("pressure_io", "percent"),
];

const _: () = assert!(ALL.len() <= COLUMNS, "a record has a place for every series");

/// A sample as columns. What a heartbeat says besides holds for all of its samples.
#[must_use]
pub fn to_values(sample: &Sample, metrics: Option<&Metrics>) -> Values {
    let percent = |permille: Option<u64>| permille.map(|value| value as f64 / 10.0);
    let hundredths = |value: Option<u64>| value.map(|value| value as f64 / 100.0);
    let kibibytes = |value: Option<u64>| value.map(|value| value as f64 * 1024.0);
    let plain = |value: Option<u64>| value.map(|value| value as f64);
    let parts = [sample.cpu_user, sample.cpu_system, sample.cpu_steal];
    let busy = parts.iter().flatten().copied().reduce(u64::saturating_add);
    let disk = metrics.filter(|metrics| metrics.disk_total > 0);
    let disk = disk.map(|it| it.disk_total.saturating_sub(it.disk_available) as f64);
    [
        percent(busy),
        percent(sample.cpu_user),
        percent(sample.cpu_system),
        percent(sample.cpu_iowait),
        percent(sample.cpu_steal),
        hundredths(sample.load),
        kibibytes(sample.memory_used),
        kibibytes(sample.swap_used),
        disk,
        plain(sample.disk_read),
        plain(sample.disk_write),
        plain(sample.network_in),
        plain(sample.network_out),
        hundredths(sample.pressure_cpu),
        hundredths(sample.pressure_memory),
        hundredths(sample.pressure_io),
    ]
}
