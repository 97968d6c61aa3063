//! Output that has just become durable, still in memory for whoever follows it: reading it back
//! from the database and the disk would cost more than all the rest of its way. Nothing is here
//! before its commit has succeeded. What is not here any more is read from where it is stored.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use reeve_protocol::{OperationId, Totals};

/// Bytes of records kept over all operations: what a few fast commands write while their followers
/// take a turn, which is some batches of the writer's. More is forgotten, the oldest first, and read
/// from the disk by whoever still wants it.
const KEPT_BYTES: usize = 64 * 1024 * 1024;

/// A piece costs this much besides its records, so that many small ones are bounded too.
const PIECE_COST: usize = 256;

/// A piece as it was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// Offsets of its first byte, in each order.
    pub from: Totals,
    /// Offsets behind its last byte.
    pub to: Totals,
    /// When it became durable, microseconds since 1970.
    pub at_us: i64,
    /// Its records.
    pub records: Bytes,
}

/// Pieces kept. Cheap to clone.
#[derive(Clone, Default)]
pub struct Recent(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// By the merged offset of the first byte, in order.
    pieces: HashMap<OperationId, VecDeque<Fresh>>,
    /// Whose the oldest pieces are, in the order in which they came.
    order: VecDeque<OperationId>,
    bytes: usize,
}

impl Recent {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a piece that was committed. Those of an operation come in order.
    pub fn keep(&self, operation: OperationId, piece: Fresh) {
        let mut state = self.state();
        state.bytes += piece.records.len() + PIECE_COST;
        state.pieces.entry(operation).or_default().push_back(piece);
        state.order.push_back(operation);
        while state.bytes > KEPT_BYTES && state.drop_oldest() {}
    }

    /// The piece that begins at this merged offset, if it is still here.
    #[must_use]
    pub fn find(&self, operation: OperationId, at: u64) -> Option<Fresh> {
        let state = self.state();
        let pieces = state.pieces.get(&operation)?;
        let index = pieces.binary_search_by_key(&at, |piece| piece.from.all).ok()?;
        pieces.get(index).cloned()
    }
}

impl State {
    fn drop_oldest(&mut self) -> bool {
        let Some(operation) = self.order.pop_front() else { return false };
        let Some(pieces) = self.pieces.get_mut(&operation) else { return true };
        if let Some(piece) = pieces.pop_front() {
            self.bytes -= piece.records.len() + PIECE_COST;
        }
        if pieces.is_empty() {
            self.pieces.remove(&operation);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(from: u64, bytes: usize) -> Fresh {
        let at = |all| Totals { all, stdout: all, stderr: 0 };
        let records = Bytes::from(vec![7; bytes]);
        Fresh { from: at(from), to: at(from + bytes as u64), at_us: 1, records }
    }

    #[test]
    fn a_piece_is_found_by_its_first_byte_only() {
        let (recent, id) = (Recent::default(), OperationId::new());
        recent.keep(id, piece(0, 10));
        recent.keep(id, piece(10, 5));
        assert_eq!(recent.find(id, 10), Some(piece(10, 5)));
        for nowhere in [1, 9, 11, 15] {
            assert_eq!(recent.find(id, nowhere), None, "{nowhere}");
        }
        assert_eq!(recent.find(OperationId::new(), 0), None);
    }

    #[test]
    fn the_oldest_go_and_nothing_of_them_is_left() {
        let recent = Recent::default();
        let (old, new) = (OperationId::new(), OperationId::new());
        recent.keep(old, piece(0, 1024));
        let large = KEPT_BYTES / 4;
        for index in 0..4 {
            recent.keep(new, piece(index * large as u64, large));
        }
        assert_eq!(recent.find(old, 0), None);
        assert_eq!(recent.find(new, 0), None);
        assert!(recent.find(new, 3 * large as u64).is_some());
        let state = recent.state();
        assert!(state.bytes <= KEPT_BYTES);
        assert_eq!((state.pieces.len(), state.order.len()), (1, 3));
    }

    #[test]
    fn many_small_pieces_are_bounded() {
        let recent = Recent::default();
        for index in 0..2 * KEPT_BYTES / PIECE_COST {
            recent.keep(OperationId::new(), piece(index as u64, 1));
        }
        assert!(recent.state().pieces.len() <= KEPT_BYTES / PIECE_COST);
    }
}
