//! Starting the command: fork(2), the set-up in the child, execve(2).
//!
//! Between fork and exec only async-signal-safe calls are made (signal-safety(7)) and nothing is
//! allocated: everything is prepared beforehand.

#![allow(unsafe_code, reason = "fork, and raw system calls between fork and exec")]

use std::ffi::{CStr, CString, c_char};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;
use nix::unistd::{ForkResult, fork};

use super::sandbox::{self, Sandbox};

/// Everything the child needs, prepared.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Paths to try, in order, as execvp(3) would.
    pub candidates: Vec<CString>,
    /// Arguments, the name first.
    pub arguments: Vec<CString>,
    /// `NAME=value` entries.
    pub environment: Vec<CString>,
    /// Where to run.
    pub directory: CString,
    /// Run in `/` when `directory` cannot be entered.
    pub directory_may_fail: bool,
    /// User id, group id and groups to change to.
    pub become_user: Option<(u32, u32, Vec<u32>)>,
    /// Walls to close instead, for inspect mode.
    pub sandbox: Option<&'a Sandbox>,
    /// The child's descriptors 0, 1 and 2.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Descriptor 0 is a terminal, which becomes that of the child's session.
    pub is_on_terminal: bool,
    /// The control group: its folder, and its entrance for kernels that cannot be born into it.
    pub group: Option<(BorrowedFd<'a>, BorrowedFd<'a>)>,
    /// What to write to `/proc/self/oom_score_adj`.
    pub oom_score: Option<Vec<u8>>,
}

/// What failed in the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Entering the control group.
    Group,
    /// Descriptors 0 to 2.
    Descriptors,
    /// Becoming the user.
    User,
    /// Entering the directory.
    Directory,
    /// execve(2).
    Exec,
    /// fork(2), in the parent.
    Fork,
    /// Closing a wall of inspect mode: the index into [`sandbox::STEPS`].
    Wall(i32),
}

const STAGES: [Stage; 6] =
    [Stage::Group, Stage::Descriptors, Stage::User, Stage::Directory, Stage::Exec, Stage::Fork];

/// Stages from here on are walls.
const FIRST_WALL: i32 = 100;

/// Why the command does not run. Nothing of it ran.
#[derive(Debug)]
pub struct LaunchError {
    /// What failed.
    pub stage: Stage,
    /// How.
    pub error: io::Error,
}

/// What a failed execve(2) means to whoever asked for the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is no such file, or not the interpreter that it names.
    NotFound,
    /// It may not be executed.
    Forbidden,
    /// It is nothing that the kernel can execute.
    NoProgram,
    /// Something else.
    Other,
}

impl LaunchError {
    /// Which step towards the command failed, for people.
    #[must_use]
    pub fn describe_wall(&self) -> String {
        let step = match self.stage {
            Stage::Wall(index) => usize::try_from(index).ok().and_then(|at| sandbox::STEPS.get(at)),
            _ => None,
        };
        format!("{}: {}", step.unwrap_or(&"starting a process"), self.error)
    }

    /// What it means.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self.error.raw_os_error() {
            Some(libc::ENOENT) => Reason::NotFound,
            Some(libc::EACCES) => Reason::Forbidden,
            Some(libc::ENOEXEC) => Reason::NoProgram,
            _ => Reason::Other,
        }
    }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Starts it. Returns once execve(2) has succeeded.
