//! Control groups, version 2 (cgroups(7)): the only way to hold processes together that they
//! cannot leave. Works on pure v2 machines and on hybrid ones, where v2 is mounted beside v1.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

/// Where version 2 is mounted (proc_pid_mountinfo(5)).
#[must_use]
pub fn find_mount() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    find_mount_in(&text)
}

fn find_mount_in(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        let point = before.split(' ').nth(4)?;
        (kind == "cgroup2").then(|| PathBuf::from(unescape(point)))
    })
}

/// Mount points have blanks, tabs, newlines and backslashes as octal numbers.
pub(super) fn unescape(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        result.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(code) = code {
            result.push(char::from(code));
            rest = &rest[at + 4..];
        } else {
            result.push('\\');
            rest = &rest[at + 1..];
        }
    }
    result.push_str(rest);
    result
}

/// Our own group, relative to the mount.
fn find_own() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(PathBuf::from)
}

/// The folder below which operations get their groups, when this machine lets us have one. Moves
/// this process into a leaf of its own first, because a group with processes of its own cannot
/// have controllers for its children.
///
/// `marker` keeps agents apart that share the root group.
#[must_use]
pub fn prepare(marker: &str) -> Option<PathBuf> {
    let mount = find_mount()?;
    let own = find_own()?;
    let base = if own == Path::new("/") || own.ends_with(format!("reeve-{marker}/agent")) {
        mount.join(format!("reeve-{marker}"))
    } else {
        let relative = own.strip_prefix("/").ok()?;
        // A restarted agent whose keepers are still there may be put into its old leaf.
        let relative = if relative.ends_with("agent") { relative.parent()? } else { relative };
        mount.join(relative)
    };
    let leaf = base.join("agent");
    fs::create_dir_all(&leaf).ok()?;
    fs::write(leaf.join("cgroup.procs"), "0").ok()?;
    works(&base).then_some(base)
}

/// Whether groups can be made and removed below `base`.
fn works(base: &Path) -> bool {
    let probe = base.join("probe");
    let made = match fs::create_dir(&probe) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::AlreadyExists,
    };
    made && probe.join("cgroup.events").exists() && fs::remove_dir(&probe).is_ok()
}

/// Whether operations could get groups here, without changing anything.
#[must_use]
pub fn looks_possible() -> bool {
    let (Some(mount), Some(own)) = (find_mount(), find_own()) else { return false };
    let folder = mount.join(own.strip_prefix("/").unwrap_or(Path::new("")));
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
}

/// One operation's group.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    events: OwnedFd,
}

impl Group {
    /// Makes it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn create(path: &Path) -> io::Result<Self> {
        match fs::create_dir(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        Self::open(path)
    }

    /// Opens one that exists.
    ///
    /// # Errors
    /// What the kernel says; `NotFound` when there is none.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let events = rustix::fs::open(path.join("cgroup.events"), flags, Mode::empty())?;
        Ok(Self { path: path.to_owned(), events })
    }

    /// A descriptor to which a process writes `0` to enter.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_entrance(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(self.path.join("cgroup.procs"), flags, Mode::empty())?)
    }

    /// Its folder, into which a process can be born.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_folder(&self) -> io::Result<OwnedFd> {
        super::unix::open_folder(&self.path)
    }

    /// Becomes ready for `POLLPRI` when the group gets empty.
    #[must_use]
    pub fn events(&self) -> &OwnedFd {
        &self.events
    }

    /// Whether any living process is in it or below it.
    #[must_use]
    pub fn is_populated(&self) -> bool {
        let mut buffer = [0; 256];
        let count = rustix::io::pread(&self.events, &mut buffer, 0).unwrap_or(0);
        let text = std::str::from_utf8(&buffer[..count]).unwrap_or_default();
        text.lines().any(|line| line == "populated 1")
    }

    /// Ids of the processes in it and below it.
    #[must_use]
    pub fn list(&self) -> Vec<u32> {
        let mut found = Vec::new();
        let mut waiting = vec![self.path.clone()];
        while let Some(folder) = waiting.pop() {
            let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
            waiting.extend(list_children(&folder));
        }
        found
    }

    /// Kills everything in it at once; before Linux 5.14, one process after the other.
    pub fn kill(&self) {
        let whole = fs::OpenOptions::new()
            .write(true)
            .open(self.path.join("cgroup.kill"))
            .and_then(|mut file| file.write_all(b"1"));
        if whole.is_err() {
            for pid in self.list() {
                super::process::kill(pid);
            }
        }
    }

    /// Kills everything in it and waits until it is empty, at most `limit`. How many there were.
    #[must_use]
    pub fn kill_and_wait(&self, limit: Duration) -> u32 {
        let count = u32::try_from(self.list().len()).unwrap_or(u32::MAX);
        let until = Instant::now() + limit;
        while self.is_populated() && Instant::now() < until {
            self.kill();
            let mut events =
                [rustix::event::PollFd::new(&self.events, rustix::event::PollFlags::PRI)];
            let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            let _ = rustix::event::poll(&mut events, Some(&pause));
        }
        count
    }

    /// Removes it and the groups below it. Does nothing to one that has processes.
    pub fn remove(&self) {
        remove_below(&self.path);
    }
}

fn list_children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove_below(folder: &Path) {
    if fs::remove_dir(folder).is_ok() {
        return;
    }
    for child in list_children(folder) {
        remove_below(&child);
    }
    let _ = fs::remove_dir(folder);
}

/// Removes groups of operations that are empty and whose operation is over.
pub fn sweep(base: &Path, is_known: impl Fn(&str) -> bool) {
    for folder in list_children(base) {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(id) = name.strip_prefix("op-")
            && !is_known(id)
        {
            remove_below(&folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_is_found_on_hybrid_machines() {
        let text = "30 1 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                    31 1 0:27 / /sys/fs/cgroup/uni\\040fied rw shared:1 - cgroup2 cgroup2 rw\n";
        assert_eq!(find_mount_in(text), Some(PathBuf::from("/sys/fs/cgroup/uni fied")));
        assert_eq!(find_mount_in("30 1 0:26 / /x rw - tmpfs tmpfs rw\n"), None);
    }

    #[test]
    fn escapes_are_undone_and_broken_ones_kept() {
        assert_eq!(unescape("a\\134b\\zz"), "a\\b\\zz");
    }
}
