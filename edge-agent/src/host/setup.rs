//! What a keeper does to itself before it starts its command.

#![allow(unsafe_code, reason = "descriptors inherited from the parent have to be adopted")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What the agent handed over: descriptor 0 is a connection to it, descriptor 1 the lock whose
/// being held says that this keeper lives.
#[derive(Debug)]
pub struct Inherited {
    /// The first connection.
    pub agent: UnixStream,
    /// Held by being open.
    pub lock: OwnedFd,
}

/// Takes over what this process was handed, and makes it stand alone.
///
/// # Errors
/// What the kernel says; the process cannot do its work then.
pub fn detach() -> io::Result<Inherited> {
    // SAFETY: close_range touches nothing but descriptors, and nothing of ours is open above 2 yet.
    unsafe {
        nix::libc::syscall(nix::libc::SYS_close_range, 3_u32, u32::MAX, 0_u32);
    }
    // SAFETY: nobody else in this process owns descriptors 0 and 1 yet, this is the first thing
    // that it does; both stay open because /dev/null is put over them below.
    let (first, second) = unsafe { (OwnedFd::from_raw_fd(0), OwnedFd::from_raw_fd(1)) };
    let agent = rustix::io::fcntl_dupfd_cloexec(&first, 3)?;
    let lock = rustix::io::fcntl_dupfd_cloexec(&second, 3)?;
    stand_alone()?;
    std::mem::forget((first, second));
    Ok(Inherited { agent: UnixStream::from(agent), lock })
}

/// Detaches this process from whoever started it; nothing of its standard input and output stays.
///
/// # Errors
/// As [`detach`].
pub fn stand_alone() -> io::Result<()> {
    // Already the leader of a session when started by hand; that is fine.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let null = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    rustix::stdio::dup2_stdin(null.as_fd())?;
    rustix::stdio::dup2_stdout(null.as_fd())?;
    rustix::stdio::dup2_stderr(null.as_fd())?;
    std::env::set_current_dir("/")
}

/// Lets a process that makes others make way for them: it does not push them from the processor
/// they have just been given (sched(7), `SCHED_BATCH`). Only faster, so errors do not matter.
pub fn make_way_for_children() {
    // SAFETY: all zero is a priority of this policy.
    let usual: nix::libc::sched_param = unsafe { std::mem::zeroed() };
    let policy = nix::libc::SCHED_BATCH | nix::libc::SCHED_RESET_ON_FORK;
    // SAFETY: of this process, and what it points to lives until it is back.
    unsafe {
        nix::libc::sched_setscheduler(0, policy, &raw const usual);
    }
}

/// Tells of children's ends (signalfd(2)).
#[derive(Debug)]
pub struct Children(SignalFd);

impl Children {
    /// Forgets the ends told of so far.
    pub fn drain(&self) {
        while let Ok(Some(_)) = self.0.read_signal() {}
    }
}

impl AsFd for Children {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A descriptor that tells of children's ends. Signals that would end this process are held back:
/// whatever stops the machine stops the command first, and its end is to be recorded.
///
/// # Errors
/// What signalfd(2) says.
pub fn watch_children() -> io::Result<Children> {
    let mut held = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        held.add(signal);
    }
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGPIPE, Signal::SIGCHLD] {
        held.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&held), None)?;
    let mut watched = SigSet::empty();
    watched.add(Signal::SIGCHLD);
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(Children(SignalFd::with_flags(&watched, flags)?))
}

/// Makes it a little less likely that the kernel picks this process when memory runs out: the
/// keeper is small, and its death loses the command's exit code. What the command gets back.
#[must_use]
pub fn protect_from_oom() -> Option<Vec<u8>> {
    let before = std::fs::read("/proc/self/oom_score_adj").ok()?;
    std::fs::write("/proc/self/oom_score_adj", "-500").ok()?;
    Some(before)
}

/// CPU time and memory of all children waited for (getrusage(2)).
#[must_use]
pub fn read_usage() -> reeve_protocol::Usage {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Default::default() };
    let positive = |value: i64| u64::try_from(value).unwrap_or(0);
    reeve_protocol::Usage {
        user_us: positive(usage.user_time().num_microseconds()),
        system_us: positive(usage.system_time().num_microseconds()),
        max_rss_kib: positive(usage.max_rss()),
    }
}
