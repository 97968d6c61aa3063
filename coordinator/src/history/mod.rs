//! What machines did: processor, memory, disks, network, load and pressure over a month, finer the younger
//! it is. Agents send samples with their heartbeats; each machine has a file of fixed size
//! ([`ring`]), so there is nothing to sweep and nothing to hold in memory.

mod number;
mod range;
mod ring;
mod routes;
mod series;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reeve_protocol::sample::MAX_SAMPLES;
use reeve_protocol::{MachineId, Metrics, Sample};
use reeve_sdk::api::History as Answer;
use tokio::sync::{Mutex, mpsc};

use crate::problem::ApiError;
use crate::tasks::Tasks;
use range::Range;
use ring::{History, SAMPLE_SECONDS, Values};
pub use routes::routes;

/// Heartbeats waiting to be written. When the disk does not keep up, more are dropped: a gap in a
/// chart, where waiting would make agents look dead.
const QUEUE: usize = 4096;

/// Heartbeats written in one go.
const AT_ONCE: usize = 256;

/// Failures of the disk are logged this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// What one heartbeat said, with numbers of samples by our clock.
struct Heard {
    machine: MachineId,
    samples: Vec<(i64, Values)>,
}

/// The histories of all machines. Cheap to clone.
#[derive(Clone)]
pub struct Histories {
    folder: Arc<Path>,
    queue: mpsc::Sender<Heard>,
    tasks: Tasks,
}

impl Histories {
    /// Histories in this folder, which is made if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: PathBuf, tasks: Tasks) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let (queue, heard) = mpsc::channel(QUEUE);
        let histories = Self { folder: folder.into(), queue, tasks };
        let (writer, heard) = (histories.clone(), Arc::new(Mutex::new(heard)));
        histories.tasks.spawn_lasting("history", move || {
            let (writer, heard) = (writer.clone(), Arc::clone(&heard));
            async move { writer.write_all(&heard).await }
        });
        Ok(histories)
    }

    /// Takes what a heartbeat said. Never waits. The agent's clock is only used to tell how long
    /// before the heartbeat a sample was taken.
    pub fn take(
        &self,
        machine: MachineId,
        samples: &[Sample],
        metrics: Option<&Metrics>,
        now_us: i64,
    ) {
        if samples.is_empty() {
            return;
        }
        let now = to_number(now_us);
        let samples = samples.iter().take(MAX_SAMPLES).filter_map(|sample| {
            let ago = i64::try_from(sample.ago).ok().filter(|ago| *ago < ring::SAMPLES.records)?;
            Some((now - ago, series::to_values(sample, metrics)))
        });
        let heard = Heard { machine, samples: samples.collect() };
        if self.queue.try_send(heard).is_err() {
            metrics::counter!("reeve_history_dropped_total").increment(1);
        }
    }

    /// A machine is no more, and nor is what it did.
    pub async fn forget(&self, machine: MachineId) {
        let path = self.path(machine);
        let removed =
            self.tasks.spawn_blocking("history", move || std::fs::remove_file(path)).await;
        match removed {
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(Err(error)) => {
                tracing::warn!(%machine, %error, "a machine's history could not be removed");
            }
            Err(error) => tracing::warn!(%machine, %error, "a machine's history was not removed"),
        }
    }

    /// What is known of a machine.
    ///
    /// # Errors
    /// 500 when its file cannot be read.
    pub async fn read(&self, machine: MachineId, range: Range) -> Result<Answer, ApiError> {
        let path = self.path(machine);
        let read = move || match History::open(&path)? {
            Some(history) => range.read(&history),
            None => Ok(range.read_none()),
        };
        let answer: io::Result<Answer> =
            self.tasks.spawn_blocking("history", read).await.map_err(ApiError::internal)?;
        answer.map_err(ApiError::internal)
    }

    fn path(&self, machine: MachineId) -> PathBuf {
        self.folder.join(format!("{machine}.ring"))
    }

    async fn write_all(&self, heard: &Mutex<mpsc::Receiver<Heard>>) {
        // Nobody else takes it; one that panicked has let go of it.
        let mut heard = heard.lock().await;
        let stop = self.tasks.token();
        let mut complained: Option<tokio::time::Instant> = None;
        loop {
            let mut batch = Vec::with_capacity(AT_ONCE);
            tokio::select! {
                biased;
                count = heard.recv_many(&mut batch, AT_ONCE) => if count == 0 { return },
                () = stop.cancelled() => return,
            }
            let folder = self.clone();
            let written = self.tasks.spawn_blocking("history", move || {
                // One machine's damaged file keeps no other's from being written.
                let mut failure = None;
                for heard in &batch {
                    failure = folder.write(heard).err().or(failure);
                }
                failure
            });
            let Ok(Some(error)) = written.await else { continue };
            metrics::counter!("reeve_history_failures_total").increment(1);
            if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
                complained = Some(tokio::time::Instant::now());
                tracing::warn!(%error, "histories of machines cannot be written; charts have gaps");
            }
        }
    }

    fn write(&self, heard: &Heard) -> io::Result<()> {
        History::open_or_create(&self.path(heard.machine))?.record(&heard.samples)
    }
}

/// The number of the five seconds that a time is nearest to.
fn to_number(time_us: i64) -> i64 {
    let length = SAMPLE_SECONDS * 1_000_000;
    time_us.saturating_add(length / 2).div_euclid(length)
}
