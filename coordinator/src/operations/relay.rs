//! Output that is passed on and not kept: from the session that hears it into a bounded buffer of
//! its operation, from there to the one who reads it. Credit for more is granted as the reader
//! takes it, so a slow reader slows its operation and nobody else.
//!
//! What has not been passed on is still on the machine. After a cut the agent sends it again; after
//! the reader has gone, or the coordinator was restarted, the rest is thrown away and the operation
//! is cancelled.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use reeve_link::credit::Window;
use reeve_protocol::{
    Acknowledge, Credit, Envelope, Gap, JobId, OperationId, OperationReport, Output, Stream,
    Totals, limits,
};

use super::output::incoming::{self, Breach, Fresh};
use super::output::{Closing, Part, record};
use crate::events::Mailbox;
use crate::fleet::{Session, Tap};

/// Output of one operation that may be on its way to its reader, bytes. Covers a fast link with a
/// reader that pauses for milliseconds; what it holds is memory.
const MAX_WINDOW: u64 = 4 * 1024 * 1024;

/// Likewise over all operations: windows stop growing there.
const BUDGET: u64 = 256 * 1024 * 1024;

/// Readers that wait to be taken up.
const MAX_UNCLAIMED: usize = 4096;

/// Frames up to this size are put together, so that many small ones cost little more than their
/// bytes.
const SMALL: usize = 4 * 1024;

/// Bytes of small frames put together.
const PACKED_BYTES: usize = 64 * 1024;

/// Why a job is cancelled whose reader went before its end.
pub const READER_GONE: &str = "its reader is gone: whoever it was relayed to closed the connection";

/// What relays of all operations may hold. Cheap to clone.
#[derive(Clone, Default)]
pub struct Budget(Arc<AtomicU64>);

/// The relays of a job, by operation.
pub type Relays = HashMap<OperationId, Arc<Relay>>;

/// The relay of one operation.
pub struct Relay {
    operation: OperationId,
    /// Where the reader hears that there is something to take.
    ready: Mailbox<OperationId>,
    budget: Budget,
    state: Mutex<State>,
}

struct State {
    session: Option<Arc<Session>>,
    window: Window,
    held: VecDeque<Held>,
    /// Where the first of what is held begins.
    taken: Totals,
    /// Behind the last of it.
    received: Totals,
    /// Up to here it is with the reader.
    passed: u64,
    /// Whether `received` was counted from the start. After a restart of the coordinator it was not.
    counted: bool,
    /// Nobody reads it any more.
    discards: bool,
    /// The result has come, so nothing more will.
    finished: bool,
    /// The reader was told and has not looked yet.
    told: bool,
}

enum Held {
    Bytes(Stream, Bytes),
    /// Small ones, as records.
    Packed(Vec<u8>),
    Gap(Gap),
}

/// What a reader took.
pub struct Taken {
    /// In order.
    pub parts: Vec<Part>,
    /// The merged offset behind them, for [`Relay::passed`].
    pub until: u64,
}

/// Whoever reads what is relayed of a job. When it is dropped before the end, the job is cancelled.
pub struct Reader {
    job: JobId,
    relays: Arc<Relays>,
    ready: Mailbox<OperationId>,
    closings: Mailbox<Closing>,
    /// Why it is gone, if it goes before the end.
    reason: &'static str,
    done: bool,
}

/// Readers that wait to be taken up by whoever comes for them, by operation. Cheap to clone.
#[derive(Clone, Default)]
pub struct Unclaimed(Arc<Mutex<HashMap<OperationId, Reader>>>);

impl Unclaimed {
    /// Keeps a reader for whoever comes. `false` when too many wait; it is gone then.
    pub fn leave(&self, operation: OperationId, reader: Reader) -> bool {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = open.len() < MAX_UNCLAIMED;
        if has_room {
            open.insert(operation, reader);
        }
        has_room
    }

    /// The reader of an operation, once.
    pub fn take(&self, operation: OperationId) -> Option<Reader> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&operation)
    }
}

/// Relays for the operations of a new job, and their reader.
pub fn open(
    job: JobId,
    operations: impl Iterator<Item = OperationId>,
    closings: &Mailbox<Closing>,
    budget: &Budget,
) -> (Arc<Relays>, Reader) {
    let ready = Mailbox::default();
    let relays = operations.map(|id| (id, Relay::new(id, &ready, budget, true))).collect();
    let relays = Arc::new(relays);
    let reader = Reader {
        job,
        relays: Arc::clone(&relays),
        ready,
        closings: closings.clone(),
        reason: READER_GONE,
        done: false,
    };
    (relays, reader)
}

