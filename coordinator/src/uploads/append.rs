//! Appending to a file: as the bytes come, made durable in steps, hashed on the way.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::StatusCode;
use reeve_protocol::UploadId;
use reeve_sdk::api::{Upload, UploadState};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::kept::{Hashed, Kept};
use super::{Uploads, disk, mismatch, not_found, store};
use crate::problem::ApiError;
use crate::users::Principal;

/// Bytes written at once.
const BLOCK_BYTES: usize = 1024 * 1024;

/// Bytes between two syncs. Readers get what is synced, so they are at most this far behind.
const SYNC_BYTES: u64 = 16 * 1024 * 1024;

impl Uploads {
    /// Appends a body at exactly `offset`, and of this length where that is known. Whatever came before it broke off stays; `ended` ends it
    /// early. Goes on to its end when the caller goes away.
    ///
    /// # Errors
    /// 404, 409 `wrong_offset` with where to go on, 422 when it is too long or, at the end, not what
    /// was announced, 503 when the disk is full.
    pub(crate) async fn append<S, E>(
        &self,
        principal: &Principal,
        id: UploadId,
        (offset, length): (u64, Option<u64>),
        body: S,
        ended: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Upload, ApiError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
        E: Display + Send + 'static,
    {
        let kept = self.find(principal, id).await?;
        let displaced = kept.take_over();
        let uploads = self.clone();
        let stop = self.0.tasks.token();
        // A write that was begun must have ended before the next appender writes there: nothing
        // here may be dropped half way, as a handler is when its client goes.
        let task = self.0.tasks.spawn("append to upload", async move {
            let appending =
                Appending { uploads: &uploads, kept: &kept, displaced, at: offset, length };
            let ended = async {
                tokio::select! {
                    () = ended => "you may not do this any more",
                    () = stop.cancelled() => "the coordinator is stopping",
                }
            };
            appending.run(body, ended).await
        });
        task.await.map_err(ApiError::internal)??;
        self.show(principal, id).await
    }

    /// All of it is there: what is it?
    pub(super) async fn settle(&self, kept: &Kept, hashed: Hashed) -> Result<(), ApiError> {
        let (file, size, mut hashed) = (kept.file(), kept.size, hashed);
        let hash = tokio::task::spawn_blocking(move || Kept::hash(&file, &mut hashed, size))
            .await
            .map_err(ApiError::internal)?
            .map_err(disk)?;
        let announced = kept.progress().blake3;
        let fits = announced.as_ref().is_none_or(|announced| *announced == hash);
        let state = if fits { UploadState::Complete } else { UploadState::Broken };
        let mut tx = self.0.db.begin().await?;
        store::settle(&mut tx, kept.id, state, fits.then_some(&*hash)).await?;
        tx.commit().await?;
        kept.publish(|progress| {
            progress.state = state;
            if fits {
                progress.blake3 = Some(hash);
            }
        });
        if fits { Ok(()) } else { Err(mismatch("what arrived")) }
    }
}

struct Appending<'a> {
    uploads: &'a Uploads,
    kept: &'a Arc<Kept>,
    displaced: CancellationToken,
    /// Where the next byte goes.
    at: u64,
    /// How much will come, when that was said.
    length: Option<u64>,
}

/// A block on its way to the disk.
type Writing = JoinHandle<std::io::Result<Hashed>>;

