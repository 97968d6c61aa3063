//! `STATE/status.json`: what the running agent says about itself, for `reeve-agent status`.

use serde::{Deserialize, Serialize};

use super::{StateError, StateFolder};

const FILE: &str = "status.json";

/// How the connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Connection {
    /// Not yet tried.
    #[default]
    Starting,
    /// A session is open.
    Connected,
    /// Waiting before the next try.
    Disconnected,
}

/// What the agent writes whenever it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusFile {
    /// The agent's process.
    pub pid: u32,
    /// Its release.
    pub version: String,
    /// How the connection stands.
    pub connection: Connection,
    /// Since when, microseconds since 1970.
    pub since_us: i64,
    /// Why there is none.
    pub last_error: Option<String>,
    /// Number of the session.
    pub epoch: Option<u64>,
    /// How far the coordinator's clock is ahead of ours, milliseconds.
    pub clock_skew_ms: Option<i64>,
    /// Ids of operations that run.
    pub running: Vec<String>,
    /// Ids of operations that are over and not yet acknowledged.
    pub unacknowledged: Vec<String>,
    /// How commands are contained: `cgroup_v2` or `process_group`.
    pub containment: String,
}

impl StatusFile {
    /// Reads it, if there is one.
    #[must_use]
    pub fn find(folder: &StateFolder) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(folder.file(FILE)).ok()?).ok()
    }

    /// Writes it.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn save(&self, folder: &StateFolder) -> Result<(), StateError> {
        let text = serde_json::to_vec(self).map_err(|error| StateError::Damaged {
            path: folder.file(FILE),
            reason: error.to_string(),
        })?;
        folder.write_file(FILE, &text, false)
    }
}
