//! How right the machine's clock is, as the kernel reckons (adjtimex(2)).

use nix::libc;

/// What the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Something keeps it right.
    pub synchronised: bool,
    /// How far off it is at the most, microseconds.
    pub error_us: u64,
}

/// Asks the kernel; nothing where that is not allowed, as in some containers.
#[must_use]
#[allow(unsafe_code)]
pub fn look() -> Option<Clock> {
    // SAFETY: every field of the structure is a number, for which zero is a value; with `modes` 0
    // nothing is changed, and the kernel writes within the structure it is given.
    let (state, clock) = unsafe {
        let mut clock: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut clock), clock)
    };
    (state >= 0).then(|| Clock {
        synchronised: clock.status & libc::STA_UNSYNC == 0,
        error_us: u64::try_from(clock.maxerror).unwrap_or(0),
    })
}
