//! Whether the coordinator takes new work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio_util::sync::CancellationToken;

use super::ApiError;

/// What is known without asking the database. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Readiness {
    draining: CancellationToken,
    /// Set by whoever notices that output cannot be stored, and cleared when it can.
    disk_full: Arc<AtomicBool>,
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

    /// Whether there is no space for output.
    pub fn set_disk_full(&self, full: bool) {
        if self.disk_full.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::error!("no space is left for output; new work is refused");
            } else {
                tracing::info!("there is space for output again");
            }
        }
    }

    /// `ready`, `draining` or `disk_full`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        if self.draining.is_cancelled() {
            "draining"
        } else if self.disk_full.load(Ordering::Relaxed) {
            "disk_full"
        } else {
            "ready"
        }
    }

    /// To be asked before new work is taken.
    ///
    /// # Errors
    /// 503 when it is not.
    pub fn check(&self) -> Result<(), ApiError> {
        let (code, detail, wait) = match self.as_str() {
            "draining" => ("draining", "the coordinator is shutting down; try again", 5),
            "disk_full" => (
                "disk_full",
                "the coordinator has no space left for output; free some in its data folder",
                30,
            ),
            _ => return Ok(()),
        };
        Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
            .retry_after(Duration::from_secs(wait)))
    }
}
