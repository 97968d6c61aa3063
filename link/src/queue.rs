//! What waits to be written: control first, then the operations in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use reeve_protocol::{OperationId, limits};
use tokio::sync::{Notify, Semaphore};

/// What the writer has to do next.
pub(crate) enum Next {
    /// Write this.
    Frame(Bytes),
    /// Nothing more will come.
    Finished,
}

/// Why a frame is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Nothing more is taken; what was queued before is still written.
    Finished,
    /// The peer does not read.
    Full,
}

/// Shared by the senders and the one writer.
#[derive(Clone, Debug)]
pub(crate) struct SendQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the writer. There is one writer, so a stored permit is never lost.
    ready: Notify,
}

#[derive(Debug, Default)]
struct State {
    control: VecDeque<Bytes>,
    /// Frames per operation; an entry lives while it holds frames or somebody waits for room.
    data: HashMap<OperationId, Lane>,
    /// Operations that hold frames, in the order of their turns.
    turns: VecDeque<OperationId>,
    finished: bool,
}

#[derive(Debug)]
struct Lane {
    frames: VecDeque<(Bytes, tokio::sync::OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

impl SendQueue {
    pub(crate) fn new() -> Self {
        let shared = Shared { state: Mutex::new(State::default()), ready: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every critical section below leaves the state whole, so a poisoned lock is still good.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues ahead of all data, unless the last frame was queued or too much waits already.
    pub(crate) fn push_control(&self, frame: Bytes) -> Result<(), Refused> {
        let mut state = self.state();
        if state.finished {
            return Err(Refused::Finished);
        }
        if state.control.len() >= limits::CONTROL_QUEUE {
            return Err(Refused::Full);
        }
        state.control.push_back(frame);
        drop(state);
        self.shared.ready.notify_one();
        Ok(())
    }

    /// Queues behind the operation's earlier frames, once there is room. Cancel safe: the frame is
    /// queued or it is not.
    pub(crate) async fn push_data(&self, operation: OperationId, frame: Bytes) {
        let room = {
            let mut state = self.state();
            let lane = state.data.entry(operation).or_insert_with(Lane::new);
            Arc::clone(&lane.room)
        };
        let Ok(permit) = room.acquire_owned().await else { return };
        let mut state = self.state();
        let lane = state.data.entry(operation).or_insert_with(Lane::new);
        let was_empty = lane.frames.is_empty();
        lane.frames.push_back((frame, permit));
        if was_empty {
            state.turns.push_back(operation);
        }
        drop(state);
        self.shared.ready.notify_one();
    }

    /// No more frames are taken; data that waits is dropped, control that waits is written.
    pub(crate) fn finish(&self) {
        self.state().finished = true;
        self.shared.ready.notify_one();
    }

    /// The next frame to write, if one is ready.
    pub(crate) fn try_next(&self) -> Option<Bytes> {
        self.state().pop()
    }

    /// The next frame to write, waiting for it. Cancel safe.
    pub(crate) async fn next(&self) -> Next {
        loop {
            {
                // One look at both: what is queued between two looks would be left behind.
                let mut state = self.state();
                if let Some(frame) = state.pop() {
                    return Next::Frame(frame);
                }
                if state.finished {
                    return Next::Finished;
                }
            }
            self.shared.ready.notified().await;
        }
    }
}

impl State {
    fn pop(&mut self) -> Option<Bytes> {
        if let Some(frame) = self.control.pop_front() {
            return Some(frame);
        }
        if self.finished {
            return None;
        }
        let operation = self.turns.pop_front()?;
        let lane = self.data.get_mut(&operation)?;
        let (frame, permit) = lane.frames.pop_front()?;
        if lane.frames.is_empty() {
            // Nobody else holds the semaphore: nobody waits for room, the lane can go.
            drop(permit);
            if Arc::strong_count(&lane.room) == 1 {
                self.data.remove(&operation);
            }
        } else {
            self.turns.push_back(operation);
        }
        Some(frame)
    }
}

impl Lane {
    fn new() -> Self {
        Self {
            frames: VecDeque::new(),
            room: Arc::new(Semaphore::new(limits::DATA_QUEUE_PER_OPERATION)),
        }
    }
}
