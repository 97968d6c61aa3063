//! Errors that features answer with: one message for the client, the whole chain for the log,
//! joined by the request id. How they look over HTTP is in `http/error.rs`.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use reeve_sdk::api::{ApprovalNeeded, Problem};

use crate::db::DbError;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// An error on its way to a client.
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: String,
    nearest: Vec<String>,
    approval: Option<Box<ApprovalNeeded>>,
    received: Option<Box<u64>>,
    retry_after: Option<Duration>,
    source: Option<Source>,
}

impl ApiError {
    /// `code` is stable and for programs; `detail` tells a person what, why and what to do.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            nearest: Vec::new(),
            approval: None,
            received: None,
            retry_after: None,
            source: None,
        }
    }

    /// 500: our fault. `source` goes to the log only.
    pub fn internal(source: impl Into<Source>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the coordinator failed; its log says why under this request id",
        )
        .source(source)
    }

    /// 403.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 401.
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
    }

    /// Names near the one that was not found.
    #[must_use]
    pub fn nearest(mut self, names: Vec<String>) -> Self {
        self.nearest = names;
        self
    }

    /// What has to be waited for.
    #[must_use]
    pub fn approval(mut self, needed: ApprovalNeeded) -> Self {
        self.approval = Some(Box::new(needed));
        self
    }

    /// Where to go on.
    #[must_use]
    pub fn received(mut self, offset: u64) -> Self {
        self.received = Some(Box::new(offset));
        self
    }

    /// When it makes sense to ask again; rounded up to seconds.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Why, for the log; never shown.
    #[must_use]
    pub fn source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The text for people.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The text for people with the names that are near, for where there is one line only.
    #[must_use]
    pub fn full_detail(&self) -> String {
        match self.nearest.as_slice() {
            [] => self.detail.clone(),
            names => format!("{}; did you mean {}?", self.detail, names.join(" or ")),
        }
    }

    /// 422: what was asked for makes no sense.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", detail)
    }

    /// 503: we are about to stop.
    #[must_use]
    pub fn draining() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining",
            "the coordinator is stopping; nothing was started; try again in a few seconds",
        )
        .retry_after(Duration::from_secs(2))
    }

    /// 503: nothing could be recorded. For an error that several are told of.
    #[must_use]
    pub fn unavailable(error: &DbError) -> Self {
        let (code, what) = match error {
            DbError::DiskFull(_) => ("disk_full", "the coordinator's disk is full"),
            DbError::Busy(_) => ("database_busy", "the coordinator's database is busy"),
            _ => ("database_down", "the coordinator cannot write to its database"),
        };
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            code,
            format!("{what}; nothing was started; try again later"),
        )
        .retry_after(Duration::from_secs(2))
    }

    /// The answer's body, and whatever there is to say to the log, once.
    pub fn into_problem(self, request_id: String) -> Problem {
        self.log(&request_id);
        Problem {
            kind: "about:blank".to_owned(),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code.to_owned(),
            request_id,
            nearest: self.nearest,
            approval: self.approval,
            received: self.received.map(|offset| *offset),
        }
    }

    /// When to ask again.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    fn log(&self, request_id: &str) {
        let Some(source) = &self.source else { return };
        let mut chain = source.to_string();
        let mut next = source.source();
        while let Some(cause) = next {
            chain.push_str(": ");
            chain.push_str(&cause.to_string());
            next = cause.source();
        }
        let (status, code) = (self.status.as_u16(), self.code);
        if self.status.is_server_error() {
            tracing::error!(request_id, status, code, error = chain, "request failed");
        } else {
            tracing::info!(request_id, status, code, error = chain, "request refused");
        }
    }
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.code, self.detail)?;
        self.source.as_ref().map_or(Ok(()), |source| write!(f, " ({source})"))
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        let unavailable =
            |code, detail: &str| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        match &error {
            DbError::Busy(_) => unavailable(
                "database_busy",
                "the database is held by somebody else for too long; try again",
            )
            .retry_after(Duration::from_secs(1)),
            DbError::Lost(_) => unavailable(
                "database_down",
                "the coordinator cannot reach its database; nothing was changed; try again later",
            )
            .retry_after(Duration::from_secs(5)),
            DbError::DiskFull(_) => unavailable(
                "disk_full",
                "the coordinator's database has no space left; nothing was changed; free some space",
            )
            .retry_after(Duration::from_secs(30)),
            _ => return Self::internal(error),
        }
        .source(error)
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        DbError::from(error).into()
    }
}
