//! `reeve run`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCandidates;
use reeve_protocol::ops::{Mode, Network, SpoolFull};
use reeve_sdk::Client;
use reeve_sdk::api::{
    ExecuteCommandRequest, JobRequest, MachineState, OperationRequest, Rollout, Target,
};

use super::approved;
use super::completion::machine_names;
use super::{confirm, parse_pair};
use crate::args::{Format, Global};
use crate::connection::connect;
use crate::durations::{self, to_millis};
use crate::exit;
use crate::failure::Failure;
use crate::output::{Column, Row, column, print_list, print_one, wide};
use crate::terminal::note;
use crate::watch::{Options, watch};

const EXAMPLES: &str = "\
Examples:
  reeve run web-1 -- df -h                    its stdout, stderr and exit code
  reeve run 'role=web,env!=prod' --inspect -- uptime    which can change nothing
  tar c . | reeve run web-1 --stdin -- tar x -C /srv
  reeve run @all --batch 10% --max-failures 1 --yes -- apt-get -y upgrade

Ctrl-C or SIGTERM cancels; a second one leaves it running. Exit: its own code,
124 timed out; many: 0 if all succeeded, else 1; 255 Reeve failed. See --help.";

/// More than so many machines need a yes.
const CONFIRM_ABOVE: usize = 10;

/// Run a command on one machine or many
///
/// Of one machine, stdout and stderr come apart, live and byte for byte. Of many, every line has
/// its machine's name before it, and at the end it is said which outputs were identical; with
/// --fold nothing is shown live, and at the end each different output once, under the names of the
/// machines that gave it. With -o json the document holds up to 1 MiB of each stream (`stdout`, or
/// `stdout_base64` when it is no UTF-8); -o jsonl streams events without limit. When stdout is
/// closed (`| head`) the job is cancelled. Closing the terminal leaves it running.
///
/// With --inspect the command may read everything but secrets and change nothing: the kernel of the
/// machine sees to that, and a machine that cannot refuses. It runs as a user of its own.
///
/// The first Ctrl-C or SIGTERM cancels the job and waits for its end, the second leaves it running
/// and says how to come back. Exit codes: of one machine the command's own, 128+N when signal N
/// ended it, 124 when it timed out, 130 when it was cancelled; of many 0 when all succeeded, else 1;
/// 255 when Reeve itself could not do it (unreachable, refused, lost), 2 for a bad command line.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Run {
    /// web-1 | web-1,db-1 | web-* | role=web,env!=prod | @all
    #[arg(add = ArgValueCandidates::new(machine_names))]
    selector: String,
    /// Program and arguments, untouched by any shell
    #[arg(last = true, required_unless_present = "shell", conflicts_with = "shell")]
    command: Vec<String>,
    /// A line for /bin/sh instead
    #[arg(long, value_name = "LINE")]
    shell: Option<String>,
    /// As whom (the agent's user)
    #[arg(long)]
    user: Option<String>,
    /// In which directory (the user's home)
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// Environment variable to add
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = parse_pair)]
    env: Vec<(String, String)>,
    /// Send stdin; one machine only
    #[arg(long, conflicts_with = "detach")]
    stdin: bool,
    /// End it after this long
    #[arg(long, value_name = "DURATION", value_parser = durations::parse)]
    timeout: Option<Duration>,
    /// Between asking it to end and killing it (5s)
    #[arg(long, value_name = "DURATION", value_parser = durations::parse)]
    grace: Option<Duration>,
    /// Wait for offline machines this long (not at all)
    #[arg(long, value_name = "DURATION", value_parser = durations::parse)]
    wait: Option<Duration>,
    /// Print the job's id and do not follow it
    #[arg(long)]
    detach: bool,
    /// Only so many machines, or percent, per step
    #[arg(long, value_name = "N|N%", value_parser = parse_batch)]
    batch: Option<String>,
    /// Only so many machines at the same time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    forks: Option<u32>,
    /// Start no more after so many failures
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_failures: Option<u32>,
    /// Cancel everything at the first failure
    #[arg(long)]
    fail_fast: bool,
    /// On one of the machines, an online one
    #[arg(long)]
    one: bool,
    /// Only say which machines it would be
    #[arg(long)]
    dry_run: bool,
    /// Do not ask, however many machines
    #[arg(short, long)]
    yes: bool,
    /// No machine names before lines
    #[arg(long)]
    no_prefix: bool,
    /// At the end, each different output once
    #[arg(long)]
    fold: bool,
    /// Keep so much output per machine (4GiB)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    output_limit: Option<u64>,
    /// Drop output rather than let the command wait
    #[arg(long, hide_short_help = true)]
    drop_output: bool,
    /// On a terminal, to be used; one machine only
    #[arg(short = 't', long = "terminal", conflicts_with_all = ["stdin", "shell", "inspect", "detach", "timeout"])]
    terminal: bool,
    /// Let it look and change nothing
    #[arg(long, conflicts_with = "user")]
    inspect: bool,
    /// With --inspect: see its network, or talk (neither)
    #[arg(long, value_name = "view|use", requires = "inspect", hide_possible_values = true)]
    network: Option<Reach>,
}

