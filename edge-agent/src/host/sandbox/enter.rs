//! Closing the walls, in the child between fork and exec: system calls only, in the order in which
//! each still may be made.

#![allow(unsafe_code, reason = "raw system calls between fork and exec")]

use std::io;
use std::os::fd::AsRawFd;

use nix::libc;

use super::{MAX_PROCESSES, Sandbox};

/// What is done, for messages. The index is what the child reports.
pub const STEPS: [&str; 10] = [
    "making namespaces",
    "setting limits",
    "setting capability flags",
    "dropping capabilities for good",
    "leaving all groups",
    "becoming the user for inspections",
    "keeping one capability",
    "forbidding new privileges",
    "closing Landlock's rules",
    "loading the system call filter",
];

/// The one capability: read and search everything (capabilities(7)).
const DAC_READ_SEARCH: u32 = 2;
/// Needed until the flags are locked.
const SETPCAP: u32 = 8;
/// Capability numbers tried; those that the kernel does not know are refused with `EINVAL`.
const MOST_CAPABILITIES: libc::c_ulong = 64;

// From linux/securebits.h: each flag's lock is the bit after it.
const NOROOT: libc::c_ulong = 1;
const NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;
const KEEP_CAPS: libc::c_ulong = 1 << 4;
const NO_AMBIENT_RAISE: libc::c_ulong = 1 << 6;
const LOCKED: libc::c_ulong = (NOROOT | NO_SETUID_FIXUP | KEEP_CAPS | NO_AMBIENT_RAISE) << 1;

/// `landlock_restrict_self(2)` and `landlock_create_ruleset(2)`; the same on every processor.
const LANDLOCK_CREATE_RULESET: libc::c_long = 444;
const LANDLOCK_RESTRICT_SELF: libc::c_long = 446;

/// How likely the kernel picks the command when memory runs out: before nearly all else.
const OOM_SCORE: &[u8] = b"900";

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityWord {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Closes all walls. On failure the index into [`STEPS`] and errno; the caller must exit then.
///
/// # Safety
/// Only between fork and exec in a process of one thread.
pub unsafe fn enter(sandbox: &Sandbox) -> Result<(), (i32, i32)> {
    let check = |step: i32, result: libc::c_int| {
        if result == 0 { Ok(()) } else { Err((step, nix::errno::Errno::last_raw())) }
    };
    let uid = sandbox.uid;
    // SAFETY: every call is async-signal-safe and gets pointers to live memory.
    unsafe {
        prefer_for_oom(sandbox);
        let network = if sandbox.own_network { libc::CLONE_NEWNET } else { 0 };
        check(0, libc::unshare(libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | network))?;
        check(1, limit(libc::RLIMIT_NPROC, MAX_PROCESSES))?;
        check(1, limit(libc::RLIMIT_CORE, 0))?;
        check(1, limit(libc::RLIMIT_MSGQUEUE, 0))?;
        check(2, libc::prctl(libc::PR_SET_SECUREBITS, KEEP_CAPS, 0, 0, 0))?;
        for capability in 0..MOST_CAPABILITIES {
            if capability != libc::c_ulong::from(DAC_READ_SEARCH)
                && libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0
                && nix::errno::Errno::last_raw() != libc::EINVAL
            {
                return Err((3, nix::errno::Errno::last_raw()));
            }
        }
        check(4, libc::setgroups(0, std::ptr::null()))?;
        check(5, libc::setresgid(uid, uid, uid))?;
        check(5, libc::setresuid(uid, uid, uid))?;
        check(6, keep(1 << DAC_READ_SEARCH | 1 << SETPCAP))?;
        let raise = libc::PR_CAP_AMBIENT_RAISE;
        let one = libc::c_ulong::from(DAC_READ_SEARCH);
        check(6, libc::prctl(libc::PR_CAP_AMBIENT, raise, one, 0, 0))?;
        let flags = NOROOT | NO_AMBIENT_RAISE | LOCKED;
        check(2, libc::prctl(libc::PR_SET_SECUREBITS, flags, 0, 0, 0))?;
        check(6, keep(1 << DAC_READ_SEARCH))?;
        check(7, libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        if let Some(rules) = &sandbox.landlock
            && libc::syscall(LANDLOCK_RESTRICT_SELF, rules.as_raw_fd(), 0_u32) != 0
        {
            return Err((8, nix::errno::Errno::last_raw()));
        }
        let program = libc::sock_fprog {
            len: u16::try_from(sandbox.filter.len()).unwrap_or(0),
            // The same layout, struct sock_filter of linux/filter.h; the kernel only reads it.
            filter: sandbox.filter.as_ptr().cast::<libc::sock_filter>().cast_mut(),
        };
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        let loaded = match &sandbox.bus {
            Some(keeper) => super::bus::load_and_send(&program, keeper),
            None => libc::syscall(libc::SYS_seccomp, mode, 0_u32, &raw const program) == 0,
        };
        if !loaded {
            return Err((9, nix::errno::Errno::last_raw()));
        }
    }
    Ok(())
}

/// Holds exactly these capabilities, and lets the first 32 be inherited where they are the one.
unsafe fn keep(capabilities: u32) -> libc::c_int {
    let header = CapabilityHeader { version: 0x2008_0522, pid: 0 };
    let none = CapabilityWord { effective: 0, permitted: 0, inheritable: 0 };
    let first = CapabilityWord {
        effective: capabilities,
        permitted: capabilities,
        inheritable: 1 << DAC_READ_SEARCH,
    };
    let words = [first, none];
    // SAFETY: both live through the call; version 3 reads two words.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, words.as_ptr()) };
    i32::from(result != 0)
}

/// Lowers a limit; one that is lower already stays.
unsafe fn limit(resource: libc::__rlimit_resource_t, value: u64) -> libc::c_int {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure lives through both calls.
    unsafe {
        if libc::getrlimit(resource, &raw mut limit) != 0 {
            return -1;
        }
        limit.rlim_cur = limit.rlim_cur.min(value);
        limit.rlim_max = limit.rlim_max.min(value);
        libc::setrlimit(resource, &raw const limit)
    }
}

/// Through the folder opened outside: in here nothing of `/proc` can be written. No wall, so its
/// failing stops nothing.
unsafe fn prefer_for_oom(sandbox: &Sandbox) {
    let flags = libc::O_WRONLY | libc::O_CLOEXEC;
    // SAFETY: openat, write and close are async-signal-safe.
    unsafe {
        let file = libc::openat(sandbox.proc.as_raw_fd(), c"self/oom_score_adj".as_ptr(), flags);
        if file >= 0 {
            libc::write(file, OOM_SCORE.as_ptr().cast(), OOM_SCORE.len());
            libc::close(file);
        }
    }
}

/// The kernel's version of Landlock, 0 for none.
pub(super) fn find_landlock_version() -> i64 {
    // SAFETY: asks for the version: no attributes, flag LANDLOCK_CREATE_RULESET_VERSION.
    let version =
        unsafe { libc::syscall(LANDLOCK_CREATE_RULESET, std::ptr::null::<u8>(), 0_usize, 1_u32) };
    version.max(0)
}

/// Makes all mounts below the root folder read-only, without set-user-id and without devices.
pub(super) fn freeze_tree() -> io::Result<()> {
    // struct mount_attr: set, clear, propagation, user namespace.
    let wanted = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    let attributes: [u64; 4] = [wanted, 0, 0, 0];
    let recursive = libc::AT_RECURSIVE;
    // SAFETY: the array lives through the call and its size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            recursive,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