///
/// # Errors
/// What failed in the child; it is gone and has to be waited for like any child.
pub fn launch(launch: &Launch<'_>) -> Result<u32, LaunchError> {
    let in_parent = |error: io::Error| LaunchError { stage: Stage::Fork, error };
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| in_parent(errno.into()))?;
    let arguments = pointers(&launch.arguments);
    let environment = pointers(&launch.environment);
    // SAFETY: a keeper has one thread, and the child makes only async-signal-safe calls until it
    // execs or exits.
    let (forked, is_inside) = unsafe { fork_into(launch.group.map(|(folder, _)| folder)) };
    match forked {
        Ok(ForkResult::Child) => {
            let entrance = launch.group.map(|(_, entrance)| entrance).filter(|_| !is_inside);
            // SAFETY: as above; all pointers are into memory that the fork copied.
            let (stage, errno) =
                unsafe { set_up_and_exec(launch, entrance, &arguments, &environment) };
            let report = [stage, errno];
            // SAFETY: writes eight bytes of a live array; _exit never returns.
            unsafe {
                libc::write(writer.as_raw_fd(), report.as_ptr().cast(), size_of_val(&report));
                libc::_exit(127)
            }
        }
        Ok(ForkResult::Parent { child }) => {
            drop(writer);
            let mut report = [0; 8];
            let pid = u32::try_from(child.as_raw()).unwrap_or(0);
            match std::fs::File::from(reader).read_exact(&mut report) {
                Err(_) => Ok(pid),
                Ok(()) => {
                    let [a, b, c, d, e, f, g, h] = report;
                    let stage = i32::from_ne_bytes([a, b, c, d]);
                    let errno = i32::from_ne_bytes([e, f, g, h]);
                    Err(LaunchError {
                        stage: to_stage(stage),
                        error: io::Error::from_raw_os_error(errno),
                    })
                }
            }
        }
        Err(errno) => Err(in_parent(errno.into())),
    }
}

fn to_stage(number: i32) -> Stage {
    if number >= FIRST_WALL {
        return Stage::Wall(number - FIRST_WALL);
    }
    let stage = usize::try_from(number).ok().and_then(|at| STAGES.get(at));
    stage.copied().unwrap_or(Stage::Exec)
}

/// Forks, into the control group where the kernel can do that (clone3(2), Linux 5.7): moving a
/// process there afterwards costs an RCU grace period, which is many times the fork. Also says
/// whether the child is inside.
///
/// # Safety
/// As fork(2): only async-signal-safe calls in the child.
unsafe fn fork_into(group: Option<BorrowedFd<'_>>) -> (nix::Result<ForkResult>, bool) {
    /// `CLONE_INTO_CGROUP` of clone3(2).
    const INTO_GROUP: u64 = 0x2_0000_0000;
    if let Some(group) = group
        && let (Ok(fd), Ok(signal)) =
            (u64::try_from(group.as_raw_fd()), u64::try_from(libc::SIGCHLD))
    {
        // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size,
        // tls, set_tid, set_tid_size, cgroup. Without CLONE_VM this is a fork.
        let arguments: [u64; 11] = [INTO_GROUP, 0, 0, 0, signal, 0, 0, 0, 0, 0, fd];
        // SAFETY: the array lives through the call and its size is given.
        let pid =
            unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) };
        match i32::try_from(pid) {
            Ok(0) => return (Ok(ForkResult::Child), true),
            Ok(pid) if pid > 0 => {
                let child = nix::unistd::Pid::from_raw(pid);
                return (Ok(ForkResult::Parent { child }), true);
            }
            // An old kernel, or a sandbox without clone3: the long way.
            _ => {}
        }
    }
    // SAFETY: as this function's own.
    (unsafe { fork() }, false)
}

