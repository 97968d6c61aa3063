//! Time and chance, from outside, so that tests decide both.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use reeve_sdk::api::Time;

/// Time.
pub trait Clock: Send + Sync {
    /// Of day.
    fn now(&self) -> Time;

    /// Since some moment, never going back.
    fn elapsed(&self) -> Duration;

    /// Waits before a further try.
    fn pause(&self, time: Duration) -> BoxFuture<'static, ()>;

    /// Comes to its end when a wait for something else has taken too long.
    fn limit(&self, time: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        Time(jiff::Timestamp::now())
    }

    fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    fn pause(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    fn limit(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(time))
    }
}
