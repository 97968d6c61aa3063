//! `/proc/<pid>/stat`, `status`, `io`: the numbers of a process (proc_pid_stat(5)).

use std::collections::HashMap;
use std::fs;

use crate::host::process::list_pids;

/// Processes of the machine that are looked at to find descendants.
const MAX_LISTED: usize = 65_536;

/// What `stat` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    pub name: String,
    pub state: char,
    pub parent: u32,
    /// User and system time, ticks.
    pub ticks: u64,
    /// When it started, ticks since boot.
    pub start_time: u64,
}

/// Reads it.
pub fn read(pid: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(text: &str) -> Option<Stat> {
    // The name is in parentheses and may itself hold parentheses and spaces.
    let end = text.rfind(')')?;
    let name = text.get(text.find('(')? + 1..end)?.to_owned();
    let fields: Vec<&str> = text.get(end + 1..)?.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    Some(Stat {
        name,
        state: fields.first()?.chars().next()?,
        parent: u32::try_from(number(1)?).ok()?,
        ticks: number(11)?.saturating_add(number(12)?),
        start_time: number(19)?,
    })
}

/// A process and what descends from it, without itself; zombies count.
pub fn list_descendants(ancestor: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in list_pids().into_iter().take(MAX_LISTED) {
        if let Some(stat) = read(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut waiting = vec![ancestor];
    while let Some(parent) = waiting.pop() {
        for pid in children.remove(&parent).unwrap_or_default() {
            waiting.push(pid);
            found.push(pid);
        }
    }
    found
}

/// Numbers whose change between two looks says what a process is busy with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub ticks: u64,
    pub read_bytes: Option<u64>,
    pub written_bytes: Option<u64>,
    pub voluntary_switches: u64,
}

/// Reads them.
pub fn count(pid: u32) -> Option<Counters> {
    let ticks = read(pid)?.ticks;
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    Some(Counters {
        ticks,
        read_bytes: find_number(&io, "rchar:"),
        written_bytes: find_number(&io, "wchar:"),
        voluntary_switches: find_number(&status, "voluntary_ctxt_switches:").unwrap_or(0),
    })
}

/// Real user id.
pub fn find_uid(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    find_number(&status, "Uid:").and_then(|uid| u32::try_from(uid).ok())
}

/// Resident memory, bytes.
pub fn find_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    find_number(&status, "VmRSS:").unwrap_or(0).saturating_mul(1024)
}

/// The first number behind a word at the beginning of a line.
fn find_number(text: &str, word: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(word))
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok())
}

/// Since boot, milliseconds.
pub fn read_uptime_ms() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split(' ').next().and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
    std::time::Duration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|uptime| u64::try_from(uptime.as_millis()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_with_parentheses_and_blanks_is_no_riddle() {
        let text = "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 0 0 0 11 22 0 0 20 0 1 0 777 4096 5 1";
        let stat = parse(text).expect("parsed");
        assert_eq!(stat.name, "a) b (c)");
        assert_eq!((stat.state, stat.parent, stat.ticks), ('S', 7, 33));
        assert_eq!(stat.start_time, 777);
        for cut in 0..text.len() {
            let _ = parse(&text[..cut]);
        }
    }
}
