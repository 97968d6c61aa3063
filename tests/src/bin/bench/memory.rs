//! What the programs on a machine take of memory at most while something is done there.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use reeve_tests::{Agent, processes};

/// Between two looks. A process' peak only grows while it lives, so that the last look counts.
const PAUSE: Duration = Duration::from_millis(20);

/// Most memory of each program, KiB; 0 for one that was not seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peak {
    pub agent: u64,
    pub keeper: u64,
    pub worker: u64,
}

/// A thread that looks.
pub struct Watch {
    stop: Sender<()>,
    looking: JoinHandle<Peak>,
}

impl Watch {
    /// Makes the kernel forget what the agent's memory was at most (`/proc/PID/clear_refs`, proc(5)),
    /// and looks from now on. Keepers are those of operations below `folder`.
    pub fn start(agent: &Agent, folder: PathBuf) -> anyhow::Result<Self> {
        let agent = agent.pid();
        std::fs::write(format!("/proc/{agent}/clear_refs"), "5").context("clear_refs")?;
        let (stop, stopped) = channel();
        let looking = std::thread::spawn(move || look(agent, &folder.to_string_lossy(), &stopped));
        Ok(Self { stop, looking })
    }

    /// What it came to.
    pub fn end(self) -> anyhow::Result<Peak> {
        drop(self.stop);
        self.looking.join().map_err(|_| anyhow::anyhow!("the thread that looks at memory panicked"))
    }
}

fn look(agent: i32, folder: &str, stopped: &Receiver<()>) -> Peak {
    let mut peak = Peak::default();
    loop {
        let all = processes::list();
        let word = |at: &processes::Process| at.arguments.get(1).cloned().unwrap_or_default();
        let is_ours = |at: &processes::Process| at.arguments.iter().any(|one| one.contains(folder));
        let keepers: Vec<i32> = all
            .iter()
            .filter(|process| word(process) == "keep" && is_ours(process))
            .map(|process| process.pid)
            .collect();
        let of = |pids: &mut dyn Iterator<Item = i32>| pids.filter_map(most_of).max().unwrap_or(0);
        peak.keeper = peak.keeper.max(of(&mut keepers.iter().copied()));
        let mut workers = all
            .iter()
            .filter(|process| word(process) == "work" && keepers.contains(&process.parent))
            .map(|process| process.pid);
        peak.worker = peak.worker.max(of(&mut workers));
        peak.agent = peak.agent.max(most_of(agent).unwrap_or(0));
        if stopped.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout) {
            return peak;
        }
    }
}

/// What a process' memory was at most, KiB.
fn most_of(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
