//! The samples that heartbeats carry.

use reeve_protocol::Sample;

use super::{DiskCounters, Kernel, Look, NetworkCounters, rate};

/// Takes samples. What it needs of the one before is all it holds.
#[derive(Debug)]
pub struct Sampler {
    kernel: Kernel,
    before: Option<Look>,
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new(Kernel::default())
    }
}

impl Sampler {
    /// Of this kernel.
    #[must_use]
    pub fn new(kernel: Kernel) -> Self {
        Self { kernel, before: None }
    }

    /// What happened since the last time; nothing the first time. `ago` is for the caller to set.
    pub fn sample(&mut self) -> Option<Sample> {
        let now = self.kernel.look();
        let before = self.before.replace(now.clone())?;
        Some(self.compare(&before, &now))
    }

    fn compare(&self, before: &Look, now: &Look) -> Sample {
        let seconds = now.seconds_since(before);
        let ticks = before.processors.first().zip(now.processors.first());
        let ticks = ticks.map(|(before, now)| now.since(*before));
        let disk = |of: fn(&DiskCounters) -> u64| {
            let each =
                now.disks.iter().filter(|(_, disk)| disk.is_bottom).filter_map(|(name, disk)| {
                    Some(rate(of(disk), of(before.disks.get(name)?), seconds))
                });
            each.reduce(u64::saturating_add)
        };
        let network = |of: fn(&NetworkCounters) -> u64| {
            let each =
                now.networks.iter().filter(|(_, it)| it.is_bottom).filter_map(|(name, it)| {
                    Some(rate(of(it), of(before.networks.get(name)?), seconds))
                });
            each.reduce(u64::saturating_add)
        };
        let memory = self.kernel.memory();
        let used = |total: u64, left: u64| (total > 0).then(|| total.saturating_sub(left) / 1024);
        let [load, ..] = self.kernel.load();
        let pressure = |of| self.kernel.pressure(of).map(|pressure| pressure.some);
        Sample {
            ago: 0,
            cpu_user: ticks.map(|ticks| ticks.permille(ticks.user)),
            cpu_system: ticks.map(|ticks| ticks.permille(ticks.system)),
            cpu_iowait: ticks.map(|ticks| ticks.permille(ticks.iowait)),
            cpu_steal: ticks.map(|ticks| ticks.permille(ticks.steal)),
            // The cast saturates.
            load: Some((load * 100.0).round() as u64),
            memory_used: used(memory.total, memory.available),
            swap_used: used(memory.swap_total, memory.swap_free).or(Some(0)),
            disk_read: disk(|disk| disk.read),
            disk_write: disk(|disk| disk.written),
            network_in: network(|network| network.received),
            network_out: network(|network| network.sent),
            pressure_cpu: pressure("cpu"),
            pressure_memory: pressure("memory"),
            pressure_io: pressure("io"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }

    #[test]
    fn sample_tells_what_happened_between_two_looks() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path();
        write(root, "proc/stat", "cpu 100 0 100 800 0 0 0 0\n");
        write(root, "proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 400 kB\n");
        write(root, "proc/loadavg", "0.52 0.4 0.3 1/2 3\n");
        write(root, "proc/pressure/io", "some avg10=2.50 avg60=0\n");
        write(root, "proc/diskstats", "8 0 sda 0 0 10 0 0 0 20 0 0 0 0\n");
        write(root, "sys/block/sda/size", "1");
        write(root, "proc/net/dev", "eth0: 1000 0 0 0 0 0 0 0 500 0 0 0 0 0 0 0\n");
        let mut sampler = Sampler::new(Kernel::at(root));
        assert_eq!(sampler.sample(), None);
        write(root, "proc/stat", "cpu 130 0 110 850 5 0 0 5\n");
        write(root, "proc/diskstats", "8 0 sda 0 0 30 0 0 0 20 0 0 0 0\n");
        write(root, "proc/net/dev", "eth0: 11000 0 0 0 0 0 0 0 400 0 0 0 0 0 0 0\n");
        let before = sampler.before.as_mut().expect("a look");
        before.at -= Duration::from_secs(1000);
        let sample = sampler.sample().expect("a sample");
        let cpu = (sample.cpu_user, sample.cpu_system, sample.cpu_iowait, sample.cpu_steal);
        assert_eq!(cpu, (Some(300), Some(100), Some(50), Some(50)));
        assert_eq!((sample.load, sample.memory_used), (Some(52), Some(600)));
        assert_eq!((sample.disk_read, sample.disk_write), (Some(10), Some(0)));
        // A counter that went back is no flood.
        assert_eq!((sample.network_in, sample.network_out), (Some(10), Some(0)));
        assert_eq!((sample.pressure_io, sample.pressure_cpu), (Some(250), None));
    }

    #[test]
    fn sample_of_this_machine_makes_sense() {
        let mut sampler = Sampler::default();
        assert_eq!(sampler.sample(), None);
        let sample = sampler.sample().expect("a sample");
        assert!(sample.memory_used.is_some_and(|used| used > 0));
        assert!(sample.cpu_user.is_some_and(|user| user <= 1000));
    }
}
