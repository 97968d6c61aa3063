//! The view of the files: a mount namespace of its own in which everything is read-only
//! (mount_namespaces(7)), with a small `/dev`, a folder for scratch, and mounts over what is
//! blocked.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode as NixMode, SFlag, makedev, mknod};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, utimensat};

use super::{ALWAYS_BLOCKED, SandboxError, Walls, blocked};

/// The only folder that can be written: in memory, the command's own, gone with it.
pub const SCRATCH: &str = "/dev/shm";

/// What fits into it.
pub const SCRATCH_BYTES: u64 = 64 * 1024 * 1024;

/// The devices there are: name, major and minor number (Linux's devices.txt).
const NODES: [(&str, u64, u64); 5] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9)];

/// Their names.
pub(super) const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// What a blocked folder seems to hold, so that nobody takes it for an empty one.
pub const NOTICE: &str = "BLOCKED_BY_POLICY";

/// Where what covers blocked paths is made.
const COVERS: &str = "/dev/.blocked";

/// The time that covers show.
const EPOCH: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// The way back out of the namespace.
#[derive(Debug)]
pub struct Outside {
    namespace: OwnedFd,
    root: OwnedFd,
    folder: OwnedFd,
}

impl Outside {
    /// Where this process is.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remember() -> Result<Self, SandboxError> {
        let open = |path: &str, flags: OFlags| {
            rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| SandboxError::step(format!("opening {path}"))(error.into()))
        };
        Ok(Self {
            namespace: open("/proc/self/ns/mnt", OFlags::RDONLY)?,
            root: open("/", OFlags::PATH)?,
            folder: open(".", OFlags::PATH)?,
        })
    }

    /// Goes there. setns(2) moves to the namespace's own root folder, which need not be ours.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn go_back(&self) -> Result<(), SandboxError> {
        let back = || -> io::Result<()> {
            setns(&self.namespace, CloneFlags::CLONE_NEWNS)?;
            nix::unistd::fchdir(&self.root)?;
            nix::unistd::chroot(".")?;
            Ok(nix::unistd::fchdir(&self.folder)?)
        };
        back().map_err(SandboxError::step("leaving the mount namespace"))
    }
}

/// Makes the view and moves this process into it.
///
/// # Errors
/// Which step failed. This process may be inside then.
pub fn build(walls: &Walls) -> Result<(), SandboxError> {
    let patterns = ALWAYS_BLOCKED.iter().copied().chain(walls.blocked.iter().map(String::as_str));
    let hidden = blocked::expand(patterns)?;
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|error| SandboxError::step("making a mount namespace")(error.into()))?;
    attach("none", "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, "")?;
    let devices: Vec<OwnedFd> = DEVICES
        .iter()
        .map(|name| {
            let path = format!("/dev/{name}");
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            rustix::fs::open(&path, flags, Mode::empty())
                .map_err(|error| SandboxError::step(format!("opening {path}"))(error.into()))
        })
        .collect::<Result<_, _>>()?;
    if !freeze_all()? {
        freeze_each()?;
    }
    check_frozen()?;
    make_devices(&devices)?;
    hide(&hidden)?;
    freeze("/dev", MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC)
}

fn attach(
    source: &str,
    target: &str,
    kind: Option<&str>,
    flags: MsFlags,
    options: &str,
) -> Result<(), SandboxError> {
    mount(Some(source), target, kind, flags, Some(options).filter(|text| !text.is_empty()))
        .map_err(|error| SandboxError::step(format!("mounting on {target}"))(error.into()))
}

fn freeze(target: &str, flags: MsFlags) -> Result<(), SandboxError> {
    let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    attach("none", target, None, flags, "")
}

/// Makes every mount read-only at once (mount_setattr(2), Linux 5.12). False where the kernel
/// cannot.
fn freeze_all() -> Result<bool, SandboxError> {
    match super::enter::freeze_tree() {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOSYS) => Ok(false),
        Err(error) => Err(SandboxError::step("making all mounts read-only")(error)),
    }
}

