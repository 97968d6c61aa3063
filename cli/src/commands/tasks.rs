//! `reeve tasks`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reeve_protocol::TaskId;
use reeve_sdk::Client;
use reeve_sdk::api::{Approval, ApprovalState, Task, TaskState};

use super::{collect, confirm};
use crate::args::{Format, Global};
use crate::connection::{connect, read_secret};
use crate::durations::age;
use crate::exit;
use crate::failure::Failure;
use crate::output::{Column, Row, column, print, print_list, print_one, wide};
use crate::task::{Options, decide_all, follow, text};
use crate::terminal::{Screen, note};

const EXAMPLES: &str = "\
Examples:
  reeve tasks list
  reeve tasks show ID
  reeve tasks approve ID                  shows what waits, and asks
  reeve tasks approve ID --step 3 --yes   says yes to step 3
  reeve tasks follow ID";

/// What was asked in words.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Tasks {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// List tasks, newest first
    List {
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Plan, results and summary of a task
    Show {
        /// Its id
        id: TaskId,
    },
    /// Watch a task as it goes on
    Follow {
        /// Its id
        id: TaskId,
    },
    /// Say yes to what a task waits for
    Approve(Decision),
    /// Say no to what a task waits for
    Reject(Decision),
    /// Answer what a task asks
    Answer {
        /// Its id
        id: TaskId,
        /// The answer, in words
        words: String,
    },
    /// End a task with everything of it that runs
    Cancel {
        /// Its id
        id: TaskId,
        /// For the record
        #[arg(long, default_value = "")]
        reason: String,
    },
}

#[derive(Args)]
struct Decision {
    /// The task's id
    id: TaskId,
    /// Only these steps
    #[arg(long = "step", value_name = "NUMBER")]
    steps: Vec<u32>,
    /// Do not ask; what is meant is printed
    #[arg(long)]
    yes: bool,
    /// For the record
    #[arg(long, default_value = "")]
    reason: String,
    /// Read your password from this file, where the rule wants it
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Row for Task {
    const COLUMNS: &'static [Column] = &[
        column("ID"),
        column("STATE"),
        column("WORDS"),
        column("MACHINES"),
        column("BY"),
        column("AGE"),
        wide("PLANNER"),
        wide("COST"),
    ];

    fn name(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self) -> Vec<String> {
        let words: String = self.prompt.chars().take(50).collect();
        vec![
            self.id.to_string(),
            self.state.as_str().to_owned(),
            if words.len() < self.prompt.len() { format!("{words}…") } else { words },
            text::machines(&self.machines),
            self.created_by.clone(),
            age(self.created),
            self.planner.clone().unwrap_or_else(|| "-".to_owned()),
            format!("{:.4}", self.usage.cost),
        ]
    }
}

impl Tasks {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let client = connect(global)?;
        match self.action.unwrap_or(Action::List { limit: 20 }) {
            Action::List { limit } => {
                let tasks = collect(Some(limit), |paging| {
                    let client = client.clone();
                    async move { client.tasks(None, &paging).await }
                })
                .await?;
                print_list(global.output, &tasks)?;
            }
            Action::Show { id } => show(global, &client.task(id).await?)?,
            Action::Follow { id } => {
                let options = Options {
                    format: global.output,
                    color: global.color,
                    all_output: false,
                    wait: true,
                    cancels: false,
                };
                return follow(client, id, options).await;
            }
            Action::Approve(decision) => decision.perform(global, &client, true).await?,
            Action::Reject(decision) => decision.perform(global, &client, false).await?,
            Action::Answer { id, words } => {
                client.answer_task(id, &words).await?;
                note(&format!("reeve: it goes on; watch it with: reeve tasks follow {id}"));
            }
            Action::Cancel { id, reason } => {
                let task = client.cancel_task(id, &reason).await?;
                note(&format!("reeve: {}", text::state(&task)));
            }
        }
        Ok(exit::OK)
    }
}

fn show(global: &Global, task: &Task) -> Result<(), Failure> {
    if !matches!(global.output, Format::Table | Format::Wide) {
        return print_one(global.output, task, &task.id.to_string(), &[]);
    }
    let screen = Screen::stdout(global.color);
    let machines = text::machines(&task.machines);
    let usage = &task.usage;
    let details = [
        ("task", task.id.to_string()),
        ("words", task.prompt.clone()),
        ("state", text::state(task)),
        ("question", task.question.clone().unwrap_or_default()),
        ("machines", machines),
        ("asked by", format!("{}, {} ago", task.created_by, age(task.created))),
        (
            "models",
            match usage.calls {
                0 => String::new(),
                calls => format!("{calls} calls, cost {:.4}", usage.cost),
            },
        ),
    ];
    print_one(global.output, task, "", &details)?;
    print(&format!("\n{}", text::task(screen, task)))
}

impl Decision {
    async fn perform(self, global: &Global, client: &Client, yes: bool) -> Result<(), Failure> {
        let task = client.task(self.id).await?;
        let pending = self.pending(client, &task).await?;
        if pending.is_empty() {
            return Err(Failure::new(match task.state {
                TaskState::AwaitingApproval => "none of these steps waits for a yes".to_owned(),
                _ => format!("the task waits for no yes: it is {}", text::state(&task)),
            }));
        }
        let screen = Screen::stdout(global.color);
        for approval in &pending {
            print(&text::approval(screen, approval))?;
        }
        let word = if yes { "yes" } else { "no" };
        confirm(self.yes, &format!("Say {word} to exactly this"))?;
        let password = self.password_file.as_deref();
        let password = password.map(|path| read_secret(path, "password")).transpose()?;
        decide_all(client, &task, &pending, yes, &self.reason, password).await
    }

    /// What waits for a yes, of the steps that are meant.
    async fn pending(&self, client: &Client, task: &Task) -> Result<Vec<Approval>, Failure> {
        let waiting = collect(None, |paging| {
            let client = client.clone();
            let id = task.id;
            async move { client.approvals(Some(ApprovalState::Pending), Some(id), &paging).await }
        })
        .await?;
        let is_meant = |approval: &Approval| {
            self.steps.is_empty() || approval.subtask.is_some_and(|step| self.steps.contains(&step))
        };
        let mut found = Vec::new();
        // A list shows some of many machines; what is said yes to is shown whole.
        for approval in waiting.into_iter().rev().filter(is_meant) {
            found.push(client.approval(approval.id).await?);
        }
        Ok(found)
    }
}
