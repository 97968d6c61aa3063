//! A clock that goes when it is told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use reeve_sdk::api::Time;
use tokio::sync::oneshot;

use crate::Clock;

/// 2026-01-01T00:00:00Z.
const START_MICROS: i64 = 1_767_225_600_000_000;

#[derive(Debug, Default)]
struct State {
    now: Duration,
    waits: Vec<(Duration, oneshot::Sender<()>)>,
    pauses: Vec<Duration>,
    limits: Vec<Duration>,
}

/// A clock for tests. Pauses between tries pass at once, are remembered, and move the clock on;
/// limits of waits are reached by [`ManualClock::advance`] only. It starts at
/// 2026-01-01T00:00:00Z.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<Mutex<State>>);

impl ManualClock {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        let mut state = self.state();
        state.now += time;
        let now = state.now;
        let (due, later) = std::mem::take(&mut state.waits)
            .into_iter()
            .filter(|(_, wait)| !wait.is_closed())
            .partition::<Vec<_>, _>(|(due, _)| *due <= now);
        state.waits = later;
        drop(state);
        for (_, wait) in due {
            let _ = wait.send(());
        }
    }

    /// The pauses made between tries, in order.
    #[must_use]
    pub fn pauses(&self) -> Vec<Duration> {
        self.state().pauses.clone()
    }

    /// The limits that were set for waits, in order.
    #[must_use]
    pub fn limits(&self) -> Vec<Duration> {
        self.state().limits.clone()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        let micros = i64::try_from(self.state().now.as_micros()).unwrap_or(i64::MAX);
        Time::from_micros(START_MICROS.saturating_add(micros))
    }

    fn elapsed(&self) -> Duration {
        self.state().now
    }

    fn pause(&self, time: Duration) -> BoxFuture<'static, ()> {
        self.state().pauses.push(time);
        self.advance(time);
        Box::pin(tokio::task::yield_now())
    }

    fn limit(&self, time: Duration) -> BoxFuture<'static, ()> {
        let (reached, wait) = oneshot::channel();
        let mut state = self.state();
        state.limits.push(time);
        let due = state.now + time;
        state.waits.push((due, reached));
        drop(state);
        Box::pin(async move {
            if wait.await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}
