//! Reeve's server as a library: a test starts the whole of it on port 0.

pub mod approvals;
pub mod assistant;
pub mod audit;
mod clock;
pub mod config;
pub mod db;
pub mod events;
mod files;
pub mod fleet;
pub mod history;
pub mod http;
pub mod machines;
pub mod models;
mod nearest;
pub mod operations;
pub mod problem;
pub mod selector;
mod start;
pub mod tasks;
pub mod telemetry;
#[cfg(test)]
pub mod testing;
pub mod tls;
pub mod uploads;
pub mod users;
pub mod vault;

use std::sync::Arc;

use reeve_protocol::CoordinatorId;
use url::Url;

pub use clock::Clock;
pub use files::{write_private, write_public};
pub use start::{Running, StartError, start};

use crate::approvals::Approvals;
use crate::assistant::Assistant;
use crate::config::Config;
use crate::db::Db;
use crate::events::Hub;
use crate::fleet::Fleet;
use crate::history::Histories;
use crate::http::{CountSource, RateLimits, Readiness};
use crate::machines::Machines;
use crate::models::ModelRegistry;
use crate::operations::Operations;
use crate::tasks::Tasks;
use crate::tls::Authority;
use crate::uploads::Uploads;
use crate::users::Users;
use crate::vault::Vault;

/// What every handler may use. Each request is given several of it, so cloning it is one count.
#[derive(Clone)]
pub struct AppState(Arc<Parts>);

impl AppState {
    /// All of it, from its parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl std::ops::Deref for AppState {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// The parts of [`AppState`].
pub struct Parts {
    /// Settings in force.
    pub config: Arc<Config>,
    /// The database.
    pub db: Db,
    /// The time of day.
    pub clock: Clock,
    /// Where to spawn.
    pub tasks: Tasks,
    /// Who we are; agents sign it.
    pub coordinator: CoordinatorId,
    /// How people and agents reach us, as far as we know.
    pub url: Arc<Url>,
    /// Our certificates.
    pub ca: Arc<Authority>,
    /// Whether we take new work.
    pub readiness: Readiness,
    /// People and keys.
    pub users: Users,
    /// Files for stdin of operations.
    pub uploads: Uploads,
    /// Keys of model providers.
    pub vault: Vault,
    /// How often somebody may ask.
    pub rates: RateLimits,
    /// What `/api/status` counts.
    pub counts: CountSource,
    /// Providers of models, and what they used.
    pub models: ModelRegistry,
    /// Machines.
    pub machines: Machines,
    /// What machines did.
    pub histories: Histories,
    /// Live sessions.
    pub fleet: Fleet,
    /// The door to machines.
    pub operations: Operations,
    /// What waits for people.
    pub approvals: Approvals,
    /// From words to jobs.
    pub assistant: Assistant,
    /// What changes.
    pub events: Hub,
    /// When we started, microseconds since 1970.
    pub started: i64,
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
