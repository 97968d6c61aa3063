//! `reeve approvals` and `reeve policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use reeve_protocol::{ApprovalId, TaskId};
use reeve_sdk::Client;
use reeve_sdk::api::{Approval, ApprovalState, Decide, OperationRequest, PolicyRuleView};

use super::collect;
use crate::args::{Format, Global};
use crate::connection::{connect, read_secret};
use crate::durations::age;
use crate::exit;
use crate::failure::Failure;
use crate::output::{Column, Row, column, print, print_list, print_one, wide};
use crate::task::text;
use crate::terminal::{Screen, ask_secret, can_ask, confirm, escape, note};

const EXAMPLES: &str = "\
Examples:
  reeve approvals                          what waits for a yes
  reeve approvals show ID                  everything a yes would be bound to
  reeve approvals approve ID               shows it, then asks
  reeve approvals approve ID --digest SHA  without a terminal: what was looked at
  reeve approvals reject ID --reason 'not before the backup'";

/// What waits for a yes.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Approvals {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// List those that wait, or others
    List(List),
    /// Show what a yes is bound to
    Show {
        /// Its id
        id: ApprovalId,
    },
    /// Say yes, to exactly what is shown
    Approve(Approve),
    /// Say no
    Reject {
        /// Its id
        id: ApprovalId,
        /// For the record
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Take back what you have asked for
    Withdraw {
        /// Its id
        id: ApprovalId,
        /// For the record
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
}

#[derive(Args)]
struct List {
    /// In this state (pending)
    #[arg(long, value_name = "STATE", conflicts_with = "all")]
    state: Option<State>,
    /// Of this task
    #[arg(long, value_name = "ID")]
    task: Option<TaskId>,
    /// In any state
    #[arg(long)]
    all: bool,
}

#[derive(Args)]
struct Approve {
    /// Its id
    id: ApprovalId,
    /// The digest of what you looked at; needed without a terminal
    #[arg(long, value_name = "SHA256")]
    digest: Option<String>,
    /// Read your password from this file ('-' is stdin), where it is wanted again
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// For the record
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum State {
    Pending,
    Approved,
    Rejected,
    Expired,
    Withdrawn,
    Used,
}

impl State {
    fn to_api(self) -> ApprovalState {
        match self {
            Self::Pending => ApprovalState::Pending,
            Self::Approved => ApprovalState::Approved,
            Self::Rejected => ApprovalState::Rejected,
            Self::Expired => ApprovalState::Expired,
            Self::Withdrawn => ApprovalState::Withdrawn,
            Self::Used => ApprovalState::Used,
        }
    }
}

impl Row for Approval {
    const COLUMNS: &'static [Column] = &[
        column("ID"),
        column("STATE"),
        column("EFFECT"),
        column("MACHINES"),
        column("COMMAND"),
        column("BY"),
        column("YES"),
        column("EXPIRES"),
        wide("RULE"),
        wide("TASK"),
        wide("JOB"),
    ];

    fn name(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self) -> Vec<String> {
        let yes = self.decisions.iter().filter(|decision| decision.approved).count();
        let machines = match self.machines.as_slice() {
            [one] => one.name.clone(),
            _ => self.machine_count.to_string(),
        };
        let line = match &self.operation {
            OperationRequest::ExecuteCommand(command) => text::request_line(command),
            OperationRequest::ExplainOperation(asked) => format!("explain {}", asked.operation),
            work => text::visible(&work.as_work().map(|work| work.describe()).unwrap_or_default()),
        };
        let line: String = line.chars().take(40).collect();
        vec![
            self.id.to_string(),
            self.state.as_str().to_owned(),
            self.effect.as_str().to_owned(),
            machines,
            line,
            self.requested_by.clone(),
            format!("{yes}/{}", self.needed),
            age(self.expires),
            self.rule.clone(),
            self.task_id.map(|id| id.to_string()).unwrap_or_default(),
            self.job_id.map(|id| id.to_string()).unwrap_or_default(),
        ]
    }
}

impl Approvals {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let client = connect(global)?;
        match self.action.unwrap_or(Action::List(List { state: None, task: None, all: false })) {
            Action::List(list) => {
                let state = (!list.all).then(|| list.state.unwrap_or(State::Pending).to_api());
                let approvals = collect(None, |paging| {
                    let client = client.clone();
                    async move { client.approvals(state, list.task, &paging).await }
                })
                .await?;
                print_list(global.output, &approvals)?;
            }
            Action::Show { id } => show(global, &client.approval(id).await?)?,
            Action::Approve(approve) => approve.perform(global, &client).await?,
            Action::Reject { id, reason } => {
                // A no needs no second look: it starts nothing.
                let digest = client.approval(id).await?.digest;
                let decide = Decide { digest, password: None, reason };
                client.reject(id, &decide).await?;
                note(&format!("said no to {id}; it will not run"));
            }
            Action::Withdraw { id, reason } => {
                client.withdraw(id, &reason).await?;
                note(&format!("withdrew {id}; it will not run"));
            }
        }
        Ok(exit::OK)
    }
}

