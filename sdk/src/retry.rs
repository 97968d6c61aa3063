//! When to try again, and for how long.

use std::time::{Duration, Instant};

/// How long a call goes on trying.
#[derive(Clone, Copy, Debug)]
pub struct RetryLimits {
    /// All attempts of one call together; zero means one attempt.
    pub total: Duration,
    /// A followed stream gives up after this long without a byte from the coordinator. A stream
    /// that never began gives up after `total`.
    pub follow: Duration,
}

impl Default for RetryLimits {
    fn default() -> Self {
        Self { total: Duration::from_secs(10), follow: Duration::from_secs(600) }
    }
}

/// The first pause. Short enough that a restarting coordinator is found soon.
const FIRST_DELAY: Duration = Duration::from_millis(50);
/// The longest pause between two attempts.
const MAX_DELAY: Duration = Duration::from_secs(5);

/// Pauses that double, with jitter, so that many clients of one restarted coordinator do not come
/// back in step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST_DELAY }
    }

    /// The next pause: between half and all of the current step, but what the coordinator asked
    /// for when that is longer.
    pub(crate) fn pause(&mut self, asked: Option<Duration>) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(MAX_DELAY);
        let jittered = step.mul_f64(rand::random_range(0.5..=1.0));
        jittered.max(asked.unwrap_or_default())
    }
}

/// The attempts of one call.
pub(crate) struct Attempts {
    until: Instant,
    backoff: Backoff,
}

impl Attempts {
    pub(crate) fn new(total: Duration) -> Self {
        Self { until: Instant::now() + total, backoff: Backoff::new() }
    }

    /// Waits for the next attempt; `false` when there is to be none.
    pub(crate) async fn wait(&mut self, asked: Option<Duration>) -> bool {
        let pause = self.backoff.pause(asked);
        if Instant::now() + pause > self.until {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_stay_bounded_and_respect_the_coordinator() {
        let mut backoff = Backoff::new();
        let first = backoff.pause(None);
        assert!(first >= FIRST_DELAY / 2 && first <= FIRST_DELAY, "{first:?}");
        for _ in 0..20 {
            backoff.pause(None);
        }
        let late = backoff.pause(None);
        assert!(late >= MAX_DELAY / 2 && late <= MAX_DELAY, "{late:?}");
        assert_eq!(Backoff::new().pause(Some(Duration::from_secs(9))), Duration::from_secs(9));
    }
}
