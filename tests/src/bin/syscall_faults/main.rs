//! Makes one system call of a running program fail, as strace(1)'s `inject` does, but only calls
//! that have to do with files in given folders: sockets, pipes and what wakes a thread up never fail with
//! a full disk, and a program that is told they did proves nothing. All threads and processes count
//! together, so the n-th call is one call.
//!
//! ```text
//! reeve-syscall-faults --pid 4711 --of agent --under /var/lib/reeve-agent \
//!     --calls write,fsync --error ENOSPC --at 3 --report hit.txt
//! ```
//!
//! It writes `ready` to the report when it is attached, and a line about what it did when it has;
//! with a number that is never reached, how many there were shows in `counted`, when it gets
//! SIGTERM. The program goes on when this one ends.

mod calls;
mod tracee;

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use calls::Call;
use tracee::Kind;

/// What was asked for.
struct Plan {
    pids: Vec<Pid>,
    /// Of which programs; with any but the agent's or the coordinator's own, children are followed.
    of: Kind,
    under: Vec<PathBuf>,
    calls: Vec<String>,
    error: Errno,
    at: u64,
    times: u64,
}

impl Plan {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<(Self, File), String> {
        let mut plan = Self {
            pids: Vec::new(),
            of: Kind::Agent,
            under: Vec::new(),
            calls: Vec::new(),
            error: Errno::EIO,
            at: 1,
            times: 1,
        };
        let mut report = None;
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            let number = || value.parse::<u64>().map_err(|error| format!("{word}: {error}"));
            match word.as_str() {
                "--pid" => plan.pids.push(Pid::from_raw(number()? as i32)),
                "--of" => {
                    plan.of = Kind::parse(&value).ok_or("--of coordinator|agent|keeper|worker")?
                }
                "--under" => plan.under.push(PathBuf::from(&value)),
                "--calls" => plan.calls = value.split(',').map(str::to_owned).collect(),
                "--error" => {
                    plan.error = match value.as_str() {
                        "ENOSPC" => Errno::ENOSPC,
                        "EIO" => Errno::EIO,
                        "EINTR" => Errno::EINTR,
                        _ => return Err(format!("--error {value}: ENOSPC, EIO or EINTR")),
                    }
                }
                "--at" => plan.at = number()?,
                "--times" => plan.times = number()?,
                "--report" => {
                    let file = File::options().create(true).append(true).open(&value);
                    report = Some(file.map_err(|error| format!("{value}: {error}"))?);
                }
                _ => return Err(format!("{word} is unknown")),
            }
        }
        Ok((plan, report.ok_or("--report is missing")?))
    }
}

/// Set by SIGTERM.
static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_signal: i32) {
    STOP.store(true, Ordering::Relaxed);
}

/// Where a thread is.
#[derive(Default)]
struct Thread {
    /// What the call it is in is to be answered with.
    answer: Option<Errno>,
    kind: Option<Kind>,
}

struct Injector {
    plan: Plan,
    report: File,
    threads: HashMap<Pid, Thread>,
    counted: u64,
}

fn main() -> ExitCode {
    let (plan, report) = match Plan::parse(std::env::args().skip(1)) {
        Ok(parsed) => parsed,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let mut injector = Injector { plan, report, threads: HashMap::new(), counted: 0 };
    match injector.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            injector.say(&format!("failed {error}"));
            ExitCode::FAILURE
        }
    }
}

impl Injector {
    fn say(&mut self, line: &str) {
        let _ = writeln!(self.report, "{line}");
    }

    fn run(&mut self) -> nix::Result<()> {
        tracee::on_termination(stop)?;
        self.attach()?;
        self.say("ready");
        while !STOP.load(Ordering::Relaxed) {
            // A timer would do, too; a signal ends the wait.
            match waitpid(None::<Pid>, Some(WaitPidFlag::__WALL)) {
                Ok(status) => self.take(status)?,
                Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => break,
                Err(error) => return Err(error),
            }
        }
        let counted = self.counted;
        self.say(&format!("counted {counted}"));
        Ok(())
    }

