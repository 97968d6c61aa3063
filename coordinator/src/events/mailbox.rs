//! A queue whose size is bounded by what it is about: at most a few entries per open operation.
//! Two loops that send to each other through channels of fixed size could wait for each other;
//! through mailboxes they cannot.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Both ends. Cheap to clone; meant for one reader.
pub struct Mailbox<T>(Arc<Inner<T>>);

struct Inner<T> {
    letters: Mutex<Vec<T>>,
    arrived: Notify,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self(Arc::new(Inner { letters: Mutex::default(), arrived: Notify::new() }))
    }
}

impl<T> Mailbox<T> {
    /// Puts a letter in. Never waits.
    pub fn put(&self, letter: T) {
        self.0.letters.lock().unwrap_or_else(PoisonError::into_inner).push(letter);
        self.0.arrived.notify_one();
    }

    /// Everything in it, in order.
    #[must_use]
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.0.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until there may be something in it. Cancel safe.
    pub async fn arrived(&self) {
        self.0.arrived.notified().await;
    }
}
