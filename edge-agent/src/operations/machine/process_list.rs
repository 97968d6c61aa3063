//! `process_list`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use reeve_protocol::ops::process_list::DEFAULT_OVER_MS;
use reeve_protocol::ops::{Failure, Process, ProcessList, ProcessSort, Processes};

use super::proc::{Proc, Stat, find_unit};
use crate::host::{self, users::Names};
use crate::operations::worker::{Needs, Perform, Worker};

impl Perform for ProcessList {
    const NEEDS: Needs = Needs::Nothing;

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        let proc = Proc::new();
        let over = Duration::from_millis(self.over_ms.unwrap_or(DEFAULT_OVER_MS).into());
        let before = (!over.is_zero()).then(|| Look::take(&proc));
        if before.is_some() {
            host::pipe::pause(over);
        }
        let now = Look::take(&proc);
        worker.answer(&list(&proc, &self, before.as_ref(), &now, &mut Names::default()))
    }
}

/// All processes at one moment.
pub struct Look {
    at: Instant,
    stats: HashMap<u32, Stat>,
}

impl Look {
    pub fn take(proc: &Proc) -> Self {
        let stats = proc.list().into_iter().filter_map(|pid| Some((pid, proc.stat(pid)?)));
        Self { stats: stats.collect(), at: Instant::now() }
    }
}

