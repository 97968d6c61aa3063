//! What people decide about a task: cancel it, say yes or no to what it waits for, answer it.

use http::StatusCode;
use reeve_protocol::TaskId;
use reeve_sdk::api::{Decide, Task, TaskAnswer, TaskDecision, TaskEvent, TaskEventKind, TaskState};

use super::ask::{MAX_PROMPT, refer};
use super::record::{TaskRow, reason};
use super::{Assistant, Halt, store};
use crate::audit;
use crate::events::TaskNews;
use crate::problem::ApiError;
use crate::users::Principal;

/// The longest reason for the record, characters.
const MAX_REASON: usize = 512;

/// Answers one task may get: each can cost another plan.
const MAX_ANSWERS: usize = 20;

impl Assistant {
    /// Ends a task: its jobs are cancelled, what it waits for is withdrawn.
    ///
    /// # Errors
    /// 403, 404, 409 when it has ended.
    pub(super) async fn cancel(
        &self,
        principal: &Principal,
        id: TaskId,
        why: &str,
    ) -> Result<Task, ApiError> {
        let row = self.find(principal, id).await?;
        if row.state.is_terminal() {
            return Err(ended(&row));
        }
        let why: String = why.replace('\0', "").chars().take(MAX_REASON).collect();
        let mut tx = self.0.db.begin().await?;
        if !store::request_cancel(&mut tx, id, &principal.name, &why).await? {
            return Err(ended(&row));
        }
        record(&mut tx, principal, "task.cancel", id, serde_json::json!({ "reason": why })).await?;
        tx.commit().await?;
        self.end(id).await?;
        self.describe(id).await
    }

    /// Ends a cancelled task: by its runner, or here when it has none because it waits for an
    /// answer or for its turn.
    async fn end(&self, id: TaskId) -> Result<(), ApiError> {
        let _idle = self.0.idle.lock().await;
        let live = self.live().get(&id).cloned();
        if let Some(live) = live {
            live.halt(Halt::Cancelled);
        }
        let mut row = self.load(id).await?.task;
        let waits = matches!(row.state, TaskState::NeedsAnswer | TaskState::Pending);
        if self.live().contains_key(&id) || !waits {
            // Whoever takes it up next sees that it was cancelled.
            self.0.wake.notify_one();
            return Ok(());
        }
        let (by, why) = row.cancelled.clone().unwrap_or_default();
        row.state = TaskState::Cancelled;
        row.finished_us = Some(self.0.clock.micros());
        row.reason = Some(reason("cancelled", super::runner::cancelled_text(&by, &why)));
        row.question = None;
        let what = TaskEventKind::State { state: row.state, reason: row.reason.clone() };
        self.write_state(row, what, None).await
    }

    /// Writes a state that no runner decides, with its event.
    async fn write_state(
        &self,
        mut row: TaskRow,
        what: TaskEventKind,
        audited: Option<(&Principal, &str, serde_json::Value)>,
    ) -> Result<(), ApiError> {
        row.last_event += 1;
        let event =
            TaskEvent { task_id: row.id, sequence: row.last_event, at: self.0.clock.now(), what };
        let mut tx = self.0.db.begin().await?;
        store::update_task(&mut tx, &row).await?;
        store::insert_event(&mut tx, &event).await?;
        if let Some((principal, action, detail)) = audited {
            record(&mut tx, principal, action, row.id, detail).await?;
        }
        tx.commit().await?;
        self.0.hub.tell_task(TaskNews {
            event: std::sync::Arc::new(event),
            asker: row.asker.name.as_str().into(),
            machines: row.machines.iter().map(|machine| machine.id).collect(),
        });
        Ok(())
    }

    /// Says yes or no to what a task waits for; each approval is decided, and audited, by itself.
    ///
    /// # Errors
    /// 404 when one of them is not the task's; 422 when none is named; as `Approvals::decide`.
    pub(super) async fn decide(
        &self,
        principal: &Principal,
        id: TaskId,
        yes: bool,
        decision: TaskDecision,
    ) -> Result<Task, ApiError> {
        self.find(principal, id).await?;
        if decision.approvals.is_empty() {
            return Err(ApiError::invalid(
                "name the approvals that are meant, each with the digest that was shown",
            ));
        }
        for choice in &decision.approvals {
            let approval = self.0.approvals.load(choice.id).await?;
            if approval.task_id != Some(id) {
                return Err(ApiError::new(
                    StatusCode::NOT_FOUND,
                    "approval_not_found",
                    format!("task {id} waits for no approval {}", choice.id),
                ));
            }
        }
        for choice in decision.approvals {
            let decide = Decide {
                digest: choice.digest,
                password: decision.password.clone(),
                reason: decision.reason.clone(),
            };
            self.0.approvals.decide(principal, choice.id, yes, decide).await?;
        }
        self.describe(id).await
    }

    /// Answers a task that asked something. Only its asker may: what is answered is planned for
    /// with the asker's rights.
    ///
    /// # Errors
    /// 403, 404, 409 when it asks nothing, 422 when the answer is empty or too long.
    pub(super) async fn answer(
        &self,
        principal: &Principal,
        id: TaskId,
        answer: TaskAnswer,
    ) -> Result<Task, ApiError> {
        let _idle = self.0.idle.lock().await;
        let mut row = self.find(principal, id).await?;
        if row.asker.name != principal.name {
            return Err(ApiError::forbidden(format!(
                "only {} can answer this task: what follows is done with their rights",
                row.asker.name
            )));
        }
        if row.state != TaskState::NeedsAnswer || row.cancelled.is_some() {
            return Err(ApiError::new(
                StatusCode::CONFLICT,
                "no_question",
                format!("the task is {} and asks nothing", row.state.as_str()),
            ));
        }
        let words = answer.answer.replace('\0', "");
        if words.trim().is_empty() || words.len() > MAX_PROMPT {
            return Err(ApiError::invalid(format!(
                "an answer has 1 to {MAX_PROMPT} bytes; it is added to the request"
            )));
        }
        if row.answers.len() >= MAX_ANSWERS {
            return Err(ApiError::invalid(format!(
                "a task is answered at most {MAX_ANSWERS} times; ask anew"
            )));
        }
        if row.machines.is_empty() {
            row.machines = match self.name_machines(principal, &words) {
                Ok(found) => refer(&found),
                Err(_) => {
                    return Err(ApiError::new(
                        StatusCode::UNPROCESSABLE_ENTITY,
                        "no_machine",
                        "the answer names no machine that exists for you; 'reeve machines list' shows them all",
                    ));
                }
            };
            if row.machines.len() > self.0.settings.max_machines as usize {
                return Err(ApiError::invalid(format!(
                    "these are {} machines and a task may have {}",
                    row.machines.len(),
                    self.0.settings.max_machines
                )));
            }
        }
        let detail = serde_json::json!({ "answer": words });
        row.answers.push(words);
        (row.state, row.reason, row.question) = (TaskState::Pending, None, None);
        let what = TaskEventKind::State { state: TaskState::Pending, reason: None };
        self.write_state(row, what, Some((principal, "task.answer", detail))).await?;
        self.0.wake.notify_one();
        self.describe(id).await
    }
}

async fn record(
    tx: &mut crate::db::Tx,
    principal: &Principal,
    action: &str,
    id: TaskId,
    detail: serde_json::Value,
) -> Result<(), crate::db::DbError> {
    let target = format!("task:{id}");
    let entry = audit::Entry { principal: &principal.name, action, target: &target, detail };
    audit::record(tx, &entry).await
}

fn ended(row: &TaskRow) -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        "task_ended",
        format!("the task is {} already", row.state.as_str()),
    )
}
