//! Files kept for stdin of operations: uploaded once, in pieces that can be resumed, and read by
//! as many operations as a job has. A file belongs to who made it and to nobody else.

mod append;
mod kept;
mod routes;
mod store;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use reeve_protocol::UploadId;
use reeve_sdk::api::{NewUpload, Time, Upload, UploadState};

use crate::Clock;
use crate::audit;
use crate::config::Limits;
use crate::db::{Db, DbError};
use crate::problem::ApiError;
use crate::tasks::Tasks;
use crate::users::Principal;

pub(crate) use kept::{Kept, Progress};
pub use routes::routes;
use store::Row;

/// Files of one principal: each has a row, and perhaps an open descriptor.
const MAX_FILES: i64 = 256;

/// The longest name, characters.
const MAX_NAME: usize = 255;

/// What the uploads need.
pub struct Parts {
    /// The database.
    pub db: Db,
    /// The time of day.
    pub clock: Clock,
    /// Where to spawn.
    pub tasks: Tasks,
    /// Bounds.
    pub limits: Limits,
    /// Folder for the files.
    pub folder: PathBuf,
}

/// The uploads. Cheap to clone.
#[derive(Clone)]
pub struct Uploads(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    tasks: Tasks,
    folder: PathBuf,
    /// All files together, bytes, as announced.
    most_bytes: u64,
    /// After its last use.
    keep: Duration,
    /// Files that somebody writes or reads. What nobody holds is let go by the sweeper.
    live: Mutex<HashMap<UploadId, Arc<Kept>>>,
    /// Held while room is looked for and taken.
    announcing: tokio::sync::Mutex<()>,
}

/// Why a file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The disk.
    #[error("an uploaded file cannot be opened: {0}")]
    Io(#[from] std::io::Error),
}

impl From<OpenError> for ApiError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Db(error) => error.into(),
            OpenError::Io(error) => disk(error),
        }
    }
}

impl Uploads {
    /// Opens the folder and takes up what a former run left.
    ///
    /// # Errors
    /// When the folder cannot be made or the database cannot be read.
    pub async fn start(parts: Parts) -> anyhow::Result<Self> {
        let Parts { db, clock, tasks, limits, folder } = parts;
        std::fs::create_dir_all(&folder)?;
        let uploads = Self(Arc::new(Inner {
            db,
            clock,
            tasks,
            folder,
            most_bytes: limits.uploads_bytes,
            keep: limits.uploads_keep,
            live: Mutex::default(),
            announcing: tokio::sync::Mutex::default(),
        }));
        uploads.take_up().await?;
        let sweeper = uploads.clone();
        uploads.0.tasks.spawn_lasting("uploads", move || {
            let sweeper = sweeper.clone();
            async move { sweeper.sweep().await }
        });
        Ok(uploads)
    }

    fn live(&self) -> MutexGuard<'_, HashMap<UploadId, Arc<Kept>>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes room for a file.
    ///
    /// # Errors
    /// 422 when it makes no sense, 507 when there is no room.
    pub(crate) async fn create(
        &self,
        principal: &Principal,
        new: NewUpload,
    ) -> Result<Upload, ApiError> {
        let hash = new.blake3.as_deref().map(read_hash).transpose()?;
        let name = new.name.as_deref().map(clean_name);
        let now_us = self.0.clock.micros();
        let empty = blake3::hash(b"").to_hex().to_string();
        let is_empty = new.size == 0;
        if is_empty && hash.as_ref().is_some_and(|hash| *hash != empty) {
            return Err(mismatch("an empty file"));
        }
        let row = Row {
            id: UploadId::new(),
            principal: principal.name.clone(),
            user: principal.user,
            name,
            size: new.size,
            received: 0,
            state: if is_empty { UploadState::Complete } else { UploadState::Open },
            blake3: if is_empty { Some(empty) } else { hash },
            created_us: now_us,
            appended_us: now_us,
            used_us: now_us,
        };
        let _one_at_a_time = self.0.announcing.lock().await;
        let mut tx = self.0.db.begin().await?;
        let taken = store::sum_sizes(&mut tx).await?;
        let (own, files) = store::sum_own(&mut tx, &principal.name).await?;
        self.check_room(new.size, taken, own, files)?;
        store::insert(&mut tx, &row).await?;
        audit::record(
            &mut tx,
            &audit::Entry {
                principal: &principal.name,
                action: "upload.create",
                target: &format!("upload:{}", row.id),
                detail: serde_json::json!({
                    "size": row.size, "blake3": row.blake3, "name": row.name,
                }),
            },
        )
        .await?;
        tx.commit().await?;
        Ok(self.to_api(&row))
    }

