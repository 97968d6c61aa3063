//! `reeve jobs`.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use clap::{Args, Subcommand, ValueEnum};
use reeve_protocol::JobId;
use reeve_sdk::api::{Job, JobState, Operation};
use reeve_sdk::{Client, Which};

use super::collect;
use crate::args::{Format, Global};
use crate::connection::connect;
use crate::durations::{age, length, size};
use crate::exit;
use crate::failure::Failure;
use crate::output::{Column, Row, column, print_list, print_one, wide};
use crate::terminal::note;
use crate::watch::summary::{command_text, short};
use crate::watch::{Options, watch};

const EXAMPLES: &str = "\
Examples:
  reeve jobs                                  the newest 20
  reeve jobs show ID                          how it went on each machine
  reeve jobs output ID --machine web-1 > log  its bytes as they were
  reeve jobs attach ID                        from the start, then live
  reeve jobs explain ID                       why it does not go on
  reeve jobs cancel ID";

/// Look at, follow and cancel what was run.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Jobs {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// List jobs, newest first
    List(List),
    /// Show a job and its operations
    Show {
        /// Its id
        id: JobId,
    },
    /// Print what a command wrote, byte for byte
    Output(Output),
    /// Replay a job's output and follow it to its end
    ///
    /// Ends with the exit code that `reeve run` would have ended with. Ctrl-C leaves the job alone.
    Attach(Attach),
    Explain(super::explain::Explain),
    /// End a job's commands
    Cancel {
        /// Its id
        id: JobId,
        /// For the record
        #[arg(long, default_value = "")]
        reason: String,
    },
}

#[derive(Args)]
struct List {
    /// Only those in this state
    #[arg(long)]
    state: Option<State>,
    /// How many
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit: u32,
    /// All of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum State {
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

#[derive(Args)]
struct Output {
    /// The job's id
    id: JobId,
    /// Only stdout
    #[arg(long, conflicts_with = "stderr")]
    stdout: bool,
    /// Only stderr
    #[arg(long)]
    stderr: bool,
    /// Of which machine, when the job has many
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// Go on until the command ends
    #[arg(short, long)]
    follow: bool,
}

#[derive(Args)]
struct Attach {
    /// Its id
    id: JobId,
    /// No machine names before lines
    #[arg(long)]
    no_prefix: bool,
    /// At the end, each different output once
    #[arg(long)]
    fold: bool,
}

fn job_state(state: JobState) -> &'static str {
    match state {
        JobState::Running => "running",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    }
}

impl Row for Job {
    const COLUMNS: &'static [Column] = &[
        column("ID"),
        column("STATE"),
        column("OK"),
        column("SELECTOR"),
        column("COMMAND"),
        column("AGE"),
        wide("BY"),
        wide("FINISHED"),
    ];

    fn name(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            job_state(self.state).to_owned(),
            format!("{}/{}", self.counts.succeeded, self.counts.total),
            cut(&self.selector, 30),
            cut(&command_text(&self.operation), 50),
            age(self.created),
            self.created_by.clone(),
            self.finished.map(|at| at.to_string()).unwrap_or_default(),
        ]
    }
}

impl Row for Operation {
    const COLUMNS: &'static [Column] = &[
        column("MACHINE"),
        column("STATE"),
        column("RESULT"),
        column("TOOK"),
        column("OUTPUT"),
        column("REASON"),
        wide("CONTAINMENT"),
        wide("ID"),
    ];

    fn name(&self) -> String {
        self.machine.clone()
    }

    fn cells(&self) -> Vec<String> {
        let containment = self.containment.and_then(|kind| serde_json::to_value(kind).ok());
        vec![
            self.machine.clone(),
            self.state.as_str().to_owned(),
            short(self),
            self.duration_ms.map(length).unwrap_or_default(),
            size(self.output.all),
            self.reason.as_ref().map(|reason| reason.message.clone()).unwrap_or_default(),
            containment.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default(),
            self.id.to_string(),
        ]
    }
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

