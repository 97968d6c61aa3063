//! One traced process: what it is, and answering in the kernel's place.

use std::fs;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::Pid;

/// Which of our programs a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `reeve-coordinator`
    Coordinator,
    /// `reeve-agent run`
    Agent,
    /// `reeve-agent keep`
    Keeper,
    /// `reeve-agent work`
    Worker,
    /// A command of the machine's.
    Other,
}

impl Kind {
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "coordinator" => Self::Coordinator,
            "agent" => Self::Agent,
            "keeper" => Self::Keeper,
            "worker" => Self::Worker,
            _ => return None,
        })
    }

    /// By its arguments, which do not change but by execve(2).
    pub fn of(pid: Pid) -> Self {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let name = words.next().unwrap_or_default();
        let name = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        match (name, words.next()) {
            (b"reeve-coordinator", _) => Self::Coordinator,
            (b"reeve-agent", Some(b"run")) => Self::Agent,
            // What is held ready to become one, and is one before it says so.
            (b"reeve-agent", Some(b"keep" | b"warm")) => Self::Keeper,
            (b"reeve-agent", Some(b"work")) => Self::Worker,
            _ => Self::Other,
        }
    }
}

/// All threads of a process.
pub fn threads(of: Pid) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir(format!("/proc/{of}/task")) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .map(Pid::from_raw)
        .collect()
}

/// Lets the kernel do nothing: there is no call of this number.
pub fn skip(pid: Pid) -> nix::Result<()> {
    let mut registers = ptrace::getregs(pid)?;
    registers.orig_rax = u64::MAX;
    ptrace::setregs(pid, registers)
}

/// What the call came to.
pub fn answer(pid: Pid, errno: Errno) -> nix::Result<()> {
    let mut registers = ptrace::getregs(pid)?;
    registers.rax = i64::from(-(errno as i32)).cast_unsigned();
    ptrace::setregs(pid, registers)
}

/// Does something at SIGTERM, which also ends a wait.
#[allow(unsafe_code, reason = "a handler that sets a flag")]
pub fn on_termination(handler: extern "C" fn(i32)) -> nix::Result<()> {
    let action = SigAction::new(SigHandler::Handler(handler), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing but set an atomic.
    unsafe { sigaction(Signal::SIGTERM, &action) }.map(drop)
}
