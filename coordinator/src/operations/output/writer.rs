//! The one loop that makes durable what agents say of operations: output, starts and results, many
//! in one commit. Only afterwards is anything acknowledged to an agent or told to a viewer.
//!
//! Failing disks and databases slow it down and never make it forget: a batch is tried again until
//! it is durable, agents meanwhile hold everything that was not acknowledged.

mod flush;
mod live;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use reeve_protocol::{
    Accepted, Acknowledge, Envelope, JobId, Kind, MachineId, OperationId, OperationResult, Totals,
};
use reeve_sdk::api::OperationState;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::segments::{Open, Segments};
use crate::Clock;
use crate::db::Db;
use crate::events::{Hub, Mailbox};
use crate::fleet::Session;
use crate::operations::store as rows;
use live::Live;

/// Bytes taken from agents before they are written: what one sync is spent on.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Frames taken before they are written: bounds the statements of one commit.
const BATCH_FRAMES: usize = 512;

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
}

/// What the writer is told.
pub enum Command {
    /// Expect this.
    Open(Box<Opening>),
    /// It ended without its machine.
    Forget(OperationId),
}

/// What the writer tells, after it is durable.
pub enum Closing {
    /// The machine has started it.
    Started(OperationId),
    /// It has ended.
    Ended {
        /// Which.
        operation: OperationId,
        /// How.
        state: OperationState,
        /// Its job has ended with it, and that is recorded.
        job_done: bool,
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
    pub(in crate::operations) db: Db,
    pub(in crate::operations) clock: Clock,
    pub(in crate::operations) hub: Hub,
    pub(in crate::operations) segments: Segments,
    pub(in crate::operations) commands: Mailbox<Command>,
    pub(in crate::operations) closings: Mailbox<Closing>,
    pub(in crate::operations) health: HealthFlag,
    /// The lowest segment number this run may use, hence the lowest not to be swept.
    pub(in crate::operations) next_segment: i64,
    pub(in crate::operations) open: Option<Open>,
    pub(in crate::operations) live: HashMap<OperationId, Live>,
    /// Operations with something to make durable.
    pub(in crate::operations) dirty: Vec<OperationId>,
    /// Results that nobody expects.
    strays: Vec<(Arc<Session>, OperationId)>,
    /// Credit windows of all operations together, bytes.
    pub(in crate::operations) credit: u64,
}

/// Why a frame is a breach of the protocol.
#[derive(Debug, thiserror::Error)]
pub(in crate::operations) enum Breach {
    #[error(transparent)]
    Frame(#[from] reeve_protocol::CodecError),
    #[error("output at offset {0} where {1} was to come")]
    Hole(u64, u64),
    #[error("output beyond the credit")]
    NoCredit,
    #[error("output whose gap makes no sense")]
    BadGap,
    #[error("a result of {0} bytes of output after {1} have come")]
    Short(u64, u64),
}

impl Writer {
    /// A writer with nothing open.
    ///
    /// # Errors
    /// When the folder of segments cannot be read.
    pub fn new(db: Db, clock: Clock, hub: Hub, segments: Segments) -> std::io::Result<Self> {
        let next_segment = segments.list()?.last().map_or(1, |last| last + 1);
        Ok(Self {
            db,
            clock,
            hub,
            segments,
            commands: Mailbox::default(),
            closings: Mailbox::default(),
            health: HealthFlag::default(),
            next_segment,
            open: None,
            live: HashMap::new(),
            dirty: Vec::new(),
            strays: Vec::new(),
            credit: 0,
        })
    }

    /// Runs until everything was told to stop and nothing comes any more.
    pub async fn run(
        mut self,
        mut bulk: mpsc::Receiver<(Arc<Session>, Envelope)>,
        stop: CancellationToken,
    ) {
        loop {
            let frame = tokio::select! {
                biased;
                () = self.commands.arrived() => None,
                frame = bulk.recv() => match frame {
                    Some(frame) => Some(frame),
                    None => return,
                },
                () = stop.cancelled() => {
                    while let Ok(frame) = bulk.try_recv() {
                        self.take_commands();
                        self.take_frame(frame);
                    }
                    self.flush(&stop).await;
                    return;
                }
            };
            self.take_commands();
            let mut frames = 0;
            let mut bytes = 0;
            let mut next = frame;
            while let Some(frame) = next.take() {
                frames += 1;
                bytes += frame.1.body.len();
                self.take_frame(frame);
                if frames < BATCH_FRAMES && bytes < BATCH_BYTES {
                    next = bulk.try_recv().ok();
                    if next.is_some() {
                        // Whoever sends a request tells us first, so what we hear of here is known.
                        self.take_commands();
                    }
                }
            }
            self.flush(&stop).await;
            self.answer_strays().await;
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
                    self.live.insert(operation, live);
                    self.dirty.push(operation);
                }
                Command::Forget(operation) => self.forget(operation),
            }
        }
    }

    fn forget(&mut self, operation: OperationId) {
        if let Some(live) = self.live.remove(&operation) {
            self.credit = self.credit.saturating_sub(live.window.size());
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
                envelope.open().map_err(Breach::from).and_then(|out| live.take_output(&out))
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
            Ok(()) => self.dirty.push(operation),
            Err(breach) => {
                metrics::counter!("reeve_protocol_breaches_total").increment(1);
                tracing::warn!(machine = session.name, %operation, %breach, "closing a link");
                session.dismiss(
                    reeve_protocol::GoodbyeReason::Protocol,
                    &breach.to_string(),
                    std::time::Duration::from_secs(5),
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
