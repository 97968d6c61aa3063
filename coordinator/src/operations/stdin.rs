//! Stdin of running commands, wherever it comes from: passed on in order, within the window that
//! the machine allows, and again from where the machine has it after a link was cut.

mod body;
mod source;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reeve_protocol::{Control, MachineId, OperationId, limits};
use reeve_sdk::api::InputAccepted;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use super::typing::Keyboard;
use crate::fleet::{Fleet, Session};

pub use body::BodySource;
pub use source::{Retained, Source, SourceError};

/// A request is answered when nothing has happened for this long, with however much has arrived.
const ANSWER_AFTER: Duration = Duration::from_secs(10);

/// And in any case after this long: clients wait for a minute.
const ANSWER_WITHIN: Duration = Duration::from_secs(45);

/// Who has a place to send gives it back after this many bytes, so that all get their turns.
const SLICE_BYTES: u64 = 4 * 1024 * 1024;

/// And when its machine's link has not taken a frame for this long.
const LINK_PATIENCE: Duration = Duration::from_millis(500);

/// How far stdin of one operation has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// What the keeper has.
    pub received: u64,
    /// The command reads no more, or all of it has been handed over.
    pub closed: bool,
    /// What the machine allows to be sent.
    until: u64,
    /// What has been sent in this session.
    sent: u64,
    /// Which session that is.
    epoch: u64,
    /// Length of the whole stdin, once its sender has said so.
    end: Option<u64>,
    /// The session that was told of the end.
    end_told: Option<u64>,
}

impl Arrived {
    /// Whether nothing is left to do for a source that ends here.
    fn is_settled(&self, end: u64) -> bool {
        let told = self.end != Some(end) || self.end_told == Some(self.epoch);
        self.received >= end && told
    }

    /// What may be under way to the machine.
    fn window(&self) -> u64 {
        self.until.saturating_sub(self.received)
    }
}

/// How a source is poured.
#[derive(Clone, Copy)]
pub enum Patience<'a> {
    /// For as long as it takes, and only with one of these places: many read files at once.
    Forever(Option<&'a Semaphore>),
    /// Somebody waits for an answer.
    Answer,
}

/// All open stdins. Cheap to clone.
#[derive(Clone, Default)]
pub struct Stdins(Arc<Open>);

#[derive(Default)]
struct Open {
    all: Mutex<HashMap<OperationId, Arc<Stdin>>>,
    /// Another one was opened.
    opened: Notify,
}

pub(super) struct Stdin {
    machine: MachineId,
    state: watch::Sender<Arrived>,
    /// Held while something is being sent, so that sources do not mix.
    turn: tokio::sync::Mutex<()>,
    /// Of a terminal: who types.
    pub(super) keyboard: tokio::sync::Mutex<Keyboard>,
}

