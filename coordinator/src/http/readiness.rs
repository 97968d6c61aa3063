//! Whether the coordinator takes new work.

use tokio_util::sync::CancellationToken;

use super::ApiError;

/// What is known without asking the database. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Readiness {
    draining: CancellationToken,
}

impl Readiness {
    /// Ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on nothing new is taken.
    pub fn start_draining(&self) {
        self.draining.cancel();
    }

    /// Cancelled when draining starts: streams that would go on for ever end then, and agents are
    /// told to come back later.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// `ready` or `draining`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        if self.draining.is_cancelled() { "draining" } else { "ready" }
    }

    /// To be asked before new work is taken.
    ///
    /// # Errors
    /// 503 when it is not.
    pub fn check(&self) -> Result<(), ApiError> {
        if self.draining.is_cancelled() { Err(ApiError::draining()) } else { Ok(()) }
    }
}
