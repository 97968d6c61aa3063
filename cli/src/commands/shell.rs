//! `reeve shell`, and `reeve run -t`.

use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCandidates;
use reeve_protocol::OperationId;
use reeve_protocol::ops::OpenTerminal;
use reeve_sdk::api::{ExecuteCommandRequest, Job, JobRequest, OperationRequest, TerminalSession};
use reeve_sdk::{Client, Paging};

use super::completion::machine_names;
use super::{approved, parse_pair};
use crate::args::{Format, Global};
use crate::connection::connect;
use crate::durations::{self, to_millis};
use crate::failure::Failure;
use crate::output::print_list;
use crate::shell::{self, Seat, WINDOW_BYTES, find_size, is_terminal};
use crate::watch::{Options, watch};

const EXAMPLES: &str = "\
Examples:
  reeve shell web-1                     your shell there
  reeve shell web-1 --user deploy -- htop
  reeve shell --attach                  come back; or --attach web-1 --read-only
At the beginning of a line: ~. closes, ~d leaves it open, ~? says so.";

/// Open a terminal on a machine
///
/// Ends with the shell's exit code. When the connection is lost it says so on the last line and goes
/// on where it was; the terminal does not notice. It also stays when this program ends otherwise
/// than by the shell's end or ~. : `reeve shell --attach` comes back to it, from anywhere, and shows
/// the last MiB again. Several may be at one terminal, and all of them type; --read-only looks only.
/// It closes by itself when nothing was typed and nothing shown for twelve hours (--idle-limit).
///
/// What it shows is recorded, what is typed is not: see `reeve sessions`. When stdin is no terminal,
/// what comes from it is run by the user's shell without one, as ssh does.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Shell {
    /// Which machine
    #[arg(add = ArgValueCandidates::new(machine_names), required_unless_present = "attach")]
    machine: Option<String>,
    /// A program instead of the shell
    #[arg(last = true, conflicts_with = "attach")]
    command: Vec<String>,
    /// As whom (the agent's user)
    #[arg(long, conflicts_with = "attach")]
    user: Option<String>,
    /// In which directory (the user's home)
    #[arg(long, value_name = "DIR", conflicts_with = "attach")]
    cwd: Option<String>,
    /// Environment variable to add
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = parse_pair, conflicts_with = "attach")]
    env: Vec<(String, String)>,
    /// Close it when unused for so long; 0: never
    #[arg(long, value_name = "DURATION", value_parser = durations::parse, conflicts_with = "attach")]
    idle_limit: Option<Duration>,
    /// Keep nothing of what it shows
    #[arg(long, conflicts_with = "attach")]
    no_record: bool,
    /// Come back to an open one
    #[arg(long, value_name = "ID|MACHINE", num_args = 0..=1, default_missing_value = "")]
    #[arg(conflicts_with = "machine")]
    attach: Option<String>,
    /// Look and do not type
    #[arg(long, requires = "attach")]
    read_only: bool,
}

impl Shell {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let client = connect(global)?;
        if let Some(wanted) = &self.attach {
            return attach(global, client, wanted, !self.read_only).await;
        }
        let machine = self.machine.clone().unwrap_or_default();
        if !is_terminal() {
            return self.run_script(global, client, machine).await;
        }
        let mut asked = ask_for_terminal();
        asked.command = (!self.command.is_empty()).then(|| self.command.clone());
        asked.user = self.user;
        asked.cwd = self.cwd;
        asked.env.extend(self.env);
        asked.record = !self.no_record;
        if let Some(limit) = self.idle_limit {
            asked.idle_limit_ms = to_millis(limit);
        }
        open(client, JobRequest::new(machine, asked)).await
    }

    /// Without a terminal here there is none there.
    async fn run_script(
        self,
        global: &Global,
        client: Client,
        machine: String,
    ) -> Result<u8, Failure> {
        let has_command = !self.command.is_empty();
        let command = ExecuteCommandRequest {
            argv: has_command.then_some(self.command),
            shell: (!has_command).then(|| "exec \"$SHELL\" -l".to_owned()),
            user: self.user,
            cwd: self.cwd,
            env: self.env.into_iter().collect(),
            stdin: true,
            ..Default::default()
        };
        let request = JobRequest::new(machine, OperationRequest::ExecuteCommand(command));
        let options = Options {
            format: global.output,
            color: global.color,
            prefix: true,
            fold: false,
            input: true,
            cancels: true,
        };
        let follow = client.run(&request)?;
        watch(client, follow, options).await
    }
}

/// What fits the terminal we are on.
pub fn ask_for_terminal() -> OpenTerminal {
    let (columns, rows) = find_size();
    let mut asked = OpenTerminal { columns, rows, ..OpenTerminal::default() };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    if let Ok(term) = std::env::var("TERM")
        && (1..=64).contains(&term.len())
        && !term.starts_with('.')
        && term.bytes().all(is_plain)
    {
        asked.term = term;
    }
    if let Ok(colours) = std::env::var("COLORTERM") {
        asked.env.insert("COLORTERM".to_owned(), colours);
    }
    asked
}

/// Opens a terminal and stays at it.
pub async fn open(client: Client, request: JobRequest) -> Result<u8, Failure> {
    let job: Job = match client.create_job(&request).await.map_err(Failure::from) {
        Ok(job) => job,
        Err(failure) => {
            let id = approved::wait_for_job(&client, failure, None).await?;
            client.job(id).await?
        }
    };
    let Some(operation) = &job.single else {
        return Err(Failure::new(format!("'{}' is not one machine", request.selector)));
    };
    let seat = Seat { job: job.id, operation: operation.id, from: 0, replay_until: 0, types: true };
    shell::sit(client, seat).await
}

async fn attach(global: &Global, client: Client, wanted: &str, types: bool) -> Result<u8, Failure> {
    if types && !is_terminal() {
        return Err(Failure::usage(
            "stdin is no terminal, so nothing can be typed; give --read-only to look",
        ));
    }
    let session = match wanted.parse::<OperationId>() {
        Ok(id) => client.session(id).await?,
        Err(_) => choose(global, &client, wanted).await?,
    };
    if session.state.is_terminal() {
        return Err(Failure::new(format!(
            "terminal {} is over; 'reeve sessions replay {}' shows it",
            session.id, session.id
        )));
    }
    let seat = Seat {
        job: session.job_id,
        operation: session.id,
        from: session.shown.saturating_sub(WINDOW_BYTES),
        replay_until: session.shown,
        types,
    };
    shell::sit(client, seat).await
}

/// The only one that is open, on that machine if one is named.
async fn choose(
    global: &Global,
    client: &Client,
    machine: &str,
) -> Result<TerminalSession, Failure> {
    let named = (!machine.is_empty()).then_some(machine);
    let mut open = client.sessions(Some(true), named, &Paging::default()).await?.items;
    match open.len() {
        0 => Err(Failure::new(match named {
            Some(machine) => format!("no terminal is open on '{machine}'; reeve shell {machine}"),
            None => "no terminal is open; reeve shell MACHINE opens one".to_owned(),
        })),
        1 => Ok(open.remove(0)),
        many => {
            if matches!(global.output, Format::Table | Format::Wide) {
                print_list(global.output, &open)?;
            }
            Err(Failure::usage(format!("{many} terminals are open; name one by its id")))
        }
    }
}
