//! People, what they may do, and the keys they show.

mod auth_routes;
mod code;
mod key_routes;
mod known;
mod password;
mod principal;
mod routes;
mod scope;
mod setup;
mod store;
#[cfg(test)]
mod tests;
mod tickets;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reeve_protocol::token::Token;
use reeve_protocol::{ApiKeyId, UserId};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{Semaphore, watch};
use utoipa_axum::router::OpenApiRouter;

use crate::AppState;
use crate::clock::Clock;
use crate::db::{Db, DbError};
use crate::problem::ApiError;
use crate::tasks::Tasks;

use known::Known;
pub use password::Password;
pub use principal::{Principal, Via};
pub use scope::Scope;
pub use setup::{SETUP_CODE_FILE, SetupCode, SetupError};
use store::KeyRow;
pub use tickets::Tickets;

/// A browser's session ends after this long without a request.
const WEB_IDLE: Duration = Duration::from_secs(12 * 3600);

/// Any login ends after this long.
const SESSION_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// `last_used` is true to this much.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// Keys that wait for their `last_used` to be written; more are written the next time.
const MAX_TOUCHED: usize = 10_000;

/// Passwords hashed at the same time: each takes 19 MiB and a core.
const HASHING: usize = 2;

/// People and keys; cloning is cheap.
#[derive(Clone)]
pub struct Users {
    db: Db,
    clock: Clock,
    tasks: Tasks,
    hashing: Arc<Semaphore>,
    /// When each key was last used, until [`Users::run`] writes it down.
    touched: Arc<Mutex<HashMap<ApiKeyId, i64>>>,
    /// Goes up whenever a key may have ended or changed.
    changed: watch::Sender<u64>,
    /// Keys looked up a moment ago.
    known: Arc<Known>,
    /// Keys for one WebSocket each.
    pub tickets: Tickets,
}

impl Users {
    /// Nothing runs yet: spawn [`Users::run`].
    #[must_use]
    pub fn new(db: Db, clock: Clock, tasks: Tasks) -> Self {
        Self {
            tickets: Tickets::new(),
            db,
            clock,
            tasks,
            hashing: Arc::new(Semaphore::new(HASHING)),
            touched: Arc::default(),
            changed: watch::Sender::new(0),
            known: Arc::default(),
        }
    }

    /// Writes down when keys were used, until the coordinator ends.
    pub async fn run(self) {
        let token = self.tasks.token();
        let mut ticks = tokio::time::interval(TOUCH_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let ending = tokio::select! {
                () = token.cancelled() => true,
                _ = ticks.tick() => false,
            };
            if let Err(error) = self.flush().await {
                tracing::warn!(%error, "when keys were used could not be written down");
            }
            if ending {
                return;
            }
        }
    }

    async fn flush(&self) -> Result<(), DbError> {
        let touched =
            std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner));
        if touched.is_empty() {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        store::touch_keys(&mut tx, &touched).await?;
        store::remove_expired(&mut tx, self.clock.micros()).await?;
        tx.commit().await
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// 401 when it is nobody's, or expired.
    pub async fn authenticate(&self, text: &str) -> Result<Principal, ApiError> {
        let refused = || {
            ApiError::unauthenticated(
                "the token is unknown, expired or revoked; log in again or make a new key",
            )
        };
        let token = Token::parse(text).map_err(|error| refused().source(error))?;
        let id = ApiKeyId(token.id);
        let row = self.find_key(id).await?.ok_or_else(refused)?;
        let shown = hash_secret(&token.secret);
        if !bool::from(shown.as_slice().ct_eq(&row.hash)) || row.kind != token.kind {
            return Err(refused());
        }
        let now = self.clock.micros();
        if row.expires.is_some_and(|expires| expires <= now) {
            return Err(refused());
        }
        self.touch(&row, now);
        row.principal().map_err(ApiError::from)
    }

    async fn find_key(&self, id: ApiKeyId) -> Result<Option<Arc<KeyRow>>, DbError> {
        let (change, now) = (*self.changed.borrow(), self.clock.micros());
        if let Some(row) = self.known.find(id, change, now) {
            return Ok(Some(row));
        }
        let mut conn = self.db.reader().await?;
        let row = store::find_key(&mut conn, id).await?.map(Arc::new);
        if let Some(row) = &row {
            self.known.keep(row, change, now);
        }
        Ok(row)
    }

    fn touch(&self, row: &KeyRow, now: i64) {
        let age = now.saturating_sub(row.last_used.unwrap_or(0));
        if age < micros(TOUCH_EVERY) {
            return;
        }
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        if touched.len() < MAX_TOUCHED {
            touched.insert(row.id, now);
        }
    }

    /// Ends when the principal may no longer do what it could: its key was revoked or expired, its
    /// owner removed, or role or scope changed. For work that outlives a request.
    pub async fn ended(&self, principal: &Principal) {
        let mut changed = self.changed.subscribe();
        loop {
            match self.still_good(principal).await {
                Ok(true) => {}
                Ok(false) => return,
                // The database is away: nobody can have been revoked through it. Ask again.
                Err(error) => tracing::debug!(%error, "could not look up a key"),
            }
            // Expiry, and changes by other coordinators, are seen by looking now and then.
            let _ = tokio::time::timeout(Duration::from_secs(30), changed.changed()).await;
        }
    }

    /// The principal somebody is now, for work they asked for earlier: with the key they asked with,
    /// or by themselves when they asked with a login, which may have ended since. `None` when they
    /// may do nothing any more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn recall(
        &self,
        user: UserId,
        key: Option<ApiKeyId>,
    ) -> Result<Option<Principal>, DbError> {
        let mut conn = self.db.reader().await?;
        let Some(key) = key else {
            let row = store::find_user(&mut conn, &user.to_string()).await?;
            return row.filter(|row| row.user.active).map(store::UserRow::principal).transpose();
        };
        let Some(row) = store::find_key(&mut conn, key).await? else { return Ok(None) };
        let expired = row.expires.is_some_and(|expires| expires <= self.clock.micros());
        if expired || row.user != user { Ok(None) } else { row.principal().map(Some) }
    }

    async fn still_good(&self, principal: &Principal) -> Result<bool, DbError> {
        let Some(row) = self.find_key(principal.key).await? else { return Ok(false) };
        if row.expires.is_some_and(|expires| expires <= self.clock.micros()) {
            return Ok(false);
        }
        let now = row.principal()?;
        Ok(now.role == principal.role && now.scope.to_string() == principal.scope.to_string())
    }

    /// To be called after a commit that took something away from somebody.
    fn announce_change(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// Routes of this feature.
pub fn routes() -> OpenApiRouter<AppState> {
    auth_routes::routes().merge(key_routes::routes()).merge(routes::routes())
}

/// What is stored of a secret. It is 32 random bytes, so one round of SHA-256 is enough.
fn hash_secret(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
