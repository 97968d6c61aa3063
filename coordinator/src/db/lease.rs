//! Connections on loan. Those to a SQLite file are kept at hand between two uses: the pool asks each
//! that comes back whether it lives, a trip to the driver's thread for which the next user waits,
//! and a connection to a file does not die by itself. Those to a server do, and go to the pool.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::WAIT;

/// Where connections come from.
#[derive(Clone)]
pub(super) struct Lender {
    pool: AnyPool,
    /// Left out where connections go back to the pool.
    kept: Option<Kept>,
}

#[derive(Clone)]
struct Kept {
    most: u32,
    /// First come, first served.
    turns: Arc<Semaphore>,
    free: Arc<Mutex<Vec<PoolConnection<Any>>>>,
}

/// A connection on loan.
pub(super) struct Lease {
    /// There until it is given back.
    conn: Option<PoolConnection<Any>>,
    kept: Option<Kept>,
    is_spoilt: bool,
    /// Given up behind the connection.
    _turn: Option<OwnedSemaphorePermit>,
}

impl Lender {
    /// Gives back to the pool after each use.
    pub fn of(pool: AnyPool) -> Self {
        Self { pool, kept: None }
    }

    /// Keeps all connections that the pool may have.
    pub fn keeping(pool: AnyPool) -> Self {
        let most = pool.options().get_max_connections();
        let turns = Arc::new(Semaphore::new(most as usize));
        Self { pool, kept: Some(Kept { most, turns, free: Arc::default() }) }
    }

    pub async fn lend(&self) -> Result<Lease, sqlx::Error> {
        let Some(kept) = &self.kept else {
            let conn = Some(self.pool.acquire().await?);
            return Ok(Lease { conn, kept: None, is_spoilt: false, _turn: None });
        };
        let turn = tokio::time::timeout(WAIT, Arc::clone(&kept.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| sqlx::Error::PoolTimedOut)?;
        let turn = turn.map_err(|_| sqlx::Error::PoolClosed)?;
        let free = kept.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let conn = match free {
            Some(conn) => conn,
            None => self.pool.acquire().await?,
        };
        let kept = Some(kept.clone());
        Ok(Lease { conn: Some(conn), kept, is_spoilt: false, _turn: Some(turn) })
    }

    /// How many connections there are.
    pub fn size(&self) -> u32 {
        self.pool.size()
    }

    /// Closes all, waiting for those in use.
    pub async fn close(&self) {
        if let Some(Kept { most, turns, free }) = &self.kept {
            // It can only have been closed before.
            let _all = turns.acquire_many(*most).await;
            turns.close();
            free.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        self.pool.close().await;
    }
}

impl Lease {
    /// It is not to be used again: closes it in the end.
    pub fn spoil(&mut self) {
        self.is_spoilt = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut conn) = self.conn.take() else { return };
        match &self.kept {
            _ if self.is_spoilt => conn.close_on_drop(),
            Some(kept) => kept.free.lock().unwrap_or_else(PoisonError::into_inner).push(conn),
            None => {}
        }
    }
}

#[expect(
    clippy::expect_used,
    reason = "it is there until the drop, and nobody calls this behind it"
)]
impl Deref for Lease {
    type Target = AnyConnection;
    fn deref(&self) -> &AnyConnection {
        self.conn.as_ref().expect("a connection on loan")
    }
}

#[expect(clippy::expect_used, reason = "as above")]
impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        self.conn.as_mut().expect("a connection on loan")
    }
}
