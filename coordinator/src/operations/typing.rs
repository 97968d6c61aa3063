//! What is typed at a terminal, by however many people. Each counts their own bytes; here they
//! become one stdin, in the order in which they come, each byte once.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use reeve_protocol::OperationId;
use reeve_sdk::api::{OperationState, Typed, TypedPiece};
use uuid::Uuid;

use super::Operations;
use super::stdin::Stdins;
use crate::fleet::Fleet;
use crate::problem::ApiError;
use crate::users::Principal;

/// People of one terminal who are remembered. The oldest are forgotten: coming back, they are
/// taken as new.
const MAX_TYPISTS: usize = 64;

/// How long a piece waits for those before it.
const TURN_LIMIT: Duration = Duration::from_secs(10);

/// One terminal's input.
#[derive(Debug, Default)]
pub struct Keyboard {
    /// Bytes of each that have safely arrived, and when they last typed.
    typists: HashMap<Uuid, (u64, u64)>,
    /// Counts pieces.
    clock: u64,
    /// Handed on and not safely arrived: nothing can go behind it before.
    unfinished: Option<Unfinished>,
}

#[derive(Clone, Debug)]
struct Unfinished {
    typist: Uuid,
    /// Their bytes once it has arrived.
    end: u64,
    /// Where it is in stdin.
    at: u64,
    bytes: Bytes,
}

impl Keyboard {
    fn note(&mut self, typist: Uuid, taken: u64) {
        self.clock += 1;
        self.typists.insert(typist, (taken, self.clock));
        if self.typists.len() > MAX_TYPISTS {
            let oldest = self.typists.iter().min_by_key(|(_, (_, when))| *when);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.typists.remove(&oldest);
            }
        }
    }

    /// How many of a piece's bytes have arrived already. Of somebody new, `seen` says how far stdin
    /// was when their last piece had arrived: what has come since is theirs, unless others type.
    fn taken(&self, piece: &TypedPiece, length: u64, received: u64) -> u64 {
        match self.typists.get(&piece.typist) {
            Some((taken, _)) => *taken,
            None => {
                let since = piece.seen.map_or(0, |seen| received.saturating_sub(seen));
                piece.offset + since.min(length)
            }
        }
    }
}

impl Stdins {
    /// Passes on what somebody typed. `None` when the operation takes nothing now.
    pub(super) async fn type_in(
        &self,
        fleet: &Fleet,
        operation: OperationId,
        piece: &TypedPiece,
        bytes: &Bytes,
    ) -> Option<Typed> {
        let stdin = self.find(operation)?;
        let turn = tokio::time::timeout(TURN_LIMIT, stdin.keyboard.lock()).await;
        let Ok(mut keyboard) = turn else {
            return Some(Typed { taken: piece.offset, seen: None, closed: false });
        };
        let mut closed = self.finish_piece(fleet, operation, &mut keyboard).await?;
        let received = self.arrived(operation)?.received;
        let mut taken = keyboard.taken(piece, bytes.len() as u64, received);
        let fresh = usize::try_from(taken.saturating_sub(piece.offset)).ok();
        let fresh = fresh.filter(|skip| taken >= piece.offset && *skip < bytes.len());
        if let Some(skip) = fresh
            && keyboard.unfinished.is_none()
            && !closed
        {
            let bytes = bytes.slice(skip..);
            keyboard.note(piece.typist, taken);
            keyboard.unfinished = Some(Unfinished {
                typist: piece.typist,
                end: taken + bytes.len() as u64,
                at: received,
                bytes,
            });
            closed = self.finish_piece(fleet, operation, &mut keyboard).await?;
            taken = keyboard.taken(piece, 0, 0);
        } else if keyboard.unfinished.is_none() {
            keyboard.note(piece.typist, taken);
        }
        let seen = keyboard.unfinished.is_none().then(|| self.arrived(operation)).flatten();
        Some(Typed { taken, seen: seen.map(|state| state.received), closed })
    }

    /// Waits for the piece under way. Whether nothing more is taken.
    async fn finish_piece(
        &self,
        fleet: &Fleet,
        operation: OperationId,
        keyboard: &mut Keyboard,
    ) -> Option<bool> {
        let Some(piece) = keyboard.unfinished.clone() else {
            return Some(self.arrived(operation)?.closed);
        };
        let end = piece.at + piece.bytes.len() as u64;
        let passed = self.pass(fleet, operation, piece.at, piece.bytes, false).await?;
        if passed.received >= end || passed.closed {
            keyboard.unfinished = None;
            keyboard.note(piece.typist, piece.end);
        }
        Some(passed.closed)
    }
}

impl Operations {
    /// Types at a terminal.
    ///
    /// # Errors
    /// 404, 409 when it takes nothing.
    pub(crate) async fn type_in(
        &self,
        principal: &Principal,
        id: OperationId,
        piece: &TypedPiece,
        bytes: &Bytes,
    ) -> Result<Typed, ApiError> {
        if let Some(machine) = self.0.stdins.machine(id)
            && self.is_visible(principal, machine)
            && let Some(typed) = self.0.stdins.type_in(&self.0.fleet, id, piece, bytes).await
        {
            return Ok(typed);
        }
        let row = self.find_terminal(principal, id).await?.operation;
        if row.state.is_terminal() {
            return Ok(Typed { taken: piece.offset, seen: None, closed: true });
        }
        if row.state == OperationState::Queued {
            return Ok(Typed { taken: piece.offset, seen: None, closed: false });
        }
        Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "machine_offline",
            format!("'{}' has not reported since the coordinator started", row.machine),
        )
        .retry_after(Duration::from_secs(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(typist: Uuid, offset: u64, seen: Option<u64>) -> TypedPiece {
        TypedPiece { typist, offset, seen }
    }

    #[test]
    fn what_came_before_a_restart_is_not_typed_again() {
        let keyboard = Keyboard::default();
        let me = Uuid::from_u128(1);
        // Ten bytes had arrived when stdin was at 10; three of the next five came before the crash.
        assert_eq!(keyboard.taken(&piece(me, 10, Some(10)), 5, 13), 13);
        assert_eq!(keyboard.taken(&piece(me, 10, Some(10)), 5, 10), 10);
        // Somebody else's may not be counted as more than the piece has.
        assert_eq!(keyboard.taken(&piece(me, 10, Some(10)), 5, 99), 15);
        // A newcomer.
        assert_eq!(keyboard.taken(&piece(me, 0, None), 5, 99), 0);
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let mut keyboard = Keyboard::default();
        for number in 0..1000 {
            keyboard.note(Uuid::from_u128(number), 1);
        }
        assert_eq!(keyboard.typists.len(), MAX_TYPISTS);
        assert!(keyboard.typists.contains_key(&Uuid::from_u128(999)));
    }
}
