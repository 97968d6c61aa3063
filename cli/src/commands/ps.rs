//! `reeve ps`.

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCandidates;
use reeve_protocol::ops::{Process, ProcessList, ProcessSort, Processes};
use reeve_sdk::api::Time;
use serde::Serialize;

use super::completion::machine_names;
use super::perform::{perform, to_selector};
use crate::args::{Format, Global};
use crate::connection::connect;
use crate::durations::{age, length, size};
use crate::failure::Failure;
use crate::output::{Column, Row, column, print_list, wide};
use crate::terminal::note;

const EXAMPLES: &str = "\
Examples:
  reeve ps web-1                          what uses most of the processor
  reeve ps web-1 db-1 --sort memory -n 5  five of each
  reeve ps 'role=web' --name nginx        whose name, command or unit has nginx in it
  reeve ps web-1 --user postgres -o json";

/// Shown of each machine in a table unless said otherwise.
const DEFAULT_ROWS: usize = 30;

/// Letters of a command line in a table.
const MAX_COMMAND: usize = 100;

/// Show what runs on machines
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Ps {
    /// web-1 | web-1,db-1 | web-* | role=web,env!=prod | @all
    #[arg(required = true, value_name = "MACHINE", add = ArgValueCandidates::new(machine_names))]
    machines: Vec<String>,
    /// Only those with this in name, command line or unit
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Only those of this user
    #[arg(short, long)]
    user: Option<String>,
    /// Which come first: cpu, memory, pid or started
    #[arg(short, long, value_name = "KEY", default_value = "cpu", hide_possible_values = true)]
    #[arg(hide_default_value = true)]
    sort: Sort,
    /// So many of each machine, 0 for all (in a table 30)
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Sort {
    Cpu,
    #[value(alias = "mem")]
    Memory,
    Pid,
    #[value(alias = "start")]
    Started,
}

/// A process of a machine, in a list of one machine's or of many machines'.
#[derive(Clone, Serialize)]
pub struct Listed<const MANY: bool> {
    /// Which machine.
    pub machine: String,
    /// It.
    #[serde(flatten)]
    pub process: Process,
}

impl<const MANY: bool> Row for Listed<MANY> {
    const COLUMNS: &'static [Column] = &[
        Column { title: "MACHINE", wide: !MANY },
        column("PID"),
        wide("PARENT"),
        column("USER"),
        column("S"),
        column("CPU%"),
        column("MEMORY"),
        wide("THREADS"),
        column("TIME"),
        column("STARTED"),
        wide("UNIT"),
        column("COMMAND"),
    ];

    fn name(&self) -> String {
        self.process.pid.to_string()
    }

    fn cells(&self) -> Vec<String> {
        let process = &self.process;
        vec![
            self.machine.clone(),
            process.pid.to_string(),
            process.parent.to_string(),
            process.user.clone().unwrap_or_else(|| process.uid.to_string()),
            process.state.clone(),
            format!("{:.1}", process.cpu_percent),
            size(process.memory),
            process.threads.to_string(),
            length(process.cpu_ms),
            age(Time::from_micros(process.started_us)),
            process.unit.clone().unwrap_or_default(),
            command_text(process),
        ]
    }
}

/// The command line, or the name in brackets where there is none, as ps(1) has it.
pub fn command_text(process: &Process) -> String {
    if process.command.is_empty() { format!("[{}]", process.name) } else { process.command.clone() }
}

/// Command lines have thousands of bytes at times; `-o wide` shows them whole.
fn shorten(command: &mut String) {
    let end = command.char_indices().nth(MAX_COMMAND);
    if let Some((end, _)) = end {
        command.truncate(end);
        command.push('…');
    }
}

/// Whether a process has the text in its name, command line or unit.
pub fn is_named(process: &Process, text: &str) -> bool {
    let has = |place: &str| place.contains(text);
    has(&process.name) || has(&process.command) || process.unit.as_deref().is_some_and(has)
}

impl Ps {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let client = connect(global)?;
        let is_table = matches!(global.output, Format::Table | Format::Wide);
        let limit = match self.limit {
            Some(0) => None,
            Some(limit) => Some(limit),
            None => is_table.then_some(DEFAULT_ROWS),
        };
        // What is filtered here has to come whole.
        let sent =
            limit.filter(|_| self.name.is_none()).and_then(|limit| u32::try_from(limit).ok());
        let operation = ProcessList {
            sort: match self.sort {
                Sort::Cpu => ProcessSort::Cpu,
                Sort::Memory => ProcessSort::Memory,
                Sort::Pid => ProcessSort::Pid,
                Sort::Started => ProcessSort::Started,
            },
            limit: sent,
            user: self.user.clone(),
            over_ms: None,
        };
        let selector = to_selector(&self.machines);
        let replies = perform::<Processes>(&client, &selector, operation).await?;
        let mut all = Vec::new();
        for (machine, listing) in replies.answers {
            let mut found = listing.processes;
            let mut total = usize::try_from(listing.total).unwrap_or(usize::MAX);
            if let Some(text) = &self.name {
                found.retain(|process| is_named(process, text));
                total = found.len();
            }
            found.truncate(limit.unwrap_or(usize::MAX));
            if found.len() < total && is_table && self.limit.is_none() {
                note(&format!("{machine}: {} of {total} processes; -n 0 shows all", found.len()));
            }
            let listed = found.into_iter().map(|process| (machine.clone(), process));
            all.extend(listed);
        }
        if global.output == Format::Table {
            for (_, process) in &mut all {
                shorten(&mut process.command);
            }
        }
        print(global.output, all, replies.asked > 1)?;
        Ok(replies.code)
    }
}

/// Prints processes, with their machines if there may be several.
pub fn print(format: Format, all: Vec<(String, Process)>, many: bool) -> Result<(), Failure> {
    fn listed<const MANY: bool>(all: Vec<(String, Process)>) -> Vec<Listed<MANY>> {
        all.into_iter().map(|(machine, process)| Listed { machine, process }).collect()
    }
    if many {
        print_list(format, &listed::<true>(all))
    } else {
        print_list(format, &listed::<false>(all))
    }
}