/// What is asked for, from two looks, or from one.
pub fn list(
    proc: &Proc,
    asked: &ProcessList,
    before: Option<&Look>,
    now: &Look,
    names: &mut Names,
) -> Processes {
    let units = Units {
        ticks_per_second: host::process::ticks_per_second(),
        page_bytes: host::process::page_bytes(),
        boot_time: proc.boot_time(),
        uptime: proc.uptime(),
    };
    let mut found: Vec<Process> = now
        .stats
        .iter()
        .map(|(pid, stat)| Process {
            cpu_percent: units.cpu_percent(*pid, stat, before, now),
            ..units.describe(*pid, stat)
        })
        .collect();
    if let Some(user) = &asked.user {
        found.retain_mut(|process| {
            fill_user(proc, process, names);
            process.user.as_ref() == Some(user) || process.uid.to_string() == *user
        });
    }
    match asked.sort {
        ProcessSort::Cpu => found.sort_by(|a, b| {
            b.cpu_percent
                .total_cmp(&a.cpu_percent)
                .then(b.cpu_ms.cmp(&a.cpu_ms))
                .then(a.pid.cmp(&b.pid))
        }),
        ProcessSort::Memory => {
            found.sort_by_key(|process| (std::cmp::Reverse(process.memory), process.pid))
        }
        ProcessSort::Pid => found.sort_by_key(|process| process.pid),
        ProcessSort::Started => {
            found.sort_by_key(|process| std::cmp::Reverse((process.start_time, process.pid)));
        }
    }
    let total = u32::try_from(found.len()).unwrap_or(u32::MAX);
    if let Some(limit) = asked.limit {
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    for process in &mut found {
        fill_user(proc, process, names);
        process.command = proc.command(process.pid);
        process.cgroup = proc.cgroup(process.pid);
        process.unit = find_unit(&process.cgroup);
    }
    let memory = proc.read("meminfo").unwrap_or_default();
    Processes {
        boot_id: host::read_boot_id(),
        time_us: host::now_us(),
        total,
        cpus: std::thread::available_parallelism()
            .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
        memory_total: host::metrics::find_bytes(&memory, "MemTotal:"),
        processes: found,
    }
}

fn fill_user(proc: &Proc, process: &mut Process, names: &mut Names) {
    if process.user.is_none()
        && let Some(uid) = proc.uid(process.pid)
    {
        process.uid = uid;
        process.user = names.user(uid);
    }
}

/// What the kernel's numbers mean here.
struct Units {
    ticks_per_second: u64,
    page_bytes: u64,
    boot_time: i64,
    uptime: f64,
}

impl Units {
    fn describe(&self, pid: u32, stat: &Stat) -> Process {
        let ticks = self.ticks_per_second.max(1);
        let after_boot_us = i64::try_from(stat.start_time.saturating_mul(1_000_000) / ticks);
        Process {
            pid,
            parent: stat.parent,
            start_time: stat.start_time,
            started_us: self
                .boot_time
                .saturating_mul(1_000_000)
                .saturating_add(after_boot_us.unwrap_or(i64::MAX)),
            state: stat.state.clone(),
            cpu_ms: stat.ticks.saturating_mul(1000) / ticks,
            memory: stat.pages.saturating_mul(self.page_bytes),
            threads: stat.threads,
            name: stat.name.clone(),
            ..Process::default()
        }
    }

    /// Between two looks; for one that was not there before, or with one look, since it started.
    fn cpu_percent(&self, pid: u32, stat: &Stat, before: Option<&Look>, now: &Look) -> f32 {
        let ticks = self.ticks_per_second.max(1) as f64;
        let earlier = before.and_then(|look| Some((look.at, look.stats.get(&pid)?)));
        let same = earlier.filter(|(_, earlier)| earlier.start_time == stat.start_time);
        let (used, seconds) = match same {
            Some((at, earlier)) => (
                stat.ticks.saturating_sub(earlier.ticks),
                now.at.saturating_duration_since(at).as_secs_f64(),
            ),
            None => (stat.ticks, self.uptime - stat.start_time as f64 / ticks),
        };
        // A tick within the first moments of a life is no burst of thousands of percent.
        let seconds = seconds.max(1.0 / ticks);
        let percent = used as f64 / ticks / seconds * 100.0;
        ((percent * 10.0).round() / 10.0) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// A process as the kernel shows it: name, ticks, start, pages, uid.
    fn write(root: &Path, pid: u32, name: &str, ticks: u64, start: u64, pages: u64, uid: u32) {
        let folder = root.join(pid.to_string());
        std::fs::create_dir_all(&folder).expect("made");
        let stat = format!(
            "{pid} ({name}) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 2 0 {start} 4096 {pages} 0"
        );
        std::fs::write(folder.join("stat"), stat).expect("written");
        std::fs::write(folder.join("status"), format!("Name:\t{name}\nUid:\t9\t{uid}\t9\t9\n"))
            .expect("written");
        std::fs::write(folder.join("cmdline"), format!("/bin/{name}\0-x\0")).expect("written");
        std::fs::write(folder.join("cgroup"), format!("0::/system.slice/{name}.service\n"))
            .expect("written");
    }

    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::write(root.path().join("uptime"), "1000.00 3000.00\n").expect("written");
        std::fs::write(root.path().join("stat"), "cpu 1 2 3\nbtime 1700000000\n").expect("written");
        std::fs::write(root.path().join("meminfo"), "MemTotal: 1024 kB\n").expect("written");
        std::fs::create_dir(root.path().join("sys")).expect("made");
        write(root.path(), 10, "idle", 500, 100, 9, 4_000_000);
        write(root.path(), 11, "busy", 500, 200, 5, 4_000_001);
        root
    }

    fn names(listed: &Processes) -> Vec<&str> {
        listed.processes.iter().map(|process| process.name.as_str()).collect()
    }

    #[test]
    fn processor_time_is_what_was_used_between_the_looks() {
        let root = machine();
        let proc = Proc::at(root.path());
        let mut before = Look::take(&proc);
        write(root.path(), 11, "busy", 550, 200, 5, 4_000_001);
        let now = Look::take(&proc);
        before.at = now.at - Duration::from_secs(1);
        let asked = ProcessList::default();
        let listed = list(&proc, &asked, Some(&before), &now, &mut Names::default());
        assert_eq!(names(&listed), ["busy", "idle"]);
        let busy = &listed.processes[0];
        assert_eq!(
            (busy.cpu_percent, busy.cpu_ms, listed.processes[1].cpu_percent),
            (50.0, 5500, 0.0)
        );
        assert_eq!((busy.uid, busy.threads, busy.parent, busy.start_time), (4_000_001, 2, 1, 200));
        assert_eq!(busy.started_us, 1_700_000_002_000_000);
        assert_eq!(busy.memory, 5 * host::process::page_bytes());
        assert_eq!(
            (busy.command.as_str(), busy.unit.as_deref()),
            ("/bin/busy -x", Some("busy.service"))
        );
        assert_eq!((listed.total, listed.memory_total), (2, 1 << 20));
    }

    #[test]
    fn reused_id_is_not_measured_against_its_predecessor() {
        let root = machine();
        let proc = Proc::at(root.path());
        let before = Look::take(&proc);
        // The id now belongs to one that started 10 s ago and used 1 s.
        write(root.path(), 11, "other", 100, 99_000, 5, 4_000_001);
        let now = Look::take(&proc);
        let listed =
            list(&proc, &ProcessList::default(), Some(&before), &now, &mut Names::default());
        let other = listed.processes.iter().find(|process| process.pid == 11).expect("listed");
        assert_eq!(other.cpu_percent, 10.0);
    }

    #[test]
    fn order_limit_and_user_are_what_was_asked_for() {
        let root = machine();
        let proc = Proc::at(root.path());
        let now = Look::take(&proc);
        let ask = |asked: &ProcessList| list(&proc, asked, None, &now, &mut Names::default());
        let by = |sort| ProcessList { sort, ..ProcessList::default() };
        assert_eq!(names(&ask(&by(ProcessSort::Memory))), ["idle", "busy"]);
        assert_eq!(names(&ask(&by(ProcessSort::Pid))), ["idle", "busy"]);
        assert_eq!(names(&ask(&by(ProcessSort::Started))), ["busy", "idle"]);
        let limited = ask(&ProcessList { limit: Some(1), ..by(ProcessSort::Started) });
        assert_eq!((names(&limited), limited.total), (vec!["busy"], 2));
        let of_user = ask(&ProcessList { user: Some("4000000".to_owned()), ..Default::default() });
        assert_eq!((names(&of_user), of_user.total), (vec!["idle"], 1));
        let of_nobody =
            ask(&ProcessList { user: Some("no-such".to_owned()), ..Default::default() });
        assert_eq!(of_nobody.total, 0);
    }
}
