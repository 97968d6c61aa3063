//! What only the kernel can give: a lock on a file, an answer from a disk.

use reeve_protocol::ops::Findings;
use reeve_protocol::ops::explain_operation::ProcessFinding;
use reeve_sdk::api::StallAdvice;

use super::words::{self, name};
use super::{Cause, Verdict};

const PACKAGE_MANAGERS: &[&str] = &[
    "apt",
    "apt-get",
    "aptitude",
    "dpkg",
    "unattended-upgr",
    "yum",
    "dnf",
    "dnf5",
    "rpm",
    "zypper",
    "apk",
    "pacman",
    "packagekitd",
];

const NETWORK_FILES: &[&str] =
    &["nfs", "cifs", "smb", "ceph", "9p", "gluster", "afs", "fuse", "lustre", "virtiofs"];

/// Locks on files, and those of package managers.
pub fn judge_lock(
    findings: &Findings,
    process: &ProcessFinding,
    call: &str,
    wchan: &str,
) -> Option<Verdict> {
    if let Some(lock) = process.waits_for_locks.first() {
        return Some(Verdict::sure(
            Cause::WaitsForLock,
            StallAdvice::Wait,
            format!("{} waits for the {}", name(process), words::lock(lock)),
        ));
    }
    if PACKAGE_MANAGERS.contains(&process.name.as_str()) {
        let held = findings.package_locks.iter().find(|lock| {
            !lock.holders.is_empty() && lock.holders.iter().all(|holder| !holder.is_own)
        });
        if let Some(lock) = held {
            return Some(Verdict::sure(
                Cause::WaitsForLock,
                StallAdvice::Wait,
                format!(
                    "{} waits for another package manager: {}",
                    name(process),
                    words::lock(lock)
                ),
            ));
        }
    }
    let is_lock = call == "flock" || wchan.contains("lock_inode_wait") || wchan == "fcntl_setlk";
    is_lock.then(|| {
        Verdict::unsure(
            Cause::WaitsForLock,
            StallAdvice::Wait,
            format!(
                "{} waits for a lock on a file; who holds it could not be found out",
                name(process)
            ),
        )
    })
}

/// A sleep that nothing interrupts.
pub fn judge_uninterruptible(process: &ProcessFinding) -> Verdict {
    let Some(mount) = &process.mount else {
        return Verdict::unsure(
            Cause::Uninterruptible,
            StallAdvice::Wait,
            format!(
                "{} waits in the kernel and cannot be interrupted, not even killed",
                name(process)
            ),
        );
    };
    let place = format!("{} ({} from {})", mount.point, mount.kind, mount.source);
    let server = mount.source.split_once(":/").map(|(server, _)| server.trim_matches(['[', ']']));
    if NETWORK_FILES.iter().any(|kind| mount.kind.starts_with(kind)) {
        let who = match server {
            Some(server) => format!("the server {server} does not answer"),
            None => "whoever serves it does not answer".to_owned(),
        };
        return Verdict::sure(
            Cause::Uninterruptible,
            StallAdvice::Wait,
            format!(
                "{} waits for the file system {place}: {who}; it cannot be killed before that answers",
                name(process)
            ),
        );
    }
    Verdict::sure(
        Cause::Uninterruptible,
        StallAdvice::Wait,
        format!("{} waits for the disk under {place}", name(process)),
    )
}
