//! How a provider is: its breaker, what it said about limits, its last trouble.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reeve_sdk::api::{RateLimitWindow, Time};

use crate::error::{ErrorCode, ModelError};
use crate::options::Options;

/// How a provider is, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderStatus {
    /// The provider.
    pub name: String,
    /// `closed` (all well), `open` (not asked until `retry_at`), `half_open` (one call is let
    /// through to see).
    pub breaker: &'static str,
    /// When an open breaker lets one call through, or when the provider wants to be asked again.
    pub retry_at: Option<Time>,
    /// What it said last about its limits.
    pub rate_limits: Vec<RateLimitWindow>,
    /// Its last trouble, in a line; `None` after a call that went well.
    pub last_error: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    /// When it failed, by the clock's `elapsed`; those within the window.
    failures: VecDeque<Duration>,
    /// Until when it is left alone.
    open_until: Option<Duration>,
    /// How often it was opened without a call that went well in between.
    opened: u32,
    /// One call is under way to see whether it is well again.
    is_probed: bool,
    /// Models it wants to be left alone with, and until when.
    held: HashMap<String, Duration>,
    rate_limits: Vec<RateLimitWindow>,
    last_error: Option<String>,
}

/// Shared by all calls to one provider.
#[derive(Debug)]
pub(crate) struct Health {
    name: String,
    options: Options,
    state: Mutex<State>,
}

/// A call may be made; says how it went, or that it was given up.
pub(crate) struct Permit {
    health: Arc<Health>,
    is_probe: bool,
}

impl Health {
    pub(crate) fn new(name: &str, options: &Options) -> Self {
        Self { name: name.to_owned(), options: options.clone(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// May a call be made now?
    pub(crate) fn admit(self: &Arc<Self>, model: &str) -> Result<Permit, ModelError> {
        let now = self.options.clock.elapsed();
        let mut state = self.state();
        state.held.retain(|_, until| *until > now);
        if let Some(until) = state.held.get(model) {
            let left = (*until - now).as_secs().max(1);
            return Err(ModelError::new(
                ErrorCode::Busy,
                format!("{}/{model} asked to be left alone for another {left} s", self.name),
            ));
        }
        let Some(until) = state.open_until else {
            return Ok(Permit { health: Arc::clone(self), is_probe: false });
        };
        if now < until || state.is_probed {
            let last = state.last_error.clone().unwrap_or_default();
            let left = until.saturating_sub(now).as_secs().max(1);
            return Err(ModelError::new(
                ErrorCode::Paused,
                format!(
                    "{} failed too often and is left alone for {left} s; last: {last}",
                    self.name
                ),
            ));
        }
        state.is_probed = true;
        Ok(Permit { health: Arc::clone(self), is_probe: true })
    }

    /// A call that a person asked for, whatever the breaker says.
    pub(crate) fn admit_anyway(self: &Arc<Self>) -> Permit {
        Permit { health: Arc::clone(self), is_probe: false }
    }

    /// Leaves a model alone for as long as the provider asked.
    pub(crate) fn hold(&self, model: &str, time: Duration) {
        let until = self.options.clock.elapsed() + time;
        self.state().held.insert(model.to_owned(), until);
    }

    pub(crate) fn note_limits(&self, limits: &[RateLimitWindow]) {
        if !limits.is_empty() {
            self.state().rate_limits = limits.to_vec();
        }
    }

    /// A trouble before a call could be made, such as no key.
    pub(crate) fn note_error(&self, error: &ModelError) {
        self.state().last_error = Some(error.message.clone());
    }

    pub(crate) fn status(&self) -> ProviderStatus {
        let now = self.options.clock.elapsed();
        let wall = self.options.clock.now();
        let state = self.state();
        let breaker = match state.open_until {
            None => "closed",
            Some(until) if now < until && !state.is_probed => "open",
            Some(_) => "half_open",
        };
        let until = match breaker {
            "open" => state.open_until,
            _ => state.held.values().filter(|until| **until > now).min().copied(),
        };
        let retry_at = until.and_then(|until| {
            let left = jiff::SignedDuration::try_from(until.saturating_sub(now)).ok()?;
            wall.0.checked_add(left).ok().map(Time)
        });
        ProviderStatus {
            name: self.name.clone(),
            breaker,
            retry_at,
            rate_limits: state.rate_limits.clone(),
            last_error: state.last_error.clone(),
        }
    }
}

impl Permit {
    pub(crate) fn went_well(self) {
        let mut state = self.health.state();
        state.failures.clear();
        state.open_until = None;
        state.opened = 0;
        state.is_probed = false;
        state.last_error = None;
    }

    pub(crate) fn failed(self, error: &ModelError) {
        let health = Arc::clone(&self.health);
        let options = &health.options;
        let now = options.clock.elapsed();
        let mut state = health.state();
        state.last_error = Some(error.message.clone());
        let is_overload = error.code == ErrorCode::Busy && error.http_status != Some(429);
        if !error.code.counts_for_the_breaker() && !is_overload {
            if self.is_probe {
                // It answered: it is well enough to say no.
                state.open_until = None;
                state.opened = 0;
                state.failures.clear();
            }
            return;
        }
        let start = now.saturating_sub(options.breaker_window);
        state.failures.retain(|at| *at > start || (start.is_zero() && at.is_zero()));
        state.failures.push_back(now);
        let is_open = state.open_until.is_some_and(|until| now < until);
        let is_enough = state.failures.len() >= options.breaker_failures as usize;
        if self.is_probe || (is_enough && !is_open) {
            let doubled = options.breaker_pause.saturating_mul(1 << state.opened.min(16));
            state.open_until = Some(now + doubled.min(options.breaker_pause_most));
            state.opened += 1;
            state.failures.clear();
            tracing::warn!(provider = health.name, error = error.message, "left alone for a while");
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_probe {
            // Also when it was given up halfway: the next call may look.
            self.health.state().is_probed = false;
        }
    }
}
