//! What changed, for whoever watches. A watcher that is too slow is told that it missed something
//! and looks at the database again; it slows nobody.

mod mailbox;
mod routes;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reeve_protocol::{JobId, MachineId, OperationId, Totals};
use reeve_sdk::api::{JobState, Operation, TaskEvent, Time};
use tokio::sync::broadcast;

pub use mailbox::Mailbox;
pub use routes::routes;

/// Changes a watcher may be behind before it has to look at the database again.
const BACKLOG: usize = 1024;

/// As many of one job. Its room is made at once, for each job that is followed; where many operations
/// change together, one change says so.
const JOB_BACKLOG: usize = 128;

/// Jobs that nobody watches any more are looked for when there are so many, or twice as many as were
/// watched the last time.
const LOOK_AT: usize = 64;

/// One change.
#[derive(Clone, Debug)]
pub enum Change {
    /// An operation's state is another; this is how it is now.
    Operation(Arc<Operation>),
    /// More of an operation's output is durable.
    Output {
        /// Of which job.
        job: JobId,
        /// Of which operation.
        operation: OperationId,
        /// Up to here, exclusive.
        durable: Totals,
    },
    /// A job has ended, and with it every operation of it.
    Job(JobEnd),
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobEnd {
    /// Which.
    pub job: JobId,
    /// How.
    pub state: JobState,
    /// When.
    pub finished: Time,
    /// When somebody had asked for it to end.
    pub cancel_requested: Option<Time>,
}

impl Change {
    /// The job it belongs to.
    #[must_use]
    pub fn job(&self) -> JobId {
        match self {
            Self::Operation(operation) => operation.job_id,
            Self::Output { job, .. } => *job,
            Self::Job(end) => end.job,
        }
    }
}

/// Something happened to a task.
#[derive(Clone, Debug)]
pub struct TaskNews {
    /// What.
    pub event: Arc<TaskEvent>,
    /// Who asked for the task, as the audit says it.
    pub asker: Arc<str>,
    /// Its machines: it exists for its asker and for those to whom all of them exist.
    pub machines: Arc<[MachineId]>,
}

/// Where changes are told and heard. Cheap to clone.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    all: broadcast::Sender<Change>,
    jobs: Mutex<Jobs>,
    tasks: broadcast::Sender<TaskNews>,
}

struct Jobs {
    watched: HashMap<JobId, broadcast::Sender<Change>>,
    look_at: usize,
}

impl Default for Jobs {
    fn default() -> Self {
        Self { watched: HashMap::new(), look_at: LOOK_AT }
    }
}

impl Default for Hub {
    fn default() -> Self {
        let (all, _) = broadcast::channel(BACKLOG);
        let (tasks, _) = broadcast::channel(BACKLOG);
        Self(Arc::new(Inner { all, jobs: Mutex::default(), tasks }))
    }
}

impl Hub {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody who watches. Never waits.
    pub fn tell(&self, change: Change) {
        let mut jobs = self.jobs();
        if let Some(watchers) = jobs.watched.get(&change.job())
            && watchers.send(change.clone()).is_err()
        {
            // The last watcher is gone.
            jobs.watched.remove(&change.job());
        }
        drop(jobs);
        let _ = self.0.all.send(change);
    }

    /// Changes of one job from now on. Subscribe first, then read the database: nothing is missed.
    #[must_use]
    pub fn watch_job(&self, job: JobId) -> broadcast::Receiver<Change> {
        let mut jobs = self.jobs();
        let make = || broadcast::channel(JOB_BACKLOG).0;
        let receiver = jobs.watched.entry(job).or_insert_with(make).subscribe();
        // Whoever stopped watching a job that changes no more is noticed here.
        if jobs.watched.len() > jobs.look_at {
            jobs.watched.retain(|_, watchers| watchers.receiver_count() > 0);
            jobs.look_at = LOOK_AT.max(2 * jobs.watched.len());
        }
        receiver
    }

    /// Whether somebody watches a job by itself.
    #[must_use]
    pub fn is_watched(&self, job: JobId) -> bool {
        self.jobs().watched.get(&job).is_some_and(|watchers| watchers.receiver_count() > 0)
    }

    /// Tells everybody who watches tasks. Never waits.
    pub fn tell_task(&self, news: TaskNews) {
        let _ = self.0.tasks.send(news);
    }

    /// What happens to tasks from now on.
    #[must_use]
    pub fn watch_tasks(&self) -> broadcast::Receiver<TaskNews> {
        self.0.tasks.subscribe()
    }

    /// Changes of every job from now on.
    #[must_use]
    pub fn watch_all(&self) -> broadcast::Receiver<Change> {
        self.0.all.subscribe()
    }
}
