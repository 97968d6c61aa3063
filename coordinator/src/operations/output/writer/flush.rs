//! Making a batch durable: segments first, then one commit, then everybody is told.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use reeve_protocol::{Acknowledge, Credit, JobId, OperationId, Totals};
use reeve_sdk::api::OperationState;
use tokio_util::sync::CancellationToken;

use super::super::segments::{Open, Place, Segments};
use super::super::store::{self, Piece, PieceBody};
use super::{CREDIT_BUDGET, Closing, Writer, WriterHealth};
use crate::db::DbError;
use crate::events::Change;
use crate::operations::row::{Ending, OperationRow};
use crate::operations::store as rows;

/// Pieces up to this size live in their row: a short output costs no file and no second sync.
const INLINE_BYTES: usize = 4 * 1024;

/// Between two tries to make a batch durable.
const RETRY: Duration = Duration::from_millis(500);

/// What a batch holds of one operation.
struct Entry {
    operation: OperationId,
    job: JobId,
    pieces: Vec<(Totals, Totals, Vec<u8>)>,
    places: Vec<Option<Place>>,
    durable: Totals,
    accepted: Option<reeve_protocol::Accepted>,
    ending: Option<Ending>,
    drop: Option<(u64, u64)>,
    /// Nothing to write; the agent only waits to hear where to go on.
    only_resumed: bool,
}

/// What came of it.
struct Committed {
    rows: Vec<OperationRow>,
    jobs_done: BTreeSet<JobId>,
}

