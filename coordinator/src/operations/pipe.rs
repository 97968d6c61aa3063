//! Machine to machine: output of one operation is stdin of another, through memory here and nowhere
//! else. The source may write as far as the destination has taken, so neither runs away from the
//! other; what has not arrived is kept for the time after a cut of either link.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reeve_protocol::{OperationId, Stream};
use tokio::sync::{mpsc, watch};

use super::conductor::Request;
use super::feed::cancel;
use super::output::Part;
use super::relay::{Reader, Relay};
use super::stdin::{Patience, Retained, Source, SourceError, Stdins};
use crate::fleet::Fleet;
use crate::tasks::Tasks;

/// Taken of the source at once, bytes.
const TURN_BYTES: usize = 256 * 1024;

/// Held beyond what the destination's machine takes ahead, bytes.
const AHEAD_BYTES: u64 = 256 * 1024;

/// Of what the source says on stderr, the end is kept to say why it failed, bytes.
const WORDS_BYTES: usize = 1024;

/// Why a source is cancelled whose destination has ended or reads no more.
const NOT_WANTED: &str = "its output is not wanted any more: where it was sent has ended";

/// How an operation that is waited for ended: `None` before, then whether it succeeded.
type End = Option<bool>;

/// All pipes. Cheap to clone.
#[derive(Clone)]
pub struct Pipes(Arc<Inner>);

struct Inner {
    stdins: Stdins,
    fleet: Fleet,
    tasks: Tasks,
    requests: mpsc::Sender<Request>,
    /// Sources and destinations of all pipes.
    ends: Mutex<HashMap<OperationId, watch::Sender<End>>>,
}

/// The place of a pipe that is being laid. A destination has one source.
pub struct Mouth {
    pipes: Pipes,
    source: OperationId,
    destination: OperationId,
    source_end: watch::Receiver<End>,
    destination_end: watch::Receiver<End>,
}

impl Pipes {
    /// None yet.
    pub fn new(
        stdins: Stdins,
        fleet: Fleet,
        tasks: Tasks,
        requests: mpsc::Sender<Request>,
    ) -> Self {
        Self(Arc::new(Inner { stdins, fleet, tasks, requests, ends: Mutex::default() }))
    }

    fn ends(&self) -> MutexGuard<'_, HashMap<OperationId, watch::Sender<End>>> {
        self.0.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place in front of a destination, unless it has a source already. From now on the
    /// ends of both are noticed.
    pub fn reserve(&self, source: OperationId, destination: OperationId) -> Option<Mouth> {
        let mut ends = self.ends();
        if ends.contains_key(&destination) {
            return None;
        }
        let mut watched =
            |id| ends.entry(id).or_insert_with(|| watch::Sender::new(None)).subscribe();
        Some(Mouth {
            pipes: self.clone(),
            source,
            destination,
            source_end: watched(source),
            destination_end: watched(destination),
        })
    }

    /// An operation has ended, and that is recorded.
    pub fn ended(&self, operation: OperationId, succeeded: bool) {
        if let Some(end) = self.ends().get(&operation) {
            end.send_replace(Some(succeeded));
        }
    }
}

impl Drop for Mouth {
    fn drop(&mut self) {
        let mut ends = self.pipes.ends();
        ends.remove(&self.source);
        ends.remove(&self.destination);
    }
}

impl Mouth {
    /// Lets it flow until either end is over.
    pub fn open(self, reader: Reader) {
        let tasks = self.pipes.0.tasks.clone();
        let stop = tasks.token();
        tasks.spawn("pipe", async move {
            tokio::select! {
                // The next run of the coordinator cancels both.
                () = stop.cancelled() => {}
                () = self.run(reader) => {}
            }
        });
    }

