//! When to try again: soon at first, then less and less often, never in step with other agents.

use std::time::Duration;

use reeve_protocol::{Reject, RejectCode};

/// The first pause.
pub const SHORTEST_PAUSE: Duration = Duration::from_millis(500);

/// No pause is longer, unless the coordinator asks for it.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A coordinator may ask for patience, but not for ever.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// The shortest pause of a machine that is not wanted: only a person can change that, and whoever
/// does may wait some minutes.
pub const UNWANTED_PAUSE: Duration = Duration::from_secs(300);

/// A session that lasted this long shows that all is well: the next pause is short again. Longer than
/// a coordinator that turns agents away lets them stay, and short enough that a machine on a bad
/// network is there for most of the time.
pub const STABLE_AFTER: Duration = Duration::from_secs(20);

/// How long to stay away after a refusal: as long as the coordinator asks, and longer where trying
/// again cannot help until somebody has done something.
#[must_use]
pub fn find_patience(reject: &Reject) -> Duration {
    let least = match reject.code {
        RejectCode::Revoked | RejectCode::UnknownMachine => UNWANTED_PAUSE,
        RejectCode::Cloned | RejectCode::BadProof | RejectCode::Version => LONGEST_PAUSE,
        RejectCode::Unavailable | RejectCode::Malformed | RejectCode::Unknown => Duration::ZERO,
    };
    least.max(Duration::from_millis(reject.retry_after_ms))
}

/// Exponential pauses with jitter.
#[derive(Clone, Debug)]
pub struct Policy {
    failures: u32,
    /// How long the session was that just ended. It counts as waiting: whoever was connected for ten
    /// seconds has left the coordinator alone for as long.
    waited: Duration,
    /// State of a small generator (splitmix64): jitter needs no secrecy.
    seed: u64,
}

impl Policy {
    /// Starts with the shortest pause. Different seeds make different pauses.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { failures: 0, waited: Duration::ZERO, seed }
    }

    /// A session ended after this long.
    pub fn note_session(&mut self, lasted: Duration) {
        if lasted >= STABLE_AFTER {
            self.failures = 0;
        }
        self.waited = lasted;
    }

    /// How long to wait now, at least `not_before`, which the coordinator asked for.
    pub fn next_pause(&mut self, not_before: Duration) -> Duration {
        let factor = 2_u32.saturating_pow(self.failures.min(16));
        let most = SHORTEST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        // Between half and all of it: spread, and never at once.
        let waited = std::mem::take(&mut self.waited);
        let most = most.saturating_sub(waited).max(SHORTEST_PAUSE);
        let jittered = most.mul_f64(0.5 + self.next_fraction() / 2.0);
        let asked = not_before.min(LONGEST_ASKED);
        // Those who are asked for the same patience do not come back in the same moment either.
        jittered.max((asked + asked.mul_f64(self.next_fraction() / 4.0)).min(LONGEST_ASKED))
    }

    fn next_fraction(&mut self) -> f64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.seed;
        value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^= value >> 31;
        // 32 bits are enough and exact.
        f64::from(u32::try_from(value >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_stay_jittered() {
        let mut policy = Policy::new(1);
        let pauses: Vec<Duration> = (0..12).map(|_| policy.next_pause(Duration::ZERO)).collect();
        for (at, pause) in pauses.iter().enumerate() {
            let most = (SHORTEST_PAUSE * 2_u32.pow(at.min(10) as u32)).min(LONGEST_PAUSE);
            assert!(*pause <= most && *pause >= most / 2, "{at}: {pause:?}");
        }
        assert_ne!(pauses[10], pauses[11]);
    }

    #[test]
    fn stable_session_makes_pauses_short_again_and_a_flapping_one_does_not() {
        let mut policy = Policy::new(1);
        for _ in 0..8 {
            policy.next_pause(Duration::ZERO);
            policy.note_session(Duration::from_secs(1));
        }
        assert!(policy.next_pause(Duration::ZERO) >= LONGEST_PAUSE.mul_f64(0.49));
        policy.note_session(STABLE_AFTER);
        assert!(policy.next_pause(Duration::ZERO) <= SHORTEST_PAUSE);
    }

    #[test]
    fn time_in_a_session_counts_as_waiting_and_agents_turned_away_storm_nobody() {
        let mut policy = Policy::new(1);
        let mut between = Duration::ZERO;
        for failure in 0..20 {
            let lasted = Duration::from_secs(10);
            policy.note_session(lasted);
            let pause = policy.next_pause(Duration::ZERO);
            between = lasted + pause;
            let most = SHORTEST_PAUSE * 2_u32.pow(failure.min(10));
            assert!(pause <= most.min(LONGEST_PAUSE).saturating_sub(lasted).max(SHORTEST_PAUSE));
        }
        // In the end as rarely as if no session had ever come about, or nearly so.
        assert!(between >= LONGEST_PAUSE / 2 && between <= LONGEST_PAUSE, "{between:?}");
        // It counts once.
        assert!(policy.next_pause(Duration::ZERO) >= LONGEST_PAUSE / 2);
    }

    #[test]
    fn refused_machine_stays_away_for_a_while_and_at_least_as_long_as_asked() {
        let patience = |code, retry_after_ms| {
            find_patience(&Reject { code, message: String::new(), retry_after_ms })
        };
        for code in [RejectCode::Revoked, RejectCode::UnknownMachine] {
            assert_eq!(patience(code, 0), Duration::from_secs(300));
            assert_eq!(patience(code, 900_000), Duration::from_secs(900));
        }
        assert_eq!(patience(RejectCode::Cloned, 0), LONGEST_PAUSE);
        assert_eq!(patience(RejectCode::Unavailable, 5_000), Duration::from_secs(5));
        let mut policy = Policy::new(1);
        let pause = policy.next_pause(patience(RejectCode::Revoked, 0));
        // Asked for or not: machines that were refused together do not come back together.
        assert!(pause >= UNWANTED_PAUSE && pause <= UNWANTED_PAUSE.mul_f64(1.25), "{pause:?}");
        assert_ne!(pause, policy.next_pause(patience(RejectCode::Revoked, 0)));
    }

    #[test]
    fn coordinator_may_ask_for_patience_but_not_for_ever() {
        let mut policy = Policy::new(1);
        assert!(policy.next_pause(Duration::from_secs(20)) >= Duration::from_secs(20));
        assert!(policy.next_pause(Duration::MAX) <= LONGEST_ASKED);
    }
}
