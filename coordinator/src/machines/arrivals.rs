//! What coming machines have written down, many in one transaction. After a restart they all come
//! at once, and with a transaction for each the last of them would wait for thousands: whatever
//! comes while one commit is under way is in the next.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use reeve_protocol::{Facts, Hello, MachineId};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::store;
use crate::clock::Clock;
use crate::db::{Db, DbError};
use crate::tasks::Tasks;

/// Notes waiting to be written. When full, sessions that have one wait.
const QUEUE: usize = 4096;

/// Notes of one transaction: short enough that nobody else waits long for the one writer of the
/// database, and within the parameters that a statement may have.
const AT_ONCE: usize = 512;

/// A session that begins.
pub(super) struct Arrival {
    pub machine: MachineId,
    pub agent_version: String,
    pub boot_id: String,
}

/// The epoch of a session that began, once it is durable. The error is that of everybody in the same
/// transaction.
type Begun = Result<u64, Arc<DbError>>;

enum Note {
    Arrival(Arrival, oneshot::Sender<Begun>),
    Facts(MachineId, Box<Facts>),
}

/// Where notes are handed in. Cheap to clone.
#[derive(Clone)]
pub(super) struct Arrivals(mpsc::Sender<Note>);

impl Arrivals {
    /// Starts what writes them.
    pub(super) fn start(db: Db, clock: Clock, tasks: &Tasks) -> Self {
        let (sender, notes) = mpsc::channel(QUEUE);
        tasks.spawn_vital("arrivals", write_all(db, clock, notes, tasks.token()));
        Self(sender)
    }

    /// A session begins.
    pub(super) async fn begin(&self, hello: &Hello) -> Begun {
        let stopping = || Arc::new(DbError::Content("the coordinator is stopping".to_owned()));
        let (done, epoch) = oneshot::channel();
        let arrival = Arrival {
            machine: hello.machine,
            agent_version: hello.agent_version.clone(),
            boot_id: hello.boot_id.clone(),
        };
        self.0.send(Note::Arrival(arrival, done)).await.map_err(|_| stopping())?;
        epoch.await.map_err(|_| stopping())?
    }

    /// What a machine says of itself. Waits for room and not until it is written: a machine says it
    /// again in its next session.
    pub(super) async fn keep_facts(&self, machine: MachineId, facts: Facts) {
        let _at_the_end = self.0.send(Note::Facts(machine, Box::new(facts))).await;
    }
}

/// What one transaction holds.
#[derive(Default)]
struct Batch {
    coming: Vec<Arrival>,
    waiting: BTreeMap<MachineId, oneshot::Sender<Begun>>,
    facts: HashMap<MachineId, Box<Facts>>,
}

impl Batch {
    /// Takes notes until it has enough of them, or one machine would begin two sessions at once:
    /// each has its own epoch.
    fn fill(&mut self, notes: &mut VecDeque<Note>) {
        while let Some(note) = notes.pop_front() {
            match note {
                Note::Arrival(arrival, done) if self.waiting.contains_key(&arrival.machine) => {
                    notes.push_front(Note::Arrival(arrival, done));
                    return;
                }
                Note::Arrival(arrival, done) => {
                    self.waiting.insert(arrival.machine, done);
                    self.coming.push(arrival);
                }
                Note::Facts(machine, facts) => {
                    self.facts.insert(machine, facts);
                }
            }
        }
    }

    async fn write(self, db: &Db, now_us: i64) {
        let facts: Vec<_> = self.facts.into_iter().collect();
        match commit(db, &self.coming, &facts, now_us).await {
            Ok(mut epochs) => {
                for (machine, done) in self.waiting {
                    let gone = || DbError::Content(format!("machine {machine} is gone"));
                    let _hung_up =
                        done.send(epochs.remove(&machine).ok_or_else(|| Arc::new(gone())));
                }
            }
            Err(error) => {
                if !facts.is_empty() {
                    tracing::warn!(%error, machines = facts.len(), "facts could not be kept");
                }
                let error = Arc::new(error);
                for done in self.waiting.into_values() {
                    let _hung_up = done.send(Err(Arc::clone(&error)));
                }
            }
        }
    }
}

async fn write_all(db: Db, clock: Clock, mut queue: mpsc::Receiver<Note>, stop: CancellationToken) {
    let mut notes = VecDeque::new();
    loop {
        if notes.is_empty() {
            let mut taken = Vec::new();
            tokio::select! {
                biased;
                count = queue.recv_many(&mut taken, AT_ONCE) => if count == 0 { return },
                () = stop.cancelled() => return,
            }
            notes.extend(taken);
        }
        let mut batch = Batch::default();
        batch.fill(&mut notes);
        batch.write(&db, clock.micros()).await;
    }
}

async fn commit(
    db: &Db,
    coming: &[Arrival],
    facts: &[(MachineId, Box<Facts>)],
    now_us: i64,
) -> Result<HashMap<MachineId, u64>, DbError> {
    let mut tx = db.begin().await?;
    let epochs = store::begin_sessions(&mut tx, coming, now_us).await?;
    store::keep_facts(&mut tx, facts).await?;
    tx.commit().await?;
    Ok(epochs)
}
