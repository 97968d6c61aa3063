//! Tasks: requests in words.

use reeve_protocol::TaskId;
use uuid::Uuid;

use super::{Client, Paging};
use crate::api::{
    CancelRequest, ModelCall, Page, Task, TaskAnswer, TaskDecision, TaskRequest, TaskState,
};
use crate::{Error, TaskEvents};

impl Client {
    /// Asks for something in words. Sent again after a lost answer it is still one task.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_task(&self, request: &TaskRequest) -> Result<Task, Error> {
        let key = Uuid::now_v7().to_string();
        self.post(&["api", "tasks"]).json(request)?.idempotency_key(key).fetch().await
    }

    /// Tasks, newest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tasks(
        &self,
        state: Option<TaskState>,
        paging: &Paging,
    ) -> Result<Page<Task>, Error> {
        let state = state.map(TaskState::as_str);
        self.get(&["api", "tasks"]).query("state", state).page(paging).fetch().await
    }

    /// A task.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn task(&self, id: TaskId) -> Result<Task, Error> {
        self.get(&["api", "tasks", &id.to_string()]).fetch().await
    }

    /// What happens to a task behind the event `after` (0: from its beginning), until it has ended
    /// or waits for an answer.
    #[must_use]
    pub fn task_events(&self, id: TaskId, after: u64) -> TaskEvents {
        TaskEvents::new(self.get(&["api", "tasks", &id.to_string(), "events"]), after)
    }

    /// Says yes to approvals a task waits for.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn approve_task(&self, id: TaskId, decision: &TaskDecision) -> Result<Task, Error> {
        let path = ["api", "tasks", &id.to_string(), "approve"];
        self.post(&path).json(decision)?.fetch().await
    }

    /// Says no to approvals a task waits for.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn reject_task(&self, id: TaskId, decision: &TaskDecision) -> Result<Task, Error> {
        let path = ["api", "tasks", &id.to_string(), "reject"];
        self.post(&path).json(decision)?.fetch().await
    }

    /// Ends a task with everything of it that runs.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cancel_task(&self, id: TaskId, reason: &str) -> Result<Task, Error> {
        let path = ["api", "tasks", &id.to_string(), "cancel"];
        let request = CancelRequest { reason: reason.to_owned() };
        self.post(&path).json(&request)?.fetch().await
    }

    /// Answers what a task asks.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn answer_task(&self, id: TaskId, answer: &str) -> Result<Task, Error> {
        let path = ["api", "tasks", &id.to_string(), "answer"];
        let request = TaskAnswer { answer: answer.to_owned() };
        self.post(&path).json(&request)?.fetch().await
    }

    /// What models were asked for a task, and what they answered; for its asker and for admins.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn task_calls(&self, id: TaskId) -> Result<Vec<ModelCall>, Error> {
        self.get(&["api", "tasks", &id.to_string(), "calls"]).fetch().await
    }
}
