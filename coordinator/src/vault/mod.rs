//! The vault: keys of model providers, sealed. A secret goes in once and comes out only into the
//! header of a request to its provider. After a start the vault is sealed until an admin gives the
//! passphrase, or a key file does.

mod routes;
mod seal;
mod secret;
mod store;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use http::StatusCode;
use reeve_protocol::CoordinatorId;
use reeve_sdk::api::{VaultEntry, VaultSecret, VaultState, VaultStatus};
use serde_json::json;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::Clock;
use crate::audit::{self, Entry};
use crate::db::{Db, DbError};
use crate::problem::ApiError;
use crate::selector;
use crate::tasks::Tasks;
use crate::users::Principal;
use seal::{DoesNotOpen, Key, Lock};

pub use routes::routes;

/// Characters of a passphrase, at least.
const MIN_PASSPHRASE: usize = 12;

/// Bytes of a passphrase, at most.
const MAX_PASSPHRASE: usize = 1024;

/// Passphrases tried at the same time: each takes 64 MiB.
const TRIES_AT_ONCE: usize = 2;

/// Why there is no secret to be had.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Nobody made one.
    #[error("there is no vault yet; 'reeve vault init' makes one")]
    Absent,
    /// It needs its passphrase.
    #[error("the vault is sealed; 'reeve vault unlock' opens it")]
    Sealed,
    /// There is no entry of that name.
    #[error("the vault has no entry '{0}'; 'reeve vault add {0}' puts one in")]
    Unknown(String),
    /// The entry does not open with the keyring.
    #[error(
        "the vault's entry '{0}' was changed or damaged; put the secret in again with 'reeve vault add {0}'"
    )]
    Damaged(String),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<VaultError> for ApiError {
    fn from(error: VaultError) -> Self {
        let detail = error.to_string();
        let (status, code) = match error {
            VaultError::Absent => (StatusCode::CONFLICT, "vault_absent"),
            VaultError::Sealed => (StatusCode::CONFLICT, "vault_sealed"),
            VaultError::Unknown(_) => (StatusCode::NOT_FOUND, "vault_entry_not_found"),
            VaultError::Damaged(_) => (StatusCode::CONFLICT, "vault_entry_damaged"),
            VaultError::Db(error) => return error.into(),
        };
        Self::new(status, code, detail)
    }
}

/// The vault. Cheap to clone.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    tasks: Tasks,
    coordinator: String,
    /// The keyring while it is open. Held for a moment at a time, never over an await.
    keyring: RwLock<Option<Key>>,
    opens_itself: bool,
    tries: Arc<Semaphore>,
}

impl Vault {
    /// The vault as it is in the database. With a key file that fits it is open, else sealed.
    pub async fn load(
        db: Db,
        clock: Clock,
        tasks: Tasks,
        coordinator: CoordinatorId,
        key_file: Option<&Path>,
    ) -> Self {
        let passphrase = key_file.and_then(read_key_file);
        let vault = Self(Arc::new(Inner {
            db,
            clock,
            tasks,
            coordinator: coordinator.to_string(),
            keyring: RwLock::default(),
            opens_itself: passphrase.is_some(),
            tries: Arc::new(Semaphore::new(TRIES_AT_ONCE)),
        }));
        if let Some(passphrase) = passphrase {
            match vault.open_keyring(passphrase).await {
                Ok(()) => tracing::info!("the vault opened with its key file"),
                Err(error) => {
                    tracing::warn!(error = %error.detail(), "the key file does not open the vault");
                }
            }
        }
        vault
    }

