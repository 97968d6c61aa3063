//! Processes as `/proc` shows them (proc(5)), and signals to them.

use std::collections::HashMap;
use std::fs;

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process, kill_process_group};

/// Field 22 of `/proc/<pid>/stat`: when the process started, in ticks since boot. Together with
/// pid and boot id it names one process for ever.
#[must_use]
pub fn find_start_time(pid: u32) -> Option<u64> {
    read_stat(pid).map(|stat| stat.start_time)
}

struct Stat {
    parent: u32,
    state: char,
    start_time: u64,
}

fn read_stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may itself hold parentheses and spaces.
    let rest = text.get(text.rfind(')')? + 1..)?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let start_time = fields.nth(17)?.parse().ok()?;
    Some(Stat { parent, state, start_time })
}

/// Ids of all processes.
#[must_use]
pub fn list_pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// All living processes that descend from `ancestor`, without it. Zombies do not count.
#[must_use]
pub fn list_descendants(ancestor: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<(u32, char)>> = HashMap::new();
    for pid in list_pids() {
        if let Some(stat) = read_stat(pid) {
            children.entry(stat.parent).or_default().push((pid, stat.state));
        }
    }
    let mut found = Vec::new();
    let mut waiting = vec![ancestor];
    while let Some(parent) = waiting.pop() {
        for (pid, state) in children.remove(&parent).unwrap_or_default() {
            waiting.push(pid);
            if !matches!(state, 'Z' | 'X') {
                found.push(pid);
            }
        }
    }
    found
}

/// All living processes whose environment has exactly this entry. Only those count whose
/// environment we may read: our own user's, or everybody's for root.
#[must_use]
pub fn list_with_environment(entry: &str) -> Vec<u32> {
    list_pids()
        .into_iter()
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|bytes| bytes.split(|byte| *byte == 0).any(|e| e == entry.as_bytes()))
        })
        .filter(|pid| read_stat(*pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X')))
        .collect()
}

/// Kills one process. Whether it was there.
pub fn kill(pid: u32) -> bool {
    signal(pid, Signal::KILL)
}

/// Whether this process may send signals to another (kill(2) with signal 0).
#[must_use]
pub fn may_signal(pid: u32) -> bool {
    to_pid(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

/// Sends a signal to one process. Whether it was there.
pub fn signal(pid: u32, signal: Signal) -> bool {
    to_pid(pid).is_some_and(|pid| kill_process(pid, signal).is_ok())
}

/// Sends a signal to a process group. Whether it was there.
pub fn signal_group(leader: u32, signal: Signal) -> bool {
    to_pid(leader).is_some_and(|pid| kill_process_group(pid, signal).is_ok())
}

fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Kills everything that carries the operation's mark in its environment, until nothing is left
/// or a second has passed. How many there were.
#[must_use]
pub fn kill_marked(entry: &str) -> u32 {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(1);
    let mut seen = std::collections::HashSet::new();
    loop {
        let found = list_with_environment(entry);
        if found.is_empty() || std::time::Instant::now() > until {
            return u32::try_from(seen.len()).unwrap_or(u32::MAX);
        }
        for pid in found {
            kill(pid);
            seen.insert(pid);
        }
        std::thread::yield_now();
    }
}
