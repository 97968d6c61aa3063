//! What is running, read from `/proc`, and ending it.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process as `/proc` shows it.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's id.
    pub parent: i32,
    /// `R`, `S`, `D`, `T`, `Z`, …, see proc_pid_stat(5).
    pub state: char,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its environment, empty where that may not be read.
    pub environment: Vec<String>,
}

impl Process {
    /// Reads one process; `None` when it has gone.
    #[must_use]
    pub fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold anything, parentheses too.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        Some(Self {
            pid,
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            arguments: read_list(pid, "cmdline"),
            environment: read_list(pid, "environ"),
        })
    }

    /// A zombie has ended; only its parent has not asked yet.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }

    /// Its arguments in one line.
    #[must_use]
    pub fn command_line(&self) -> String {
        self.arguments.join(" ")
    }

    /// Sends a signal; one that has gone is no error.
    pub fn signal(&self, signal: Signal) {
        let _gone = kill(Pid::from_raw(self.pid), signal);
    }
}

fn read_list(pid: i32, file: &str) -> Vec<String> {
    fs::read(format!("/proc/{pid}/{file}"))
        .unwrap_or_default()
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty())
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}

/// A program that stands still and then becomes another one.
pub const HELD: [&str; 4] = ["sh", "-c", "kill -STOP $$; exec \"$@\"", "sh"];

/// Waits until a process of [`HELD`] stands still.
///
/// # Panics
/// When it does not within 10 seconds.
pub fn wait_until_held(pid: i32) {
    crate::eventually("it stands still", std::time::Duration::from_secs(10), || {
        Process::read(pid).is_some_and(|process| process.state == 'T')
    });
}

/// Every living process.
#[must_use]
pub fn list() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Process::read)
        .filter(Process::is_alive)
        .collect()
}

/// An argument for `sleep` that no other test running now uses: a year and some.
#[must_use]
pub fn marker() -> String {
    format!("31536000.{}", std::process::id())
}

/// Living processes with `text` in their arguments, except this one and `reeve`, which was told the
/// same words.
#[must_use]
pub fn with_argument(text: &str) -> Vec<Process> {
    let me = std::process::id().cast_signed();
    list()
        .into_iter()
        .filter(|process| process.pid != me && process.arguments.iter().any(|a| a.contains(text)))
        .filter(|process| !process.arguments[0].ends_with("/reeve"))
        .collect()
}

/// Living descendants of a process, at any depth.
#[must_use]
pub fn descendants(of: i32) -> Vec<Process> {
    let all = list();
    let mut found = BTreeSet::from([of]);
    loop {
        let before = found.len();
        found.extend(
            all.iter().filter(|p| found.contains(&p.parent)).map(|p| p.pid).collect::<Vec<_>>(),
        );
        if found.len() == before {
            break;
        }
    }
    all.into_iter().filter(|process| process.pid != of && found.contains(&process.pid)).collect()
}

/// Kills every process that belongs to the state folder `state`: agents and keepers, by their
/// arguments or environment, and everything below them. Returns how many it killed.
pub fn kill_all_of(state: &str) -> usize {
    let mut killed = BTreeSet::new();
    // What is killed may just have started something: until a look finds nothing new.
    for _ in 0..50 {
        let roots: Vec<Process> = list()
            .into_iter()
            .filter(|process| process.pid != std::process::id().cast_signed())
            .filter(|process| {
                process
                    .arguments
                    .iter()
                    .chain(&process.environment)
                    .any(|text| text.contains(state))
            })
            .collect();
        let family: Vec<Process> = roots
            .iter()
            .flat_map(|root| descendants(root.pid))
            .chain(roots.iter().cloned())
            .collect();
        if family.is_empty() {
            break;
        }
        for process in &family {
            process.signal(Signal::SIGKILL);
            killed.insert(process.pid);
        }
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    killed.len()
}
