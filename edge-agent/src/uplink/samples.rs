//! What the machine did, taken every five seconds and handed over with the next heartbeat. Times without
//! a session are gaps: nothing is kept for later.

use std::collections::VecDeque;
use std::time::Duration;

use reeve_protocol::Sample;
use reeve_protocol::sample::{MAX_SAMPLES, SAMPLE_SECONDS};
use tokio::time::Instant;

use crate::host;
use crate::host::activity::Sampler;

/// Between samples.
const EVERY_US: i64 = SAMPLE_SECONDS as i64 * 1_000_000;

/// Samples of one session that wait for a heartbeat.
pub struct Samples {
    sampler: Sampler,
    /// With the number of the five seconds since 1970 that each is of. At most [`MAX_SAMPLES`]; the
    /// oldest makes room.
    taken: VecDeque<(i64, Sample)>,
    next: Instant,
}

impl Samples {
    /// None yet; the first one compares with now.
    #[must_use]
    pub fn start() -> Self {
        let mut sampler = Sampler::default();
        sampler.sample();
        Self { sampler, taken: VecDeque::new(), next: Instant::now() + until_next(host::now_us()) }
    }

    /// Waits until it is time for another one. May be dropped and asked for again.
    pub async fn due(&self) {
        tokio::time::sleep_until(self.next).await;
    }

    /// Takes one.
    pub fn take(&mut self) {
        let now_us = host::now_us();
        self.next = Instant::now() + until_next(now_us);
        let Some(sample) = self.sampler.sample() else { return };
        if self.taken.len() >= MAX_SAMPLES {
            self.taken.pop_front();
        }
        self.taken.push_back((to_number(now_us), sample));
    }

    /// All of them, told by how long ago they were.
    pub fn hand_over(&mut self, now_us: i64) -> Vec<Sample> {
        let now = to_number(now_us);
        let aged = self.taken.drain(..).filter_map(|(number, sample)| {
            // A clock that was set back makes some of the future: nobody can place these.
            let ago = u64::try_from(now - number).ok()?;
            Some(Sample { ago, ..sample })
        });
        aged.collect()
    }
}

/// The five seconds that a time is nearest to: timers end a little late.
fn to_number(time_us: i64) -> i64 {
    time_us.saturating_add(EVERY_US / 2).div_euclid(EVERY_US)
}

/// Samples are taken at full five seconds, so that each gets a place of its own.
fn until_next(now_us: i64) -> Duration {
    let left = EVERY_US - now_us.rem_euclid(EVERY_US);
    // Right at the end of one the next is meant.
    let left = if left < EVERY_US / 10 { left + EVERY_US } else { left };
    Duration::from_micros(u64::try_from(left).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_five_seconds_have_one_sample() {
        let second = 1_000_000;
        assert_eq!(until_next(7 * second), Duration::from_secs(3));
        assert_eq!(until_next(10 * second), Duration::from_secs(5));
        // A timer that ended a little early does not make two of one.
        assert_eq!(until_next(10 * second - 1000), Duration::from_micros(5_001_000));
        assert_eq!(to_number(10 * second - 1000), 2);
        assert_eq!(to_number(10 * second + 1000), 2);
    }

    #[test]
    fn samples_know_how_long_ago_they_were() {
        let mut samples = Samples::start_at_once();
        let now_us = 1_000 * EVERY_US;
        samples.taken.push_back((998, Sample::default()));
        samples.taken.push_back((1000, Sample::default()));
        samples.taken.push_back((1007, Sample::default()));
        let agos: Vec<u64> = samples.hand_over(now_us).iter().map(|sample| sample.ago).collect();
        assert_eq!(agos, [2, 0]);
        assert!(samples.hand_over(now_us).is_empty());
        for _ in 0..MAX_SAMPLES + 5 {
            samples.take();
        }
        assert_eq!(samples.taken.len(), MAX_SAMPLES);
    }

    impl Samples {
        fn start_at_once() -> Self {
            let mut sampler = Sampler::default();
            sampler.sample();
            Self { sampler, taken: VecDeque::new(), next: Instant::now() }
        }
    }
}