    async fn run(mut self, mut reader: Reader) {
        let Some(relay) = reader.relay(self.source).cloned() else { return };
        let inner = Arc::clone(&self.pipes.0);
        // A destination may wait for its turn or its machine.
        let waited = tokio::select! {
            () = inner.stdins.opened(self.destination) => Ok(()),
            _ = self.destination_end.wait_for(Option::is_some) => return reader.give_up(NOT_WANTED),
            end = failed(&mut self.source_end) => Err(end),
        };
        let mut source = RelaySource {
            relay,
            reader: &reader,
            end: self.source_end.clone(),
            retained: Retained::new(0),
            taken: VecDeque::new(),
            most: AHEAD_BYTES,
            words: Vec::new(),
            finished: false,
        };
        let poured = match waited {
            Ok(()) => {
                let patience = Patience::Forever(None);
                inner.stdins.pour(&inner.fleet, self.destination, &mut source, patience).await
            }
            Err(()) => Some(Err(source.failure())),
        };
        let whole = source.finished;
        let source_failed = *self.source_end.borrow() == Some(false);
        match poured {
            Some(Ok(_)) if whole => reader.finish(),
            Some(Err(error)) => {
                if source_failed {
                    reader.finish();
                }
                cancel(&inner.requests, self.destination, &error).await;
            }
            Some(Ok(_)) | None => reader.give_up(NOT_WANTED),
        }
    }
}

/// Waits for an end that is no success.
async fn failed(end: &mut watch::Receiver<End>) {
    if end.wait_for(|end| *end == Some(false)).await.is_err() {
        std::future::pending().await
    }
}

/// What is relayed of an operation, as stdin of another.
struct RelaySource<'a> {
    relay: Arc<Relay>,
    reader: &'a Reader,
    end: watch::Receiver<End>,
    retained: Retained,
    /// What was taken, in turns: behind it in stdout, and in the merged order.
    taken: VecDeque<(u64, u64)>,
    most: u64,
    /// The end of its stderr.
    words: Vec<u8>,
    finished: bool,
}

impl RelaySource<'_> {
    fn take(&mut self, part: Part) -> Result<(), SourceError> {
        match part {
            Part::Bytes { stream: Stream::Stdout, bytes, .. } => self.retained.push(bytes),
            Part::Bytes { bytes, .. } => {
                self.words.extend_from_slice(&bytes);
                let over = self.words.len().saturating_sub(WORDS_BYTES);
                self.words.drain(..over);
            }
            Part::Gap(_) => {
                return Err(SourceError::Broken(
                    "what it reads from dropped output, because its machine's spool was full"
                        .to_owned(),
                ));
            }
        }
        Ok(())
    }

    fn failure(&self) -> SourceError {
        let words = String::from_utf8_lossy(&self.words);
        let words = words.trim();
        let colon = if words.is_empty() { "" } else { ": " };
        SourceError::Broken(format!("what it reads from did not succeed{colon}{words}"))
    }
}

impl Source for RelaySource<'_> {
    fn start(&self) -> u64 {
        self.retained.start()
    }

    fn end(&self) -> u64 {
        self.retained.end()
    }

    fn is_finished(&self) -> bool {
        self.finished
    }

    /// Only of a source that succeeded.
    fn total(&self) -> Option<u64> {
        self.finished.then(|| self.retained.end())
    }

    fn release(&mut self, received: u64, window: u64) {
        self.retained.release(received);
        self.most = AHEAD_BYTES + window;
        while let Some((stdout, all)) = self.taken.front().copied()
            && stdout <= received
        {
            self.taken.pop_front();
            self.relay.passed(all);
        }
    }

    async fn read(&mut self, offset: u64, room: u64) -> Result<Vec<u8>, SourceError> {
        Ok(self.retained.read(offset, room))
    }

    fn wants_more(&self) -> bool {
        !self.finished
    }

    async fn grow(&mut self) -> Result<(), SourceError> {
        loop {
            let end = *self.end.borrow_and_update();
            let has_room = self.retained.len() < self.most;
            if has_room || end == Some(false) {
                let taken = self.relay.take(TURN_BYTES);
                let is_something = !taken.parts.is_empty();
                for part in taken.parts {
                    self.take(part)?;
                }
                if is_something && end != Some(false) {
                    self.taken.push_back((self.retained.end(), taken.until));
                    return Ok(());
                }
                match end {
                    // Its last words may still lie there.
                    Some(false) if is_something => continue,
                    Some(false) => return Err(self.failure()),
                    Some(true) => {
                        self.finished = true;
                        return Ok(());
                    }
                    None => {}
                }
            }
            tokio::select! {
                () = self.reader.arrived(), if has_room => drop(self.reader.ready()),
                changed = self.end.changed() => if changed.is_err() {
                    return Err(SourceError::Broken("what it reads from is gone".to_owned()));
                },
            }
        }
    }
}
