//! The end of a task that is told to stop: what runs is cancelled, what waits is withdrawn.

use std::time::Duration;

use reeve_protocol::{ApprovalId, JobId};
use reeve_sdk::api::{SubtaskState, TaskState};
use tokio::time::Instant;

use super::super::Halt;
use super::super::record::{Part, reason};
use super::Runner;
use super::submit::job_key;

/// How long cancelled commands may take to end before the task says that it has ended: they are
/// asked to end, and end without it.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often they are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why a task was cancelled, for people.
pub(in super::super) fn cancelled_text(by: &str, why: &str) -> String {
    if why.is_empty() { format!("cancelled by {by}") } else { format!("cancelled by {by}: {why}") }
}

impl Runner {
    /// Ends everything, then the task.
    pub(super) async fn wind_down(&self, why: Halt) {
        let (state, ended) = match why {
            Halt::Cancelled => {
                let cancelled = self.load_cancelled().await.unwrap_or_default();
                let text = cancelled_text(&cancelled.0, &cancelled.1);
                (TaskState::Cancelled, reason("cancelled", text))
            }
            Halt::Time => (
                TaskState::Failed,
                reason(
                    "time_limit",
                    format!(
                        "it took longer than {} (assistant.time_limit), waiting for a yes not counted",
                        humantime::format_duration(self.assistant.0.settings.time_limit)
                    ),
                ),
            ),
            Halt::Asker(why) => (TaskState::Failed, reason("asker", why)),
        };
        let by = match state {
            TaskState::Cancelled => {
                self.load_cancelled().await.map_or_else(|| "system".to_owned(), |(by, _)| by)
            }
            _ => "system".to_owned(),
        };
        let (jobs, approvals) = self.list_open().await;
        for approval in approvals {
            if let Err(error) = self.assistant.0.approvals.withdraw(approval, &ended.message).await
            {
                tracing::warn!(task = %self.id, ?error, "an approval could not be withdrawn");
            }
        }
        let operations = &self.assistant.0.operations;
        for job in &jobs {
            // One that has ended by itself meanwhile is no trouble.
            if let Err(error) = operations.end_job(*job, &by, &ended.message).await {
                tracing::debug!(task = %self.id, %job, ?error, "a job was not cancelled");
            }
        }
        self.wait_for(&jobs).await;
        let done = self
            .ledger
            .change(|draft| {
                let open: Vec<u32> = draft
                    .record()
                    .steps
                    .iter()
                    .filter(|step| !step.state.is_terminal())
                    .map(|step| step.number)
                    .collect();
                for number in open {
                    if let Some(step) = draft.step(number) {
                        step.state = SubtaskState::Cancelled;
                        step.reason = Some(ended.clone());
                    }
                }
                draft.task().reason = Some(ended);
                draft.task().question = None;
                draft.set_state(state);
            })
            .await;
        if done.is_err() {
            tracing::debug!(task = %self.id, "the coordinator stops before the end is written");
        }
    }

    async fn load_cancelled(&self) -> Option<(String, String)> {
        let mut conn = self.assistant.0.db.reader().await.ok()?;
        super::store::load_task(&mut conn, self.id).await.ok()??.cancelled
    }

    /// Jobs and approvals that are not known to have ended, those included whose job was submitted
    /// and not written down.
    async fn list_open(&self) -> (Vec<JobId>, Vec<ApprovalId>) {
        let (asker, parts) = self
            .ledger
            .read(|record| {
                let of_try = |(step, each): (u32, &super::super::record::Try)| {
                    let number = each.number;
                    each.parts.clone().into_iter().map(move |part| (step, number, part))
                };
                let parts: Vec<(u32, u32, Part)> = record.tries().flat_map(of_try).collect();
                (record.task.asker.name.clone(), parts)
            })
            .await;
        let (mut jobs, mut approvals) = (Vec::new(), Vec::new());
        for (step, number, part) in parts {
            if part.ended || part.refused.is_some() {
                continue;
            }
            if let Some(job) = part.job {
                jobs.push(job);
                continue;
            }
            if let Some(approval) = part.approval {
                approvals.push(approval);
                // Used, and the coordinator ended before the job was written down here.
                match self.assistant.0.approvals.load(approval).await {
                    Ok(approval) => jobs.extend(approval.job_id),
                    Err(error) => tracing::warn!(task = %self.id, ?error, "was not looked up"),
                }
            }
            let key = job_key(self.id, step, number, &part.name);
            match self.assistant.0.operations.find_submitted(&asker, &key).await {
                Ok(found) => jobs.extend(found),
                Err(error) => tracing::warn!(task = %self.id, ?error, "a job was not looked up"),
            }
        }
        (jobs, approvals)
    }

    async fn wait_for(&self, jobs: &[JobId]) {
        let until = Instant::now() + PATIENCE;
        for job in jobs {
            while Instant::now() < until {
                match self.assistant.0.operations.load_page(*job, -1, 1000).await {
                    Ok(rows) if rows.iter().all(|row| row.state.is_terminal()) => break,
                    Ok(_) | Err(_) => {}
                }
                tokio::select! {
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = self.assistant.0.tasks.token().clone().cancelled_owned() => return,
                }
            }
        }
    }
}
