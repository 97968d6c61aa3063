//! The only way to start a task: named, and waited for at the end.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Tasks that end together.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    token: CancellationToken,
}

impl Tasks {
    /// No tasks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tasks that end when these do, or earlier.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { tracker: TaskTracker::new(), token: self.token.child_token() }
    }

    /// Cancelled when the tasks are to end.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Runs a future until it is done or the tasks are to end.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let token = self.token.clone();
        let span = tracing::info_span!("task", name);
        #[allow(clippy::disallowed_methods, reason = "this is the tracked way")]
        tokio::spawn(
            self.tracker.track_future(
                async move {
                    tokio::select! {
                        () = token.cancelled() => {}
                        () = future => {}
                    }
                }
                .instrument(span),
            ),
        );
    }

    /// Ends them and waits, at most `limit`. Whether all ended.
    pub async fn close_and_wait(&self, limit: Duration) -> bool {
        self.token.cancel();
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }
}
