//! Asking for a yes, and giving it.

use reeve_sdk::Client;
use reeve_sdk::api::{Approval, ApprovalChoice, Task, TaskDecision};

use super::text;
use crate::failure::Failure;
use crate::terminal::{Screen, ask, ask_secret, can_ask, note};

/// What somebody said.
pub enum Answer {
    Yes,
    No,
    /// Somebody else may decide.
    Later,
}

/// Shows what a yes would be bound to, and asks.
pub fn ask_about(screen: Screen, approval: &Approval) -> Result<Answer, Failure> {
    crate::output::print(&text::approval(screen, approval))?;
    loop {
        let answer = ask("Say yes to exactly this? [y]es, [n]o, [l]ater: ")?;
        match answer.to_ascii_lowercase().as_str() {
            "y" | "yes" => return Ok(Answer::Yes),
            "n" | "no" => return Ok(Answer::No),
            "l" | "later" => return Ok(Answer::Later),
            _ => {}
        }
    }
}

/// Says yes or no, with the password where the rule wants it.
pub async fn decide(
    client: &Client,
    task: &Task,
    approval: &Approval,
    yes: bool,
) -> Result<(), Failure> {
    decide_all(client, task, std::slice::from_ref(approval), yes, "", None).await
}

/// Says yes or no to several at once.
pub async fn decide_all(
    client: &Client,
    task: &Task,
    approvals: &[Approval],
    yes: bool,
    reason: &str,
    password: Option<String>,
) -> Result<(), Failure> {
    let password = match password {
        None if yes && approvals.iter().any(|approval| approval.step_up) => {
            if !can_ask() {
                return Err(Failure::usage(
                    "the rule wants your password again, and there is no terminal to ask for it; give --password-file",
                ));
            }
            Some(ask_secret("Your password, because this destroys:", false)?)
        }
        given => given,
    };
    let decision = TaskDecision {
        approvals: approvals
            .iter()
            .map(|approval| ApprovalChoice { id: approval.id, digest: approval.digest.clone() })
            .collect(),
        password,
        reason: reason.to_owned(),
    };
    if yes {
        client.approve_task(task.id, &decision).await?;
    } else {
        client.reject_task(task.id, &decision).await?;
    }
    let count = approvals.len();
    let word = if yes { "yes" } else { "no" };
    note(&format!("said {word} to {count} step{}", if count == 1 { "" } else { "s" }));
    Ok(())
}
