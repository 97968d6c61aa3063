//! One system call of a running program that fails: `reeve-syscall-faults`, attached.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::binaries;
use crate::wait::eventually;

/// Which call fails, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyscallFault {
    /// `coordinator`, `agent`, `keeper` or `worker`.
    pub of: &'static str,
    /// `write`, `sync`, `rename`, `open`, `truncate`, `mkdir` or `unlink`: all calls of that sort.
    pub call: &'static str,
    /// `ENOSPC`, `EIO` or `EINTR`.
    pub error: &'static str,
    /// The first that fails, from 1.
    pub at: u64,
    /// So many in a row.
    pub times: u64,
}

impl SyscallFault {
    /// Sorts of calls that can fail.
    pub const CALLS: [&str; 7] = ["write", "sync", "rename", "open", "truncate", "mkdir", "unlink"];

    /// What they can say.
    pub const ERRORS: [&str; 3] = ["ENOSPC", "EIO", "EINTR"];

    /// One of these programs, as it is printed; without `+TIMES` it comes once.
    ///
    /// # Panics
    /// When it is none, and of what.
    #[must_use]
    pub fn parse(text: &str, programs: &[&'static str]) -> Self {
        let known = |list: &[&'static str], word: &str| {
            let found = list.iter().find(|known| **known == word);
            *found.unwrap_or_else(|| panic!("'{word}' is unknown in '{text}'"))
        };
        let parts: Vec<&str> = text.split(':').collect();
        let [of, call, error, place] = parts[..] else { panic!("PROGRAM:CALL:ERROR:WHICH+TIMES") };
        let (at, times) = place.split_once('+').unwrap_or((place, "1"));
        Self {
            of: known(programs, of),
            call: known(&Self::CALLS, call),
            error: known(&Self::ERRORS, error),
            at: at.parse().expect("a number"),
            times: times.parse().expect("a number"),
        }
    }
}

impl std::fmt::Display for SyscallFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { of, call, error, at, times } = self;
        write!(f, "{of}:{call}:{error}:{at}+{times}")
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Injected {
    /// A line for each call that failed.
    pub hits: Vec<String>,
    /// How many calls there were that could have.
    pub counted: u64,
}

/// A program with a fault in it. The fault goes with this value.
pub struct Injector {
    process: Child,
    report: PathBuf,
}

impl Injector {
    /// Attaches to processes. Only calls on files beneath `under` count.
    ///
    /// # Panics
    /// When it may not (ptrace(2)).
    #[must_use]
    pub fn attach(pids: &[i32], fault: &SyscallFault, under: &[&Path], folder: &Path) -> Self {
        let report = folder.join(format!("faults-{:08x}", rand::random::<u32>()));
        let mut command = Command::new(binaries::syscall_faults());
        command
            .env_clear()
            .args(["--of", fault.of, "--calls", fault.call])
            .args(["--error", fault.error, "--at", &fault.at.to_string()])
            .args(["--times", &fault.times.to_string(), "--report"])
            .arg(&report)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        for pid in pids {
            command.args(["--pid", &pid.to_string()]);
        }
        for folder in under {
            command.arg("--under").arg(folder);
        }
        let process = command.spawn().expect("start reeve-syscall-faults");
        let injector = Self { process, report };
        eventually("the fault is in place", Duration::from_secs(20), || {
            let text = injector.text();
            assert!(
                !text.contains("failed"),
                "{text} (tracing a process needs root, or ptrace_scope 0)"
            );
            text.contains("ready")
        });
        injector
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.report).unwrap_or_default()
    }

    /// Whether the call has failed.
    #[must_use]
    pub fn has_hit(&self) -> bool {
        self.text().contains("hit ")
    }

    /// Takes the fault away; the program goes on without.
    #[must_use]
    pub fn detach(mut self) -> Injected {
        self.end();
        let text = self.text();
        Injected {
            hits: text
                .lines()
                .filter_map(|line| line.strip_prefix("hit "))
                .map(str::to_owned)
                .collect(),
            counted: text
                .lines()
                .find_map(|line| line.strip_prefix("counted "))
                .and_then(|count| count.parse().ok())
                .unwrap_or(0),
        }
    }

    fn end(&mut self) {
        let pid = Pid::from_raw(self.process.id().cast_signed());
        // Asked again and again: a signal that comes just before it waits does not end the wait.
        for _ in 0..200 {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return;
            }
            let _gone = kill(pid, Signal::SIGTERM);
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        self.end();
    }
}
