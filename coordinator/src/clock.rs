//! The time of day as an argument, so that a test can set it.

use std::sync::Arc;
use std::time::Duration;

use reeve_sdk::api::Time;

/// Tells the time; cloning is cheap.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(|| jiff::Timestamp::now().as_microsecond()))
    }

    /// A clock that shows what `now` says, in microseconds since 1970.
    #[must_use]
    pub fn from_fn(now: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Microseconds since 1970.
    #[must_use]
    pub fn micros(&self) -> i64 {
        (self.0)()
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Time {
        Time::from_micros(self.micros())
    }

    /// Microseconds since 1970, that much later than now.
    #[must_use]
    pub fn micros_after(&self, later: Duration) -> i64 {
        self.micros().saturating_add(i64::try_from(later.as_micros()).unwrap_or(i64::MAX))
    }
}