    /// How it is.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn status(&self) -> Result<VaultStatus, DbError> {
        let mut conn = self.0.db.reader().await?;
        let state = if self.keyring().is_some() {
            VaultState::Open
        } else if store::find_lock(&mut conn).await?.is_some() {
            VaultState::Sealed
        } else {
            VaultState::Absent
        };
        let entries = store::count_entries(&mut conn).await?;
        Ok(VaultStatus { state, entries, opens_itself: self.0.opens_itself })
    }

    /// Makes it, open.
    async fn init(&self, by: &Principal, passphrase: String) -> Result<(), ApiError> {
        let passphrase = check_passphrase(passphrase)?;
        let keyring = Key::random();
        let coordinator = self.0.coordinator.clone();
        let sealed = keyring.clone();
        let lock = self
            .trying(move || Lock::new(passphrase.as_bytes(), &coordinator, &sealed))
            .await?
            .map_err(ApiError::internal)?;
        let mut tx = self.0.db.begin().await?;
        let now_us = self.0.clock.micros();
        if !store::insert_lock(&mut tx, &lock, &by.name, now_us).await? {
            return Err(ApiError::new(
                StatusCode::CONFLICT,
                "vault_exists",
                "there is a vault already; 'reeve vault unlock' opens it",
            ));
        }
        audit::record(&mut tx, &entry(by, "vault.init", "vault", json!({}))).await?;
        tx.commit().await?;
        self.set(Some(keyring));
        Ok(())
    }

    /// Opens it.
    async fn unlock(&self, by: &Principal, passphrase: String) -> Result<(), ApiError> {
        let opened = self.open_keyring(Zeroizing::new(passphrase)).await;
        let action = if opened.is_ok() { "vault.unlock" } else { "vault.unlock_failed" };
        let mut tx = self.0.db.begin().await?;
        audit::record(&mut tx, &entry(by, action, "vault", json!({}))).await?;
        tx.commit().await?;
        opened
    }

    async fn open_keyring(&self, passphrase: Zeroizing<String>) -> Result<(), ApiError> {
        let lock =
            store::find_lock(&mut *self.0.db.reader().await?).await?.ok_or(VaultError::Absent)?;
        let coordinator = self.0.coordinator.clone();
        let keyring = self
            .trying(move || lock.open(passphrase.as_bytes(), &coordinator))
            .await?
            .map_err(|DoesNotOpen| {
                ApiError::new(
                    StatusCode::FORBIDDEN,
                    "wrong_passphrase",
                    "that is not the vault's passphrase",
                )
            })?;
        self.set(Some(keyring));
        Ok(())
    }

    /// Forgets the keyring.
    async fn lock(&self, by: &Principal) -> Result<(), ApiError> {
        // At once: who locks a vault is in a hurry, whatever the database says.
        self.set(None);
        let mut tx = self.0.db.begin().await?;
        audit::record(&mut tx, &entry(by, "vault.lock", "vault", json!({}))).await?;
        Ok(tx.commit().await?)
    }

    /// Puts a secret in, or in place of the one of the same name.
    async fn put(
        &self,
        by: &Principal,
        name: &str,
        secret: &VaultSecret,
    ) -> Result<VaultEntry, ApiError> {
        if !selector::is_name(name) {
            return Err(ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid_name",
                "a name has 1 to 64 of a-z 0-9 . _ - and starts with a letter or digit",
            ));
        }
        secret::check(secret)?;
        let row = self.seal(&by.name, name, secret).await?;
        let mut tx = self.0.db.begin().await?;
        store::put_entry(&mut tx, &row, row.shown.created.as_micros()).await?;
        let detail = json!({ "kind": row.shown.kind });
        let target = format!("vault:{name}");
        audit::record(&mut tx, &entry(by, "vault.add", &target, detail)).await?;
        tx.commit().await?;
        Ok(row.shown)
    }

    async fn seal(
        &self,
        by: &str,
        name: &str,
        secret: &VaultSecret,
    ) -> Result<store::EntryRow, ApiError> {
        let keyring = self.open().await?;
        let kind = secret::kind(secret);
        let plain = Zeroizing::new(serde_json::to_vec(secret).map_err(ApiError::internal)?);
        let sealed = keyring
            .seal(&["entry", &self.0.coordinator, name, kind], &plain)
            .map_err(ApiError::internal)?;
        let shown = VaultEntry {
            name: name.to_owned(),
            kind: kind.to_owned(),
            ends_with: secret::ending(secret),
            account: secret::account(secret),
            expires: secret::expires(secret),
            created_by: by.to_owned(),
            created: self.0.clock.now(),
        };
        Ok(store::EntryRow { shown, sealed })
    }

    /// Takes an entry out.
    async fn remove(&self, by: &Principal, name: &str) -> Result<(), ApiError> {
        let mut tx = self.0.db.begin().await?;
        if !store::remove_entry(&mut tx, name).await? {
            return Err(VaultError::Unknown(name.to_owned()).into());
        }
        let target = format!("vault:{name}");
        audit::record(&mut tx, &entry(by, "vault.remove", &target, json!({}))).await?;
        Ok(tx.commit().await?)
    }

    async fn list(&self) -> Result<Vec<VaultEntry>, DbError> {
        store::list_entries(&mut *self.0.db.reader().await?).await
    }

    /// A secret, for the header of a request to its provider and nothing else.
    ///
    /// # Errors
    /// When it is sealed, or there is none.
    pub async fn secret(&self, name: &str) -> Result<VaultSecret, VaultError> {
        let keyring = self.open().await?;
        let row = store::find_entry(&mut *self.0.db.reader().await?, name)
            .await?
            .ok_or_else(|| VaultError::Unknown(name.to_owned()))?;
        let damaged = || VaultError::Damaged(name.to_owned());
        let purpose = ["entry", &self.0.coordinator, name, &row.shown.kind];
        let plain = keyring.open(&purpose, &row.sealed).map_err(|DoesNotOpen| damaged())?;
        serde_json::from_slice(&plain).map_err(|_| damaged())
    }

    /// Whether a secret could be had, without opening it.
    ///
    /// # Errors
    /// When it could not.
    pub async fn check(&self, name: &str) -> Result<(), VaultError> {
        self.open().await?;
        let found = store::find_entry(&mut *self.0.db.reader().await?, name).await?;
        found.map(drop).ok_or_else(|| VaultError::Unknown(name.to_owned()))
    }

    /// Keeps tokens that a provider gave in place of older ones.
    ///
    /// # Errors
    /// When it is sealed or the database fails.
    pub async fn renew(&self, name: &str, secret: &VaultSecret) -> Result<(), ApiError> {
        secret::check(secret)?;
        let row = self.seal("system", name, secret).await?;
        let mut tx = self.0.db.begin().await?;
        if store::find_entry(&mut tx, name).await?.is_none() {
            return Err(VaultError::Unknown(name.to_owned()).into());
        }
        store::put_entry(&mut tx, &row, row.shown.created.as_micros()).await?;
        Ok(tx.commit().await?)
    }

    async fn open(&self) -> Result<Key, VaultError> {
        if let Some(keyring) = self.keyring() {
            return Ok(keyring);
        }
        match store::find_lock(&mut *self.0.db.reader().await?).await? {
            Some(_) => Err(VaultError::Sealed),
            None => Err(VaultError::Absent),
        }
    }

    fn keyring(&self) -> Option<Key> {
        self.0.keyring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, keyring: Option<Key>) {
        *self.0.keyring.write().unwrap_or_else(PoisonError::into_inner) = keyring;
    }

    /// Argon2 away from the threads that serve requests, a few at a time.
    async fn trying<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let permit =
            Arc::clone(&self.0.tries).acquire_owned().await.map_err(|_| ApiError::draining())?;
        let work = move || {
            let _permit = permit;
            work()
        };
        self.0.tasks.spawn_blocking("vault passphrase", work).await.map_err(ApiError::internal)
    }
}

fn check_passphrase(text: String) -> Result<Zeroizing<String>, ApiError> {
    let text = Zeroizing::new(text);
    let wrong = |detail: String| {
        Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_passphrase", detail))
    };
    if text.chars().count() < MIN_PASSPHRASE {
        return wrong(format!("a passphrase has at least {MIN_PASSPHRASE} characters"));
    }
    if text.len() > MAX_PASSPHRASE {
        return wrong(format!("a passphrase has at most {MAX_PASSPHRASE} bytes"));
    }
    Ok(text)
}

/// The passphrase in a file; none when it cannot be read, which is logged: people can still unlock.
fn read_key_file(path: &Path) -> Option<Zeroizing<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Some(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned())),
        Err(error) => {
            tracing::warn!(%error, file = %path.display(), "the vault's key file cannot be read");
            None
        }
    }
}

fn entry<'a>(
    by: &'a Principal,
    action: &'a str,
    target: &'a str,
    detail: serde_json::Value,
) -> Entry<'a> {
    Entry { principal: &by.name, action, target, detail }
}
