//! Machines and the tokens they join with.

use reeve_protocol::EnrolmentTokenId;
use reqwest::Method;

use super::{Client, Paging};
use crate::Error;
use crate::api::{
    EnrolmentToken, EnrolmentTokenCreated, History, Machine, MachineChange, MachineState,
    NewEnrolmentToken, Page, Time,
};

impl Client {
    /// Machines, narrowed by selector and state.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn machines(
        &self,
        selector: Option<&str>,
        state: Option<MachineState>,
        paging: &Paging,
    ) -> Result<Page<Machine>, Error> {
        let state = state.map(|state| match state {
            MachineState::Online => "online",
            MachineState::Offline => "offline",
            MachineState::Quarantined => "quarantined",
            MachineState::Revoked => "revoked",
        });
        self.get(&["api", "machines"])
            .query("selector", selector)
            .query("state", state)
            .page(paging)
            .fetch()
            .await
    }

    /// One machine, by name or id.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn machine(&self, machine: &str) -> Result<Machine, Error> {
        self.get(&["api", "machines", machine]).fetch().await
    }

    /// What a machine did in the last `seconds`, of some series (`cpu,memory`) or all.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn machine_history(
        &self,
        machine: &str,
        seconds: i64,
        series: Option<&str>,
    ) -> Result<History, Error> {
        let now = jiff::Timestamp::now().as_microsecond();
        let from = Time::from_micros(now.saturating_sub(seconds.saturating_mul(1_000_000)));
        let from = from.to_string();
        self.get(&["api", "machines", machine, "metrics"])
            .query("from", Some(from.as_str()))
            .query("series", series)
            .fetch()
            .await
    }

    /// Changes name, labels or quarantine.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn change_machine(
        &self,
        machine: &str,
        change: &MachineChange,
    ) -> Result<Machine, Error> {
        self.call(Method::PATCH, &["api", "machines", machine]).json(change)?.fetch().await
    }

    /// Closes its session and never lets it in again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn revoke_machine(&self, machine: &str) -> Result<(), Error> {
        self.post(&["api", "machines", machine, "revoke"]).repeatable().send().await.map(drop)
    }

    /// Revokes it and removes it from the list.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_machine(&self, machine: &str) -> Result<(), Error> {
        self.call(Method::DELETE, &["api", "machines", machine]).send().await.map(drop)
    }

    /// Makes a join token. Its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_enrolment_token(
        &self,
        token: &NewEnrolmentToken,
    ) -> Result<EnrolmentTokenCreated, Error> {
        self.post(&["api", "enrolment-tokens"]).json(token)?.fetch().await
    }

    /// Join tokens.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn enrolment_tokens(&self, paging: &Paging) -> Result<Page<EnrolmentToken>, Error> {
        self.get(&["api", "enrolment-tokens"]).page(paging).fetch().await
    }

    /// Ends a join token.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn revoke_enrolment_token(&self, id: EnrolmentTokenId) -> Result<(), Error> {
        let id = id.to_string();
        self.call(Method::DELETE, &["api", "enrolment-tokens", &id]).send().await.map(drop)
    }
}
