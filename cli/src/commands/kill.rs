//! `reeve kill`.

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCandidates;
use reeve_protocol::SignalName;
use reeve_protocol::ops::process_signal::{MAX_TARGETS, signal_word};
use reeve_protocol::ops::{
    Process, ProcessList, ProcessSignal, ProcessSort, ProcessTarget, Processes, Signalled,
};

use super::completion::machine_names;
use super::confirm;
use super::perform::perform;
use super::ps::{command_text, is_named};
use crate::args::Global;
use crate::connection::connect;
use crate::exit;
use crate::failure::Failure;
use crate::terminal::note;

const EXAMPLES: &str = "\
Examples:
  reeve kill web-1 4711                   SIGTERM, after showing what it is
  reeve kill web-1 4711 4712 -s KILL --yes
  reeve kill 'role=web' --name worker.py  all with this in name, command or unit
  reeve kill web-1 --name nginx -s HUP";

/// Processes that are shown before they are signalled.
const MAX_SHOWN: usize = 30;

/// Send a signal to processes
///
/// What is meant is looked up first and shown. The signal goes to exactly those processes: one that
/// has ended meanwhile, and whose id another has now, is left alone.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Kill {
    /// Which machine; with --name also many
    #[arg(value_name = "MACHINE", add = ArgValueCandidates::new(machine_names))]
    selector: String,
    /// Process ids
    #[arg(value_name = "PID", required_unless_present = "name", conflicts_with = "name")]
    pids: Vec<u32>,
    /// All with this in name, command line or unit
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Only those of this user
    #[arg(short, long, requires = "name")]
    user: Option<String>,
    /// TERM, KILL, HUP, INT, QUIT, USR1, USR2, STOP or CONT (TERM)
    #[arg(short, long, value_name = "SIGNAL", default_value = "TERM", ignore_case = true)]
    #[arg(hide_possible_values = true, hide_default_value = true)]
    signal: Signal,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Signal {
    #[value(name = "TERM", aliases = ["SIGTERM", "15"])]
    Term,
    #[value(name = "KILL", aliases = ["SIGKILL", "9"])]
    Kill,
    #[value(name = "HUP", aliases = ["SIGHUP", "1"])]
    Hup,
    #[value(name = "INT", aliases = ["SIGINT", "2"])]
    Int,
    #[value(name = "QUIT", aliases = ["SIGQUIT", "3"])]
    Quit,
    #[value(name = "USR1", aliases = ["SIGUSR1", "10"])]
    Usr1,
    #[value(name = "USR2", aliases = ["SIGUSR2", "12"])]
    Usr2,
    #[value(name = "STOP", aliases = ["SIGSTOP", "19"])]
    Stop,
    #[value(name = "CONT", aliases = ["SIGCONT", "18"])]
    Cont,
}

impl From<Signal> for SignalName {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::Term => Self::Term,
            Signal::Kill => Self::Kill,
            Signal::Hup => Self::Hup,
            Signal::Int => Self::Int,
            Signal::Quit => Self::Quit,
            Signal::Usr1 => Self::Usr1,
            Signal::Usr2 => Self::Usr2,
            Signal::Stop => Self::Stop,
            Signal::Cont => Self::Cont,
        }
    }
}

/// Processes of one machine that are meant.
struct Meant {
    machine: String,
    boot_id: String,
    processes: Vec<Process>,
}

impl Kill {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        if self.name.as_deref().is_some_and(|text| text.trim().is_empty()) {
            return Err(Failure::usage("--name is empty, which every process would fit"));
        }
        let client = connect(global)?;
        let operation = ProcessList {
            sort: ProcessSort::Pid,
            limit: None,
            user: self.user.clone(),
            over_ms: Some(0),
        };
        let replies = perform::<Processes>(&client, &self.selector, operation).await?;
        if self.name.is_none() && replies.asked > 1 {
            return Err(Failure::usage(format!(
                "'{}' is {} machines, and a process id means something on one alone; name one, or \
                 use --name",
                self.selector, replies.asked
            )));
        }
        let mut code = replies.code;
        let mut meant = Vec::new();
        let own_boot = own_boot_id();
        for (machine, listing) in replies.answers {
            let Processes { boot_id, mut processes, .. } = listing;
            if self.name.is_some() && boot_id == own_boot {
                // This very command has the text in its own command line.
                processes.retain(|process| process.pid != std::process::id());
            }
            let processes = self.choose(&machine, processes, &mut code);
            if !processes.is_empty() {
                meant.push(Meant { machine, boot_id, processes });
            }
        }
        let count: usize = meant.iter().map(|each| each.processes.len()).sum();
        if count == 0 {
            if let Some(text) = &self.name {
                note(&format!("no process has '{text}' in name, command line or unit"));
            }
            return Ok(code.max(exit::SOME_FAILED));
        }
        show(&meant);
        let signal = SignalName::from(self.signal);
        let word = signal_word(signal);
        let plural = if count == 1 { "process" } else { "processes" };
        confirm(self.yes, &format!("Sending {word} to {count} {plural}"))?;
        for Meant { machine, boot_id, processes } in meant {
            for some in processes.chunks(MAX_TARGETS) {
                let targets = some
                    .iter()
                    .map(|process| ProcessTarget {
                        pid: process.pid,
                        start_time: process.start_time,
                    })
                    .collect();
                let operation = ProcessSignal { targets, signal, boot_id: Some(boot_id.clone()) };
                let replies = perform::<Signalled>(&client, &machine, operation).await?;
                code = code.max(replies.code);
                for (machine, answer) in replies.answers {
                    let sent = answer.targets.iter().filter(|target| target.sent).count();
                    note(&format!("{machine}: {word} sent to {sent} of {}", some.len()));
                }
            }
        }
        Ok(code)
    }

    /// Those of a machine's processes that are meant; complains of ids that are not there.
    fn choose(&self, machine: &str, all: Vec<Process>, code: &mut u8) -> Vec<Process> {
        if let Some(text) = &self.name {
            return all.into_iter().filter(|process| is_named(process, text)).collect();
        }
        for pid in &self.pids {
            if !all.iter().any(|process| process.pid == *pid) {
                note(&format!("{machine}: there is no process {pid}"));
                *code = exit::SOME_FAILED;
            }
        }
        all.into_iter().filter(|process| self.pids.contains(&process.pid)).collect()
    }
}

/// The boot of the machine this program runs on; empty where nobody says.
fn own_boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

fn show(meant: &[Meant]) {
    let all = meant.iter().flat_map(|each| {
        each.processes.iter().map(move |process| (each.machine.as_str(), process))
    });
    let count = all.clone().count();
    for (machine, process) in all.take(MAX_SHOWN) {
        let user = process.user.clone().unwrap_or_else(|| process.uid.to_string());
        let command: String = command_text(process).chars().take(100).collect();
        note(&format!("{machine}: {} {user} {command}", process.pid));
    }
    if count > MAX_SHOWN {
        note(&format!("… {} more", count - MAX_SHOWN));
    }
}
