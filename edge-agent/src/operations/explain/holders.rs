//! Who on this machine has a pipe or file open: one walk over all descriptors of all processes, with
//! an end.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::{Duration, Instant};

use reeve_protocol::ops::explain_operation::Peer;

use super::process::read_command;
use super::stat;
use crate::host::process::list_pids;

/// The walk ends by then, with what it has found.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// Descriptors looked at in one walk.
const MAX_LINKS: usize = 500_000;

/// Holders told of for one thing.
const MAX_PEERS: usize = 4;

/// One process that has something open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    pub fd: u32,
    pub can_read: bool,
    pub can_write: bool,
}

/// Who has what open, by the name the kernel gives it (`pipe:[4711]`, a path).
#[derive(Default)]
pub struct Holders {
    found: HashMap<String, Vec<Holder>>,
    /// Every process could be asked.
    pub is_complete: bool,
}

impl Holders {
    /// Walks.
    pub fn find(wanted: &HashSet<String>) -> Self {
        let mut holders = Self { found: HashMap::new(), is_complete: true };
        if wanted.is_empty() {
            return holders;
        }
        let until = Instant::now() + TIME_LIMIT;
        let mut links = 0;
        for pid in list_pids() {
            if Instant::now() > until || links > MAX_LINKS {
                holders.is_complete = false;
                break;
            }
            match fs::read_dir(format!("/proc/{pid}/fd")) {
                Ok(entries) => {
                    for entry in entries.filter_map(Result::ok) {
                        links += 1;
                        holders.look(pid, &entry, wanted);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    holders.is_complete = false;
                }
                // It is gone.
                Err(_) => {}
            }
        }
        holders
    }

    fn look(&mut self, pid: u32, entry: &fs::DirEntry, wanted: &HashSet<String>) {
        let Ok(target) = fs::read_link(entry.path()) else { return };
        let Some(target) = target.to_str().filter(|target| wanted.contains(*target)) else {
            return;
        };
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            return;
        };
        let (can_read, can_write) = read_access(pid, fd);
        let holder = Holder { pid, fd, can_read, can_write };
        self.found.entry(target.to_owned()).or_default().push(holder);
    }

    /// Those that have something open.
    pub fn of(&self, target: &str) -> &[Holder] {
        self.found.get(target).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Whether a descriptor was opened for reading and for writing (`flags` of proc_pid_fdinfo(5)).
pub fn read_access(pid: u32, fd: u32) -> (bool, bool) {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
    parse_access(&text)
}

fn parse_access(text: &str) -> (bool, bool) {
    let flags = text
        .lines()
        .find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
    match flags.map(|flags| flags & 3) {
        Some(0) => (true, false),
        Some(1) => (false, true),
        Some(2) => (true, true),
        _ => (false, false),
    }
}

/// Tells of processes, each once, a few of them.
pub fn to_peers(
    pids: impl IntoIterator<Item = u32>,
    keeper: Option<u32>,
    own: &HashSet<u32>,
) -> Vec<Peer> {
    let mut peers: Vec<Peer> = Vec::new();
    for pid in pids {
        if peers.len() == MAX_PEERS {
            break;
        }
        if peers.iter().any(|peer| peer.pid == pid) {
            continue;
        }
        let Some(stat) = stat::read(pid) else { continue };
        peers.push(Peer {
            pid,
            name: stat.name,
            command: read_command(pid),
            is_keeper: keeper == Some(pid),
            is_own: own.contains(&pid),
        });
    }
    peers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_is_read_from_flags() {
        assert_eq!(parse_access("pos:\t0\nflags:\t0100001\nmnt_id:\t27\n"), (false, true));
        assert_eq!(parse_access("flags:\t02004000\n"), (true, false));
        assert_eq!(parse_access("flags:\t02\n"), (true, true));
        assert_eq!(parse_access("flags: x"), (false, false));
    }
}