impl Stdins {
    fn all(&self) -> MutexGuard<'_, HashMap<OperationId, Arc<Stdin>>> {
        self.0.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, operation: OperationId) -> Option<Arc<Stdin>> {
        self.all().get(&operation).cloned()
    }

    /// Waits until an operation's stdin is open.
    pub async fn opened(&self, operation: OperationId) {
        loop {
            let mut opened = std::pin::pin!(self.0.opened.notified());
            // Noticed from here on, so that none is missed after the look.
            opened.as_mut().enable();
            if self.find(operation).is_some() {
                return;
            }
            opened.await;
        }
    }

    /// An operation with stdin goes to its machine, or its machine is back: `received` bytes of it
    /// are there.
    pub fn open(&self, operation: OperationId, session: &Session, received: u64) {
        let stdin = Arc::clone(self.all().entry(operation).or_insert_with(|| {
            Arc::new(Stdin {
                machine: session.machine,
                state: watch::Sender::new(Arrived::default()),
                turn: tokio::sync::Mutex::default(),
                keyboard: tokio::sync::Mutex::default(),
            })
        }));
        stdin.state.send_modify(|state| {
            // An agent that has only just come back may not have asked its keeper yet.
            state.received = state.received.max(received);
            state.until = state.until.max(state.received + limits::STDIN_WINDOW);
            state.sent = state.received;
            state.epoch = session.epoch;
        });
        // The end was said to a session that is gone; its agent may not have heard it.
        let now = *stdin.state.borrow();
        if let Some(offset) = now.end.filter(|end| *end == now.received) {
            session.tell(Some(operation), &Control::CloseInput { offset });
            stdin.state.send_modify(|state| state.end_told = Some(session.epoch));
        }
        self.0.opened.notify_waiters();
    }

    /// The machine says how far it has got.
    pub fn advance(&self, operation: OperationId, received: u64, until: u64, closed: bool) {
        if let Some(stdin) = self.find(operation) {
            stdin.state.send_modify(|state| {
                state.received = state.received.max(received);
                state.sent = state.sent.max(state.received);
                state.until = state.until.max(until);
                state.closed |= closed;
            });
        }
    }

    /// The operation has ended.
    pub fn close(&self, operation: OperationId) {
        let stdin = self.all().remove(&operation);
        if let Some(stdin) = stdin {
            stdin.state.send_modify(|state| state.closed = true);
        }
    }

    /// The machine an open stdin leads to.
    #[must_use]
    pub fn machine(&self, operation: OperationId) -> Option<MachineId> {
        self.find(operation).map(|stdin| stdin.machine)
    }

    /// How far it has got.
    #[must_use]
    pub fn arrived(&self, operation: OperationId) -> Option<Arrived> {
        self.find(operation).map(|stdin| *stdin.state.borrow())
    }

    /// How far an open stdin has got, from now on.
    #[must_use]
    pub fn watch(&self, operation: OperationId) -> Option<watch::Receiver<Arrived>> {
        self.find(operation).map(|stdin| stdin.state.subscribe())
    }

    /// Passes a piece on. Pieces may come at the same time, and again; they are sent in order and
    /// once per session. Answers when all of the piece has arrived, or after a while.
    pub async fn pass(
        &self,
        fleet: &Fleet,
        operation: OperationId,
        offset: u64,
        bytes: Bytes,
        last: bool,
    ) -> Option<InputAccepted> {
        let piece = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(bytes)]);
        let mut source = BodySource::new(piece, offset, last);
        let state = match self.pour(fleet, operation, &mut source, Patience::Answer).await? {
            Ok(state) => state,
            // It is whole.
            Err(_) => self.arrived(operation)?,
        };
        Some(InputAccepted { received: state.received, closed: state.closed })
    }

    /// Passes a source on until all of it has arrived, the command reads no more, or patience ends.
    /// Several may be poured at the same time, and the same again; what they have is sent in order
    /// and once per session. How far stdin has got; `None` when it is not open.
    ///
    /// # Errors
    /// When the source ends without having been whole.
    pub async fn pour(
        &self,
        fleet: &Fleet,
        operation: OperationId,
        source: &mut impl Source,
        patience: Patience<'_>,
    ) -> Option<Result<Arrived, SourceError>> {
        let stdin = self.find(operation)?;
        let poured = stdin.pour(fleet, operation, source, patience).await;
        let state = *stdin.state.borrow();
        Some(poured.map(|()| state))
    }
}

/// What came of trying to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// There was nothing to send, or it may not be sent.
    Nothing,
    /// Something was.
    Some,
    /// The machine's link is full.
    Stalled,
}

