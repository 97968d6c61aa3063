//! Reeve's server as a library: a test starts the whole of it on port 0.

pub mod audit;
mod clock;
pub mod config;
pub mod db;
pub mod http;
pub mod machines;
pub mod tasks;
pub mod users;

use std::sync::Arc;

use reeve_protocol::CoordinatorId;

pub use clock::Clock;

use crate::config::Config;
use crate::db::Db;
use crate::tasks::Tasks;

/// What every handler may use. Cloning is cheap.
#[derive(Clone)]
pub struct AppState {
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
