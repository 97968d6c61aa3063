//! Errors that features answer with.

use std::time::Duration;

use http::StatusCode;

pub use crate::http::ApiError;

use crate::db::DbError;

impl ApiError {
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
}