/// In the child. Returns only when something failed: the index in [`STAGES`] and errno.
///
/// # Safety
/// Only between fork and exec in a process of one thread.
unsafe fn set_up_and_exec(
    launch: &Launch<'_>,
    entrance: Option<BorrowedFd<'_>>,
    arguments: &[*const c_char],
    environment: &[*const c_char],
) -> (i32, i32) {
    // SAFETY: every call below is async-signal-safe and gets pointers to live memory.
    unsafe {
        libc::setsid();
        if let Some(group) = entrance
            && libc::write(group.as_raw_fd(), c"0".as_ptr().cast(), 1) != 1
        {
            return (0, errno());
        }
        if let Some(score) = &launch.oom_score {
            restore_oom_score(score);
        }
        // None of the three is itself below 3: the keeper's own 0 to 2 are /dev/null.
        for (target, fd) in (0..).zip(launch.stdio) {
            if libc::dup2(fd.as_raw_fd(), target) < 0 {
                return (1, errno());
            }
        }
        if launch.is_on_terminal && libc::ioctl(0, libc::TIOCSCTTY, 0) != 0 {
            return (1, errno());
        }
        if let Some((uid, gid, groups)) = &launch.become_user
            && (libc::setgroups(groups.len(), groups.as_ptr()) != 0
                || libc::setgid(*gid) != 0
                || libc::setuid(*uid) != 0)
        {
            return (2, errno());
        }
        if let Some(sandbox) = launch.sandbox
            && let Err((step, errno)) = sandbox::enter(sandbox)
        {
            return (FIRST_WALL + step, errno);
        }
        if libc::chdir(launch.directory.as_ptr()) != 0 {
            let failed = errno();
            if !launch.directory_may_fail || libc::chdir(c"/".as_ptr()) != 0 {
                return (3, failed);
            }
        }
        libc::umask(0o022);
        // The raw call, because the C library keeps two signals for itself and would leave those
        // as they were inherited. All zero means the default action, in any layout; the last
        // argument is the size of the kernel's signal set.
        let default = [0_u64; 8];
        for signal in 1..=64_i64 {
            let none = std::ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, 8_usize);
        }
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        exec(&launch.candidates, arguments, environment)
    }
}

unsafe fn restore_oom_score(score: &[u8]) {
    let path: &CStr = c"/proc/self/oom_score_adj";
    // SAFETY: open, write and close are async-signal-safe.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd >= 0 {
            libc::write(fd, score.as_ptr().cast(), score.len());
            libc::close(fd);
        }
    }
}

/// The paths to try without those where nothing is: each of them would cost the new process another
/// address space. With none left they all stay, so that the failure is the same.
#[must_use]
pub fn leave_out_missing(mut candidates: Vec<CString>) -> Vec<CString> {
    let may_be_there = |path: &CString| {
        // Others are looked for where the command begins.
        !path.as_bytes().starts_with(b"/")
            || !matches!(
                rustix::fs::access(path.as_c_str(), rustix::fs::Access::EXISTS),
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR)
            )
    };
    if candidates.iter().any(may_be_there) {
        candidates.retain(may_be_there);
    }
    candidates
}

/// Tries the candidates as execvp(3) does: a missing one is passed over, a forbidden one is
/// remembered, anything else ends the search.
unsafe fn exec(
    candidates: &[CString],
    arguments: &[*const c_char],
    environment: &[*const c_char],
) -> (i32, i32) {
    let mut result = libc::ENOENT;
    for candidate in candidates {
        // SAFETY: both arrays end with a null pointer.
        let failed = unsafe {
            libc::execve(candidate.as_ptr(), arguments.as_ptr(), environment.as_ptr());
            errno()
        };
        match failed {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => result = failed,
            other => return (4, other),
        }
    }
    (4, result)
}

fn errno() -> i32 {
    nix::errno::Errno::last_raw()
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// What waiting brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaped {
    /// This child ended.
    Child(u32, Ended),
    /// There are children, none of them has ended.
    NotYet,
    /// There are no children at all, hence no descendants: orphans come to a subreaper.
    NoChildren,
}

/// Waits for any child without blocking.
#[must_use]
pub fn reap() -> Reaped {
    wait_with(rustix::process::WaitOptions::NOHANG)
}

/// Waits for any child, however long it takes.
#[must_use]
pub fn wait_any() -> Reaped {
    wait_with(rustix::process::WaitOptions::empty())
}

fn wait_with(options: rustix::process::WaitOptions) -> Reaped {
    loop {
        return match rustix::process::wait(options) {
            Ok(Some((pid, status))) => {
                let ended = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Ended::Exited(code),
                    (None, Some(signal)) => Ended::Signaled(signal),
                    (None, None) => continue,
                };
                Reaped::Child(pid.as_raw_nonzero().get().unsigned_abs(), ended)
            }
            Ok(None) => Reaped::NotYet,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => Reaped::NoChildren,
        };
    }
}
