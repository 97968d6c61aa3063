//! The one loop that makes durable what agents say of operations: output, starts and results, many
//! in one commit. Only afterwards is anything acknowledged to an agent or told to a viewer.
//!
//! Failing disks and databases slow it down and never make it forget: a batch is tried again until
//! it is durable, agents meanwhile hold everything that was not acknowledged.

mod batch;
mod flush;
mod live;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, OptionFuture};
use reeve_protocol::{
    Accepted, Acknowledge, Envelope, JobId, Kind, MachineId, OperationId, OperationResult, Totals,
};
use reeve_sdk::api::OperationState;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::incoming::Breach;
use super::recent::Recent;
use super::segments::{Appender, Segments};
use crate::Clock;
use crate::db::Db;
use crate::events::{Hub, Mailbox};
use crate::fleet::Session;
use crate::operations::relay::Relay;
use crate::operations::store as rows;
use flush::{Flushed, Sink};
use live::Live;

/// Bytes taken from agents before they are written: what one sync is spent on.
const BATCH_BYTES: usize = 16 * 1024 * 1024;

/// Frames taken before they are written: bounds the statements of one commit.
const BATCH_FRAMES: usize = 512;

/// That an operation has started is written no later than this. Nobody waits for it, and a short
/// command ends before: its start and end then cost one commit.
const LAZY: Duration = Duration::from_millis(5);

/// Output that agents may be allowed to send ahead, over all operations, bytes.
const CREDIT_BUDGET: u64 = 256 * 1024 * 1024;

/// An operation the writer is told to expect.
pub struct Opening {
    /// Which.
    pub operation: OperationId,
    /// Of which job.
    pub job: JobId,
    /// On which machine.
    pub machine: MachineId,
    /// Through which session.
    pub session: Arc<Session>,
    /// What is durable of it already.
    pub durable: Totals,
    /// Output kept whole, bytes.
    pub limit: u64,
    /// The agent holds output from before this session and waits to hear from where to send.
    pub resumed: bool,
    /// The agent says that it has started it, and that is not recorded.
    pub accepted: Option<Accepted>,
    /// Whoever its output is passed on to instead of being made durable.
    pub relay: Option<Arc<Relay>>,
}

/// What the writer is told.
pub enum Command {
    /// Expect this.
    Open(Box<Opening>),
    /// It ended without its machine.
    Forget(OperationId),
}

/// What the writer tells the conductor.
pub enum Closing {
    /// The machine says that it has started it: from now on it is never sent again.
    Started(OperationId),
    /// It has ended, and that is durable.
    Ended {
        /// Which.
        operation: OperationId,
        /// How.
        state: OperationState,
        /// Its job has ended with it, and that is recorded.
        job_done: bool,
    },
    /// Nobody reads what is relayed of a job any more.
    ReaderGone {
        /// Which job.
        job: JobId,
        /// Why, for the record.
        reason: &'static str,
    },
}

/// Whether what comes in can be made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriterHealth {
    /// It can.
    Good,
    /// The database does not take it.
    DatabaseDown,
    /// A disk is full.
    DiskFull,
}

/// The writer's health, for readiness. Cheap to clone.
#[derive(Clone, Default)]
pub struct HealthFlag(Arc<AtomicU8>);

impl HealthFlag {
    fn set(&self, health: WriterHealth) {
        self.0.store(health as u8, Ordering::Relaxed);
    }

    /// How it is now.
    #[must_use]
    pub fn get(&self) -> WriterHealth {
        match self.0.load(Ordering::Relaxed) {
            1 => WriterHealth::DatabaseDown,
            2 => WriterHealth::DiskFull,
            _ => WriterHealth::Good,
        }
    }
}

