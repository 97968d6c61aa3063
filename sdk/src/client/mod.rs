//! The client: one method per route, grouped as the routes are.

mod approvals;
mod builder;
mod call;
mod coordinator;
mod jobs;
mod machines;
mod people;
mod sessions;
mod tasks;
mod uploads;
mod vault;
mod work;

use std::sync::Arc;

use reeve_protocol::token::Pin;
use reqwest::header::HeaderValue;
use url::Url;

pub use builder::Builder;
pub(crate) use call::Call;
pub use jobs::command;
pub use sessions::RecordingStream;
pub use work::Answered;

use crate::RetryLimits;

/// A client of one coordinator. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    /// Without a trailing slash in its path.
    base: Url,
    /// As sent; marked sensitive. `None` for the public routes.
    authorization: Option<HeaderValue>,
    /// For naming it in errors.
    pin: Option<Pin>,
    retry: RetryLimits,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.inner.base.as_str()).finish_non_exhaustive()
    }
}

impl Client {
    /// Starts the description of a client. The address is `https://host:port`; plain `http` only
    /// to this machine itself.
    #[must_use]
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    /// The coordinator's address.
    #[must_use]
    pub fn url(&self) -> &str {
        self.inner.base.as_str().trim_end_matches('/')
    }

    pub(crate) fn retry_limits(&self) -> RetryLimits {
        self.inner.retry
    }
}

/// Which page of a list.
#[derive(Clone, Debug, Default)]
pub struct Paging {
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// Items of one page; 100 when left out, at most 1,000.
    pub limit: Option<u32>,
}
