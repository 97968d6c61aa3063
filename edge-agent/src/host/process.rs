//! Processes as `/proc` shows them (proc(5)), and signals to them.

use std::collections::HashMap;
use std::fs;

use reeve_protocol::SignalName;
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

/// Why a signal was not sent.
#[derive(Debug, PartialEq, Eq)]
pub enum NotSent {
    /// There is no such process any more.
    Gone,
    /// Another process has its id.
    Another,
    /// kill(2) says so.
    NotPermitted,
    /// The kernel has no pidfd_open(2).
    Unsupported,
    /// Anything else.
    Other(rustix::io::Errno),
}

/// Sends a signal to the process that has this id and started then, and to no other: what was
/// checked is held by a descriptor (pidfd_open(2)) and cannot become another in between.
///
/// # Errors
/// Why it was not sent.
pub fn signal_exactly(pid: u32, start_time: u64, signal: Signal) -> Result<(), NotSent> {
    use rustix::io::Errno;
    use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
    let describe = |error| match error {
        Errno::SRCH => NotSent::Gone,
        Errno::PERM => NotSent::NotPermitted,
        Errno::NOSYS => NotSent::Unsupported,
        other => NotSent::Other(other),
    };
    let held = pidfd_open(to_pid(pid).ok_or(NotSent::Gone)?, PidfdFlags::empty());
    let held = held.map_err(|error| match error {
        // The id of a thread: process_list names none of these.
        Errno::INVAL => NotSent::Another,
        other => describe(other),
    })?;
    // Read after it was opened: if the id changed hands in between, the descriptor is of the dead.
    match find_start_time(pid) {
        None => return Err(NotSent::Gone),
        Some(found) if found != start_time => return Err(NotSent::Another),
        Some(_) => {}
    }
    pidfd_send_signal(&held, signal).map_err(describe)
}

/// Ticks of a second in the kernel's accounting.
#[must_use]
pub fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

/// Bytes of a page of memory.
#[must_use]
pub fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// A signal by the name it has on the wire.
#[must_use]
pub fn to_signal(name: SignalName) -> Signal {
    match name {
        SignalName::Hup => Signal::HUP,
        SignalName::Int => Signal::INT,
        SignalName::Quit => Signal::QUIT,
        SignalName::Term => Signal::TERM,
        SignalName::Kill => Signal::KILL,
        SignalName::Usr1 => Signal::USR1,
        SignalName::Usr2 => Signal::USR2,
        SignalName::Stop => Signal::STOP,
        SignalName::Cont => Signal::CONT,
    }
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
