//! `system_watch`.

use std::io::Write;
use std::time::{Duration, Instant};

use reeve_protocol::ops::system_watch::DEFAULT_INTERVAL_MS;
use reeve_protocol::ops::{
    CpuShare, DiskActivity, Failure, MemoryUse, NetworkActivity, Pressures, ProcessList, SpaceUse,
    SystemWatch, WatchSample,
};

use super::proc::Proc;
use super::process_list::{self, Look as ProcessLook};
use crate::host::activity::{CpuTicks, Kernel, Look, rate};
use crate::host::{self, metrics::measure_disk, users::Names};
use crate::operations::worker::{Needs, Perform, Worker, lost_answer};

/// The first sample comes after this long, so that nobody looks at an empty screen for an interval.
const FIRST: Duration = Duration::from_millis(300);

impl Perform for SystemWatch {
    const NEEDS: Needs = Needs::Nothing;
    const LIMIT: Option<Duration> = None;

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        let interval =
            Duration::from_millis(self.interval_ms.unwrap_or(DEFAULT_INTERVAL_MS).into());
        let mut watch = Watch::new(&self);
        let mut next = Instant::now() + FIRST.min(interval);
        let mut left = self.count;
        while left != Some(0) {
            host::pipe::pause(next.saturating_duration_since(Instant::now()));
            let sample = watch.sample();
            serde_json::to_writer(&mut worker.stdout, &sample)
                .map_err(std::io::Error::other)
                .and_then(|()| worker.stdout.write_all(b"\n"))
                .and_then(|()| worker.stdout.flush())
                .map_err(|error| lost_answer(&error))?;
            left = left.map(|count| count - 1);
            // What took too long is left out, not made up for.
            next = (next + interval).max(Instant::now());
        }
        Ok(())
    }
}

struct Watch<'a> {
    asked: &'a SystemWatch,
    kernel: Kernel,
    proc: Proc,
    boot_id: String,
    names: Names,
    before: Look,
    processes: Option<ProcessLook>,
}

impl<'a> Watch<'a> {
    fn new(asked: &'a SystemWatch) -> Self {
        let (kernel, proc) = (Kernel::default(), Proc::new());
        Self {
            asked,
            boot_id: host::read_boot_id(),
            names: Names::default(),
            before: kernel.look(),
            processes: wanted(asked).map(|_| ProcessLook::take(&proc)),
            kernel,
            proc,
        }
    }

    fn sample(&mut self) -> WatchSample {
        let now = self.kernel.look();
        let seconds = now.seconds_since(&self.before);
        let memory = self.kernel.memory();
        let mut sample = WatchSample {
            time_us: host::now_us(),
            // The cast saturates.
            over_ms: (seconds * 1000.0).round() as u64,
            boot_id: self.boot_id.clone(),
            processors: shares(&self.before, &now),
            load: self.kernel.load(),
            memory: MemoryUse {
                total: memory.total,
                available: memory.available,
                free: memory.free,
                buffers: memory.buffers,
                cached: memory.cached,
                swap_total: memory.swap_total,
                swap_free: memory.swap_free,
            },
            disks: disks(&self.before, &now, seconds),
            networks: networks(&self.before, &now, seconds),
            pressure: self.pressure(),
            root: measure_disk("/").map(|(total, available)| SpaceUse { total, available }),
            uptime_s: self.proc.uptime() as u64,
            process_count: u32::try_from(self.proc.list().len()).unwrap_or(u32::MAX),
            processes: Vec::new(),
        };
        if let Some(count) = wanted(self.asked) {
            let now = ProcessLook::take(&self.proc);
            let asked = ProcessList {
                sort: self.asked.sort,
                limit: Some(count),
                user: None,
                over_ms: None,
            };
            let before = self.processes.as_ref();
            let listed = process_list::list(&self.proc, &asked, before, &now, &mut self.names);
            sample.processes = listed.processes;
            self.processes = Some(now);
        }
        self.before = now;
        sample
    }

    fn pressure(&self) -> Option<Pressures> {
        let percent = |hundredths: u64| hundredths as f32 / 100.0;
        let cpu = self.kernel.pressure("cpu")?;
        let memory = self.kernel.pressure("memory").unwrap_or_default();
        let io = self.kernel.pressure("io").unwrap_or_default();
        Some(Pressures {
            cpu: percent(cpu.some),
            memory: percent(memory.some),
            memory_full: percent(memory.full),
            io: percent(io.some),
            io_full: percent(io.full),
        })
    }
}

fn wanted(asked: &SystemWatch) -> Option<u32> {
    asked.processes.filter(|count| *count > 0)
}

fn shares(before: &Look, now: &Look) -> Vec<CpuShare> {
    let percent = |ticks: CpuTicks, part: u64| ticks.permille(part) as f32 / 10.0;
    let pairs = before.processors.iter().zip(&now.processors);
    pairs
        .map(|(before, now)| {
            let ticks = now.since(*before);
            CpuShare {
                user: percent(ticks, ticks.user),
                system: percent(ticks, ticks.system),
                iowait: percent(ticks, ticks.iowait),
                steal: percent(ticks, ticks.steal),
            }
        })
        .collect()
}

fn disks(before: &Look, now: &Look, seconds: f64) -> Vec<DiskActivity> {
    let each = now.disks.iter().filter_map(|(name, disk)| {
        let earlier = before.disks.get(name)?;
        let busy_ms = rate(disk.busy_ms, earlier.busy_ms, seconds);
        Some(DiskActivity {
            name: name.clone(),
            read: rate(disk.read, earlier.read, seconds),
            written: rate(disk.written, earlier.written, seconds),
            reads: rate(disk.reads, earlier.reads, seconds),
            writes: rate(disk.writes, earlier.writes, seconds),
            busy: (busy_ms as f32 / 10.0).min(100.0),
            counts: disk.is_bottom,
        })
    });
    each.collect()
}

fn networks(before: &Look, now: &Look, seconds: f64) -> Vec<NetworkActivity> {
    let each = now.networks.iter().filter_map(|(name, network)| {
        let earlier = before.networks.get(name)?;
        let faults = |it: &crate::host::activity::NetworkCounters| {
            [it.receive_errors, it.receive_dropped, it.send_errors, it.send_dropped]
                .into_iter()
                .fold(0, u64::saturating_add)
        };
        Some(NetworkActivity {
            name: name.clone(),
            received: rate(network.received, earlier.received, seconds),
            sent: rate(network.sent, earlier.sent, seconds),
            received_packets: rate(network.received_packets, earlier.received_packets, seconds),
            sent_packets: rate(network.sent_packets, earlier.sent_packets, seconds),
            faults: rate(faults(network), faults(earlier), seconds),
            counts: network.is_bottom,
        })
    });
    each.collect()
}
