//! What agents leave in the kernel when they are killed: the cgroups of their commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder an agent made for its commands' cgroups, when it made one of its own. Asks a running
/// agent; a dead one has none.
#[must_use]
pub fn of_agent(pid: i32) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
    let base = Path::new(mount).join(own).parent()?.to_owned();
    // Anything else belongs to the machine and not to the agent.
    let made_by_agent = base.file_name()?.to_str()?.starts_with("reeve-");
    made_by_agent.then_some(base)
}

/// Ends everything in a tree of cgroups and removes it.
pub fn remove(folder: &Path) {
    let _old_kernel = fs::write(folder.join("cgroup.kill"), "1");
    let removed = || -> bool {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                let _busy = fs::remove_dir(entry.path());
            }
        }
        fs::remove_dir(folder).is_ok() || !folder.exists()
    };
    for _ in 0..200 {
        if removed() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    eprintln!("{} could not be removed", folder.display());
}
