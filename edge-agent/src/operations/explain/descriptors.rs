//! What a process's descriptors are, and which of them matter.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileTypeExt;

use reeve_protocol::ops::explain_operation::{DescriptorFinding, DescriptorKind};

use super::holders::{Holders, read_access, to_peers};
use super::mounts::Mounts;
use super::sockets;

/// Descriptors of one process that are looked at.
const MAX_LOOKED: usize = 1024;

/// Descriptors of one process that are told of.
const MAX_TOLD: usize = 12;

/// Reads the descriptors that matter: the first three, those waited for, sockets. Also how many
/// others there are.
pub fn read(pid: u32, waits_for: &[u32], mounts: &Mounts) -> (Vec<DescriptorFinding>, u32) {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return (Vec::new(), 0) };
    let mut numbers: Vec<u32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .take(MAX_LOOKED)
        .collect();
    numbers.sort_unstable();
    let count = numbers.len();
    let mut found: Vec<DescriptorFinding> =
        numbers.into_iter().filter_map(|fd| describe(pid, fd, mounts)).collect();
    found.sort_by_key(|each| {
        let weight = if waits_for.contains(&each.fd) {
            0
        } else if each.fd <= 2 {
            1
        } else if each.kind == DescriptorKind::Socket {
            2
        } else {
            3
        };
        (weight, each.fd)
    });
    found.retain(|each| {
        each.fd <= 2 || waits_for.contains(&each.fd) || each.kind == DescriptorKind::Socket
    });
    found.truncate(MAX_TOLD);
    add_sockets(pid, &mut found);
    let left_out = u32::try_from(count.saturating_sub(found.len())).unwrap_or(u32::MAX);
    (found, left_out)
}

fn describe(pid: u32, fd: u32, mounts: &Mounts) -> Option<DescriptorFinding> {
    let link = format!("/proc/{pid}/fd/{fd}");
    let target = fs::read_link(&link).ok()?.to_string_lossy().into_owned();
    let (can_read, can_write) = read_access(pid, fd);
    let kind = if target.starts_with("pipe:[") {
        DescriptorKind::Pipe
    } else if target.starts_with("socket:[") {
        DescriptorKind::Socket
    } else if target == "/dev/null" {
        DescriptorKind::Null
    } else if is_terminal(&target) {
        DescriptorKind::Tty
    } else if target.starts_with('/') {
        if is_fifo(pid, fd, &link, mounts) { DescriptorKind::Fifo } else { DescriptorKind::File }
    } else {
        DescriptorKind::Other
    };
    Some(DescriptorFinding { fd, kind, target, can_read, can_write, ..Default::default() })
}

fn is_terminal(target: &str) -> bool {
    target.starts_with("/dev/pts/")
        || target.starts_with("/dev/tty")
        || target.starts_with("/dev/hvc")
        || matches!(target, "/dev/console" | "/dev/ptmx")
}

/// Asks the file, but only where nobody else has to answer for it.
fn is_fifo(pid: u32, fd: u32, link: &str, mounts: &Mounts) -> bool {
    let mount = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok().and_then(|text| {
        text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
    });
    mount.is_some_and(|mount| mounts.is_local(mount))
        && fs::metadata(link).is_ok_and(|about| about.file_type().is_fifo())
}

fn add_sockets(pid: u32, found: &mut [DescriptorFinding]) {
    let inode =
        |target: &str| target.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok();
    let wanted: Vec<u64> = found.iter().filter_map(|each| inode(&each.target)).collect();
    let mut sockets = sockets::find(pid, &wanted);
    for each in found {
        each.socket = inode(&each.target).and_then(|inode| sockets.remove(&inode));
    }
}

/// Names whose other holders are to be found.
pub fn list_wanted(found: &[DescriptorFinding]) -> impl Iterator<Item = String> {
    found
        .iter()
        .filter(|each| matches!(each.kind, DescriptorKind::Pipe | DescriptorKind::Fifo))
        .map(|each| each.target.clone())
}

/// Says who holds the other end of pipes.
pub fn add_other_ends(
    pid: u32,
    found: &mut [DescriptorFinding],
    holders: &Holders,
    keeper: Option<u32>,
    own: &HashSet<u32>,
) {
    for each in found {
        if !matches!(each.kind, DescriptorKind::Pipe | DescriptorKind::Fifo) {
            continue;
        }
        let others = holders.of(&each.target).iter().filter(|other| {
            // Of a reader the writers, of a writer the readers; of one that is both, the others.
            if each.can_read && each.can_write {
                other.pid != pid
            } else if each.can_read {
                other.can_write
            } else {
                other.can_read
            }
        });
        // The keeper first: what it holds is on its way over the link.
        let mut pids: Vec<u32> = others.map(|other| other.pid).collect();
        pids.sort_by_key(|other| (keeper != Some(*other), own.contains(other), *other));
        each.other_end = to_peers(pids, keeper, own);
        each.other_end_known = holders.is_complete;
    }
}