impl Approve {
    async fn perform(self, global: &Global, client: &Client) -> Result<(), Failure> {
        let approval = client.approval(self.id).await?;
        let digest = match self.digest {
            Some(digest) => digest,
            None if can_ask() => {
                // What is asked about goes to stderr: stdout is for the answer.
                let screen = Screen::stderr(global.color);
                note_lines(&describe(screen, &approval));
                if !confirm("Say yes to exactly this?")? {
                    return Err(Failure::new("not approved; nothing was decided"));
                }
                approval.digest.clone()
            }
            None => {
                return Err(Failure::usage(
                    "without a terminal say what you looked at: 'reeve approvals show ID' has the digest; give --digest",
                ));
            }
        };
        let password = match &self.password_file {
            Some(path) => Some(read_secret(path, "password")?),
            None if approval.step_up && can_ask() => {
                Some(ask_secret("Your password again:", false)?)
            }
            None => None,
        };
        let decide = Decide { digest, password, reason: self.reason };
        let approval = client.approve(self.id, &decide).await?;
        let yes = approval.decisions.iter().filter(|decision| decision.approved).count();
        match (approval.state, approval.job_id) {
            (_, Some(job)) => note(&format!("approved; it runs: reeve jobs attach {job}")),
            (ApprovalState::Pending, None) => {
                note(&format!("said yes, {yes} of {}; it waits for more", approval.needed));
            }
            _ => note("approved"),
        }
        if !matches!(global.output, Format::Table | Format::Wide) {
            print_one(global.output, &approval, &approval.id.to_string(), &[])?;
        }
        Ok(())
    }
}

fn note_lines(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
}

fn show(global: &Global, approval: &Approval) -> Result<(), Failure> {
    match global.output {
        Format::Table | Format::Wide => print(&describe(Screen::stdout(global.color), approval)),
        format => print_one(format, approval, &approval.id.to_string(), &[]),
    }
}

/// Everything a yes is bound to, and what was said so far.
fn describe(screen: Screen, approval: &Approval) -> String {
    let mut text = text::approval(screen, approval);
    let mut line = |name: &str, value: String| {
        text.push_str(&format!("    {name:9} {}\n", escape(&value)));
    };
    if let OperationRequest::ExecuteCommand(command) = &approval.operation
        && let Some(timeout) = command.timeout_ms
    {
        line("timeout", format!("{timeout} ms"));
    }
    line("asked by", approval.requested_by.clone());
    line("state", approval.state.as_str().to_owned());
    for decision in &approval.decisions {
        let word = if decision.approved { "yes" } else { "no" };
        let why = if decision.reason.is_empty() { "" } else { ": " };
        line(word, format!("{}, {}{why}{}", decision.by, age(decision.at), decision.reason));
    }
    if approval.step_up {
        line("password", "wanted again".to_owned());
    }
    if let Some(job) = approval.job_id {
        line("job", job.to_string());
    }
    text
}

/// What needs whose yes: the [[policy]] of the coordinator's settings.
#[derive(Args)]
pub struct Policy {
    #[command(subcommand)]
    action: Option<PolicyAction>,
}

#[derive(Subcommand)]
enum PolicyAction {
    /// Show the rules
    Show,
}

impl Row for PolicyRuleView {
    const COLUMNS: &'static [Column] = &[
        column("MATCH"),
        column("READ"),
        column("CHANGE"),
        column("DESTROY"),
        column("ABOUT"),
        wide("OTHERS"),
        wide("PASSWORD"),
    ];

    fn name(&self) -> String {
        self.selector.clone()
    }

    fn cells(&self) -> Vec<String> {
        let word = |verdict: &Option<String>| verdict.clone().unwrap_or_else(|| "-".to_owned());
        let flag = |flag: Option<bool>| match flag {
            Some(true) => "yes".to_owned(),
            Some(false) => "no".to_owned(),
            None => "-".to_owned(),
        };
        vec![
            self.selector.clone(),
            word(&self.read),
            word(&self.change),
            word(&self.destroy),
            self.applies_to.join(","),
            flag(self.other_than_requester),
            flag(self.step_up),
        ]
    }
}

impl Policy {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let PolicyAction::Show = self.action.unwrap_or(PolicyAction::Show);
        let policy = connect(global)?.policy().await?;
        print_list(global.output, &policy.rules)?;
        note(
            "where no rule says anything: steps of tasks that change or destroy need one yes, direct commands run",
        );
        Ok(exit::OK)
    }
}
