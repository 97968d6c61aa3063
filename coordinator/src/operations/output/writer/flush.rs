//! Making a batch durable: segments first, then one commit.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use reeve_protocol::Totals;
use tokio_util::sync::CancellationToken;

use super::super::segments::{Appender, Segments};
use super::super::store::{self, Piece, PieceBody};
use super::batch::{Committed, Entry};
use super::{HealthFlag, WriterHealth};
use crate::Clock;
use crate::db::{Db, DbError};
use crate::operations::store as rows;

/// Pieces up to this size live in their row: a short output costs no file and no second sync.
const INLINE_BYTES: usize = 4 * 1024;

/// Between two tries to make a batch durable.
const RETRY: Duration = Duration::from_millis(500);

/// Why a batch is not durable.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("output could not be written: {0}")]
    Disk(#[from] io::Error),
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Where batches go, one after the other. It is handed to the batch that is on its way and comes
/// back with it.
pub struct Sink {
    pub db: Db,
    pub clock: Clock,
    pub segments: Segments,
    /// Away with the batch whose large pieces are being written; gone for good only if that panicked.
    pub appender: Option<Appender>,
    pub health: HealthFlag,
}

/// A batch that has come to its end, and the sink for the next one.
pub struct Flushed {
    pub sink: Sink,
    /// The batch and what it changed; nothing when it was given up.
    pub done: Option<(Vec<Entry>, Committed)>,
}

impl Sink {
    /// Makes a batch durable, however long it takes. Gives up only when told to stop, which loses
    /// nothing: it was not acknowledged.
    pub async fn flush(mut self, mut entries: Vec<Entry>, stop: CancellationToken) -> Flushed {
        let mut written = false;
        loop {
            let failure = match self.try_flush(&mut entries, &mut written).await {
                Ok(committed) => {
                    self.health.set(WriterHealth::Good);
                    return Flushed { sink: self, done: Some((entries, committed)) };
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
                () = stop.cancelled() => return Flushed { sink: self, done: None },
            }
        }
    }

    async fn try_flush(
        &mut self,
        entries: &mut Vec<Entry>,
        written: &mut bool,
    ) -> Result<Committed, Failure> {
        if entries.iter().all(|entry| entry.only_resumed) {
            return Ok(Committed {
                at_us: self.clock.micros(),
                rows: Vec::new(),
                jobs_done: BTreeMap::new(),
            });
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
        let mut appender = match self.appender.take() {
            Some(appender) => appender,
            None => Appender::new(self.segments.clone())?,
        };
        let mut moved = std::mem::take(entries);
        let work = tokio::task::spawn_blocking(move || {
            let result = append_all(&mut appender, &mut moved);
            (result, appender, moved)
        });
        let (result, appender, moved) =
            work.await.map_err(|error| Failure::Disk(io::Error::other(error)))?;
        self.appender = Some(appender);
        *entries = moved;
        Ok(result?)
    }

    async fn commit(&self, entries: &[Entry]) -> Result<Committed, DbError> {
        let now_us = self.clock.micros();
        // All of it is sent together: nothing in here depends on an answer.
        let mut tx = self.db.begin_later().await?;
        let mut changes = Vec::new();
        let mut ended_jobs = BTreeSet::new();
        for entry in entries.iter().filter(|entry| !entry.only_resumed) {
            for ((from, to, records), place) in entry.pieces.iter().zip(&entry.places) {
                let piece = Piece {
                    from: *from,
                    to: *to,
                    length: records.len() as u64,
                    at_us: Some(now_us),
                    body: match place {
                        Some(place) => PieceBody::Placed(*place),
                        None => PieceBody::Inline(records.clone()),
                    },
                };
                store::insert(&mut tx, entry.operation, &piece)?;
            }
            if let Some((from, to)) = entry.drop {
                store::delete_within(&mut tx, entry.operation, from, to)?;
            }
            let durable = entry.durable;
            if let Some(ending) = &entry.ending {
                let id = entry.operation;
                changes.push(rows::finish_later(&mut tx, id, ending, Some(durable), now_us)?);
                ended_jobs.insert(entry.job);
            } else if let Some(accepted) = &entry.accepted {
                let containment = rows::containment_text(accepted.containment);
                let (id, started) = (entry.operation, accepted.started_us);
                let sent = rows::mark_running(&mut tx, id, started, containment, durable, now_us)?;
                changes.push(sent);
            } else {
                rows::keep_durable(&mut tx, entry.operation, durable)?;
            }
        }
        let mut finished = Vec::with_capacity(ended_jobs.len());
        for job in ended_jobs {
            finished.push(rows::finish_job_later(&mut tx, job, now_us)?);
        }
        let answers = tx.commit_answered().await?;
        let changed = changes.into_iter().map(|sent| rows::read_answer(&answers, sent));
        let done = finished.into_iter().map(|sent| rows::read_job_end(&answers, sent));
        Ok(Committed {
            at_us: now_us,
            rows: changed.filter_map(Result::transpose).collect::<Result<_, _>>()?,
            jobs_done: done
                .filter_map(Result::transpose)
                .map(|end| end.map(|end| (end.job, end)))
                .collect::<Result<_, DbError>>()?,
        })
    }
}

fn append_all(appender: &mut Appender, entries: &mut [Entry]) -> io::Result<()> {
    let is_large = |records: &&[u8]| records.len() > INLINE_BYTES;
    let pieces: Vec<&[u8]> = entries
        .iter()
        .flat_map(|entry| entry.pieces.iter().map(|(_, _, records)| records.as_slice()))
        .filter(is_large)
        .collect();
    let mut places = appender.append(&pieces)?.into_iter();
    for entry in entries {
        for ((_, _, records), place) in entry.pieces.iter().zip(&mut entry.places) {
            if is_large(&records.as_slice()) {
                *place = places.next();
            }
        }
    }
    Ok(())
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
