//! What can go wrong between a program and its coordinator. Every message says what, why, and what
//! to do about it, on one line.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use reeve_protocol::JobId;
use reeve_protocol::token::Pin;

use crate::api::Problem;
use crate::tls::PinMismatch;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The coordinator answered with an error.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>, Option<Duration>),
    /// No connection came about, or it broke before the answer was there.
    #[error(
        "cannot reach the coordinator at {url}: {why}; check that it runs and that the address is right"
    )]
    Connect {
        /// What was dialled.
        url: String,
        /// In words.
        why: String,
        /// Whether trying again may help, as it does not with a name that does not exist.
        transient: bool,
        /// Whether the request may have reached the coordinator.
        sent: bool,
        /// The whole story.
        #[source]
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
    /// Somebody answered who does not have the pinned key. Nothing was sent.
    #[error(
        "the coordinator at {url} does not hold the pinned certificate authority {expected}, so nothing was sent; if it was set up anew, log in again with its new pin, else somebody is in between"
    )]
    Pin {
        /// What was dialled.
        url: String,
        /// Who should have answered.
        expected: Pin,
    },
    /// The certificate is not trusted, or the handshake failed. Nothing was sent.
    #[error(
        "no trusted connection to {url}: {why}, so nothing was sent; give its CA pin or its CA certificate"
    )]
    Tls {
        /// What was dialled.
        url: String,
        /// In words.
        why: String,
    },
    /// The other end does not speak this API.
    #[error("{what}; is this a Reeve coordinator of a fitting version?")]
    Protocol {
        /// What was not understood.
        what: String,
    },
    /// A stream could not be resumed in time. What runs goes on.
    #[error("no contact with the coordinator for {} s, giving up; what runs on machines goes on: {last}", .after.as_secs())]
    LostContact {
        /// For how long.
        after: Duration,
        /// The last attempt's error.
        #[source]
        last: Box<Error>,
    },
    /// A stream of what is relayed broke. The coordinator has the operations cancelled; whoever
    /// wants the rest asks for it anew, from where this got to.
    #[error("the connection broke while output was relayed, so the rest of it is lost: {last}")]
    RelayBroken {
        /// The job, if it was heard of.
        job: Option<JobId>,
        /// What happened.
        #[source]
        last: Box<Error>,
    },
    /// The client was set up wrongly.
    #[error("{0}")]
    Setup(String),
    /// What was to be sent could not be read.
    #[error("cannot read what is to be sent: {0}")]
    Input(#[source] io::Error),
}

impl Error {
    /// The stable code of the coordinator's answer.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.problem().map(|problem| problem.code.as_str())
    }

    /// The coordinator's answer, when it was one.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem, _) => Some(problem),
            Self::LostContact { last, .. } => last.problem(),
            _ => None,
        }
    }

    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol { what: what.into() }
    }

    /// Whether what was relayed broke off: ask anew, from where it got to.
    #[must_use]
    pub fn is_relay_broken(&self) -> bool {
        matches!(self, Self::RelayBroken { .. })
    }

    /// Whether the same request may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Problem(problem, _) => {
                matches!(problem.status, 429 | 502 | 503 | 504)
                    || problem.code == "idempotency_in_progress"
            }
            Self::Connect { transient, .. } => *transient,
            _ => false,
        }
    }

    /// Whether the coordinator certainly did nothing, so that even what is not idempotent may be
    /// sent again.
    pub(crate) fn is_unsent(&self) -> bool {
        match self {
            Self::Problem(problem, _) => matches!(problem.status, 429 | 503),
            Self::Connect { sent, .. } => !sent,
            _ => false,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Problem(_, after) => *after,
            _ => None,
        }
    }

    /// Sorts a failed exchange into its kind.
    pub(crate) fn from_transport(url: &str, pin: Option<Pin>, error: reqwest::Error) -> Self {
        let connecting = error.is_connect();
        let mut io_kind = None;
        let mut tls = None;
        let mut deepest = String::new();
        let mut next: Option<&(dyn StdError + 'static)> = Some(&error);
        while let Some(cause) = next {
            deepest = cause.to_string();
            let mut inner = cause;
            // `io::Error::source` skips the error it wraps.
            while let Some(wrapped) = inner.downcast_ref::<io::Error>() {
                io_kind = Some(wrapped.kind());
                match wrapped.get_ref() {
                    Some(within) => {
                        inner = within;
                        deepest = inner.to_string();
                    }
                    None => break,
                }
            }
            if let Some(found) = inner.downcast_ref::<rustls::Error>() {
                if let rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) =
                    found
                    && other.0.downcast_ref::<PinMismatch>().is_some()
                    && let Some(expected) = pin
                {
                    return Self::Pin { url: url.to_owned(), expected };
                }
                tls = Some(found.to_string());
            }
            next = inner.source();
        }
        if let Some(why) = tls {
            return Self::Tls { url: url.to_owned(), why };
        }
        let unknown_name = error_chain_mentions(&error, "dns error");
        let why = match io_kind {
            _ if unknown_name => "its name cannot be resolved".to_owned(),
            Some(io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
            _ if error.is_timeout() => "no answer in time".to_owned(),
            _ => deepest,
        };
        Self::Connect {
            url: url.to_owned(),
            why,
            transient: !unknown_name && !error.is_builder(),
            sent: !connecting,
            source: Some(Box::new(error)),
        }
    }
}

fn error_chain_mentions(error: &dyn StdError, words: &str) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if cause.to_string().contains(words) {
            return true;
        }
        next = cause.source();
    }
    false
}
