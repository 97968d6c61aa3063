//! What is mounted (proc_pid_mountinfo(5)).

use std::collections::HashSet;

use reeve_protocol::ops::FileSystem;

use super::{MAX_LISTED, Root};
use crate::host::facts::is_real;
use crate::host::metrics::{Space, measure};

/// File systems that another machine answers for, or does not: looking at one may take for ever.
const REMOTE: &[&str] =
    &["nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "9p", "afs", "fuse.sshfs"];

pub fn list(root: &Root) -> Vec<FileSystem> {
    parse(&root.read("proc/self/mountinfo"), |mount| measure(mount))
}

fn parse(text: &str, measure: impl Fn(&str) -> Option<Space>) -> Vec<FileSystem> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let (Some(device), Some(mount), Some(options)) = (left.get(2), left.get(4), left.get(5))
        else {
            continue;
        };
        let (Some(kind), Some(source)) = (right.first(), right.get(1)) else { continue };
        let mount = unescape(mount);
        let remote = REMOTE.contains(kind);
        // The same device mounted twice is one; only the root may be an overlay.
        if !(is_real(kind) || remote)
            || (*kind == "overlay" && mount != "/")
            || !seen.insert((*device).to_owned())
        {
            continue;
        }
        let space = if remote { None } else { measure(&mount) };
        found.push(FileSystem {
            mount,
            source: unescape(source),
            kind: (*kind).to_owned(),
            total: space.map(|space| space.total),
            available: space.map(|space| space.available),
            inodes: space.map(|space| space.inodes).filter(|count| *count > 0),
            inodes_free: space.filter(|it| it.inodes > 0).map(|space| space.inodes_free),
            read_only: options.split(',').any(|option| option == "ro"),
        });
        if found.len() == MAX_LISTED {
            break;
        }
    }
    found
}

/// Blanks and the like are written as three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| first == b'\\');
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_data_is_told_once_with_what_is_left() {
        let text = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw - proc proc rw
24 22 8:1 /srv /mnt/again rw - ext4 /dev/sda1 rw
25 22 8:2 / /mnt/with\\040blank ro,nosuid - xfs /dev/sdb1 ro
26 22 0:50 / /mnt/far rw - nfs4 server:/export rw
27 22 0:60 / /var/lib/docker/overlay rw - overlay overlay rw
broken\n";
        let space = Space { total: 100, available: 40, inodes: 10, inodes_free: 4 };
        let found = parse(text, |_| Some(space));
        let mounts: Vec<&str> = found.iter().map(|it| it.mount.as_str()).collect();
        assert_eq!(mounts, ["/", "/mnt/with blank", "/mnt/far"]);
        assert_eq!((found[0].total, found[0].inodes_free), (Some(100), Some(4)));
        assert!(!found[0].read_only && found[1].read_only);
        assert_eq!((found[2].total, found[2].source.as_str()), (None, "server:/export"));
    }

    #[test]
    fn names_are_as_they_are() {
        assert_eq!(unescape("a\\040b\\134c"), "a b\\c");
        assert_eq!(unescape("end\\04"), "end\\04");
    }
}
