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

/// A bound on how many processes and threads there are, for those who are put into it and all that
/// they start.
#[derive(Debug)]
pub struct ProcessLimit(PathBuf);

impl ProcessLimit {
    /// No bound yet.
    ///
    /// # Panics
    /// When this machine counts no processes for us.
    #[must_use]
    pub fn new() -> Self {
        crate::require_root("only root may make control groups");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("what is mounted");
        let mounts = mounts.lines().filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            Some((before.split(' ').nth(4)?, after))
        });
        let root = mounts.filter_map(|(place, about)| {
            let is_old = about.starts_with("cgroup ")
                && about.rsplit(' ').next()?.split(',').any(|word| word == "pids");
            // Version 2 has to be told to count.
            let is_new = about.starts_with("cgroup2 ")
                && fs::write(Path::new(place).join("cgroup.subtree_control"), "+pids").is_ok();
            (is_old || is_new).then_some(place)
        });
        let root = { root }
            .next()
            .expect("no control groups with the controller `pids`: mount cgroup2, as systemd does");
        let name = format!("test-limit-{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
        let folder = Path::new(root).join(name);
        fs::create_dir(&folder).expect("make a control group");
        Self(folder)
    }

    /// A program that becomes another one within this bound.
    #[must_use]
    pub fn enter(&self) -> String {
        format!("echo $$ > {}/cgroup.procs; exec \"$@\"", self.0.display())
    }

    /// Puts a process with all its threads into it.
    ///
    /// # Panics
    /// When it is gone.
    pub fn hold(&self, pid: i32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("move a process");
    }

    /// No more than so many from now on; those that are there stay.
    ///
    /// # Panics
    /// When the kernel says no.
    pub fn set(&self, most: u32) {
        fs::write(self.0.join("pids.max"), most.to_string()).expect("bound processes");
    }

    /// As many as want to.
    ///
    /// # Panics
    /// When the kernel says no.
    pub fn lift(&self) {
        fs::write(self.0.join("pids.max"), "max").expect("lift the bound");
    }

    /// How many there are.
    ///
    /// # Panics
    /// When the kernel does not say.
    #[must_use]
    pub fn count(&self) -> u32 {
        let text = fs::read_to_string(self.0.join("pids.current")).expect("a count");
        text.trim().parse().expect("a number")
    }

    /// Whether one more was asked for than there may be.
    ///
    /// # Panics
    /// When the kernel does not say.
    #[must_use]
    pub fn was_reached(&self) -> bool {
        let text = fs::read_to_string(self.0.join("pids.events")).expect("events");
        text.split_whitespace().nth(1) != Some("0")
    }
}

impl Default for ProcessLimit {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for ProcessLimit {
    fn drop(&mut self) {
        let processes = || fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for pid in processes().lines().filter_map(|line| line.parse().ok()) {
            if pid != std::process::id().cast_signed() {
                let _gone = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        }
        remove(&self.0);
    }
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
