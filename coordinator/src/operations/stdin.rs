//! Stdin of running commands. The sender keeps what has not safely arrived; this only passes
//! pieces on, in order, within the window that the machine allows, and says how far it has got.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reeve_protocol::{Control, MachineId, OperationId, limits};
use reeve_sdk::api::InputAccepted;
use tokio::sync::watch;

use crate::fleet::{Fleet, Session};

/// A piece is answered for after this long, with however much has arrived.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

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
    /// Whether nothing is left to do for a piece that ends here.
    fn is_settled(&self, end: u64) -> bool {
        let told = self.end != Some(end) || self.end_told == Some(self.epoch);
        self.closed || (self.received >= end && told)
    }
}

/// All open stdins. Cheap to clone.
#[derive(Clone, Default)]
pub struct Stdins(Arc<Mutex<HashMap<OperationId, Arc<Stdin>>>>);

struct Stdin {
    machine: MachineId,
    state: watch::Sender<Arrived>,
    /// Held while a piece is being sent, so that pieces do not mix.
    turn: tokio::sync::Mutex<()>,
}

impl Stdins {
    fn find(&self, operation: OperationId) -> Option<Arc<Stdin>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&operation).cloned()
    }

    /// An operation with stdin goes to its machine, or its machine is back: `received` bytes of it
    /// are there.
    pub fn open(&self, operation: OperationId, session: &Session, received: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stdin = all.entry(operation).or_insert_with(|| {
            Arc::new(Stdin {
                machine: session.machine,
                state: watch::Sender::new(Arrived::default()),
                turn: tokio::sync::Mutex::default(),
            })
        });
        stdin.state.send_modify(|state| {
            state.received = state.received.max(received);
            state.until = state.until.max(state.received + limits::STDIN_WINDOW);
            state.sent = received;
            state.epoch = session.epoch;
        });
        // The end was said to a session that is gone; its agent may not have heard it.
        let now = *stdin.state.borrow();
        if let Some(offset) = now.end.filter(|end| *end == received) {
            session.tell(Some(operation), &Control::CloseInput { offset });
            stdin.state.send_modify(|state| state.end_told = Some(session.epoch));
        }
    }

    /// The machine says how far it has got.
    pub fn advance(&self, operation: OperationId, received: u64, until: u64, closed: bool) {
        if let Some(stdin) = self.find(operation) {
            stdin.state.send_modify(|state| {
                state.received = state.received.max(received);
                state.until = state.until.max(until);
                state.closed |= closed;
            });
        }
    }

    /// The operation has ended.
    pub fn close(&self, operation: OperationId) {
        let stdin = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&operation);
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
    /// once per session. Answers when all of the piece has arrived, or after 10 s.
    pub async fn pass(
        &self,
        fleet: &Fleet,
        operation: OperationId,
        offset: u64,
        bytes: Bytes,
        last: bool,
    ) -> Option<InputAccepted> {
        let stdin = self.find(operation)?;
        let end = offset.saturating_add(bytes.len() as u64);
        if last {
            stdin.state.send_modify(|state| state.end = Some(end));
        }
        let work = stdin.pass(fleet, operation, offset, &bytes, end);
        // Whatever has arrived by then is the answer; the sender goes on from there.
        let _ = tokio::time::timeout(ANSWER_WITHIN, work).await;
        let state = *stdin.state.borrow();
        Some(InputAccepted { received: state.received, closed: state.closed })
    }
}

impl Stdin {
    async fn pass(
        &self,
        fleet: &Fleet,
        operation: OperationId,
        offset: u64,
        bytes: &Bytes,
        end: u64,
    ) {
        let mut state = self.state.subscribe();
        loop {
            let now = *state.borrow_and_update();
            if now.is_settled(end) {
                return;
            }
            // An earlier piece has to come first; it may be on its way in another request.
            if now.sent >= offset
                && let Some(session) = fleet.find(self.machine)
                && session.epoch == now.epoch
                && let Ok(turn) = self.turn.try_lock()
            {
                let progressed = self.send(&session, operation, offset, bytes, end).await;
                drop(turn);
                if progressed {
                    // Whoever found the turn taken looks again.
                    self.state.send_modify(|_| {});
                }
            }
            if state.changed().await.is_err() {
                return;
            }
        }
    }

    /// Sends what of a piece has not been sent in this session, as far as the machine allows.
    /// Whether there was anything.
    async fn send(
        &self,
        session: &Arc<Session>,
        operation: OperationId,
        offset: u64,
        bytes: &Bytes,
        end: u64,
    ) -> bool {
        let mut progressed = false;
        loop {
            let now = *self.state.borrow();
            if now.epoch != session.epoch || now.closed || now.sent < offset {
                return progressed;
            }
            let room = now.until.saturating_sub(now.sent).min(limits::MAX_DATA_BYTES as u64);
            let next = (now.sent + room).min(end);
            if next > now.sent {
                let from = usize::try_from(now.sent - offset).unwrap_or(usize::MAX);
                let to = usize::try_from(next - offset).unwrap_or(usize::MAX);
                let Some(piece) = bytes.get(from..to) else { return progressed };
                let input = Control::Input { offset: now.sent, bytes: piece.to_vec() };
                if session.send_bulk(operation, &input).await.is_err() {
                    return progressed;
                }
                self.update(session, |state| state.sent = state.sent.max(next));
                progressed = true;
            } else if now.sent >= end && now.end == Some(end) && now.end_told != Some(now.epoch) {
                // In order behind the last piece.
                if session.send_bulk(operation, &Control::CloseInput { offset: end }).await.is_err()
                {
                    return progressed;
                }
                self.update(session, |state| state.end_told = Some(session.epoch));
                progressed = true;
            } else {
                return progressed;
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
