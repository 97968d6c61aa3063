//! The numbers, each with its unit and reason.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reeve_sdk::api::{ModelSettings, ProviderSettings};

use crate::clock::{Clock, SystemClock};

/// Numbers for all providers; a provider's own settings go before.
#[derive(Clone)]
pub struct Options {
    /// To connect, TLS included.
    pub connect: Duration,
    /// From the request to the first byte of the reply's body.
    pub first_byte: Duration,
    /// The same for models that think before they write.
    pub first_byte_reasoning: Duration,
    /// Between two events.
    pub idle: Duration,
    /// The same for models that think in between.
    pub idle_reasoning: Duration,
    /// For an end of the stream after the model said it was done. Some servers keep it open.
    pub tail: Duration,
    /// Tries after the first.
    pub retries: u32,
    /// The first pause is random up to this; each further one up to twice as much.
    pub backoff_first: Duration,
    /// No pause of our own is longer.
    pub backoff_most: Duration,
    /// A delay the server asked for is made longer by up to this part of it, so that not everybody
    /// comes back at once.
    pub delay_jitter: f64,
    /// A longer delay means the next model, while somebody waits for the answer.
    pub longest_delay_interactive: Duration,
    /// The same when nobody waits.
    pub longest_delay_batch: Duration,
    /// So many failures …
    pub breaker_failures: u32,
    /// … in this time open the breaker.
    pub breaker_window: Duration,
    /// How long it stays open the first time; twice as long each further time.
    pub breaker_pause: Duration,
    /// It never stays open longer.
    pub breaker_pause_most: Duration,
    /// Bytes of one reply. What is more is no answer to any question of ours.
    pub reply_bytes: usize,
    /// Bytes of one event of it.
    pub event_bytes: usize,
    /// Bytes that are read of the body of an error.
    pub error_bytes: usize,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Of the random numbers; `None`: from the system. For tests.
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(60),
            first_byte_reasoning: Duration::from_secs(120),
            idle: Duration::from_secs(120),
            idle_reasoning: Duration::from_secs(300),
            tail: Duration::from_secs(5),
            retries: 4,
            backoff_first: Duration::from_millis(500),
            backoff_most: Duration::from_secs(30),
            delay_jitter: 0.2,
            longest_delay_interactive: Duration::from_secs(60),
            longest_delay_batch: Duration::from_secs(300),
            breaker_failures: 5,
            breaker_window: Duration::from_secs(60),
            breaker_pause: Duration::from_secs(30),
            breaker_pause_most: Duration::from_secs(600),
            reply_bytes: 8 << 20,
            event_bytes: 1 << 20,
            error_bytes: 64 << 10,
            clock: Arc::new(SystemClock::default()),
            seed: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("retries", &self.retries).finish_non_exhaustive()
    }
}

/// The numbers in force for one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) first_byte: Duration,
    pub(crate) idle: Duration,
    pub(crate) tail: Duration,
    pub(crate) retries: u32,
    pub(crate) reply_bytes: usize,
    pub(crate) event_bytes: usize,
    pub(crate) error_bytes: usize,
}

/// Tokens a model may write when its settings do not say.
pub(crate) const MAX_OUTPUT_TOKENS: u64 = 8_192;
/// Tokens it can read and write when its settings do not say.
pub(crate) const CONTEXT_TOKENS: u64 = 128_000;

impl Options {
    pub(crate) fn limits(&self, provider: &ProviderSettings, model: &ModelSettings) -> Limits {
        let (first_byte, idle) = if model.reasoning {
            (self.first_byte_reasoning, self.idle_reasoning)
        } else {
            (self.first_byte, self.idle)
        };
        let own = |own: Option<u64>, usual| own.map_or(usual, Duration::from_millis);
        Limits {
            first_byte: own(provider.first_byte_timeout_ms, first_byte),
            idle: own(provider.idle_timeout_ms, idle),
            tail: self.tail,
            retries: provider.retries.unwrap_or(self.retries),
            reply_bytes: self.reply_bytes,
            event_bytes: self.event_bytes,
            error_bytes: self.error_bytes,
        }
    }

    pub(crate) fn connect(&self, provider: &ProviderSettings) -> Duration {
        provider.connect_timeout_ms.map_or(self.connect, Duration::from_millis)
    }
}