impl Jobs {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let client = connect(global)?;
        match self.action.unwrap_or(Action::List(List { state: None, limit: 20, all: false })) {
            Action::List(list) => {
                let state = list.state.map(|state| match state {
                    State::Running => JobState::Running,
                    State::Succeeded => JobState::Succeeded,
                    State::Failed => JobState::Failed,
                    State::Cancelled => JobState::Cancelled,
                });
                let jobs = collect((!list.all).then_some(list.limit), |paging| {
                    let client = client.clone();
                    async move { client.jobs(state, &paging).await }
                })
                .await?;
                if jobs.is_empty() {
                    note("no jobs");
                }
                print_list(global.output, &jobs)?;
            }
            Action::Show { id } => show(global, &client, id).await?,
            Action::Output(output) => print_output(&client, &output).await?,
            Action::Attach(attach) => {
                let follow = client.follow(attach.id);
                let options = Options {
                    format: global.output,
                    color: global.color,
                    prefix: !attach.no_prefix,
                    fold: attach.fold,
                    input: false,
                    cancels: false,
                };
                return watch(client, follow, options).await;
            }
            Action::Explain(explain) => explain.perform(global, &client).await?,
            Action::Cancel { id, reason } => {
                let job = client.cancel_job(id, &reason).await?;
                if job.finished.is_some() {
                    note(&format!("job {id} had ended already: {}", job_state(job.state)));
                } else {
                    note(&format!(
                        "cancelling job {id}; 'reeve jobs attach {id}' waits for its end"
                    ));
                }
            }
        }
        Ok(exit::OK)
    }
}

/// All operations of a job.
pub async fn operations(client: &Client, id: JobId) -> Result<Vec<Operation>, Failure> {
    collect(None, |paging| {
        let client = client.clone();
        async move { client.job_operations(id, None, &paging).await }
    })
    .await
}

async fn show(global: &Global, client: &Client, id: JobId) -> Result<(), Failure> {
    let job = client.job(id).await?;
    let operations = operations(client, id).await?;
    if !matches!(global.output, Format::Table | Format::Wide) {
        let both = serde_json::json!({"job": job, "operations": operations});
        return print_one(global.output, &both, &job.id.to_string(), &[]);
    }
    let details = [
        ("id", job.id.to_string()),
        ("state", job_state(job.state).to_owned()),
        ("command", command_text(&job.operation)),
        ("selector", job.selector.clone()),
        ("by", job.created_by.clone()),
        ("created", format!("{} ({})", job.created, age(job.created))),
        ("finished", job.finished.map(|at| at.to_string()).unwrap_or_default()),
        ("cancelled", job.cancel_requested.map(|at| at.to_string()).unwrap_or_default()),
    ];
    print_one(global.output, &job, "", &details)?;
    crate::output::print("\n")?;
    print_list(global.output, &operations)
}

async fn print_output(client: &Client, wanted: &Output) -> Result<(), Failure> {
    let operation = find_operation(client, wanted).await?;
    let which = match (wanted.stdout, wanted.stderr) {
        (true, _) => Which::Stdout,
        (_, true) => Which::Stderr,
        _ => Which::All,
    };
    // What was found in a list does not say what is missing.
    let output = client.operation(operation.id).await?.output;
    for gap in output.gaps.into_iter().flatten() {
        note(&format!("reeve: {} of its output were dropped", size(gap.to - gap.from)));
    }
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut stream = client.output(operation.id, which, 0, wanted.follow);
    while let Some(bytes) = stream.next().await? {
        stdout.write_all(&bytes)?;
    }
    Ok(())
}

async fn find_operation(client: &Client, wanted: &Output) -> Result<Operation, Failure> {
    let job = client.job(wanted.id).await?;
    if let (Some(single), None) = (&job.single, &wanted.machine) {
        return Ok(single.as_ref().clone());
    }
    let mut operations = operations(client, wanted.id).await?;
    let names = || {
        let mut names: Vec<_> = operations.iter().map(|o| o.machine.as_str()).take(20).collect();
        names.sort_unstable();
        names.join(", ")
    };
    match &wanted.machine {
        Some(machine) => {
            match operations.iter().position(|operation| operation.machine == *machine) {
                Some(index) => Ok(operations.swap_remove(index)),
                None => Err(Failure::new(format!(
                    "job {} did not run on '{machine}'; it has {}",
                    wanted.id,
                    names()
                ))),
            }
        }
        None if operations.len() == 1 => Ok(operations.swap_remove(0)),
        None => Err(Failure::usage(format!(
            "job {} has {} machines; name one with --machine: {}",
            wanted.id,
            operations.len(),
            names()
        ))),
    }
}
