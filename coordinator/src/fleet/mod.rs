//! The live connections of agents: who is here, how to reach them, and that nobody is here twice.
//!
//! Only `operations` may call this to reach a machine. What agents say goes up through [`Inbox`].

mod accept;
mod handshake;
mod session;
mod socket;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reeve_protocol::{CoordinatorId, Envelope, GoodbyeReason, MachineId};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::Clock;
use crate::history::Histories;
use crate::machines::Machines;
use crate::tasks::Tasks;

pub use accept::routes;
pub use session::{Session, Tap};

/// Events waiting for `operations`. When full, the sessions that have more stop reading, which TCP
/// tells their agents.
const EVENT_QUEUE: usize = 1024;

/// Output and results waiting for the writer: at most 16 MiB of output in memory.
const BULK_QUEUE: usize = 256;

/// Connections that have not proven who they are yet.
const MAX_HANDSHAKES: usize = 2048;

/// How often times of last contact are written.
const LAST_SEEN_INTERVAL: Duration = Duration::from_secs(30);

/// What agents say, for `operations`.
pub struct Inbox {
    /// Sessions coming and going, and everything that is not bulk.
    pub events: mpsc::Receiver<Event>,
    /// `accepted`, `output` and `result`, in the order of each session.
    pub bulk: mpsc::Receiver<(Arc<Session>, Envelope)>,
}

/// Something happened to a session.
pub enum Event {
    /// It is open; its reports follow.
    Connected(Arc<Session>),
    /// Its agent said something.
    Frame(Arc<Session>, Envelope),
    /// It is over.
    Disconnected(Arc<Session>),
}

/// The live sessions. Cheap to clone.
#[derive(Clone)]
pub struct Fleet(Arc<Inner>);

struct Inner {
    machines: Machines,
    histories: Histories,
    coordinator: CoordinatorId,
    clock: Clock,
    tasks: Tasks,
    sessions: Mutex<HashMap<MachineId, Arc<Session>>>,
    /// Machines whose session ended since the last time anybody wrote down when they were seen.
    departed: Mutex<HashMap<MachineId, i64>>,
    handshakes: Semaphore,
    /// Ends with the coordinator's tasks at the latest.
    draining: CancellationToken,
    events: mpsc::Sender<Event>,
    bulk: mpsc::Sender<(Arc<Session>, Envelope)>,
}

impl Fleet {
    /// An empty fleet, and where what it hears comes out.
    #[must_use]
    pub fn new(
        machines: Machines,
        histories: Histories,
        coordinator: CoordinatorId,
        clock: Clock,
        tasks: Tasks,
    ) -> (Self, Inbox) {
        let (events, events_out) = mpsc::channel(EVENT_QUEUE);
        let (bulk, bulk_out) = mpsc::channel(BULK_QUEUE);
        let draining = tasks.token().child_token();
        let fleet = Self(Arc::new(Inner {
            machines,
            histories,
            coordinator,
            clock,
            tasks,
            sessions: Mutex::default(),
            departed: Mutex::default(),
            handshakes: Semaphore::new(MAX_HANDSHAKES),
            draining,
            events,
            bulk,
        }));
        let keeper = fleet.clone();
        fleet.0.tasks.spawn_lasting("last seen", move || {
            let keeper = keeper.clone();
            async move { keeper.keep_last_seen().await }
        });
        (fleet, Inbox { events: events_out, bulk: bulk_out })
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<MachineId, Arc<Session>>> {
        self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine's session, if it has one.
    #[must_use]
    pub fn find(&self, machine: MachineId) -> Option<Arc<Session>> {
        self.sessions().get(&machine).cloned()
    }

    /// Whether the machine has a session.
    #[must_use]
    pub fn is_online(&self, machine: MachineId) -> bool {
        self.sessions().contains_key(&machine)
    }

    /// How many machines have a session.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sessions().len()
    }

    /// Ends a machine's session, telling its agent why.
    pub fn dismiss(&self, machine: MachineId, reason: GoodbyeReason, message: &str) {
        if let Some(session) = self.find(machine) {
            session.dismiss(reason, message, Duration::ZERO);
        }
    }

    /// Takes no more sessions and sends everybody away, spread over a time so that they do not come
    /// back all at once.
    pub fn drain(&self, spread: Duration) {
        self.0.draining.cancel();
        let sessions: Vec<_> = self.sessions().values().cloned().collect();
        for session in sessions {
            let wait = spread.mul_f64(rand::random());
            session.dismiss(GoodbyeReason::Restarting, "the coordinator is stopping", wait);
        }
    }

    /// Whether no more sessions are taken.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.is_cancelled()
    }

    /// Cancelled when draining starts: whoever would wait for something from a machine waits in vain
    /// from then on.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.0.draining.clone()
    }

    /// Puts a session in place. The one it replaces is told to go.
    fn put(&self, session: &Arc<Session>) {
        let old = self.sessions().insert(session.machine, Arc::clone(session));
        if let Some(old) = old {
            old.dismiss(GoodbyeReason::Replaced, "a newer session took over", Duration::ZERO);
        }
        metrics::gauge!("reeve_agents_connected").set(self.count() as f64);
    }

    /// Takes a session out, unless another has taken its place.
    fn remove(&self, session: &Arc<Session>) {
        let mut sessions = self.sessions();
        if sessions.get(&session.machine).is_some_and(|found| found.epoch == session.epoch) {
            sessions.remove(&session.machine);
        }
        drop(sessions);
        self.0
            .departed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(session.machine, session.heard_us());
        metrics::gauge!("reeve_agents_connected").set(self.count() as f64);
    }

    async fn keep_last_seen(&self) {
        let stop = self.0.tasks.token();
        let mut timer = tokio::time::interval(LAST_SEEN_INTERVAL);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let stopping = tokio::select! {
                () = stop.cancelled() => true,
                _ = timer.tick() => false,
            };
            let mut seen = std::mem::take(
                &mut *self.0.departed.lock().unwrap_or_else(PoisonError::into_inner),
            );
            seen.extend(self.sessions().values().map(|one| (one.machine, one.heard_us())));
            let seen: Vec<_> = seen.into_iter().collect();
            // In pieces, so that nobody else waits long for the one writer of the database.
            for piece in seen.chunks(500) {
                if let Err(error) = self.0.machines.keep_last_seen(piece).await {
                    tracing::warn!(%error, "times of last contact could not be kept");
                }
            }
            if stopping {
                return;
            }
        }
    }
}
