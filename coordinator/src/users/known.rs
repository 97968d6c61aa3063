//! Keys that were looked up a moment ago, so that who types or runs one command after the other does
//! not wait for the database each time to be told who they are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reeve_protocol::ApiKeyId;

use super::micros;
use super::store::KeyRow;

/// What another coordinator takes away from a key is noticed here after this long. What this one
/// takes away counts at once.
const TRUE_FOR: Duration = Duration::from_secs(1);

/// Keys kept at most; when there are more, all of them are forgotten.
const MOST: usize = 1024;

/// Keys by id.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<ApiKeyId, Entry>>);

struct Entry {
    row: Arc<KeyRow>,
    /// How often something had been taken away from somebody before it was looked up.
    change: u64,
    at_us: i64,
}

impl Known {
    /// A key as it was less than a moment ago, unless something has changed since.
    pub fn find(&self, id: ApiKeyId, change: u64, now_us: i64) -> Option<Arc<KeyRow>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.get(&id)?;
        let age = now_us.saturating_sub(entry.at_us);
        // A clock that was put back says nothing.
        let is_true = entry.change == change && (0..micros(TRUE_FOR)).contains(&age);
        is_true.then(|| Arc::clone(&entry.row))
    }

    /// `change` is from before the key was looked up: what has changed meanwhile makes it worthless.
    pub fn keep(&self, row: &Arc<KeyRow>, change: u64, now_us: i64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(row.id, Entry { row: Arc::clone(row), change, at_us: now_us });
    }
}
