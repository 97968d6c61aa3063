//! The coordinator about itself, and its audit log.

use reqwest::Method;

use super::{Client, Paging};
use crate::Error;
use crate::api::{AuditEntry, AuditVerdict, Info, Page, Status};

impl Client {
    /// What anybody may know: release, id, whether it waits for its first user.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn info(&self) -> Result<Info, Error> {
        self.get(&["api", "info"]).fetch().await
    }

    /// How it is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn status(&self) -> Result<Status, Error> {
        self.get(&["api", "status"]).fetch().await
    }

    /// Whether it takes new work; the error says why not.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ready(&self) -> Result<(), Error> {
        self.call(Method::GET, &["readyz"]).attempt().await.map(drop)
    }

    /// The coordinator's clock, from the `Date` of its answer: seconds since 1970.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn clock(&self) -> Result<Option<i64>, Error> {
        let response = self.get(&["api", "info"]).send().await?;
        let date = response.headers().get("date").and_then(|date| date.to_str().ok());
        Ok(date
            .and_then(|date| jiff::fmt::rfc2822::parse(date).ok())
            .map(|at| at.timestamp().as_second()))
    }

    /// What was done, newest first, narrowed by action (`job.create`) or principal (`user:ada`).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn audit(
        &self,
        action: Option<&str>,
        principal: Option<&str>,
        paging: &Paging,
    ) -> Result<Page<AuditEntry>, Error> {
        self.get(&["api", "audit"])
            .query("action", action)
            .query("principal", principal)
            .page(paging)
            .fetch()
            .await
    }

    /// Checks the audit chain.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn verify_audit(&self) -> Result<AuditVerdict, Error> {
        self.get(&["api", "audit", "verify"]).fetch().await
    }
}