/// Why a batch is not durable.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("output could not be written: {0}")]
    Disk(#[from] io::Error),
    #[error(transparent)]
    Database(#[from] DbError),
}

impl Writer {
    /// Makes everything that has come in durable, however long it takes, and tells everybody. Gives
    /// up only when told to stop, which loses nothing: it was not acknowledged.
    pub(super) async fn flush(&mut self, stop: &CancellationToken) {
        let mut entries = self.collect();
        if entries.is_empty() {
            return;
        }
        let mut written = false;
        loop {
            let failure = match self.try_flush(&mut entries, &mut written).await {
                Ok(committed) => {
                    self.health.set(WriterHealth::Good);
                    self.announce(&entries, committed);
                    return;
                }
                Err(failure) => failure,
            };
            self.health.set(match &failure {
                Failure::Disk(_) | Failure::Database(DbError::DiskFull(_)) => {
                    WriterHealth::DiskFull
                }
                Failure::Database(_) => WriterHealth::DatabaseDown,
            });
            metrics::counter!("reeve_writer_retries_total").increment(1);
            tracing::error!(error = %chain(&failure), "a batch is not durable yet; it will be tried again");
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn collect(&mut self) -> Vec<Entry> {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        let mut entries = Vec::with_capacity(dirty.len());
        for operation in dirty {
            let Some(live) = self.live.get_mut(&operation) else { continue };
            let pieces: Vec<_> = live
                .collected
                .drain(..)
                .map(|piece| (piece.from, piece.to, piece.records))
                .collect();
            let accepted = live.accepted.take();
            let ending = live.result.as_ref().map(Ending::of);
            entries.push(Entry {
                operation,
                job: live.job,
                only_resumed: pieces.is_empty()
                    && accepted.is_none()
                    && ending.is_none()
                    && live.durable == live.received,
                places: vec![None; pieces.len()],
                pieces,
                durable: live.received,
                accepted,
                ending,
                drop: live.middle_to_drop(live.received.all),
            });
        }
        entries
    }

    async fn try_flush(
        &mut self,
        entries: &mut Vec<Entry>,
        written: &mut bool,
    ) -> Result<Committed, Failure> {
        if entries.iter().all(|entry| entry.only_resumed) {
            return Ok(Committed { rows: Vec::new(), jobs_done: BTreeSet::new() });
        }
        if !*written {
            self.write_segments(entries).await?;
            *written = true;
        }
        Ok(self.commit(entries).await?)
    }

    /// Appends what does not fit into rows and syncs it, off the async threads.
    async fn write_segments(&mut self, entries: &mut Vec<Entry>) -> Result<(), Failure> {
        let large = |(_, _, records): &(Totals, Totals, Vec<u8>)| records.len() > INLINE_BYTES;
        if !entries.iter().any(|entry| entry.pieces.iter().any(large)) {
            return Ok(());
        }
        let segments = self.segments.clone();
        let mut open = self.open.take();
        let mut next = self.next_segment;
        let mut moved = std::mem::take(entries);
        let work = tokio::task::spawn_blocking(move || {
            let result = append_all(&segments, &mut open, &mut next, &mut moved);
            (result, open, next, moved)
        });
        let (result, open, next, moved) =
            work.await.map_err(|error| Failure::Disk(io::Error::other(error)))?;
        self.next_segment = next;
        *entries = moved;
        // After a failed write or sync nobody knows what the file holds: the next try takes a new one.
        self.open = if result.is_ok() { open } else { None };
        Ok(result?)
    }

    async fn commit(&self, entries: &[Entry]) -> Result<Committed, DbError> {
        let now_us = self.clock.micros();
        let mut tx = self.db.begin().await?;
        let mut changed = Vec::new();
        let mut ended_jobs = BTreeSet::new();
        for entry in entries.iter().filter(|entry| !entry.only_resumed) {
            for ((from, to, records), place) in entry.pieces.iter().zip(&entry.places) {
                let piece = Piece {
                    from: *from,
                    to: *to,
                    length: records.len() as u64,
                    body: match place {
                        Some(place) => PieceBody::Placed(*place),
                        None => PieceBody::Inline(records.clone()),
                    },
                };
                store::insert(&mut tx, entry.operation, &piece).await?;
            }
            if let Some((from, to)) = entry.drop {
                store::delete_within(&mut tx, entry.operation, from, to).await?;
            }
            let durable = entry.durable;
            if let Some(ending) = &entry.ending {
                let row =
                    rows::finish(&mut tx, entry.operation, ending, Some(durable), now_us).await?;
                changed.extend(row);
                ended_jobs.insert(entry.job);
            } else if let Some(accepted) = &entry.accepted {
                let containment = rows::containment_text(accepted.containment);
                let (id, started) = (entry.operation, accepted.started_us);
                let row =
                    rows::mark_running(&mut tx, id, started, containment, durable, now_us).await?;
                changed.extend(row);
            } else {
                rows::keep_durable(&mut tx, entry.operation, durable).await?;
            }
        }
        let mut jobs_done = BTreeSet::new();
        for job in ended_jobs {
            if rows::finish_job_if_done(&mut tx, job, now_us).await? {
                jobs_done.insert(job);
            }
        }
        tx.commit().await?;
        Ok(Committed { rows: changed, jobs_done })
    }

    fn announce(&mut self, entries: &[Entry], committed: Committed) {
        let may_grow = self.credit < CREDIT_BUDGET;
        for entry in entries {
            let Some(live) = self.live.get_mut(&entry.operation) else { continue };
            let fresh = entry.durable.all.saturating_sub(live.durable.all);
            let grew = fresh > 0;
            live.durable = entry.durable;
            let ended = entry.ending.is_some();
            if grew || ended || live.resumed {
                live.session.tell(
                    Some(entry.operation),
                    &Acknowledge { durable: live.durable.all, result: ended },
                );
            }
            let size = live.window.size();
            let until = if live.resumed {
                live.resumed = false;
                Some(live.window.restart(live.durable.all))
            } else {
                live.window.advance(live.durable.all, live.received.all, may_grow)
            };
            self.credit = (self.credit + live.window.size()).saturating_sub(size);
            if let Some(until) = until.filter(|_| !ended) {
                live.session.tell(Some(entry.operation), &Credit::Output { until });
            }
            if entry.accepted.is_some() {
                live.started = true;
            }
            if grew {
                metrics::counter!("reeve_output_bytes_total").increment(fresh);
                self.hub.tell(Change::Output {
                    job: entry.job,
                    operation: entry.operation,
                    durable: entry.durable,
                });
            }
        }
        for row in committed.rows {
            if row.state.is_terminal() {
                metrics::counter!("reeve_operations_ended_total", "state" => row.state.as_str())
                    .increment(1);
            }
            let state = row.state;
            let operation = row.id;
            self.hub.tell(Change::Operation(std::sync::Arc::new(row.to_api())));
            if state == OperationState::Running {
                self.closings.put(Closing::Started(operation));
            }
        }
        for entry in entries {
            if let Some(ending) = &entry.ending {
                let (operation, state) = (entry.operation, ending.state);
                let job_done = committed.jobs_done.contains(&entry.job);
                self.closings.put(Closing::Ended { operation, state, job_done });
                self.forget(operation);
            }
        }
        for job in committed.jobs_done {
            self.hub.tell(Change::Job(job));
        }
    }
}

fn append_all(
    segments: &Segments,
    open: &mut Option<Open>,
    next: &mut i64,
    entries: &mut [Entry],
) -> io::Result<()> {
    for entry in entries {
        for ((_, _, records), place) in entry.pieces.iter().zip(&mut entry.places) {
            if records.len() > INLINE_BYTES {
                *place = Some(segments.append(open, next, records)?);
            }
        }
    }
    open.as_mut().map_or(Ok(()), Open::sync)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