    fn check_room(&self, size: u64, taken: u64, own: u64, files: i64) -> Result<(), ApiError> {
        let most = self.0.most_bytes;
        let full = |detail: String| {
            Err(ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "uploads_full", detail))
        };
        if files >= MAX_FILES {
            return full(format!(
                "you have {files} uploads, the most one may have; delete what is not needed"
            ));
        }
        if own.saturating_add(size) > most / 2 {
            return full(format!(
                "with {size} bytes more your uploads would take more than half of what the \
                 coordinator keeps ({most} bytes, limits.uploads_bytes), and you have {own}; \
                 delete what is not needed, or copy to one machine at a time"
            ));
        }
        if taken.saturating_add(size) > most {
            return full(format!(
                "the coordinator keeps {most} bytes of uploads (limits.uploads_bytes), and {taken} \
                 are taken; try again later, or copy to one machine at a time"
            ));
        }
        Ok(())
    }

    /// A principal's own files, newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn list(&self, principal: &Principal) -> Result<Vec<Upload>, ApiError> {
        let mut conn = self.0.db.reader().await?;
        let rows = store::list_own(&mut conn, &principal.name, MAX_FILES).await?;
        Ok(rows
            .iter()
            .filter(|row| row.user == principal.user)
            .map(|row| self.to_api(row))
            .collect())
    }

    /// How far a file is.
    ///
    /// # Errors
    /// 404 when it is not there or somebody else's.
    pub(crate) async fn show(
        &self,
        principal: &Principal,
        id: UploadId,
    ) -> Result<Upload, ApiError> {
        let row = store::find(&mut *self.0.db.reader().await?, id).await?;
        let row = row.filter(|row| row.is_of(principal)).ok_or_else(|| not_found(id))?;
        Ok(self.to_api(&row))
    }

    /// A file, to be written or read by who made it.
    ///
    /// # Errors
    /// 404 when it is not there or somebody else's.
    pub(crate) async fn find(
        &self,
        principal: &Principal,
        id: UploadId,
    ) -> Result<Arc<Kept>, ApiError> {
        let kept = self.open(id).await?.ok_or_else(|| not_found(id))?;
        if !kept.is_of(principal) {
            return Err(not_found(id));
        }
        Ok(kept)
    }

    /// A file, for what was authorised before.
    ///
    /// # Errors
    /// When database or disk do not answer.
    pub(crate) async fn open(&self, id: UploadId) -> Result<Option<Arc<Kept>>, OpenError> {
        if let Some(kept) = self.live().get(&id) {
            return Ok(Some(Arc::clone(kept)));
        }
        let Some(row) = store::find(&mut *self.0.db.reader().await?, id).await? else {
            return Ok(None);
        };
        let path = self.path(id);
        let kept = tokio::task::spawn_blocking(move || Kept::open(row, &path))
            .await
            .map_err(std::io::Error::other)??;
        // Whoever was faster may have written since our row was read.
        Ok(Some(Arc::clone(self.live().entry(id).or_insert_with(|| Arc::new(kept)))))
    }

    /// Removes a file that no running job reads.
    ///
    /// # Errors
    /// 404, 409 while a job reads it.
    pub(crate) async fn delete(&self, principal: &Principal, id: UploadId) -> Result<(), ApiError> {
        self.show(principal, id).await?;
        let mut tx = self.0.db.begin().await?;
        if !store::delete_unused(&mut tx, id).await? {
            return Err(ApiError::new(
                StatusCode::CONFLICT,
                "upload_in_use",
                "a job reads it; cancel the job, or wait for its end",
            ));
        }
        audit::record(
            &mut tx,
            &audit::Entry {
                principal: &principal.name,
                action: "upload.delete",
                target: &format!("upload:{id}"),
                detail: serde_json::json!({}),
            },
        )
        .await?;
        tx.commit().await?;
        self.forget(id);
        Ok(())
    }

    /// The row is gone: so is everything else.
    fn forget(&self, id: UploadId) {
        if let Some(kept) = self.live().remove(&id) {
            kept.give_up();
        }
        match std::fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%id, %error, "an uploaded file could not be removed");
            }
            _ => {}
        }
    }

    fn path(&self, id: UploadId) -> PathBuf {
        self.0.folder.join(id.to_string())
    }

    fn to_api(&self, row: &Row) -> Upload {
        let keep_us = i64::try_from(self.0.keep.as_micros()).unwrap_or(i64::MAX);
        Upload {
            id: row.id,
            name: row.name.clone(),
            size: row.size,
            received: row.received,
            state: row.state,
            blake3: row.blake3.clone(),
            created_by: row.principal.clone(),
            created: Time::from_micros(row.created_us),
            expires: Time::from_micros(row.used_us.saturating_add(keep_us)),
        }
    }
}

fn read_hash(text: &str) -> Result<String, ApiError> {
    let hash = blake3::Hash::from_hex(text.to_ascii_lowercase())
        .map_err(|_| ApiError::invalid("blake3 is no BLAKE3: 64 hex digits are expected"))?;
    Ok(hash.to_hex().to_string())
}

fn clean_name(name: &str) -> String {
    name.chars().filter(|letter| *letter != '\0').take(MAX_NAME).collect()
}

pub(crate) fn not_found(id: UploadId) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "upload_not_found",
        format!("there is no upload {id} of yours; it may have expired: upload it again"),
    )
}

fn mismatch(what: &str) -> ApiError {
    ApiError::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "hash_mismatch",
        format!("{what} does not have the BLAKE3 that was announced; upload it again"),
    )
}

/// 503 for a disk that does not take it.
fn disk(error: std::io::Error) -> ApiError {
    let full =
        matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    if full {
        return ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "disk_full",
            "the coordinator's disk is full; free some space in its data folder, then go on from \
             where it stopped",
        )
        .retry_after(Duration::from_secs(5))
        .source(error);
    }
    ApiError::internal(error)
}