/// What a command in inspect mode has of the network.
#[derive(Clone, Copy, ValueEnum)]
enum Reach {
    /// Interfaces, routes and sockets can be seen
    View,
    /// Connections can be made, too
    Use,
}

impl Row for Target {
    const COLUMNS: &'static [Column] = &[column("NAME"), column("STATE"), wide("ID")];

    fn name(&self) -> String {
        self.machine.clone()
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.machine.clone(),
            super::machines::state_word(self.state).to_owned(),
            self.machine_id.to_string(),
        ]
    }
}

impl Run {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        if global.output == Format::Name && !self.detach && !self.dry_run {
            return Err(Failure::usage("-o name fits 'run' only with --detach or --dry-run"));
        }
        let client = connect(global)?;
        if self.terminal {
            return self.run_on_terminal(client).await;
        }
        let mut request = self.request();
        if self.dry_run {
            let preview = client.preview_job(&request).await?;
            print_list(global.output, &preview.targets)?;
            note(&format!("{}; nothing was run", machines_text(preview.targets.len())));
            return Ok(exit::OK);
        }
        self.check_targets(&client, &mut request).await?;
        if self.detach {
            let job = match client.create_job(&request).await.map_err(Failure::from) {
                Ok(job) => job,
                Err(failure) => return approved::print_needed(global, failure),
            };
            let id = job.id.to_string();
            match global.output {
                Format::Table | Format::Wide => crate::output::print(&format!("{id}\n"))?,
                format => print_one(format, &job, &id, &[])?,
            }
            note(&format!("{}: reeve jobs attach {id}", machines_text(job.counts.total as usize)));
            return Ok(exit::OK);
        }
        let follow = client.run(&request)?;
        let options = Options {
            format: global.output,
            color: global.color,
            prefix: !self.no_prefix,
            fold: self.fold,
            input: self.stdin,
            cancels: true,
        };
        match watch(client.clone(), follow, options).await {
            Ok(code) => Ok(code),
            Err(failure) => {
                let job = approved::wait_for_job(&client, failure, self.wait).await?;
                watch(client.clone(), client.follow(job), options).await
            }
        }
    }

    async fn run_on_terminal(self, client: Client) -> Result<u8, Failure> {
        if !crate::shell::is_terminal() {
            return Err(Failure::usage(
                "stdin is no terminal; leave out -t, or send it with --stdin",
            ));
        }
        let mut asked = super::shell::ask_for_terminal();
        asked.command = Some(self.command.clone());
        asked.user.clone_from(&self.user);
        asked.cwd.clone_from(&self.cwd);
        asked.env.extend(self.env.clone());
        let request = JobRequest {
            wait_ms: self.wait.map(to_millis),
            output_limit: self.output_limit,
            ..JobRequest::new(self.selector.clone(), asked)
        };
        super::shell::open(client, request).await
    }

    fn request(&self) -> JobRequest {
        let argv = self.shell.is_none().then(|| self.command.clone());
        JobRequest {
            selector: self.selector.clone(),
            operation: OperationRequest::ExecuteCommand(ExecuteCommandRequest {
                argv,
                shell: self.shell.clone(),
                user: self.user.clone(),
                cwd: self.cwd.clone(),
                env: self.env.iter().cloned().collect(),
                stdin: self.stdin,
                timeout_ms: self.timeout.map(to_millis),
                grace_ms: self.grace.map(to_millis),
                spool_full: if self.drop_output { SpoolFull::DropMiddle } else { SpoolFull::Block },
                mode: if self.inspect { Mode::Inspect } else { Mode::Normal },
                network: match self.network {
                    None => Network::None,
                    Some(Reach::View) => Network::View,
                    Some(Reach::Use) => Network::Use,
                },
                ..Default::default()
            }),
            rollout: Rollout {
                batch: self.batch.clone(),
                forks: self.forks,
                max_failures: self.max_failures,
                fail_fast: self.fail_fast,
            },
            wait_ms: self.wait.map(to_millis),
            output_limit: self.output_limit,
            dry_run: false,
            input: None,
            output_to: None,
            relay: false,
            redact: false,
        }
    }

    /// Asks before many machines, and picks one for `--one`. A selector that can only mean a few
    /// saves the question to the coordinator.
    async fn check_targets(
        &self,
        client: &Client,
        request: &mut JobRequest,
    ) -> Result<(), Failure> {
        if !self.one && (self.yes || !may_be_many(&self.selector)) {
            return Ok(());
        }
        let targets = client.preview_job(request).await?.targets;
        if self.one {
            let online = targets.iter().find(|target| target.state == MachineState::Online);
            let chosen = online.or(targets.first());
            if let Some(target) = chosen {
                request.selector.clone_from(&target.machine);
            }
            return Ok(());
        }
        if targets.len() > CONFIRM_ABOVE {
            confirm(self.yes, &format!("Running this on {}", machines_text(targets.len())))?;
        }
        Ok(())
    }
}