/// The loop and what it owns.
pub struct Writer {
    db: Db,
    hub: Hub,
    pub(in crate::operations) commands: Mailbox<Command>,
    pub(in crate::operations) closings: Mailbox<Closing>,
    pub(in crate::operations) health: HealthFlag,
    /// What followers take from memory.
    pub(in crate::operations) recent: Recent,
    /// Away with the batch that is being made durable.
    sink: Option<Sink>,
    live: HashMap<OperationId, Live>,
    /// Operations with something to make durable.
    dirty: Vec<OperationId>,
    /// What has been taken since the last batch.
    taken: Taken,
    /// Results that nobody expects.
    strays: Vec<(Arc<Session>, OperationId)>,
    /// Credit windows of all operations together, bytes.
    credit: u64,
}

/// What has been taken and is in no batch yet.
#[derive(Default)]
struct Taken {
    frames: usize,
    bytes: usize,
    /// Somebody waits for it: an acknowledgement, credit, an end.
    urgent: bool,
    /// Since when something is there that nobody waits for.
    lazy_since: Option<Instant>,
}

impl Taken {
    fn is_full(&self) -> bool {
        self.frames >= BATCH_FRAMES || self.bytes >= BATCH_BYTES
    }
}

impl Writer {
    /// A writer with nothing open.
    ///
    /// # Errors
    /// When the folder of segments cannot be read.
    pub fn new(db: Db, clock: Clock, hub: Hub, segments: Segments) -> std::io::Result<Self> {
        let appender = Some(Appender::new(segments.clone())?);
        let health = HealthFlag::default();
        let sink = Sink { db: db.clone(), clock, segments, appender, health: health.clone() };
        Ok(Self {
            db,
            hub,
            commands: Mailbox::default(),
            closings: Mailbox::default(),
            health,
            recent: Recent::default(),
            sink: Some(sink),
            live: HashMap::new(),
            dirty: Vec::new(),
            taken: Taken::default(),
            strays: Vec::new(),
            credit: 0,
        })
    }

    /// Runs until everything was told to stop. While one batch is made durable the next is taken.
    pub async fn run(
        mut self,
        mut bulk: mpsc::Receiver<(Arc<Session>, Envelope)>,
        stop: CancellationToken,
    ) {
        let mut flushing: OptionFuture<BoxFuture<'static, Flushed>> = None.into();
        let mut under_way = false;
        loop {
            if !under_way && let Some(batch) = self.start_batch(&stop) {
                flushing = Some(batch).into();
                under_way = true;
            }
            let lazy_end = self.taken.lazy_since.map(|since| since + LAZY);
            tokio::select! {
                biased;
                Some(flushed) = &mut flushing, if under_way => {
                    under_way = false;
                    flushing = None.into();
                    self.finish_batch(flushed);
                }
                () = self.commands.arrived() => self.take_commands(),
                frame = bulk.recv(), if !self.taken.is_full() => {
                    let Some(frame) = frame else { return };
                    self.take(frame, &mut bulk);
                    self.answer_strays().await;
                }
                () = sleep_until(lazy_end), if !under_way && lazy_end.is_some() => {
                    self.taken.urgent = true;
                }
                () = stop.cancelled() => break,
            }
        }
        // What agents have sent is taken along; what cannot be stored they will send again.
        if under_way && let Some(flushed) = flushing.await {
            self.finish_batch(flushed);
        }
        while let Ok(frame) = bulk.try_recv() {
            self.take(frame, &mut bulk);
            self.taken.urgent = true;
            if let Some(batch) = self.start_batch(&stop) {
                self.finish_batch(batch.await);
            }
        }
        self.taken.urgent = true;
        if let Some(batch) = self.start_batch(&stop) {
            self.finish_batch(batch.await);
        }
    }

    /// Takes a frame and what has come behind it.
    fn take(
        &mut self,
        first: (Arc<Session>, Envelope),
        bulk: &mut mpsc::Receiver<(Arc<Session>, Envelope)>,
    ) {
        let mut next = Some(first);
        while let Some(frame) = next.take() {
            // Whoever sends a request tells us first, so what we hear of here is known.
            self.take_commands();
            self.taken.frames += 1;
            self.taken.bytes += frame.1.body.len();
            self.take_frame(frame);
            if !self.taken.is_full() {
                next = bulk.try_recv().ok();
            }
        }
    }

