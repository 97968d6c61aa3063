//! What can go wrong, with stable codes and a line for people.

use std::fmt;
use std::time::Duration;

use crate::CallRecord;

/// What kind of trouble. The word is stable: it is in records and in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Nobody there: no address, no connection, no TLS.
    Unreachable,
    /// There, but silent: no first byte, or nothing between two events.
    Timeout,
    /// The whole time for the question is over.
    Deadline,
    /// Too many requests, or overloaded.
    Busy,
    /// Its own error: 5xx, or an error event in the stream.
    Failing,
    /// What came is not what its wire says: cut, garbage, too much.
    Broken,
    /// The key is missing, wrong, or may not do this.
    Key,
    /// The key is in the vault, and the vault is sealed.
    VaultSealed,
    /// Money or allowance at the provider is used up.
    Quota,
    /// The prompt does not fit the model. Make it smaller and ask once more.
    ContextTooLong,
    /// It does not know this model, or nothing is at this address.
    Unknown,
    /// It does not take the request.
    Request,
    /// The model, or its provider, declined to answer.
    Refused,
    /// The reply is not the schema.
    Schema,
    /// The reply hit the limit of output tokens.
    Truncated,
    /// Our own budget is reached.
    BudgetReached,
    /// It failed too often just now and is left alone for a while.
    Paused,
    /// The settings are not usable.
    Settings,
}

impl ErrorCode {
    /// The stable word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "model_unreachable",
            Self::Timeout => "model_timeout",
            Self::Deadline => "model_deadline",
            Self::Busy => "model_busy",
            Self::Failing => "model_failing",
            Self::Broken => "model_broken",
            Self::Key => "model_key",
            Self::VaultSealed => "vault_sealed",
            Self::Quota => "quota",
            Self::ContextTooLong => "context_too_long",
            Self::Unknown => "model_unknown",
            Self::Request => "model_request",
            Self::Refused => "model_refused",
            Self::Schema => "model_schema",
            Self::Truncated => "model_truncated",
            Self::BudgetReached => "budget_reached",
            Self::Paused => "model_paused",
            Self::Settings => "model_settings",
        }
    }

    /// Whether another model may do better. The rest is about the question, the time or the
    /// budget, and is told to whoever asks.
    #[must_use]
    pub fn tries_next_model(self) -> bool {
        !matches!(
            self,
            Self::Deadline
                | Self::ContextTooLong
                | Self::Refused
                | Self::Schema
                | Self::Truncated
                | Self::BudgetReached
        )
    }

    /// Whether it says that the provider is unwell.
    pub(crate) fn counts_for_the_breaker(self) -> bool {
        matches!(self, Self::Unreachable | Self::Timeout | Self::Failing | Self::Broken)
    }

    /// Of several entries that all failed, the one a person can mend is told first.
    pub(crate) fn weight(self) -> u8 {
        match self {
            Self::VaultSealed => 6,
            Self::Key => 5,
            Self::Quota => 4,
            Self::Settings | Self::Unknown => 3,
            Self::Request => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a request has to be without, because the provider said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adjustment {
    /// The other name of the limit of output tokens.
    OtherMaxTokensName,
    /// No temperature.
    NoTemperature,
    /// No `stream_options`.
    NoStreamOptions,
    /// The next weaker way to ask for a schema.
    WeakerSchema,
}

/// One failed call, or the reason why none was made.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// What kind.
    pub code: ErrorCode,
    /// One line: who, what, and how to mend it. Never holds a secret.
    pub message: String,
    /// The status of the HTTP reply, if there was one.
    pub http_status: Option<u16>,
    /// What the provider asked to wait.
    pub retry_after: Option<Duration>,
    /// A further try at the same provider makes sense.
    pub(crate) again: bool,
    /// A request made otherwise could be taken.
    pub(crate) adjustment: Option<Adjustment>,
}

impl ModelError {
    /// An error that no further try mends.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            http_status: None,
            retry_after: None,
            again: false,
            adjustment: None,
        }
    }

    pub(crate) fn again(mut self) -> Self {
        self.again = true;
        self
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.http_status = Some(status);
        self
    }

    pub(crate) fn broken(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Broken, message).again()
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AskError {
    /// The list's turn came to `builtin`: the caller answers from runbooks and rules.
    #[error("no model answers here; runbooks do")]
    Builtin {
        /// The calls made before, all failed.
        calls: Vec<CallRecord>,
        /// Why each entry before `builtin` did not answer, in order.
        tried: Vec<ModelError>,
    },
    /// Nobody answered.
    #[error("{message}")]
    Failed {
        /// What kind of trouble: of the entries tried, the one a person can mend first.
        code: ErrorCode,
        /// One line that names each entry and its trouble.
        message: String,
        /// All calls made.
        calls: Vec<CallRecord>,
        /// Why each entry did not answer, in order.
        tried: Vec<ModelError>,
        /// What the model said, where it answered but not with the schema or not to its end.
        text: Option<String>,
    },
}

impl AskError {
    /// The calls made, to be recorded.
    #[must_use]
    pub fn calls(&self) -> &[CallRecord] {
        match self {
            Self::Builtin { calls, .. } | Self::Failed { calls, .. } => calls,
        }
    }

    /// The stable word; `builtin` for [`AskError::Builtin`].
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Builtin { .. } => "builtin",
            Self::Failed { code, .. } => code.as_str(),
        }
    }
}