fn machines_text(count: usize) -> String {
    format!("{count} machine{}", if count == 1 { "" } else { "s" })
}

fn may_be_many(selector: &str) -> bool {
    selector.contains(['*', '?', '[', '=', '@']) || selector.split(',').count() > CONFIRM_ABOVE
}

fn parse_batch(text: &str) -> Result<String, String> {
    let (digits, most) = match text.strip_suffix('%') {
        Some(digits) => (digits, 100),
        None => (text, u32::MAX),
    };
    match digits.parse::<u32>() {
        Ok(number) if (1..=most).contains(&number) => Ok(text.to_owned()),
        _ => Err("write it as 2 or 10%".to_owned()),
    }
}

/// `500000`, `64KiB`, `10M`, `1GiB`: all units are binary.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let shift = match unit.trim().to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err("write it as 64KiB, 10MiB or 1GiB".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "write it as 64KiB, 10MiB or 1GiB".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "that is more than there is".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_batches_are_read_as_written() {
        assert_eq!(parse_size("500"), Ok(500));
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("1g"), Ok(1 << 30));
        assert!(parse_size("many").is_err() && parse_size("99999999999t").is_err());
        assert!(parse_batch("2").is_ok() && parse_batch("10%").is_ok());
        assert!(parse_batch("0").is_err() && parse_batch("101%").is_err());
    }

    #[test]
    fn only_what_can_be_many_costs_a_question() {
        assert!(!may_be_many("web-1") && !may_be_many("web-1,db-1"));
        assert!(may_be_many("web-*") && may_be_many("role=web") && may_be_many("@all"));
        assert!(may_be_many(&["m"; 11].join(",")));
    }
}
