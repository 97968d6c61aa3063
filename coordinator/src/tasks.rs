//! The only place where tasks are spawned: each has a name and is waited for at the end.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A task that panicked waits so long before it is begun anew: what made it panic may pass.
const BEGIN_ANEW_AFTER: Duration = Duration::from_secs(5);

/// A handle on all tasks of one coordinator; cloning is cheap.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    token: CancellationToken,
    /// Something vital is no more.
    failed: CancellationToken,
    /// How many tasks of each name run. Held for a moment at a time, never over an await.
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

/// Counts a task while it lives, whichever way it ends.
struct Running {
    name: &'static str,
    counts: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Running {
    fn new(name: &'static str, counts: &Arc<Mutex<BTreeMap<&'static str, usize>>>) -> Self {
        *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
        Self { name, counts: Arc::clone(counts) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                counts.remove(self.name);
            }
        }
    }
}

impl Tasks {
    /// No tasks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a future beside everything else. It should watch [`Tasks::token`] if it does not end by
    /// itself. A panic in it is logged and goes to whoever joins it.
    #[allow(clippy::disallowed_methods)]
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let running = Running::new(name, &self.running);
        // Not an async block: that would keep the future twice, once to be moved in and once to be
        // polled, and there are tens of thousands of them.
        self.tracker.spawn(AssertUnwindSafe(future).catch_unwind().map(move |ended| {
            let _running = running;
            ended.unwrap_or_else(|panic| {
                tracing::error!(task = name, "a task panicked");
                resume_unwind(panic)
            })
        }))
    }

    /// Runs what has to go on until everything ends, and can be begun anew: after a panic it is.
    pub fn spawn_lasting<F>(&self, name: &'static str, begin: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.token();
        self.spawn(name, async move {
            while AssertUnwindSafe(begin()).catch_unwind().await.is_err() {
                tracing::error!(task = name, "a task panicked and is begun anew");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(BEGIN_ANEW_AFTER) => {}
                }
            }
        });
    }

    /// Runs what cannot be begun anew and without which nothing works: a panic in it ends the
    /// process, which is started again and finds everything in the database.
    pub fn spawn_vital<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let failed = self.failed.clone();
        self.spawn(
            name,
            AssertUnwindSafe(future).catch_unwind().map(move |ended| {
                ended.unwrap_or_else(|panic| {
                    failed.cancel();
                    resume_unwind(panic)
                })
            }),
        )
    }

    /// Cancelled when something vital has ended by a panic.
    #[must_use]
    pub fn failed(&self) -> CancellationToken {
        self.failed.clone()
    }

    /// Runs blocking work on a thread made for it.
    #[allow(clippy::disallowed_methods)]
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let running = Running::new(name, &self.running);
        self.tracker.spawn_blocking(move || {
            let _running = running;
            work()
        })
    }

    /// Cancelled when everything has to end.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Names of the tasks that run now, with their numbers.
    #[must_use]
    pub fn running(&self) -> BTreeMap<&'static str, usize> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Cancels the token and waits until every task has ended, at most `limit`.
    ///
    /// # Errors
    /// The names of those that still run.
    pub async fn close_and_wait(
        &self,
        limit: Duration,
    ) -> Result<(), BTreeMap<&'static str, usize>> {
        self.token.cancel();
        self.tracker.close();
        match tokio::time::timeout(limit, self.tracker.wait()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.running()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn closing_waits_for_every_task_and_names_the_stubborn() {
        let tasks = Tasks::new();
        let token = tasks.token();
        tasks.spawn("polite", async move { token.cancelled().await });
        let stubborn = tasks.spawn("stubborn", std::future::pending::<()>());
        let left = tasks.close_and_wait(Duration::from_millis(50)).await;
        assert_eq!(left, Err(BTreeMap::from([("stubborn", 1)])));
        stubborn.abort();
        assert_eq!(tasks.close_and_wait(Duration::from_secs(10)).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn lasting_task_that_panics_is_begun_anew_until_everything_ends() {
        let tasks = Tasks::new();
        let (begun, mut seen) = tokio::sync::mpsc::channel(3);
        tasks.spawn_lasting("fragile", move || {
            begun.try_send(()).expect("room");
            async { panic!("on purpose") }
        });
        for _ in 0..3 {
            seen.recv().await.expect("it is begun");
        }
        assert_eq!(tasks.close_and_wait(Duration::from_secs(10)).await, Ok(()));
        assert!(!tasks.failed().is_cancelled());
    }

    #[tokio::test]
    async fn vital_task_that_panics_is_noticed_and_one_that_ends_is_not() {
        let tasks = Tasks::new();
        assert_eq!(tasks.spawn_vital("good", async { 7 }).await.ok(), Some(7));
        assert!(!tasks.failed().is_cancelled());
        assert!(tasks.spawn_vital("fragile", async { panic!("on purpose") }).await.is_err());
        assert!(tasks.failed().is_cancelled());
    }

    #[tokio::test]
    async fn a_panicking_task_is_counted_out() {
        let tasks = Tasks::new();
        assert!(tasks.spawn("fragile", async { panic!("on purpose") }).await.is_err());
        assert_eq!(tasks.running(), BTreeMap::new());
    }
}
