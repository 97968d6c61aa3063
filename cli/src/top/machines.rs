//! What is known of the machines that are watched, and which of it is looked at.

use std::collections::VecDeque;

use reeve_protocol::ops::{Process, WatchSample};
use serde::Serialize;

use super::Sort;
use super::keys::Wish;
use crate::durations::size;
use crate::output::{Column, Row, column, wide};

/// Samples that graphs go back.
pub const REMEMBERED: usize = 240;

/// One sample of one machine.
#[derive(Clone, Serialize)]
pub struct Snapshot {
    /// Which machine.
    pub machine: String,
    /// How busy it is.
    #[serde(flatten)]
    pub sample: WatchSample,
}

impl Snapshot {
    /// Percent of all processors.
    pub fn cpu(&self) -> f32 {
        self.sample.processors.first().map_or(0.0, |all| all.busy())
    }

    /// Bytes that are not available.
    pub fn memory_used(&self) -> u64 {
        self.sample.memory.total.saturating_sub(self.sample.memory.available)
    }

    /// Percent of the memory.
    pub fn memory(&self) -> f32 {
        percent(self.memory_used(), self.sample.memory.total)
    }

    /// Percent of the root file system.
    pub fn space(&self) -> f32 {
        let root = self.sample.root.unwrap_or_default();
        percent(root.total.saturating_sub(root.available), root.total)
    }

    /// Bytes per second, read and written.
    pub fn disk(&self) -> (u64, u64) {
        let counted = self.sample.disks.iter().filter(|disk| disk.counts);
        counted.fold((0, 0), |(read, written), disk| {
            (disk.read.saturating_add(read), disk.written.saturating_add(written))
        })
    }

    /// Bytes per second, received and sent.
    pub fn network(&self) -> (u64, u64) {
        let counted = self.sample.networks.iter().filter(|network| network.counts);
        counted.fold((0, 0), |(received, sent), network| {
            (network.received.saturating_add(received), network.sent.saturating_add(sent))
        })
    }
}

fn percent(part: u64, whole: u64) -> f32 {
    if whole == 0 { 0.0 } else { part as f32 / whole as f32 * 100.0 }
}

/// Bytes per second.
pub fn speed(bytes: u64) -> String {
    if bytes == 0 { "0".to_owned() } else { format!("{}/s", size(bytes)) }
}

impl Row for Snapshot {
    const COLUMNS: &'static [Column] = &[
        column("MACHINE"),
        column("CPU%"),
        wide("IOWAIT%"),
        column("LOAD"),
        column("MEMORY"),
        column("MEM%"),
        column("DISK%"),
        column("READ"),
        column("WRITTEN"),
        column("IN"),
        column("OUT"),
        wide("PROCESSES"),
        wide("UPTIME"),
    ];

    fn name(&self) -> String {
        self.machine.clone()
    }

    fn cells(&self) -> Vec<String> {
        let (read, written) = self.disk();
        let (received, sent) = self.network();
        let all = self.sample.processors.first().copied().unwrap_or_default();
        vec![
            self.machine.clone(),
            format!("{:.1}", self.cpu()),
            format!("{:.1}", all.iowait),
            format!("{:.2}", self.sample.load[0]),
            size(self.memory_used()),
            format!("{:.0}", self.memory()),
            format!("{:.0}", self.space()),
            speed(read),
            speed(written),
            speed(received),
            speed(sent),
            self.sample.process_count.to_string(),
            crate::durations::length(self.sample.uptime_s.saturating_mul(1000)),
        ]
    }
}

/// A machine that is watched.
pub struct Watched {
    pub name: String,
    /// The last sample; nothing until one came.
    pub now: Option<Snapshot>,
    /// Percent of its processors, of its memory, bytes received and sent per second; newest last.
    pub cpu: VecDeque<u64>,
    pub memory: VecDeque<u64>,
    pub received: VecDeque<u64>,
    pub sent: VecDeque<u64>,
}

impl Watched {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            now: None,
            cpu: VecDeque::new(),
            memory: VecDeque::new(),
            received: VecDeque::new(),
            sent: VecDeque::new(),
        }
    }
}

