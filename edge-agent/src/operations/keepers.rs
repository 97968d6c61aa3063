//! Where keepers come from: a nursery that forks them, or, where there is none, a program started
//! anew.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reeve_protocol::OperationId;

use super::lock;
use crate::host::nursery::Nursery;
use crate::tasks::Tasks;

/// A nursery that is gone is not replaced sooner than this after it was started: where it cannot
/// live, keepers are started without it and nobody keeps trying.
const REPLACE_AFTER: Duration = Duration::from_secs(60);

/// The nursery there is. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keepers {
    program: PathBuf,
    /// A folder like those of operations.
    example: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    nursery: Option<Nursery>,
    /// When the last one was started.
    started: Option<Instant>,
}

impl Keepers {
    /// None is held ready before the first has been asked for.
    #[must_use]
    pub fn new(program: PathBuf, operations: &Path) -> Self {
        let example = operations.join(OperationId(uuid::Uuid::nil()).to_string());
        Self { program, example, state: Arc::default() }
    }

    /// Has the nursery make a keeper; a connection to it. Nothing when it cannot.
    pub fn ask(&self, folder: &Path, lock_file: &File) -> Option<UnixStream> {
        let mut state = lock(&self.state);
        let asked = state.nursery.as_ref()?.ask(folder, lock_file);
        match asked {
            Ok(stream) => Some(stream),
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    tracing::warn!(%error, "keepers are started one by one for a while");
                    state.nursery = None;
                }
                None
            }
        }
    }

    /// Sees to it that the next keepers need not be started anew.
    pub fn warm_up(&self, tasks: &Tasks) {
        let mut state = lock(&self.state);
        let is_soon = state.started.is_some_and(|started| started.elapsed() < REPLACE_AFTER);
        if state.nursery.is_some() || is_soon {
            return;
        }
        state.started = Some(Instant::now());
        drop(state);
        let keepers = self.clone();
        tasks.spawn("nursery", async move {
            let (program, example) = (keepers.program.clone(), keepers.example.clone());
            // Starting a program blocks.
            let started =
                tokio::task::spawn_blocking(move || Nursery::start(&program, &example)).await;
            match started.map_err(io::Error::other).flatten() {
                Ok(nursery) => lock(&keepers.state).nursery = Some(nursery),
                Err(error) => tracing::warn!(%error, "keepers are not held ready"),
            }
        });
    }
}
