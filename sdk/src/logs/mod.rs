//! Logs of many machines as one: merged in order of time, each record once, and gone on with when
//! machine, coordinator or connection went away in between.

#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod lane;
mod merge;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::select_all;
use reeve_protocol::ops::{Failure, LogRead, LogRecord};
use reeve_protocol::{JobId, OperationId};

use crate::api::JobRequest;
use crate::retry::Backoff;
use crate::{Client, Error, Event, Follow, Paging};
use lane::{Lane, was_interrupted};
use merge::Merge;

/// How long a machine that was restarted, or cut off, may take until it goes on.
const WAIT: Duration = Duration::from_secs(600);

/// An entry of a log.
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// Whose.
    pub machine: String,
    /// What the machine said.
    pub record: LogRecord,
    /// When it was by the coordinator's clock, microseconds since 1970: the machine's time less what
    /// its clock is off.
    pub corrected_us: i64,
}

/// Something that happened.
#[derive(Debug)]
pub enum LogEvent {
    /// The next entry, in order of time.
    Entry(Box<LogEntry>),
    /// How many machines there are; first.
    Machines(usize),
    /// A machine left something out.
    Warning {
        /// Which.
        machine: String,
        /// What.
        warning: Failure,
    },
    /// A machine has ended.
    Ended {
        /// Which.
        machine: String,
        /// Why it told not everything; `None` if it did.
        failure: Option<Failure>,
    },
    /// What was told last was not in order any more: so much came that not all of it could wait for
    /// its turn.
    OutOfOrder,
    /// Contact was lost; what was missed will come.
    Interrupted {
        /// In words.
        why: String,
    },
    /// Contact again.
    Resumed,
}

/// A job of it. The first are of a request for all machines, later ones of one machine each.
struct Source {
    follow: Option<Follow>,
    read: usize,
    /// The machine, when it is only one.
    lane: Option<usize>,
    lanes: HashMap<OperationId, usize>,
    /// When it is tried again, after it was broken.
    again: Option<Instant>,
    backoff: Backoff,
    broken_since: Option<Instant>,
}

/// Logs being read or followed. Ask [`Self::next`] until it says `None`.
pub struct LogFollow {
    client: Client,
    selector: String,
    reads: Vec<LogRead>,
    sources: Vec<Source>,
    lanes: Vec<Lane>,
    merge: Merge<LogEntry>,
    ready: VecDeque<LogEvent>,
    skews: HashMap<String, i64>,
    began: bool,
    machines: HashSet<String>,
    told_machines: bool,
    interrupted: bool,
}

impl Client {
    /// Reads or follows logs of every machine of a selector. Several requests are merged: files and
    /// the journal are asked for apart. Nothing is sent before the first [`LogFollow::next`].
    #[must_use]
    pub fn logs(&self, selector: &str, reads: Vec<LogRead>) -> LogFollow {
        let follow = reads.iter().any(|read| read.follow);
        let reads: Vec<LogRead> =
            reads.into_iter().map(|read| LogRead { cursors: true, ..read }).collect();
        LogFollow {
            client: self.clone(),
            selector: selector.to_owned(),
            reads,
            sources: Vec::new(),
            lanes: Vec::new(),
            merge: Merge::new(follow),
            ready: VecDeque::new(),
            skews: HashMap::new(),
            began: false,
            machines: HashSet::new(),
            told_machines: false,
            interrupted: false,
        }
    }
}

impl LogFollow {
    /// The jobs that are under way, for whoever wants them cancelled.
    #[must_use]
    pub fn jobs(&self) -> Vec<JobId> {
        let follows = self.sources.iter().filter_map(|source| source.follow.as_ref());
        follows.filter_map(Follow::job_id).collect()
    }

    /// Has everything that is under way cancelled.
    pub async fn cancel(&mut self, why: &str) {
        let jobs = self.jobs();
        // Closing the connections cancels what is relayed, too; this says why.
        for job in jobs {
            let _ = self.client.cancel_job(job, why).await;
        }
        self.sources.clear();
    }

    /// What is held back for its turn, in order, when nothing more is waited for.
    pub fn drain(&mut self) -> Vec<LogEntry> {
        for lane in 0..self.lanes.len() {
            self.merge.end(lane);
        }
        let now = Instant::now();
        std::iter::from_fn(|| self.merge.pop(now)).collect()
    }