    /// A batch of what has been taken, if there is something that somebody waits for.
    fn start_batch(&mut self, stop: &CancellationToken) -> Option<BoxFuture<'static, Flushed>> {
        if !self.taken.urgent && !self.taken.is_full() {
            return None;
        }
        let entries = self.collect();
        self.taken = Taken::default();
        if entries.is_empty() {
            return None;
        }
        let sink = self.sink.take()?;
        Some(Box::pin(sink.flush(entries, stop.clone())))
    }

    fn finish_batch(&mut self, flushed: Flushed) {
        self.sink = Some(flushed.sink);
        if let Some((mut entries, committed)) = flushed.done {
            self.hand_on(&mut entries, committed.at_us);
            self.announce(&entries, committed);
        }
    }

    fn take_commands(&mut self) {
        for command in self.commands.take() {
            match command {
                Command::Open(opening) => {
                    let operation = opening.operation;
                    let live = match self.live.remove(&operation) {
                        Some(live) => live.reopened(*opening),
                        None => {
                            let live = Live::new(*opening);
                            self.credit += live.window.size();
                            live
                        }
                    };
                    if live.resumed || live.accepted.is_some() {
                        self.dirty.push(operation);
                        self.taken.urgent = true;
                    }
                    self.live.insert(operation, live);
                }
                Command::Forget(operation) => self.forget(operation),
            }
        }
    }

    fn forget(&mut self, operation: OperationId) {
        if let Some(live) = self.live.remove(&operation) {
            self.credit = self.credit.saturating_sub(live.window.size());
            if live.relay.is_some() {
                live.session.untap(operation);
            }
        }
    }

    fn take_frame(&mut self, (session, envelope): (Arc<Session>, Envelope)) {
        let Some(operation) = envelope.id else { return };
        let Some(live) = self.live.get_mut(&operation) else {
            if envelope.kind == Kind::Result {
                self.strays.push((session, operation));
            }
            return;
        };
        // The old session's last words, after the machine has reconnected: it will say them again.
        if live.session.epoch != session.epoch || live.machine != session.machine {
            return;
        }
        let taken = match envelope.kind {
            Kind::Output => {
                // What is relayed does not come here.
                envelope.open_output().map_err(Breach::from).and_then(|out| live.take_output(out))
            }
            Kind::Accepted => envelope
                .open::<Accepted>()
                .map_err(Breach::from)
                .map(|body| live.take_accepted(body)),
            Kind::Result => envelope
                .open::<OperationResult>()
                .map_err(Breach::from)
                .and_then(|body| live.take_result(body)),
            _ => Ok(()),
        };
        match taken {
            Ok(()) => {
                self.dirty.push(operation);
                if envelope.kind == Kind::Accepted {
                    self.closings.put(Closing::Started(operation));
                    self.taken.lazy_since.get_or_insert_with(Instant::now);
                } else {
                    self.taken.urgent = true;
                }
            }
            Err(breach) => {
                metrics::counter!("reeve_protocol_breaches_total").increment(1);
                tracing::warn!(machine = session.name, %operation, %breach, "closing a link");
                session.dismiss(
                    reeve_protocol::GoodbyeReason::Protocol,
                    &breach.to_string(),
                    Duration::from_secs(5),
                );
            }
        }
    }

    /// Results of operations that are not expected. One that has ended here already, such as one
    /// whose acknowledgement was lost, its agent may forget. One that is open comes again after the
    /// report: it must not be acknowledged before it is recorded.
    async fn answer_strays(&mut self) {
        for (session, operation) in std::mem::take(&mut self.strays) {
            let row = match self.db.reader().await {
                Ok(mut conn) => rows::load(&mut conn, operation).await,
                Err(error) => Err(error),
            };
            match row {
                Ok(Some(row)) if row.state.is_terminal() && row.machine_id == session.machine => {
                    session.tell(Some(operation), &Acknowledge { durable: u64::MAX, result: true });
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "an operation could not be looked up"),
            }
        }
    }
}

async fn sleep_until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}