/// All of them.
pub struct Machines {
    all: Vec<Watched>,
    sort: Sort,
    turned: bool,
    /// Which is chosen, by name: its place changes with every sample.
    chosen: Option<String>,
    /// It alone is shown.
    is_open: bool,
    /// Whether processes are sorted by memory.
    by_memory: bool,
    /// How far down its processes one has gone.
    scrolled: usize,
    /// The last thing that went wrong.
    said: Option<String>,
}

impl Machines {
    pub fn new(sort: Sort) -> Self {
        Self {
            all: Vec::new(),
            sort,
            turned: false,
            chosen: None,
            is_open: false,
            by_memory: sort == Sort::Memory,
            scrolled: 0,
            said: None,
        }
    }

    /// There is such a machine, of which nothing is known yet.
    pub fn expect(&mut self, name: &str) {
        if !self.all.iter().any(|machine| machine.name == name) {
            self.all.push(Watched::new(name));
            self.arrange();
        }
    }

    /// Shows the only machine, or the chosen one.
    pub fn open(&mut self) {
        self.chosen = self.chosen().map(|machine| machine.name.clone());
        self.is_open = self.chosen.is_some();
        self.scrolled = 0;
    }

    /// Something went wrong.
    pub fn say(&mut self, text: String) {
        self.said = Some(text);
    }

    /// What went wrong last.
    pub fn said(&self) -> Option<&str> {
        self.said.as_deref()
    }

    pub fn take(&mut self, name: &str, sample: WatchSample) {
        self.expect(name);
        let Some(machine) = self.all.iter_mut().find(|machine| machine.name == name) else {
            return;
        };
        let now = Snapshot { machine: name.to_owned(), sample };
        let (received, sent) = now.network();
        for (graph, value) in [
            // The casts saturate.
            (&mut machine.cpu, now.cpu().round() as u64),
            (&mut machine.memory, now.memory().round() as u64),
            (&mut machine.received, received),
            (&mut machine.sent, sent),
        ] {
            if graph.len() == REMEMBERED {
                graph.pop_front();
            }
            graph.push_back(value);
        }
        machine.now = Some(now);
        self.said = None;
        self.arrange();
    }

    fn arrange(&mut self) {
        let sort = self.sort;
        let key = |machine: &Watched| match (&machine.now, sort) {
            (None, _) | (_, Sort::Name) => -1.0,
            (Some(now), Sort::Cpu) => f64::from(now.cpu()),
            (Some(now), Sort::Memory) => f64::from(now.memory()),
            (Some(now), Sort::Disk) => f64::from(now.space()),
            (Some(now), Sort::Load) => f64::from(now.sample.load[0]),
            (Some(now), Sort::Network) => {
                let (received, sent) = now.network();
                received.saturating_add(sent) as f64
            }
        };
        self.all.sort_by(|a, b| key(b).total_cmp(&key(a)).then_with(|| a.name.cmp(&b.name)));
        if self.turned {
            self.all.reverse();
        }
    }

    /// Does what a key stands for.
    pub fn wish(&mut self, wish: Wish) {
        match wish {
            Wish::Quit => {}
            Wish::Open => self.open(),
            Wish::Back => self.is_open = false,
            Wish::Turn => self.turned = !self.turned,
            Wish::Sort(sort) => {
                self.turned = self.turned && self.sort == sort;
                self.sort = sort;
                self.by_memory = sort == Sort::Memory;
            }
            Wish::Move(by) if self.is_open => {
                self.scrolled = self.scrolled.saturating_add_signed(by);
            }
            Wish::Move(by) => {
                let at = self.index().unwrap_or(0).saturating_add_signed(by);
                let at = at.min(self.all.len().saturating_sub(1));
                self.chosen = self.all.get(at).map(|machine| machine.name.clone());
            }
        }
        self.arrange();
    }

    /// In the order they are shown.
    pub fn list(&self) -> &[Watched] {
        &self.all
    }

    /// Where the chosen one is.
    pub fn index(&self) -> Option<usize> {
        let chosen = self.chosen.as_deref()?;
        self.all.iter().position(|machine| machine.name == chosen)
    }

    fn chosen(&self) -> Option<&Watched> {
        self.index().and_then(|at| self.all.get(at)).or(self.all.first())
    }

    /// The machine that is shown alone.
    pub fn opened(&self) -> Option<&Watched> {
        if self.is_open { self.chosen() } else { None }
    }

