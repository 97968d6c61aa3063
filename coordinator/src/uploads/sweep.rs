//! What nobody uses goes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use reeve_protocol::UploadId;
use reeve_sdk::api::UploadState;

use super::kept::Hashed;
use super::{Uploads, store};

/// How often.
const INTERVAL: Duration = Duration::from_secs(60);

/// Files looked at in one round.
const AT_ONCE: i64 = 1000;

impl Uploads {
    /// What a former run left: files without a row go, whole files get their hash.
    pub(super) async fn take_up(&self) -> anyhow::Result<()> {
        let known: HashSet<UploadId> =
            store::list_ids(&mut *self.0.db.reader().await?).await?.into_iter().collect();
        let folder = self.0.folder.clone();
        let names = tokio::task::spawn_blocking(move || {
            std::fs::read_dir(folder)?
                .map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()))
                .collect::<std::io::Result<Vec<String>>>()
        })
        .await??;
        for id in names.iter().filter_map(|name| name.parse::<UploadId>().ok()) {
            if !known.contains(&id) {
                self.forget(id);
            }
        }
        Ok(())
    }

    pub(super) async fn sweep(&self) {
        let stop = self.0.tasks.token();
        let mut timer = tokio::time::interval(INTERVAL);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = timer.tick() => {}
            }
            if let Err(error) = self.sweep_once().await {
                tracing::warn!(%error, "uploads could not be swept");
            }
        }
    }

    pub(super) async fn sweep_once(&self) -> anyhow::Result<()> {
        for id in store::list_whole(&mut *self.0.db.reader().await?, AT_ONCE).await? {
            let Ok(Some(kept)) = self.open(id).await else { continue };
            // Whoever appends settles it by itself.
            let Ok(turn) = kept.turn.try_lock() else { continue };
            if kept.progress().state == UploadState::Open
                && let Err(error) = self.settle(&kept, Hashed::default()).await
            {
                tracing::warn!(%id, ?error, "an upload is not good");
            }
            drop(turn);
        }
        let keep_us = i64::try_from(self.0.keep.as_micros()).unwrap_or(i64::MAX);
        let before_us = self.0.clock.micros().saturating_sub(keep_us);
        // Operations wait for the rest of what nobody goes on with: they have to be told.
        let mut tx = self.0.db.begin().await?;
        let stalled = store::break_stalled(&mut tx, before_us).await?;
        let expired = store::delete_expired(&mut tx, before_us).await?;
        tx.commit().await?;
        for id in stalled {
            if let Some(kept) = self.live().get(&id) {
                kept.give_up();
            }
        }
        for id in expired {
            tracing::info!(%id, "an upload expired");
            self.forget(id);
        }
        // Of whole ones that nobody reads the rows say all that matters; the others have a hash that
        // was computed so far.
        self.live().retain(|_, kept| Arc::strong_count(kept) > 1 || kept.is_open());
        Ok(())
    }
}