impl Stdin {
    async fn pour(
        &self,
        fleet: &Fleet,
        operation: OperationId,
        source: &mut impl Source,
        patience: Patience<'_>,
    ) -> Result<(), SourceError> {
        let mut state = self.state.subscribe();
        let answer_at = Instant::now() + ANSWER_WITHIN;
        let mut progress = (0, 0);
        let mut moved_at = Instant::now();
        let mut link_was_full = false;
        // Once: two who do not agree about the end would not stop correcting each other.
        let mut end_said = false;
        loop {
            let now = *state.borrow_and_update();
            source.release(now.received, now.window());
            if let Some(total) = source.total().filter(|_| !end_said) {
                end_said = true;
                self.state.send_modify(|state| state.end = Some(total));
                continue;
            }
            let is_over = source.is_finished() && now.is_settled(source.end());
            if now.closed || is_over {
                return Ok(());
            }
            if progress != (now.received, source.end()) {
                progress = (now.received, source.end());
                moved_at = Instant::now();
            }
            // What comes before may be on its way from another source.
            if !link_was_full
                && self.has_work(&now, source)
                && let Some(session) = fleet.find(self.machine)
                && session.epoch == now.epoch
            {
                if Self::is_little(&now, source) {
                    // Each frame costs its way through three processes, so one that is not full goes
                    // out only when nothing more is there at once.
                    tokio::select! {
                        biased;
                        grown = source.grow() => {
                            grown?;
                            continue;
                        }
                        () = tokio::task::yield_now() => {}
                    }
                }
                let place = match patience {
                    Patience::Forever(Some(places)) => places.acquire().await.ok(),
                    _ => None,
                };
                if let Ok(turn) = self.turn.try_lock() {
                    let sent = self.send(&session, operation, source, place.is_some()).await?;
                    drop(turn);
                    if sent == Sent::Some {
                        // Whoever found the turn taken looks again.
                        self.state.send_modify(|_| {});
                    }
                    link_was_full = sent == Sent::Stalled;
                }
            }
            let answer = match patience {
                Patience::Forever(_) => None,
                Patience::Answer => Some(answer_at.min(moved_at + ANSWER_AFTER)),
            };
            let pause = if link_was_full { Some(Instant::now() + LINK_PATIENCE) } else { answer };
            tokio::select! {
                changed = state.changed() => if changed.is_err() { return Ok(()) },
                grown = source.grow(), if source.wants_more() => grown?,
                () = sleep_until(pause), if pause.is_some() => {
                    if !std::mem::take(&mut link_was_full) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Whether the source has what comes next, and it may be sent.
    fn has_work(&self, now: &Arrived, source: &impl Source) -> bool {
        let next = now.sent < now.until.min(source.end());
        let end = now.end.is_some() && now.end_told != Some(now.epoch);
        now.sent >= source.start() && (next || (end && source.total() == now.end))
    }

    /// Whether what may be sent would not fill a frame, and more may come.
    fn is_little(now: &Arrived, source: &impl Source) -> bool {
        let frame = limits::MAX_DATA_BYTES as u64;
        source.wants_more() && source.end() < now.sent + frame && now.sent + frame <= now.until
    }

    /// Sends what has not been sent in this session, as far as the machine allows. Who has a place
    /// does not keep it for long.
    async fn send(
        &self,
        session: &Arc<Session>,
        operation: OperationId,
        source: &mut impl Source,
        has_place: bool,
    ) -> Result<Sent, SourceError> {
        let mut progressed = Sent::Nothing;
        let mut slice = 0;
        loop {
            let now = *self.state.borrow();
            if now.epoch != session.epoch || now.closed || now.sent < source.start() {
                return Ok(progressed);
            }
            let room = now.until.min(source.end()).saturating_sub(now.sent);
            if room > 0 {
                // What became of the source is looked at in between, and a place is not kept long.
                if slice >= SLICE_BYTES {
                    return Ok(progressed);
                }
                let bytes = source.read(now.sent, room).await?;
                let length = bytes.len() as u64;
                if length == 0 {
                    return Ok(progressed);
                }
                let input = Control::Input { offset: now.sent, bytes };
                let sending = session.send_bulk(operation, &input);
                let sent = if has_place {
                    // Nothing was queued when the time is up.
                    match tokio::time::timeout(LINK_PATIENCE, sending).await {
                        Ok(sent) => sent,
                        Err(_) => return Ok(Sent::Stalled),
                    }
                } else {
                    sending.await
                };
                if sent.is_err() {
                    return Ok(progressed);
                }
                self.update(session, |state| state.sent = state.sent.max(now.sent + length));
                slice += length;
                progressed = Sent::Some;
            } else if let Some(end) = now.end
                && source.total() == Some(end)
                && now.sent >= end
                && now.end_told != Some(now.epoch)
            {
                // In order behind the last byte.
                if session.send_bulk(operation, &Control::CloseInput { offset: end }).await.is_err()
                {
                    return Ok(progressed);
                }
                self.update(session, |state| state.end_told = Some(session.epoch));
                progressed = Sent::Some;
            } else {
                return Ok(progressed);
            }
        }
    }

    fn update(&self, session: &Session, change: impl FnOnce(&mut Arrived)) {
        self.state.send_modify(|state| {
            if state.epoch == session.epoch {
                change(state);
            }
        });
    }
}

async fn sleep_until(time: Option<Instant>) {
    if let Some(time) = time {
        tokio::time::sleep_until(time).await;
    }
}
