//! A command that people have to say yes to first: waiting for them.

use std::time::{Duration, Instant};

use reeve_protocol::JobId;
use reeve_sdk::Client;
use reeve_sdk::api::ApprovalState;

use crate::args::{Format, Global};
use crate::durations::age;
use crate::exit;
use crate::failure::Failure;
use crate::output::{print, print_one};
use crate::terminal::{can_ask, note};

/// How often it is looked whether people have decided.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// With `--detach`: the approval's id, where there is no job yet.
pub fn print_needed(global: &Global, failure: Failure) -> Result<u8, Failure> {
    let Some(needed) = failure.approval() else { return Err(failure) };
    let id = needed.id.to_string();
    match global.output {
        Format::Table | Format::Wide => print(&format!("{id}\n"))?,
        format => print_one(format, needed, &id, &[])?,
    }
    note(&format!("{failure}; it runs once it is approved, until {}", age(needed.expires)));
    Ok(exit::OK)
}

/// The job, once enough people have said yes. A person at a terminal waits; a script says how long
/// with `--wait`.
pub async fn wait_for_job(
    client: &Client,
    failure: Failure,
    wait: Option<Duration>,
) -> Result<JobId, Failure> {
    let Some(needed) = failure.approval() else { return Err(failure) };
    if wait.is_none() && !can_ask() {
        return Err(failure);
    }
    let id = needed.id;
    note(&failure.to_string());
    note(&format!(
        "waiting; it ends {}. Ctrl-C stops waiting alone; to take it back: reeve approvals withdraw {id}",
        age(needed.expires)
    ));
    let deadline = wait.map(|wait| Instant::now() + wait);
    loop {
        let approval = client.approval(id).await?;
        if let Some(job) = approval.job_id {
            note("approved");
            return Ok(job);
        }
        let over = match approval.state {
            ApprovalState::Pending | ApprovalState::Approved | ApprovalState::Used => None,
            ApprovalState::Rejected => {
                let no = approval.decisions.iter().rev().find(|decision| !decision.approved);
                Some(no.map_or_else(
                    || "somebody said no".to_owned(),
                    |no| format!("{} said no{}{}", no.by, colon(&no.reason), no.reason),
                ))
            }
            ApprovalState::Expired => Some("nobody said yes in time".to_owned()),
            ApprovalState::Withdrawn => Some("it was withdrawn".to_owned()),
        };
        if let Some(why) = over {
            return Err(Failure::new(format!("{why}; nothing was run")));
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Failure::new(format!(
                "nobody said yes in time; it still runs once it is approved: reeve approvals show {id}"
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn colon(reason: &str) -> &'static str {
    if reason.is_empty() { "" } else { ": " }
}
