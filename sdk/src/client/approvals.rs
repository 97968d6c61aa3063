//! Approvals, and the policy that asks for them.

use reeve_protocol::{ApprovalId, TaskId};

use super::{Client, Paging};
use crate::Error;
use crate::api::{Approval, ApprovalState, Decide, Page, PolicyView, Withdraw};

impl Client {
    /// Approvals, newest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn approvals(
        &self,
        state: Option<ApprovalState>,
        task: Option<TaskId>,
        paging: &Paging,
    ) -> Result<Page<Approval>, Error> {
        self.get(&["api", "approvals"])
            .query("state", state.map(ApprovalState::as_str))
            .query("task", task)
            .page(paging)
            .fetch()
            .await
    }

    /// One approval.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn approval(&self, id: ApprovalId) -> Result<Approval, Error> {
        self.get(&["api", "approvals", &id.to_string()]).fetch().await
    }

    /// Says yes, to exactly what has this digest.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn approve(&self, id: ApprovalId, decide: &Decide) -> Result<Approval, Error> {
        self.post(&["api", "approvals", &id.to_string(), "approve"]).json(decide)?.fetch().await
    }

    /// Says no.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn reject(&self, id: ApprovalId, decide: &Decide) -> Result<Approval, Error> {
        self.post(&["api", "approvals", &id.to_string(), "reject"]).json(decide)?.fetch().await
    }

    /// Takes back what one has asked for.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn withdraw(&self, id: ApprovalId, reason: &str) -> Result<Approval, Error> {
        let request = Withdraw { reason: reason.to_owned() };
        self.post(&["api", "approvals", &id.to_string(), "withdraw"])
            .json(&request)?
            .repeatable()
            .fetch()
            .await
    }

    /// What needs whose yes.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn policy(&self) -> Result<PolicyView, Error> {
        self.get(&["api", "policy"]).fetch().await
    }
}
