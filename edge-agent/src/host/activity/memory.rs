//! `/proc/meminfo` and `/proc/pressure` (proc_meminfo(5), psi).

/// Memory, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Memory {
    pub total: u64,
    pub available: u64,
    pub free: u64,
    pub buffers: u64,
    pub cached: u64,
    pub swap_total: u64,
    pub swap_free: u64,
}

/// The share of the last ten seconds in which something had to wait, hundredths of a percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Some process did.
    pub some: u64,
    /// All that could have run did.
    pub full: u64,
}

pub(super) fn parse(meminfo: &str) -> Memory {
    let mut memory = Memory::default();
    for line in meminfo.lines() {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let place = match name {
            "MemTotal" => &mut memory.total,
            "MemAvailable" => &mut memory.available,
            "MemFree" => &mut memory.free,
            "Buffers" => &mut memory.buffers,
            "Cached" => &mut memory.cached,
            "SwapTotal" => &mut memory.swap_total,
            "SwapFree" => &mut memory.swap_free,
            _ => continue,
        };
        let number = rest.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
        *place = number.map_or(0, |kib: u64| kib.saturating_mul(1024));
    }
    memory
}

pub(super) fn parse_pressure(text: &str) -> Option<Pressure> {
    let find = |kind: &str| {
        let line = text.lines().find(|line| line.starts_with(kind))?;
        let word = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
        let percent: f64 = word.parse().ok()?;
        // The cast saturates.
        Some((percent * 100.0).round() as u64)
    };
    let some = find("some")?;
    Some(Pressure { some, full: find("full").unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_in_bytes() {
        let text =
            "MemTotal:  100 kB\nMemFree: 10 kB\nMemAvailable:   60 kB\nSwapTotal: 7 kB\nOdd\n";
        let memory = parse(text);
        assert_eq!((memory.total, memory.available, memory.free), (102_400, 61_440, 10_240));
        assert_eq!((memory.swap_total, memory.swap_free), (7168, 0));
    }

    #[test]
    fn pressure_is_read_where_the_kernel_tells_it() {
        let text = "some avg10=1.25 avg60=0.10 avg300=0 total=5\nfull avg10=0.50 avg60=0 total=1\n";
        assert_eq!(parse_pressure(text), Some(Pressure { some: 125, full: 50 }));
        assert_eq!(parse_pressure("some avg10=0.00\n"), Some(Pressure::default()));
        assert_eq!(parse_pressure(""), None);
    }
}
