//! The way in: what is given to be sent, until it has arrived.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use tokio::sync::{Notify, Semaphore};

use crate::api::channel::{ClientMessage, MAX_INPUT_BYTES};

/// Stdin given to us that has not arrived on the machine, bytes: with more, whoever sends waits.
const UNARRIVED_BYTES: usize = 1024 * 1024;

/// The way in. Cheap to clone.
#[derive(Clone)]
pub struct ChannelInput {
    shared: Arc<Shared>,
}

pub struct Shared {
    state: Mutex<State>,
    /// Something is to be sent.
    pub news: Notify,
    /// Bytes of stdin that may still be given to us.
    room: Semaphore,
}

#[derive(Default)]
struct State {
    /// What has not arrived, in order.
    pieces: VecDeque<(u64, Bytes)>,
    /// Stdin's offset behind everything given to us.
    next: u64,
    /// Stdin's offset up to which it was sent over this connection.
    sent: u64,
    /// Its length, once that is known.
    end: Option<u64>,
    end_sent: bool,
    size: Option<(u16, u16)>,
    size_sent: bool,
    /// Nobody reads what is sent.
    closed: bool,
}

impl ChannelInput {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(super) fn close(&self) {
        self.shared.close();
    }

    /// Goes on where this much stdin was sent before, over another channel. To be called before
    /// anything is sent.
    pub fn start_at(&self, offset: u64) {
        let mut state = self.shared.state();
        if state.pieces.is_empty() {
            state.next = offset;
            state.sent = offset;
        }
    }

    /// Sends bytes to its stdin, in order; waits while too much has not arrived. `false` when nobody
    /// reads them any more.
    pub async fn send(&self, mut bytes: Bytes) -> bool {
        while bytes.has_remaining() {
            let piece = bytes.split_to(bytes.len().min(MAX_INPUT_BYTES));
            let permits = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            let Ok(permit) = self.shared.room.acquire_many(permits).await else { return false };
            permit.forget();
            let mut state = self.shared.state();
            if state.closed || state.end.is_some() {
                return false;
            }
            let at = state.next;
            state.next += piece.len() as u64;
            state.pieces.push_back((at, piece));
            drop(state);
            self.shared.news.notify_one();
        }
        true
    }

    /// Ends its stdin behind what was sent.
    pub fn close_input(&self) {
        let mut state = self.shared.state();
        let end = state.next;
        state.end.get_or_insert(end);
        drop(state);
        self.shared.news.notify_one();
    }

    /// Tells its terminal its size.
    pub fn resize(&self, columns: u16, rows: u16) {
        let mut state = self.shared.state();
        state.size = Some((columns.max(1), rows.max(1)));
        state.size_sent = false;
        drop(state);
        self.shared.news.notify_one();
    }
}

impl Shared {
    pub fn new() -> Self {
        Self { state: Mutex::default(), news: Notify::new(), room: Semaphore::new(UNARRIVED_BYTES) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole, so a poisoned lock is still good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody reads what is sent any more.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.pieces.clear();
        drop(state);
        self.room.close();
    }

    /// This much of stdin has arrived.
    pub fn arrived(&self, received: u64) {
        let mut state = self.state();
        let mut freed = 0;
        while let Some((at, piece)) = state.pieces.front_mut() {
            let length = piece.len() as u64;
            let known = received.saturating_sub(*at).min(length);
            if known == 0 {
                break;
            }
            freed += usize::try_from(known).unwrap_or(0);
            if known == length {
                state.pieces.pop_front();
            } else {
                piece.advance(usize::try_from(known).unwrap_or(0));
                *at += known;
            }
        }
        drop(state);
        self.room.add_permits(freed);
    }

    /// A new connection: everything that has not arrived is sent again.
    pub fn rewind(&self) {
        let mut state = self.state();
        state.sent = state.pieces.front().map_or(state.next, |(at, _)| *at);
        state.end_sent = false;
        state.size_sent = false;
        drop(state);
        self.news.notify_one();
    }

    pub fn next_message(&self) -> Option<ClientMessage> {
        let mut state = self.state();
        if let Some((columns, rows)) = state.size
            && !state.size_sent
        {
            state.size_sent = true;
            return Some(ClientMessage::Resize { columns, rows });
        }
        if state.closed {
            return None;
        }
        let sent = state.sent;
        let at = state.pieces.partition_point(|(at, piece)| at + piece.len() as u64 <= sent);
        if let Some((offset, bytes)) = state.pieces.get(at).cloned() {
            state.sent = offset + bytes.len() as u64;
            return Some(ClientMessage::Input { offset, bytes });
        }
        let offset = state.end.filter(|_| !state.end_sent)?;
        state.end_sent = true;
        Some(ClientMessage::CloseInput { offset })
    }
}
