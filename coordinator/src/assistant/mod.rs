//! The assistant: from words to a plan, from a plan to jobs, from their output to verdicts and a
//! summary. It reaches machines through `approvals` and `operations`, like everybody else.
//!
//! A task is what is recorded of it (`record.rs`); one runner per live task (`runner/`) reads the
//! record and does what comes next. Whatever it does outside has a name that follows from the record
//! (a job's idempotency key, a model call's name), so doing it again after a restart finds what was
//! done before.

mod ask;
mod decide;
mod ledger;
mod look;
mod record;
mod routes;
mod runner;
mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use reeve_protocol::TaskId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::Clock;
use crate::approvals::Approvals;
use crate::config;
use crate::db::Db;
use crate::events::Hub;
use crate::machines::Machines;
use crate::models::ModelRegistry;
use crate::operations::Operations;
use crate::tasks::Tasks;
use crate::users::Users;

pub use routes::routes;

/// Tasks with a runner, those that wait for a yes included, per task that may be at work.
const LIVE_PER_SLOT: usize = 16;

/// What the assistant needs.
pub struct Parts {
    /// The database.
    pub db: Db,
    /// The time of day.
    pub clock: Clock,
    /// Where changes are told.
    pub hub: Hub,
    /// The machines.
    pub machines: Machines,
    /// Who may still do what.
    pub users: Users,
    /// The door to machines.
    pub operations: Operations,
    /// Who has to say yes.
    pub approvals: Approvals,
    /// Models, where some are configured.
    pub models: ModelRegistry,
    /// Where to spawn.
    pub tasks: Tasks,
    /// Bounds.
    pub settings: config::Assistant,
    /// How long ended tasks are kept.
    pub keep: Duration,
    /// How long an `Idempotency-Key` is remembered.
    pub idempotency_keep: Duration,
}

/// The assistant. Cheap to clone.
#[derive(Clone)]
pub struct Assistant(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    hub: Hub,
    machines: Machines,
    users: Users,
    operations: Operations,
    approvals: Approvals,
    models: ModelRegistry,
    tasks: Tasks,
    settings: config::Assistant,
    idempotency_keep: Duration,
    /// Tasks with a runner.
    live: Mutex<HashMap<TaskId, Arc<Live>>>,
    /// Held by whoever changes a task that has no runner, or gives it one.
    idle: tokio::sync::Mutex<()>,
    /// There may be a task without a runner.
    wake: Notify,
}

/// What the outside can tell a runner.
struct Live {
    /// Cancelled when it is to stop; why is in `halt`, or else the coordinator ends.
    token: CancellationToken,
    halt: OnceLock<Halt>,
    /// It waits for a yes, and takes up no slot.
    waiting: AtomicBool,
}

/// Why a runner stops before its task has ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Halt {
    /// Somebody cancelled the task.
    Cancelled,
    /// Its time is up.
    Time,
    /// Whoever asked may no longer.
    Asker(String),
}

impl Live {
    fn halt(&self, why: Halt) {
        let _ = self.halt.set(why);
        self.token.cancel();
    }
}

impl Assistant {
    /// Takes up the tasks that had not ended, and waits for more.
    #[must_use]
    pub fn start(parts: Parts) -> Self {
        let keep = parts.keep;
        let assistant = Self(Arc::new(Inner {
            db: parts.db,
            clock: parts.clock,
            hub: parts.hub,
            machines: parts.machines,
            users: parts.users,
            operations: parts.operations,
            approvals: parts.approvals,
            models: parts.models,
            tasks: parts.tasks,
            settings: parts.settings,
            idempotency_keep: parts.idempotency_keep,
            live: Mutex::default(),
            idle: tokio::sync::Mutex::default(),
            wake: Notify::new(),
        }));
        let scheduler = assistant.clone();
        assistant.0.tasks.spawn_lasting("assistant", move || {
            let scheduler = scheduler.clone();
            async move { scheduler.schedule().await }
        });
        let sweeper = assistant.clone();
        assistant.0.tasks.spawn_lasting("task sweeper", move || {
            let sweeper = sweeper.clone();
            async move { sweeper.sweep(keep).await }
        });
        assistant
    }

    fn live(&self) -> MutexGuard<'_, HashMap<TaskId, Arc<Live>>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another task may have a runner.
    fn has_room(&self) -> bool {
        let live = self.live();
        let slots = self.0.settings.max_tasks as usize;
        let busy = live.values().filter(|each| !each.waiting.load(Ordering::Relaxed)).count();
        busy < slots && live.len() < slots * LIVE_PER_SLOT
    }
}