/// One after the other, for older kernels. What cannot be reached by its path because something
/// else is mounted over it cannot be reached by the command either.
fn freeze_each() -> Result<(), SandboxError> {
    for mount in list_mounts()? {
        let kept = mount.flags & (MsFlags::MS_NOEXEC | ATIME);
        let _ = freeze(&mount.point, kept | MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
    }
    Ok(())
}

const ATIME: MsFlags =
    MsFlags::MS_NOATIME.union(MsFlags::MS_NODIRATIME).union(MsFlags::MS_RELATIME);

/// A line of proc_pid_mountinfo(5).
struct MountLine {
    id: u64,
    parent: u64,
    point: String,
    flags: MsFlags,
}

fn list_mounts() -> Result<Vec<MountLine>, SandboxError> {
    // Of this thread, which alone is in the namespace if there are others.
    let path = "/proc/thread-self/mountinfo";
    let text = fs::read_to_string(path).map_err(SandboxError::step(format!("reading {path}")))?;
    Ok(text.lines().filter_map(parse_mount).collect())
}

fn parse_mount(line: &str) -> Option<MountLine> {
    let mut fields = line.split(' ');
    let id = fields.next()?.parse().ok()?;
    let parent = fields.next()?.parse().ok()?;
    let point = crate::host::cgroup::unescape(fields.nth(2)?);
    let flags = fields.next()?.split(',').fold(MsFlags::empty(), |flags, word| {
        flags
            | match word {
                "ro" => MsFlags::MS_RDONLY,
                "nosuid" => MsFlags::MS_NOSUID,
                "nodev" => MsFlags::MS_NODEV,
                "noexec" => MsFlags::MS_NOEXEC,
                "noatime" => MsFlags::MS_NOATIME,
                "nodiratime" => MsFlags::MS_NODIRATIME,
                "relatime" => MsFlags::MS_RELATIME,
                _ => MsFlags::empty(),
            }
    });
    Some(MountLine { id, parent, point, flags })
}

/// Whether it worked, as the kernel itself shows it: the wall that everything else relies on.
fn check_frozen() -> Result<(), SandboxError> {
    match find_writable(&list_mounts()?) {
        Some(point) => Err(SandboxError::Writable(point)),
        None => Ok(()),
    }
}

/// A mount that is not read-only, without set-user-id and without devices, and that a path leads
/// to.
fn find_writable(mounts: &[MountLine]) -> Option<String> {
    let wanted = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let covers = |lower: &MountLine, upper: &MountLine| {
        upper.parent == lower.id && upper.point == lower.point && upper.id != lower.id
    };
    let is_covered = |mount: &MountLine| mounts.iter().any(|other| covers(mount, other));
    mounts
        .iter()
        .find(|mount| !mount.flags.contains(wanted) && !is_covered(mount))
        .map(|mount| mount.point.clone())
}

fn make_devices(originals: &[OwnedFd]) -> Result<(), SandboxError> {
    // Nothing below the former /dev can be reached any more. Where one of these stays all the
    // same, tools that list mounts stumble over it, and that is all.
    for mount in list_mounts()?.iter().rev().filter(|mount| mount.point.starts_with("/dev/")) {
        let _ = umount2(mount.point.as_str(), MntFlags::MNT_DETACH);
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    attach("tmpfs", "/dev", Some("tmpfs"), flags, "mode=755,size=64k,nr_inodes=64")?;
    for ((name, major, minor), original) in NODES.iter().zip(originals) {
        let path = format!("/dev/{name}");
        if make_node(&path, *major, *minor).is_err() {
            // In a container: lent by the machine's own /dev.
            fs::write(&path, "").map_err(SandboxError::step(format!("making {path}")))?;
            let source = format!("/proc/self/fd/{}", original.as_raw_fd());
            attach(&source, &path, None, MsFlags::MS_BIND, "")?;
            freeze(&path, flags)?;
        }
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        std::os::unix::fs::symlink(target, format!("/dev/{name}"))
            .map_err(SandboxError::step(format!("making /dev/{name}")))?;
    }
    make_folder(SCRATCH)?;
    let options = format!("mode=1777,size={SCRATCH_BYTES},nr_inodes=4096");
    attach("tmpfs", SCRATCH, Some("tmpfs"), flags | MsFlags::MS_NODEV, &options)
}

/// Makes a device that can be opened.
fn make_node(path: &str, major: u64, minor: u64) -> io::Result<()> {
    mknod(path, SFlag::S_IFCHR, NixMode::from_bits_truncate(0o666), makedev(major, minor))?;
    let opened = fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .and_then(|()| fs::File::open(path));
    if let Err(error) = opened {
        // Device files in a user namespace are there and cannot be opened.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(())
}

fn make_folder(path: &str) -> Result<(), SandboxError> {
    fs::create_dir(path).map_err(SandboxError::step(format!("making {path}")))
}

/// Covers each of the paths: a folder by one with a notice, a file by one that cannot be opened.
fn hide(paths: &std::collections::BTreeSet<String>) -> Result<(), SandboxError> {
    make_folder(COVERS)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    attach("tmpfs", COVERS, Some("tmpfs"), flags, "mode=755,size=64k,nr_inodes=16")?;
    let (folder, file) = (format!("{COVERS}/folder"), format!("{COVERS}/file"));
    make_folder(&folder)?;
    let step = |what| SandboxError::step(format!("making what covers blocked {what}"));
    fs::write(format!("{folder}/{NOTICE}"), "").map_err(step("folders"))?;
    // A device without `dev` cannot be opened by anybody: EACCES. A mode would not do, because of
    // CAP_DAC_READ_SEARCH. Where no device can be made, a socket: ENXIO.
    let nothing = NixMode::empty();
    mknod(file.as_str(), SFlag::S_IFCHR, nothing, makedev(0, 0))
        .or_else(|_| mknod(file.as_str(), SFlag::S_IFSOCK, nothing, 0))
        .map_err(|error| step("files")(error.into()))?;
    // As old as can be: what is covered must not look like what changed last.
    let notice = format!("{folder}/{NOTICE}");
    for path in [&notice, &folder, &file] {
        let times = Timestamps { last_access: EPOCH, last_modification: EPOCH };
        utimensat(CWD, path.as_str(), &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| step("old")(error.into()))?;
    }
    freeze(COVERS, flags)?;
    for path in paths {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            // Gone meanwhile, or beneath another one that is covered already.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(SandboxError::step(format!("looking at {path}"))(error)),
        };
        // /dev is ours already.
        if path == "/dev" || Path::new(path).starts_with("/dev/") {
            continue;
        }
        let cover = if metadata.is_dir() { &folder } else { &file };
        attach(cover, path, None, MsFlags::MS_BIND, "")?;
    }
    umount2(COVERS, MntFlags::MNT_DETACH)
        .map_err(|error| SandboxError::step(format!("unmounting {COVERS}"))(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<MountLine> {
        text.lines().filter_map(parse_mount).collect()
    }

    #[test]
    fn writable_mount_is_noticed() {
        let frozen = "20 1 8:1 / / ro,nosuid,nodev,relatime - ext4 /dev/sda1 rw\n\
                      21 20 0:5 / /a\\040b ro,nosuid,nodev - tmpfs t rw\n";
        assert_eq!(find_writable(&parse(frozen)), None);
        for broken in ["rw,nosuid,nodev", "ro,nodev", "ro,nosuid"] {
            let text = format!("{frozen}22 21 0:6 / /a\\040b/c {broken} shared:3 - tmpfs t rw\n");
            assert_eq!(find_writable(&parse(&text)).as_deref(), Some("/a b/c"), "{broken}");
        }
    }

    /// What kernels before 5.12 get, tried on this one, in a thread of its own.
    #[test]
    fn mounts_can_be_frozen_one_by_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, path) = (folder.path().join("file"), folder.path().to_owned());
        let writes = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNS).expect("run the tests as root");
            attach("none", "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, "").expect("private");
            let target = path.to_str().expect("text");
            attach("tmpfs", target, Some("tmpfs"), MsFlags::MS_NOEXEC, "").expect("mounted");
            assert!(check_frozen().is_err());
            let before = fs::write(&file, "");
            freeze_each().expect("frozen");
            check_frozen().expect("nothing is writable");
            let mounts = list_mounts().expect("listed");
            let ours = mounts.iter().find(|mount| mount.point == target).expect("there");
            assert!(ours.flags.contains(MsFlags::MS_NOEXEC), "what was set stays");
            (before.is_ok(), fs::write(&file, "").is_ok(), fs::write("/tmp/x", "").is_ok())
        });
        assert_eq!(writes.join().expect("it ran"), (true, false, false));
    }

    #[test]
    fn mount_under_another_on_the_same_point_cannot_be_reached() {
        let text = "20 1 8:1 / / ro,nosuid,nodev - ext4 /dev/sda1 rw\n\
                    21 20 0:5 / /srv rw - tmpfs t rw\n\
                    22 21 0:6 / /srv ro,nosuid,nodev - tmpfs t rw\n";
        assert_eq!(find_writable(&parse(text)), None);
    }
}
