//! What a batch is: collected from what has come in, and told to everybody once it is durable.

use std::collections::BTreeMap;

use reeve_protocol::{Acknowledge, Credit, JobId, OperationId, Totals};

use super::super::recent::Fresh;
use super::super::segments::Place;
use super::{CREDIT_BUDGET, Closing, Writer};
use crate::events::{Change, JobEnd};
use crate::operations::row::{Ending, OperationRow};

/// What a batch holds of one operation.
pub struct Entry {
    pub operation: OperationId,
    pub job: JobId,
    pub pieces: Vec<(Totals, Totals, Vec<u8>)>,
    pub places: Vec<Option<Place>>,
    pub durable: Totals,
    pub accepted: Option<reeve_protocol::Accepted>,
    pub ending: Option<Ending>,
    pub drop: Option<(u64, u64)>,
    /// Nothing to write; the agent only waits to hear where to go on.
    pub only_resumed: bool,
}

/// What came of it.
pub struct Committed {
    /// When it was committed, microseconds since 1970.
    pub at_us: i64,
    pub rows: Vec<OperationRow>,
    pub jobs_done: BTreeMap<JobId, JobEnd>,
}

impl Writer {
    /// Everything that is not durable yet and not on its way to be.
    pub(super) fn collect(&mut self) -> Vec<Entry> {
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
            let ending = live.take_ending();
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
                drop: live.middle_to_drop(live.received.all).filter(|_| live.relay.is_none()),
            });
        }
        entries
    }

    /// Leaves what was committed to those who follow it. Pieces of a middle that was dropped with the
    /// same commit are nowhere.
    pub(super) fn hand_on(&self, entries: &mut [Entry], at_us: i64) {
        for entry in entries {
            let pieces = std::mem::take(&mut entry.pieces);
            if !self.hub.is_watched(entry.job) {
                continue;
            }
            for (from, to, mut records) in pieces {
                // What is kept is counted by what is in it.
                if records.capacity() > 2 * records.len() {
                    records.shrink_to_fit();
                }
                let is_dropped =
                    entry.drop.is_some_and(|(first, last)| from.all >= first && to.all <= last);
                if !is_dropped {
                    let records = records.into();
                    self.recent.keep(entry.operation, Fresh { from, to, at_us, records });
                }
            }
        }
    }

    /// Tells whoever watches, acknowledges, and grants credit.
    pub(super) fn announce(&mut self, entries: &[Entry], committed: Committed) {
        self.tell(entries, &committed);
        let may_grow = self.credit < CREDIT_BUDGET;
        for entry in entries {
            let Some(live) = self.live.get_mut(&entry.operation) else { continue };
            let grew = entry.durable.all > live.durable.all;
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
        }
        for entry in entries {
            if let Some(ending) = &entry.ending {
                let (operation, state) = (entry.operation, ending.state);
                let job_done = committed.jobs_done.contains_key(&entry.job);
                self.closings.put(Closing::Ended { operation, state, job_done });
                self.forget(operation);
            }
        }
    }

    /// People before machines: they wait for it.
    fn tell(&self, entries: &[Entry], committed: &Committed) {
        for entry in entries {
            let Some(live) = self.live.get(&entry.operation) else { continue };
            let fresh = entry.durable.all.saturating_sub(live.durable.all);
            if fresh > 0 {
                metrics::counter!("reeve_output_bytes_total").increment(fresh);
                self.hub.tell(Change::Output {
                    job: entry.job,
                    operation: entry.operation,
                    durable: entry.durable,
                });
            }
        }
        for row in &committed.rows {
            if row.state.is_terminal() {
                metrics::counter!("reeve_operations_ended_total", "state" => row.state.as_str())
                    .increment(1);
            }
            self.hub.tell(Change::Operation(std::sync::Arc::new(row.to_api())));
        }
        for end in committed.jobs_done.values() {
            self.hub.tell(Change::Job(*end));
        }
    }
}