    /// All threads there are; those that are made meanwhile are found by looking again.
    fn attach(&mut self) -> nix::Result<()> {
        let mut options = ptrace::Options::PTRACE_O_TRACESYSGOOD
                | ptrace::Options::PTRACE_O_TRACECLONE
                // A program may be attached to before it is itself.
                | ptrace::Options::PTRACE_O_TRACEEXEC;
        if matches!(self.plan.of, Kind::Keeper | Kind::Worker) {
            options |= ptrace::Options::PTRACE_O_TRACEFORK | ptrace::Options::PTRACE_O_TRACEVFORK;
        }
        loop {
            let mut found = false;
            for thread in
                self.plan.pids.iter().flat_map(|pid| tracee::threads(*pid)).collect::<Vec<_>>()
            {
                if self.threads.contains_key(&thread) {
                    continue;
                }
                match ptrace::seize(thread, options) {
                    Ok(()) => {
                        found = true;
                        self.threads.insert(thread, Thread::default());
                        ptrace::interrupt(thread)?;
                    }
                    // Gone, or attached to by its maker already.
                    Err(Errno::ESRCH | Errno::EPERM) => {
                        self.threads.insert(thread, Thread::default());
                    }
                    Err(error) => return Err(error),
                }
            }
            if !found {
                return Ok(());
            }
        }
    }

    fn take(&mut self, status: WaitStatus) -> nix::Result<()> {
        let (pid, signal) = match status {
            WaitStatus::PtraceSyscall(pid) => {
                self.call(pid)?;
                (pid, None)
            }
            WaitStatus::PtraceEvent(pid, _, event) => {
                if event == ptrace::Event::PTRACE_EVENT_EXEC as i32 {
                    // Another program: what it is shows in its arguments.
                    self.threads.insert(pid, Thread::default());
                }
                (pid, None)
            }
            WaitStatus::Stopped(pid, signal) => (pid, Some(signal)),
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                self.threads.remove(&pid);
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.threads.entry(pid).or_default();
        self.go_on(pid, signal)
    }

    fn go_on(&self, pid: Pid, signal: Option<Signal>) -> nix::Result<()> {
        let owes = self.threads.get(&pid).is_some_and(|thread| thread.answer.is_some());
        let went = if self.is_over() && !owes {
            ptrace::detach(pid, signal)
        } else {
            ptrace::syscall(pid, signal)
        };
        match went {
            // Killed while it stood.
            Err(Errno::ESRCH) => Ok(()),
            other => other,
        }
    }

    fn is_over(&self) -> bool {
        self.counted >= self.plan.at + self.plan.times - 1
    }

    /// A thread is at the beginning of a call, or at its end.
    fn call(&mut self, pid: Pid) -> nix::Result<()> {
        let Ok(about) = ptrace::syscall_info(pid) else { return Ok(()) };
        if about.op == libc::PTRACE_SYSCALL_INFO_EXIT {
            let answer = self.threads.entry(pid).or_default().answer.take();
            return answer.map_or(Ok(()), |errno| gone(tracee::answer(pid, errno)));
        }
        if self.is_over() {
            return Ok(());
        }
        let Ok(registers) = ptrace::getregs(pid) else { return Ok(()) };
        let Some(call) = Call::of(&registers) else { return Ok(()) };
        if !self.plan.calls.iter().any(|name| name == call.name) {
            return Ok(());
        }
        let thread = self.threads.entry(pid).or_default();
        let kind = *thread.kind.get_or_insert_with(|| Kind::of(pid));
        if kind != self.plan.of {
            return Ok(());
        }
        let Some(path) = call.path(pid, &registers) else { return Ok(()) };
        if !self.plan.under.iter().any(|folder| path.starts_with(folder)) {
            return Ok(());
        }
        self.counted += 1;
        if self.counted < self.plan.at {
            return Ok(());
        }
        gone(tracee::skip(pid))?;
        let error = self.plan.error;
        if let Some(thread) = self.threads.get_mut(&pid) {
            thread.answer = Some(error);
        }
        let line =
            format!("hit {} {kind:?} {} {error:?} {}", self.counted, call.name, path.display());
        self.say(&line);
        Ok(())
    }
}

/// A process that was killed meanwhile is no fault.
fn gone(done: nix::Result<()>) -> nix::Result<()> {
    match done {
        Err(Errno::ESRCH) => Ok(()),
        other => other,
    }
}