/// Relays for a job whose reader went with a former run of the coordinator.
pub fn orphans(operations: impl Iterator<Item = OperationId>, budget: &Budget) -> Arc<Relays> {
    let ready = Mailbox::default();
    Arc::new(operations.map(|id| (id, Relay::new(id, &ready, budget, false))).collect())
}

impl Reader {
    /// Of which job.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// Waits until something may be there to be taken. Cancel safe.
    pub async fn arrived(&self) {
        self.ready.arrived().await;
    }

    /// The relays that have something since they were last asked for.
    pub fn ready(&self) -> Vec<OperationId> {
        self.ready.take()
    }

    /// The relay of an operation.
    pub fn relay(&self, operation: OperationId) -> Option<&Arc<Relay>> {
        self.relays.get(&operation)
    }

    /// Somebody has come for it.
    pub fn claimed(mut self) -> Self {
        self.reason = READER_GONE;
        self
    }

    /// Why it goes, if it goes before the end.
    pub fn set_reason(&mut self, reason: &'static str) {
        self.reason = reason;
    }

    /// Nobody wants the rest, for this reason: the job is cancelled.
    pub fn give_up(mut self, reason: &'static str) {
        self.reason = reason;
    }

    /// Everything has ended and was taken.
    pub fn finish(&mut self) {
        self.done = true;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        for relay in self.relays.values() {
            relay.discard();
        }
        self.closings.put(Closing::ReaderGone { job: self.job, reason: self.reason });
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let size = self.state().window.size();
        self.budget.0.fetch_sub(size, Ordering::Relaxed);
    }
}

impl Tap for Relay {
    fn take(&self, epoch: u64, envelope: &Envelope) -> Result<(), Box<dyn std::error::Error>> {
        Ok(self.push(epoch, envelope.open::<Output>().map_err(Breach::from)?)?)
    }
}