impl Appending<'_> {
    async fn run<S, E>(
        mut self,
        mut body: S,
        ended: impl Future<Output = &'static str>,
    ) -> Result<(), ApiError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: Display,
    {
        let mut turn = self.kept.turn.lock().await;
        let now = self.kept.progress();
        if now.state == UploadState::Broken {
            return Err(ApiError::new(
                StatusCode::CONFLICT,
                "upload_broken",
                "it is not what was announced, or was not continued in time; upload it again",
            ));
        }
        if self.at != now.received {
            return Err(ApiError::new(
                StatusCode::CONFLICT,
                "wrong_offset",
                format!("{} bytes are there; go on from there", now.received),
            )
            .received(now.received));
        }
        if self.length.is_some_and(|length| length > self.kept.size - now.received) {
            return Err(self.too_long());
        }
        if now.state == UploadState::Complete {
            return Ok(());
        }
        let mut hashed = std::mem::take(&mut *turn);
        let outcome = self.write_all(&mut hashed, &mut body, ended).await;
        // Also what came before it broke off.
        let kept = self.make_durable().await;
        let size = self.kept.size;
        if kept.is_ok() && self.kept.progress().received == size {
            drop(turn);
            return self.uploads.settle(self.kept, hashed).await;
        }
        *turn = hashed;
        kept?;
        outcome
    }

    async fn write_all<S, E>(
        &mut self,
        hashed: &mut Hashed,
        body: &mut S,
        ended: impl Future<Output = &'static str>,
    ) -> Result<(), ApiError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: Display,
    {
        let mut ended = std::pin::pin!(ended);
        let mut writing: Option<(Writing, u64)> = None;
        let mut block = BytesMut::with_capacity(BLOCK_BYTES);
        let outcome = loop {
            let chunk = tokio::select! {
                biased;
                () = self.displaced.cancelled() => break Err(broken("another request goes on with it")),
                why = &mut ended => break Err(broken(why)),
                chunk = body.next() => chunk,
            };
            let chunk = match chunk {
                None => break Ok(()),
                Some(Err(error)) => break Err(broken(&format!("the body broke off: {error}"))),
                Some(Ok(chunk)) => chunk,
            };
            let under_way = writing.as_ref().map_or(0, |(_, length)| *length);
            let come = self.at + under_way + block.len() as u64 + chunk.len() as u64;
            if come > self.kept.size {
                break Err(self.too_long());
            }
            block.extend_from_slice(&chunk);
            if block.len() >= BLOCK_BYTES {
                self.finish(&mut writing, hashed).await?;
                if self.at - self.kept.progress().received >= SYNC_BYTES {
                    self.make_durable().await?;
                }
                writing = Some(self.begin(hashed, &mut block));
                block.reserve(BLOCK_BYTES);
            }
        };
        self.finish(&mut writing, hashed).await?;
        if !block.is_empty() {
            writing = Some(self.begin(hashed, &mut block));
            self.finish(&mut writing, hashed).await?;
        }
        outcome
    }

    fn too_long(&self) -> ApiError {
        ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "upload_too_long",
            format!("{} bytes were announced, and this is more", self.kept.size),
        )
    }

    fn begin(&self, hashed: &mut Hashed, block: &mut BytesMut) -> (Writing, u64) {
        let (file, at, block) = (self.kept.file(), self.at, block.split().freeze());
        let length = block.len() as u64;
        let mut hashed = std::mem::take(hashed);
        let writing = tokio::task::spawn_blocking(move || {
            Kept::write(&file, &mut hashed, at, &block).map(|()| hashed)
        });
        (writing, length)
    }

    /// Waits for the block under way. What it hashed is lost when it fails, and the file is read
    /// again at its end.
    async fn finish(
        &mut self,
        writing: &mut Option<(Writing, u64)>,
        hashed: &mut Hashed,
    ) -> Result<(), ApiError> {
        let Some((writing, length)) = writing.take() else { return Ok(()) };
        *hashed = writing.await.map_err(ApiError::internal)?.map_err(disk)?;
        self.at += length;
        Ok(())
    }

    /// On the disk, then in the database, then told.
    async fn make_durable(&self) -> Result<(), ApiError> {
        if self.at == self.kept.progress().received {
            return Ok(());
        }
        let file = self.kept.file();
        tokio::task::spawn_blocking(move || file.sync_data())
            .await
            .map_err(ApiError::internal)?
            .map_err(disk)?;
        let inner = &self.uploads.0;
        let mut tx = inner.db.begin().await?;
        let known =
            store::keep_received(&mut tx, self.kept.id, self.at, inner.clock.micros()).await?;
        tx.commit().await?;
        if !known {
            return Err(not_found(self.kept.id));
        }
        self.kept.publish(|progress| progress.received = self.at);
        Ok(())
    }
}

fn broken(why: &str) -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        "upload_interrupted",
        format!("{why}; what had come is kept: ask how far it is and go on from there"),
    )
}