    /// The next thing that happened; `None` when every machine has ended. Dropping the future
    /// before it is ready loses nothing.
    ///
    /// # Errors
    /// When the coordinator refuses, or there was no contact for too long.
    pub async fn next(&mut self) -> Result<Option<LogEvent>, Error> {
        self.begin().await?;
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if let Some(entry) = self.merge.pop(Instant::now()) {
                if self.merge.take_overflowed() {
                    self.ready.push_back(LogEvent::OutOfOrder);
                }
                return Ok(Some(LogEvent::Entry(Box::new(entry))));
            }
            let more =
                self.sources.iter().any(|source| source.follow.is_some() || source.again.is_some());
            if !more {
                return Ok(self.drain_one());
            }
            self.wait().await?;
        }
    }

    fn drain_one(&mut self) -> Option<LogEvent> {
        for lane in 0..self.lanes.len() {
            self.merge.end(lane);
        }
        self.merge.pop(Instant::now()).map(|entry| LogEvent::Entry(Box::new(entry)))
    }

    async fn begin(&mut self) -> Result<(), Error> {
        if self.began {
            return Ok(());
        }
        let mut cursor = None;
        loop {
            let paging = Paging { cursor, limit: Some(1000) };
            let page = self.client.machines(Some(&self.selector), None, &paging).await?;
            for machine in page.items {
                let skew = machine.clock_skew_ms.unwrap_or(0).saturating_mul(1000);
                self.skews.insert(machine.name, skew);
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        self.began = true;
        for read in 0..self.reads.len() {
            let request = self.request(read, &self.selector);
            let follow = self.client.run(&request)?;
            self.sources.push(Source {
                follow: Some(follow),
                read,
                lane: None,
                lanes: HashMap::new(),
                again: None,
                backoff: Backoff::new(),
                broken_since: None,
            });
        }
        Ok(())
    }

    fn request(&self, read: usize, selector: &str) -> JobRequest {
        let read = self.reads.get(read).cloned().unwrap_or_default();
        JobRequest { relay: true, ..JobRequest::new(selector, read) }
    }

    /// Waits until something has come, or it is time for something.
    async fn wait(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let mut wake = self.merge.next_due();
        for index in 0..self.sources.len() {
            let Some(source) = self.sources.get(index) else { continue };
            let Some(again) = source.again else { continue };
            if again <= now {
                self.ask_again(index)?;
            } else {
                wake = Some(wake.map_or(again, |wake| wake.min(again)));
            }
        }
        let asked: Vec<_> = self
            .sources
            .iter_mut()
            .enumerate()
            .filter_map(|(index, source)| {
                let follow = source.follow.as_mut()?;
                Some(follow.next().map(move |event| (index, event)).boxed())
            })
            .collect();
        let until = wake.unwrap_or(now + Duration::from_secs(60));
        if asked.is_empty() {
            tokio::time::sleep_until(until.into()).await;
            return Ok(());
        }
        let happened = tokio::select! {
            ((index, event), _, _) = select_all(asked) => Some((index, event)),
            () = tokio::time::sleep_until(until.into()) => None,
        };
        match happened {
            None => Ok(()),
            Some((index, Ok(Some(event)))) => self.take(index, event),
            Some((index, Ok(None))) => {
                if let Some(source) = self.sources.get_mut(index) {
                    source.follow = None;
                }
                Ok(())
            }
            Some((index, Err(error))) => self.broken(index, error),
        }
    }

    fn take(&mut self, index: usize, event: Event) -> Result<(), Error> {
        match event {
            Event::Operation(operation) => {
                let lane = self.lane_of(index, operation.id, &operation.machine);
                self.contact(index);
                if let Some(lane) = lane
                    && operation.state.is_terminal()
                {
                    return self.ended(index, lane, *operation);
                }
            }
            Event::Output(output) => {
                self.contact(index);
                let source = self.sources.get(index);
                let Some(&lane) = source.and_then(|source| source.lanes.get(&output.operation))
                else {
                    return Ok(());
                };
                self.take_output(lane, &output)?;
            }
            Event::Gap { operation, gap } => {
                let source = self.sources.get(index);
                let lane = source.and_then(|source| source.lanes.get(&operation));
                let Some(machine) = lane.and_then(|lane| self.lanes.get(*lane)) else {
                    return Ok(());
                };
                let text = format!("{} bytes of its answer were dropped", gap.to - gap.from);
                let warning = Failure::new("gap", text);
                let machine = machine.machine.clone();
                self.ready.push_back(LogEvent::Warning { machine, warning });
            }
            Event::Job(job) if !self.told_machines => {
                self.told_machines = true;
                let count = usize::try_from(job.counts.total).unwrap_or(usize::MAX);
                self.ready.push_back(LogEvent::Machines(count));
            }
            Event::Job(_) => {}
            Event::Interrupted { why } => self.tell_interrupted(why),
            Event::Resumed => self.contact(index),
        }
        Ok(())
    }

    fn take_output(&mut self, index: usize, output: &crate::Output) -> Result<(), Error> {
        let Some(lane) = self.lanes.get_mut(index) else { return Ok(()) };
        let records = lane.take(output.stream, &output.bytes)?;
        for warning in lane.take_warnings() {
            let machine = lane.machine.clone();
            self.ready.push_back(LogEvent::Warning { machine, warning });
        }
        let now = Instant::now();
        for mut record in records {
            lane.pass(&mut record);
            if record.is_entry() {
                let corrected_us = record.time_us.saturating_sub(lane.skew_us);
                let source = record.source.clone();
                let texts = record.text.as_ref().or(record.hex.as_ref());
                let bytes = 256 + texts.map_or(0, String::len) + source.len();
                let machine = lane.machine.clone();
                let entry = LogEntry { machine, record, corrected_us };
                self.merge.push(index, &source, corrected_us, bytes, entry, now);
            } else if record.caught_up {
                self.merge.caught_up(index);
            }
        }
        Ok(())
    }

    /// The lane of an operation, made when it is new.
    fn lane_of(&mut self, index: usize, id: OperationId, machine: &str) -> Option<usize> {
        let source = self.sources.get_mut(index)?;
        if let Some(lane) = source.lanes.get(&id) {
            return Some(*lane);
        }
        let lane = match source.lane {
            Some(lane) => lane,
            None => {
                let skew = self.skews.get(machine).copied().unwrap_or(0);
                self.lanes.push(Lane::new(machine.to_owned(), skew, source.read));
                self.lanes.len() - 1
            }
        };
        source.lanes.insert(id, lane);
        self.machines.insert(machine.to_owned());
        self.merge.open(lane);
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.operation = Some(id);
        }
        Some(lane)
    }

    fn ended(
        &mut self,
        index: usize,
        lane_index: usize,
        operation: crate::api::Operation,
    ) -> Result<(), Error> {
        let Some(lane) = self.lanes.get_mut(lane_index) else { return Ok(()) };
        if lane.ended || lane.operation != Some(operation.id) {
            return Ok(());
        }
        let follows = self.reads.get(lane.read).is_some_and(|read| read.follow);
        if follows && was_interrupted(operation.state) {
            let why = format!("'{}' was restarted", lane.machine);
            if let Some(source) = self.sources.get_mut(index)
                && source.lane.is_some()
            {
                source.follow = None;
            }
            self.resume(lane_index);
            self.tell_interrupted(why);
            return Ok(());
        }
        let (warnings, failure) = lane.end(operation);
        let machine = lane.machine.clone();
        self.merge.end(lane_index);
        for warning in warnings {
            self.ready.push_back(LogEvent::Warning { machine: machine.clone(), warning });
        }
        self.ready.push_back(LogEvent::Ended { machine, failure });
        Ok(())
    }

    /// A stream broke: everything of it that has not ended is asked for again, from where it got
    /// to, of each machine by itself.
    fn broken(&mut self, index: usize, error: Error) -> Result<(), Error> {
        let patience = self.client.retry_limits().follow;
        let Some(source) = self.sources.get_mut(index) else { return Ok(()) };
        source.follow = None;
        let began = !source.lanes.is_empty() || source.lane.is_some();
        if !began || !(matches!(error, Error::RelayBroken { .. }) || error.is_transient()) {
            return Err(error);
        }
        let why = error.to_string();
        if source.lane.is_some() {
            let since = *source.broken_since.get_or_insert_with(Instant::now);
            if since.elapsed() > patience {
                return Err(Error::LostContact { after: since.elapsed(), last: Box::new(error) });
            }
            source.again = Some(Instant::now() + source.backoff.pause(error.retry_after()));
        } else {
            let lanes: Vec<usize> = source.lanes.values().copied().collect();
            for lane in lanes {
                if self.lanes.get(lane).is_some_and(|lane| !lane.ended) {
                    self.resume(lane);
                }
            }
        }
        self.tell_interrupted(why);
        Ok(())
    }

    /// Has a lane go on in a job of its own.
    fn resume(&mut self, lane: usize) {
        let read = self.lanes.get(lane).map_or(0, |lane| lane.read);
        let mut backoff = Backoff::new();
        let again = Instant::now() + backoff.pause(None);
        self.sources.push(Source {
            follow: None,
            read,
            lane: Some(lane),
            lanes: HashMap::new(),
            again: Some(again),
            backoff,
            broken_since: Some(Instant::now()),
        });
    }

    fn ask_again(&mut self, index: usize) -> Result<(), Error> {
        let Some(source) = self.sources.get_mut(index) else { return Ok(()) };
        source.again = None;
        source.lanes.clear();
        let Some(lane) = source.lane.and_then(|lane| self.lanes.get_mut(lane)) else {
            return Ok(());
        };
        lane.begin_again();
        let read = self.reads.get(lane.read).cloned().unwrap_or_default();
        let request = JobRequest {
            relay: true,
            wait_ms: Some(u64::try_from(WAIT.as_millis()).unwrap_or(u64::MAX)),
            ..JobRequest::new(lane.machine.clone(), lane.resumption(&read))
        };
        source.follow = Some(self.client.run(&request)?);
        Ok(())
    }

    fn contact(&mut self, index: usize) {
        if let Some(source) = self.sources.get_mut(index)
            && source.broken_since.take().is_some()
        {
            source.backoff = Backoff::new();
        }
        let waiting = self.sources.iter().any(|source| source.broken_since.is_some());
        if self.interrupted && !waiting {
            self.interrupted = false;
            self.ready.push_back(LogEvent::Resumed);
        }
    }

    fn tell_interrupted(&mut self, why: String) {
        if !std::mem::replace(&mut self.interrupted, true) {
            self.ready.push_back(LogEvent::Interrupted { why });
        }
    }
}
