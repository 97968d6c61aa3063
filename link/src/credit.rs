//! Credit by absolute offsets: how far the sender of a stream may go. The receiver says "until X";
//! saying it twice, late, or after a reconnect changes nothing. Both halves are plain values.

use reeve_protocol::limits;

/// The sender's half: what may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    until: u64,
}

impl Allowance {
    /// Allowed to send up to `until` (exclusive).
    #[must_use]
    pub fn new(until: u64) -> Self {
        Self { until }
    }

    /// The receiver said so. Credit is never taken back, so a smaller offset is an old message.
    pub fn grant(&mut self, until: u64) {
        self.until = self.until.max(until);
    }

    /// Bytes that may be sent from `offset`, at most one frame's worth.
    #[must_use]
    pub fn room(&self, offset: u64) -> usize {
        let room = self.until.saturating_sub(offset).min(limits::MAX_DATA_BYTES as u64);
        usize::try_from(room).unwrap_or(limits::MAX_DATA_BYTES)
    }
}

/// The receiver's half: how much to allow. The window starts small and doubles whenever the sender
/// has used all of it between two grants; the budget of the whole coordinator limits its growth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    granted: u64,
    size: u64,
}

impl Window {
    /// For a stream whose first byte to come is at `offset`.
    #[must_use]
    pub fn new(offset: u64) -> Self {
        Self { granted: offset + limits::INITIAL_CREDIT, size: limits::INITIAL_CREDIT }
    }

    /// Whether bytes up to `end` were allowed. More is a breach of the protocol.
    #[must_use]
    pub fn allows(&self, end: u64) -> bool {
        end <= self.granted
    }

    /// The offset allowed so far.
    #[must_use]
    pub fn granted(&self) -> u64 {
        self.granted
    }

    /// The window's size, which counts against the coordinator's budget.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Everything below `durable` is stored, `received` has come in; `may_grow` says whether the
    /// budget has room. The new offset to grant, when there is one worth a message.
    pub fn advance(&mut self, durable: u64, received: u64, may_grow: bool) -> Option<u64> {
        // More than half used since the last grant: the sender is faster than the window.
        let used = self.size.saturating_sub(self.granted.saturating_sub(received));
        if may_grow && used * 2 > self.size {
            self.size = (self.size * 2).min(limits::MAX_CREDIT);
        }
        let until = durable.saturating_add(self.size);
        // A message for less than a quarter of the window is not worth its bytes, unless the
        // sender is about to stop.
        let gain = until.saturating_sub(self.granted);
        if gain == 0 || (gain < self.size / 4 && self.granted > received + self.size / 4) {
            return None;
        }
        self.granted = until;
        Some(until)
    }

    /// After a reconnect the sender starts again from `durable`.
    pub fn restart(&mut self, durable: u64) -> u64 {
        self.granted = durable.saturating_add(self.size);
        self.granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_grant_takes_nothing_back() {
        let mut allowance = Allowance::new(100);
        allowance.grant(50);
        assert_eq!(allowance.room(60), 40);
        assert_eq!(allowance.room(100), 0);
        assert_eq!(allowance.room(u64::MAX), 0);
    }

    #[test]
    fn window_grows_while_it_is_used_and_only_then() {
        let mut window = Window::new(0);
        let mut at = 0;
        for _ in 0..20 {
            at = window.granted();
            window.advance(at, at, true);
        }
        assert_eq!(window.size(), limits::MAX_CREDIT);

        let mut idle = Window::new(0);
        for step in 1..20 {
            idle.advance(step, step, true);
        }
        assert_eq!(idle.size(), limits::INITIAL_CREDIT);
        assert!(at > 0);
    }

    #[test]
    fn window_does_not_grow_without_budget() {
        let mut window = Window::new(0);
        for _ in 0..20 {
            let at = window.granted();
            assert!(window.advance(at, at, false).is_some());
        }
        assert_eq!(window.size(), limits::INITIAL_CREDIT);
    }

    #[test]
    fn sender_that_used_everything_is_never_left_without_a_grant() {
        let mut window = Window::new(0);
        let end = window.granted();
        // The store makes progress in small steps; the sender waits at the end of its window.
        assert!(window.advance(1, end, false).is_some());
    }
}