impl Relay {
    fn new(
        operation: OperationId,
        ready: &Mailbox<OperationId>,
        budget: &Budget,
        counted: bool,
    ) -> Arc<Self> {
        let window = Window::new(0);
        budget.0.fetch_add(window.size(), Ordering::Relaxed);
        Arc::new(Self {
            operation,
            ready: ready.clone(),
            budget: budget.clone(),
            state: Mutex::new(State {
                session: None,
                window,
                held: VecDeque::new(),
                taken: Totals::default(),
                received: Totals::default(),
                passed: 0,
                counted,
                discards: !counted,
                finished: false,
                told: false,
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole, so a poisoned lock is still good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It goes to its machine through this session.
    pub fn begin(self: &Arc<Self>, session: &Arc<Session>) {
        session.tap(self.operation, Arc::clone(self) as Arc<dyn Tap>);
        self.state().session = Some(Arc::clone(session));
    }

    /// Its machine is back and waits to hear from where to go on. What was not passed on yet comes
    /// again, so that nothing is held beyond what the agent takes for granted.
    pub fn resume(self: &Arc<Self>, session: &Arc<Session>, report: &OperationReport) {
        session.tap(self.operation, Arc::clone(self) as Arc<dyn Tap>);
        let mut state = self.state();
        state.session = Some(Arc::clone(session));
        if !state.counted {
            // Only its length matters, and the result says that.
            state.received.all = state.received.all.max(report.spool_to);
            state.taken = state.received;
            state.passed = state.received.all;
        } else if !state.finished {
            state.held.clear();
            state.received = state.taken;
            state.told = false;
        }
        let from = state.received.all;
        let until = state.window.restart(from);
        session.tell(Some(self.operation), &Acknowledge { durable: from, result: false });
        session.tell(Some(self.operation), &Credit::Output { until });
    }

    /// A frame of its output came through a session.
    pub(in crate::operations) fn push(&self, epoch: u64, output: Output) -> Result<(), Breach> {
        let mut state = self.state();
        // The old session's last words, after the machine has reconnected: it will say them again.
        if state.finished || state.session.as_ref().is_none_or(|session| session.epoch != epoch) {
            return Ok(());
        }
        if !state.counted {
            let end = output
                .gap
                .map_or(output.all.saturating_add(output.bytes.len() as u64), |gap| gap.to);
            state.received.all = state.received.all.max(end);
            self.let_go(&mut state);
            return Ok(());
        }
        match incoming::check(state.received, &state.window, output.as_ref())? {
            Fresh::Nothing => return Ok(()),
            Fresh::Bytes { known } => {
                let bytes = Bytes::from(output.bytes).split_off(known);
                incoming::advance(&mut state.received, output.stream, bytes.len() as u64);
                if !state.discards {
                    state.hold(output.stream, bytes);
                }
            }
            Fresh::Gap(gap) => {
                incoming::skip(&mut state.received, gap);
                if !state.discards {
                    state.held.push_back(Held::Gap(gap));
                }
            }
        }
        if state.discards {
            self.let_go(&mut state);
        } else if !std::mem::replace(&mut state.told, true) {
            drop(state);
            self.ready.put(self.operation);
        }
        Ok(())
    }

    /// The result has come behind this much output.
    pub(in crate::operations) fn finish(&self, totals: Totals) -> Result<(), Breach> {
        let mut state = self.state();
        if state.counted && state.received != totals {
            return Err(Breach::Short(totals.all, state.received.all));
        }
        state.finished = true;
        Ok(())
    }

    /// What has come, about `budget` bytes of it.
    pub fn take(&self, budget: usize) -> Taken {
        let mut state = self.state();
        let mut parts = Vec::new();
        let mut bytes = 0;
        while bytes < budget
            && let Some(held) = state.held.pop_front()
        {
            let before = state.taken.all;
            state.unpack(held, &mut parts);
            bytes += usize::try_from(state.taken.all - before).unwrap_or(usize::MAX);
        }
        state.told = !state.held.is_empty();
        Taken { parts, until: state.taken.all }
    }

    /// The reader's connection has taken everything up to here.
    pub fn passed(&self, until: u64) {
        let mut state = self.state();
        state.passed = state.passed.max(until);
        self.grant(&mut state);
    }

    /// Nobody reads it any more: what is held and what still comes is thrown away, and its command
    /// does not wait for anybody.
    pub fn discard(&self) {
        let mut state = self.state();
        state.discards = true;
        self.let_go(&mut state);
    }

    /// Whether nobody reads it any more.
    pub fn is_discarded(&self) -> bool {
        self.state().discards
    }

    fn let_go(&self, state: &mut State) {
        state.held.clear();
        state.taken = state.received;
        state.passed = state.received.all;
        self.grant(state);
    }

    fn grant(&self, state: &mut State) {
        if state.finished {
            return;
        }
        let size = state.window.size();
        let may_grow = size < MAX_WINDOW && self.budget.0.load(Ordering::Relaxed) < BUDGET;
        let until = state.window.advance(state.passed, state.received.all, may_grow);
        let grown = state.window.size() - size;
        self.budget.0.fetch_add(grown, Ordering::Relaxed);
        if let (Some(until), Some(session)) = (until, &state.session) {
            let durable = state.passed;
            session.tell(Some(self.operation), &Acknowledge { durable, result: false });
            session.tell(Some(self.operation), &Credit::Output { until });
        }
    }
}

impl State {
    fn hold(&mut self, stream: Stream, bytes: Bytes) {
        if bytes.len() > SMALL {
            self.held.push_back(Held::Bytes(stream, bytes));
            return;
        }
        if let Some(Held::Packed(packed)) = self.held.back_mut()
            && packed.len() + bytes.len() <= PACKED_BYTES
        {
            record::push(packed, stream, &bytes);
            return;
        }
        let mut packed = Vec::new();
        record::push(&mut packed, stream, &bytes);
        self.held.push_back(Held::Packed(packed));
    }

    fn unpack(&mut self, held: Held, parts: &mut Vec<Part>) {
        match held {
            Held::Bytes(stream, bytes) => self.part(stream, bytes, parts),
            Held::Packed(packed) => {
                let packed = Bytes::from(packed);
                let mut rest: &[u8] = &packed;
                while let Ok(Some(found)) = record::take(&mut rest) {
                    self.part(found.stream, packed.slice_ref(found.bytes), parts);
                }
            }
            Held::Gap(gap) => {
                incoming::skip(&mut self.taken, gap);
                parts.push(Part::Gap(gap));
            }
        }
    }

    fn part(&mut self, stream: Stream, bytes: Bytes, parts: &mut Vec<Part>) {
        let at = self.taken;
        incoming::advance(&mut self.taken, stream, bytes.len() as u64);
        let offset = match stream {
            Stream::Stdout => at.stdout,
            Stream::Stderr => at.stderr,
        };
        parts.push(Part::Bytes { stream, all: at.all, offset, bytes });
    }
}

/// Bytes that an agent may send before it is granted any are within what a relay may hold.
const _: () = assert!(limits::INITIAL_CREDIT <= MAX_WINDOW);