    /// Its processes as they are shown, from where one has scrolled to.
    pub fn processes(&mut self, rows: usize) -> Vec<Process> {
        let mut all = self.opened().and_then(|machine| machine.now.as_ref());
        let mut all = all.as_mut().map(|now| now.sample.processes.clone()).unwrap_or_default();
        if self.by_memory {
            all.sort_by_key(|process| std::cmp::Reverse(process.memory));
        }
        if self.turned {
            all.reverse();
        }
        self.scrolled = self.scrolled.min(all.len().saturating_sub(rows));
        all.split_off(self.scrolled.min(all.len()))
    }

    pub fn sort(&self) -> Sort {
        self.sort
    }

    /// The last sample of each, in the order they are shown.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.all.iter().filter_map(|machine| machine.now.clone()).collect()
    }
}

#[cfg(test)]
pub mod samples {
    use super::*;
    use reeve_protocol::ops::{CpuShare, MemoryUse, NetworkActivity};

    /// A machine with that much processor time and memory, percent.
    pub fn sample(cpu: f32, memory: u64) -> WatchSample {
        WatchSample {
            processors: vec![CpuShare { user: cpu, ..CpuShare::default() }; 3],
            memory: MemoryUse {
                total: 100 << 20,
                available: (100 - memory) << 20,
                ..MemoryUse::default()
            },
            networks: vec![NetworkActivity {
                name: "eth0".to_owned(),
                received: 2048,
                counts: true,
                ..NetworkActivity::default()
            }],
            processes: vec![
                Process { pid: 7, name: "a".to_owned(), memory: 1, ..Process::default() },
                Process { pid: 8, name: "b\x1b[2J".to_owned(), memory: 2, ..Process::default() },
            ],
            ..WatchSample::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::samples::sample;
    use super::*;

    fn names(machines: &Machines) -> Vec<&str> {
        machines.list().iter().map(|machine| machine.name.as_str()).collect()
    }

    #[test]
    fn busiest_come_first_and_the_chosen_one_stays_chosen() {
        let mut machines = Machines::new(Sort::Cpu);
        machines.expect("silent");
        machines.take("a", sample(10.0, 60));
        machines.take("b", sample(50.0, 20));
        assert_eq!(names(&machines), ["b", "a", "silent"]);
        machines.wish(Wish::Move(1));
        assert_eq!(machines.index(), Some(1));
        machines.take("a", sample(90.0, 60));
        assert_eq!((names(&machines), machines.index()), (vec!["a", "b", "silent"], Some(0)));
        machines.wish(Wish::Sort(Sort::Name));
        machines.wish(Wish::Turn);
        assert_eq!(names(&machines), ["silent", "b", "a"]);
        machines.wish(Wish::Sort(Sort::Memory));
        assert_eq!(names(&machines), ["a", "b", "silent"]);
        machines.wish(Wish::Move(100));
        assert_eq!(machines.index(), Some(2));
        machines.wish(Wish::Move(-100));
        assert_eq!(machines.index(), Some(0));
    }

    #[test]
    fn processes_of_the_opened_machine_are_sorted_and_scrolled_within_bounds() {
        let mut machines = Machines::new(Sort::Cpu);
        assert!(machines.processes(5).is_empty());
        machines.take("a", sample(10.0, 60));
        machines.wish(Wish::Open);
        assert!(machines.opened().is_some());
        let pids = |machines: &mut Machines, rows| {
            machines.processes(rows).iter().map(|process| process.pid).collect::<Vec<_>>()
        };
        assert_eq!(pids(&mut machines, 5), [7, 8]);
        machines.wish(Wish::Sort(Sort::Memory));
        assert_eq!(pids(&mut machines, 5), [8, 7]);
        machines.wish(Wish::Move(50));
        assert_eq!(pids(&mut machines, 1), [7]);
        machines.wish(Wish::Back);
        assert!(machines.opened().is_none());
    }

    #[test]
    fn graphs_remember_so_much_and_no_more() {
        let mut machines = Machines::new(Sort::Cpu);
        for _ in 0..REMEMBERED + 10 {
            machines.take("a", sample(1.0, 1));
        }
        assert_eq!(machines.list()[0].cpu.len(), REMEMBERED);
        assert_eq!(machines.snapshots()[0].network(), (2048, 0));
    }
}
