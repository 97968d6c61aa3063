//! `reeve jobs explain`: why a command hangs, and what can be done about it.

use clap::Args;
use reeve_protocol::{JobId, OperationId};
use reeve_sdk::Client;
use reeve_sdk::api::{Explained, Operation, OperationState, StallAdvice};

use crate::args::{Format, Global};
use crate::durations::length;
use crate::failure::Failure;
use crate::output::{print, print_one};
use crate::terminal::escape;

/// Say what a running command waits for
///
/// The machine is asked what its kernel knows of the command's processes; nothing is changed there.
#[derive(Args)]
pub struct Explain {
    /// The job's id, or an operation's
    #[arg(value_name = "JOB|OPERATION")]
    id: JobId,
    /// On which machine, when the job has many
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
}

impl Explain {
    pub async fn perform(self, global: &Global, client: &Client) -> Result<(), Failure> {
        let operation = self.find(client).await?;
        let explained = client.explain_operation(operation.id).await?;
        match global.output {
            Format::Table | Format::Wide => print(&to_text(&operation, &explained)),
            format => print_one(format, &explained, &explained.stall.cause, &[]),
        }
    }

    /// The operation meant: of the only one that still runs there is no doubt.
    async fn find(&self, client: &Client) -> Result<Operation, Failure> {
        let job = match client.job(self.id).await {
            Ok(job) => job,
            Err(error) if error.code() == Some("job_not_found") => {
                return Ok(client.operation(OperationId(self.id.0)).await?);
            }
            Err(error) => return Err(error.into()),
        };
        let operations = super::jobs::operations(client, job.id).await?;
        let named: Vec<&Operation> = operations
            .iter()
            .filter(|each| self.machine.as_ref().is_none_or(|name| each.machine == *name))
            .collect();
        let running: Vec<&&Operation> =
            named.iter().filter(|each| each.state == OperationState::Running).collect();
        match (running.as_slice(), named.as_slice()) {
            ([one], _) => Ok((**one).clone()),
            ([], [one]) => Ok((*one).clone()),
            ([], []) => Err(Failure::new(format!(
                "job {} did not run on '{}'",
                job.id,
                self.machine.as_deref().unwrap_or_default()
            ))),
            ([], _) => Err(Failure::new(format!("nothing of job {} runs any more", job.id))),
            (many, _) => {
                let names: Vec<&str> =
                    many.iter().map(|each| each.machine.as_str()).take(20).collect();
                Err(Failure::usage(format!(
                    "job {} runs on {} machines; name one with --machine: {}",
                    job.id,
                    many.len(),
                    names.join(", ")
                )))
            }
        }
    }
}

fn to_text(operation: &Operation, explained: &Explained) -> String {
    let stall = &explained.stall;
    let sure = if explained.confident { "" } else { " (not sure)" };
    let mut text = format!(
        "{}: {}{sure}\n  {}\n  no output for {}\n\nfacts\n",
        stall.machine,
        stall.cause.replace('_', " "),
        stall.explanation,
        length(stall.silent_ms),
    );
    for fact in &stall.facts {
        text += &format!("  - {fact}\n");
    }
    text += &format!("\nadvice: {}\n", advise(explained));
    let job = operation.job_id;
    text += &format!("  watch it:  reeve jobs attach {job}\n");
    text += &format!("  end it:    reeve jobs cancel {job}\n");
    escape(&text)
}

fn advise(explained: &Explained) -> String {
    match explained.stall.advice {
        StallAdvice::Wait => "wait; it can go on by itself".to_owned(),
        StallAdvice::Kill => "end it; it will not come to an end by itself".to_owned(),
        StallAdvice::Answer if explained.stall.cause == "stopped" => {
            "let it go on (SIGCONT), or end it".to_owned()
        }
        StallAdvice::Answer => {
            let has_stdin = explained.findings.stdin.is_some_and(|stdin| !stdin.is_closed);
            if has_stdin {
                "answer it where 'reeve run' was started, which passes on what is typed".to_owned()
            } else {
                "nobody can answer, because its stdin was not passed on: end it, and run it again \
                 with 'reeve run --stdin', or with an option that asks nothing"
                    .to_owned()
            }
        }
    }
}
