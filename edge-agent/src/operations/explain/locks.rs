//! Who waits for which lock, and who holds it (proc_locks(5)).

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use reeve_protocol::ops::explain_operation::LockFinding;

use super::holders::{Holders, to_peers};

/// Lock files of package managers. They ask again and again rather than wait, so that no lock shows
/// who waits.
const PACKAGE_LOCKS: &[&str] = &[
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
    "/var/lib/rpm/.rpm.lock",
    "/usr/lib/sysimage/rpm/.rpm.lock",
    "/var/cache/dnf/metadata_lock.pid",
    "/run/zypp.pid",
    "/lib/apk/db/lock",
    "/var/lib/pacman/db.lck",
];

/// A line of `/proc/locks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Lines with the same number are about the same lock.
    number: u64,
    is_waiting: bool,
    kind: String,
    access: String,
    /// Who took it; gone perhaps, while a child still has it.
    pub pid: Option<u32>,
    /// `major:minor:inode`.
    file: String,
}

/// All locks of the machine.
#[derive(Default)]
pub struct Locks(Vec<Lock>);

impl Locks {
    /// Reads them.
    pub fn read() -> Self {
        Self::parse(&fs::read_to_string("/proc/locks").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(parse_line).collect())
    }

    /// What a process waits for: the lock that is in its way, and who took it.
    pub fn find_blocking(&self, pid: u32) -> Vec<(Lock, Vec<u32>)> {
        let waiting = self.0.iter().filter(|lock| lock.is_waiting && lock.pid == Some(pid));
        waiting
            .map(|lock| {
                let holders = self.0.iter().filter(|other| {
                    !other.is_waiting && other.number == lock.number && other.file == lock.file
                });
                (lock.clone(), holders.filter_map(|holder| holder.pid).collect())
            })
            .collect()
    }

    /// Locks of package managers that somebody holds.
    pub fn find_package_locks(&self, keeper: Option<u32>, own: &HashSet<u32>) -> Vec<LockFinding> {
        let find = |path: &&str| {
            let about = fs::metadata(path).ok()?;
            let holders = self.0.iter().filter(|lock| {
                !lock.is_waiting && lock.file.rsplit(':').next() == Some(&about.ino().to_string())
            });
            let holders: Vec<&Lock> = holders.collect();
            let lock = holders.first()?;
            Some(LockFinding {
                kind: lock.kind.clone(),
                access: lock.access.clone(),
                path: (*path).to_owned(),
                holders: to_peers(holders.iter().filter_map(|lock| lock.pid), keeper, own),
            })
        };
        PACKAGE_LOCKS.iter().filter_map(find).collect()
    }
}

impl Lock {
    /// Tells of the lock: its path, and everybody who has it, also where whoever took it is gone.
    pub fn to_finding(
        &self,
        path: &str,
        takers: &[u32],
        holders: &Holders,
        keeper: Option<u32>,
        own: &HashSet<u32>,
    ) -> LockFinding {
        let open = holders.of(path).iter().filter(|holder| {
            let text = fs::read_to_string(format!("/proc/{}/fdinfo/{}", holder.pid, holder.fd));
            text.is_ok_and(|text| self.is_held_in(&text))
        });
        LockFinding {
            kind: self.kind.clone(),
            access: self.access.clone(),
            path: path.to_owned(),
            holders: to_peers(
                takers.iter().copied().chain(open.map(|holder| holder.pid)),
                keeper,
                own,
            ),
        }
    }

    /// Whether a descriptor has it: lines such as `lock: 1: FLOCK ADVISORY WRITE 7 fe:00:12 0 EOF`.
    fn is_held_in(&self, fdinfo: &str) -> bool {
        fdinfo
            .lines()
            .filter_map(|line| parse_line(line.strip_prefix("lock:")?.trim_start()))
            .any(|lock| !lock.is_waiting && lock.file == self.file && lock.kind == self.kind)
    }
}

/// `1: -> FLOCK  ADVISORY  WRITE 5170 fe:00:10010626 0 EOF`
fn parse_line(line: &str) -> Option<Lock> {
    let (number, rest) = line.split_once(':')?;
    let mut words = rest.split_ascii_whitespace().peekable();
    let is_waiting = words.next_if_eq(&"->").is_some();
    let kind = match words.next()? {
        "OFDLCK" => "ofd".to_owned(),
        other => other.to_ascii_lowercase(),
    };
    let access = words.nth(1)?.to_ascii_lowercase();
    let pid = words.next()?.parse().ok().filter(|pid| *pid != 0);
    let file = words.next()?.to_owned();
    Some(Lock { number: number.trim().parse().ok()?, is_waiting, kind, access, pid, file })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
1: FLOCK  ADVISORY  WRITE 5169 fe:00:10010626 0 EOF
1: -> FLOCK  ADVISORY  WRITE 5170 fe:00:10010626 0 EOF
2: POSIX  ADVISORY  READ 77 fe:00:99 128 128
3: OFDLCK ADVISORY  WRITE -1 fe:00:100 0 0
";

    #[test]
    fn whoever_waits_is_told_who_took_the_lock() {
        let locks = Locks::parse(TEXT);
        let [(lock, takers)] = &locks.find_blocking(5170)[..] else { panic!("one lock") };
        assert_eq!(
            (lock.kind.as_str(), lock.access.as_str(), &takers[..]),
            ("flock", "write", &[5169][..])
        );
        assert!(locks.find_blocking(5169).is_empty());
        assert!(
            lock.is_held_in(
                "pos:\t0\nlock:\t1: FLOCK  ADVISORY  WRITE 5169 fe:00:10010626 0 EOF\n"
            )
        );
        assert!(
            !lock.is_held_in("lock:\t1: -> FLOCK  ADVISORY  WRITE 5170 fe:00:10010626 0 EOF\n")
        );
        assert_eq!(locks.0[3].pid, None);
        for cut in 0..TEXT.len() {
            let _ = Locks::parse(&TEXT[..cut]);
        }
    }
}
