//! Which tasks have a runner, and which are old enough to go.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use reeve_protocol::TaskId;

use super::super::ledger::Ledger;
use super::super::record::Record;
use super::super::{Assistant, Halt, Live, store};
use super::{Runner, is_live, think};
use crate::db::DbError;

/// How often ended tasks past their time are deleted.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Tasks deleted in one commit.
const SWEPT_AT_ONCE: i64 = 50;

impl Assistant {
    /// Gives tasks a runner, as many at once as may be.
    pub(in super::super) async fn schedule(&self) {
        let stop = self.0.tasks.token();
        loop {
            if let Err(error) = self.take_up().await {
                tracing::warn!(%error, "tasks could not be looked up");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.wake.notified() => {}
                // What could not be looked up is tried again.
                () = tokio::time::sleep(Duration::from_secs(5)) => {}
            }
        }
    }

    async fn take_up(&self) -> Result<(), DbError> {
        if !self.has_room() {
            return Ok(());
        }
        let limit = i64::try_from(self.live().len() + self.0.settings.max_tasks as usize + 1)
            .unwrap_or(i64::MAX);
        let found = store::list_live(&mut *self.0.db.reader().await?, limit).await?;
        for id in found {
            if !self.has_room() {
                break;
            }
            self.run_task(id).await?;
        }
        Ok(())
    }

    async fn run_task(&self, id: TaskId) -> Result<(), DbError> {
        let idle = self.0.idle.lock().await;
        if self.live().contains_key(&id) {
            return Ok(());
        }
        let record = store::load_record(&mut *self.0.db.reader().await?, id).await?;
        let Some(record) = record.filter(|record| is_live(record.task.state)) else {
            return Ok(());
        };
        let live = Arc::new(Live {
            token: self.0.tasks.token().child_token(),
            halt: std::sync::OnceLock::new(),
            waiting: AtomicBool::new(false),
        });
        self.live().insert(id, Arc::clone(&live));
        drop(idle);
        if record.task.cancelled.is_some() {
            live.halt(Halt::Cancelled);
        }
        let budget = self.budget(&record);
        let ledger = Ledger::new(
            self.0.db.clone(),
            self.0.clock.clone(),
            self.0.hub.clone(),
            self.0.tasks.token(),
            record,
        );
        let runner = Runner { assistant: self.clone(), id, live, ledger, budget };
        let assistant = self.clone();
        self.0.tasks.spawn("task", async move {
            // Also when it panics, another may take the task up.
            let _place = Place { assistant, id };
            runner.run().await;
        });
        Ok(())
    }

    /// What models may cost for a task: as asked for, never over the setting, and as much again for
    /// each answer of its asker.
    fn budget(&self, record: &Record) -> think::Budget {
        let most = self.0.settings.budget_hard;
        let asked = record.task.request.budget.unwrap_or(most).min(most);
        let times = f64::from(u32::try_from(record.task.answers.len()).unwrap_or(0) + 1);
        think::Budget::new(record.usage.cost, asked * times)
    }

    /// Deletes what is old.
    pub(in super::super) async fn sweep(&self, keep: Duration) {
        let stop = self.0.tasks.token();
        let mut timer = tokio::time::interval(SWEEP_EVERY);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = timer.tick() => {}
            }
            if let Err(error) = self.sweep_once(keep).await {
                tracing::warn!(%error, "old tasks could not be swept");
            }
        }
    }

    pub(in super::super) async fn sweep_once(&self, keep: Duration) -> Result<(), DbError> {
        let before = |keep: Duration| {
            let keep_us = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
            self.0.clock.micros().saturating_sub(keep_us)
        };
        let mut tx = self.0.db.begin().await?;
        store::forget_keys(&mut tx, before(self.0.idempotency_keep)).await?;
        tx.commit().await?;
        loop {
            let mut tx = self.0.db.begin().await?;
            let deleted = store::delete_ended(&mut tx, before(keep), SWEPT_AT_ONCE).await?;
            tx.commit().await?;
            if deleted < SWEPT_AT_ONCE.unsigned_abs() {
                return Ok(());
            }
        }
    }
}

/// A runner's place among the live ones, given up when it is dropped.
struct Place {
    assistant: Assistant,
    id: TaskId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.assistant.live().remove(&self.id);
        self.assistant.0.wake.notify_one();
    }
}
