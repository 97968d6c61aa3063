//! What is old goes: jobs past their time, then segments of output nobody refers to.

use std::time::Duration;

use super::{Operations, output, store, terminals};
use crate::db::DbError;

/// How often.
const INTERVAL: Duration = Duration::from_secs(600);

/// What an unrecorded terminal showed stays so long after its end, microseconds: whoever was cut
/// off can still see how it ended.
const UNRECORDED_KEEP_US: i64 = 60 * 1_000_000;

/// Jobs deleted in one commit, so that nobody waits long for the one writer of the database.
const JOBS_AT_ONCE: i64 = 50;

impl Operations {
    pub(super) async fn sweep(&self, keep: Duration) {
        let stop = self.0.tasks.token();
        let mut timer = tokio::time::interval(INTERVAL);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = timer.tick() => {}
            }
            if let Err(error) = self.sweep_once(keep).await {
                tracing::warn!(%error, "old jobs could not be swept");
            }
        }
    }

    pub(super) async fn sweep_once(&self, keep: Duration) -> anyhow::Result<()> {
        let keep_us = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
        let now_us = self.0.clock.micros();
        let before_us = now_us.saturating_sub(keep_us);
        let keep_keys = self.0.limits.idempotency_keep.as_micros();
        let keys_before = now_us.saturating_sub(i64::try_from(keep_keys).unwrap_or(i64::MAX));
        let mut tx = self.0.db.begin().await?;
        store::forget_keys(&mut tx, keys_before).await?;
        terminals::store::forget_unrecorded(&mut tx, now_us.saturating_sub(UNRECORDED_KEEP_US))
            .await?;
        tx.commit().await?;
        loop {
            let deleted = self.delete_some(before_us).await?;
            if deleted < u64::try_from(JOBS_AT_ONCE).unwrap_or(0) {
                break;
            }
        }
        // Listed before the rows are read: a segment begun meanwhile is not in the list. A batch
        // whose rows are not committed yet may lie in the last two, so they stay.
        let segments = self.0.segments.clone();
        let mut unused = tokio::task::spawn_blocking(move || segments.list()).await??;
        unused.pop_last();
        unused.pop_last();
        let used = output::list_segments(&mut *self.0.db.reader().await?).await?;
        for number in unused.difference(&used).copied().collect::<Vec<_>>() {
            let segments = self.0.segments.clone();
            tokio::task::spawn_blocking(move || segments.remove(number)).await??;
        }
        Ok(())
    }

    async fn delete_some(&self, before_us: i64) -> Result<u64, DbError> {
        let mut tx = self.0.db.begin().await?;
        let deleted = store::delete_ended(&mut tx, before_us, JOBS_AT_ONCE).await?;
        tx.commit().await?;
        Ok(deleted)
    }
}
