//! One authenticated life of an agent's connection.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use reeve_link::{LinkError, Receiver, Sender, Transport};
use reeve_protocol::{
    Body, ClientLog, CodecError, Envelope, Goodbye, GoodbyeReason, Heartbeat, Hello, JournalId,
    Kind, MachineId, Metrics, OperationId, limits,
};
use tokio::sync::{Notify, mpsc};

use super::{Event, Fleet};

/// Takes an operation's output where it is heard, instead of whoever makes it durable.
pub trait Tap: Send + Sync {
    /// A frame of output came through the session with this epoch. Must not wait.
    ///
    /// # Errors
    /// Why the frame is a breach of the protocol.
    fn take(&self, epoch: u64, envelope: &Envelope) -> Result<(), Box<dyn std::error::Error>>;
}

/// A machine's connection, from `welcome` to its end.
pub struct Session {
    /// Whose.
    pub machine: MachineId,
    /// Its name when the session began.
    pub name: String,
    /// Counts the machine's sessions.
    pub epoch: u64,
    /// The kernel boot its agent runs in.
    pub boot_id: String,
    /// Its agent's journal.
    pub journal: JournalId,
    /// Operations its agent runs at once.
    pub max_concurrent: u32,
    /// Operation names its agent knows.
    pub operations: Vec<String>,
    sender: Sender,
    /// Coordinator's clock at the last frame, µs.
    heard_us: AtomicI64,
    /// Agent's clock minus ours at the last heartbeat, µs. It includes the way here, so it is only
    /// good to tell minutes.
    skew_us: AtomicI64,
    metrics: Mutex<Option<Metrics>>,
    /// The last probe number its agent answered.
    answered: AtomicU64,
    answer: Notify,
    taps: RwLock<HashMap<OperationId, Arc<dyn Tap>>>,
}

/// The agent broke the protocol; its link is closed with this said in the log.
#[derive(Debug, thiserror::Error)]
pub enum Breach {
    /// A frame that cannot be read.
    #[error(transparent)]
    Frame(#[from] CodecError),
    /// A kind of frame that only a coordinator sends, or a second handshake.
    #[error("an agent must not send '{0}'")]
    Unexpected(String),
    /// Output that must not have come.
    #[error("{0}")]
    Output(String),
}

impl Session {
    pub(super) fn new(hello: Hello, name: String, epoch: u64, sender: Sender, now_us: i64) -> Self {
        Self {
            machine: hello.machine,
            name,
            epoch,
            boot_id: hello.boot_id,
            journal: hello.journal,
            max_concurrent: hello.max_concurrent,
            operations: hello.operations,
            sender,
            heard_us: AtomicI64::new(now_us),
            skew_us: AtomicI64::new(0),
            metrics: Mutex::default(),
            answered: AtomicU64::new(0),
            answer: Notify::new(),
            taps: RwLock::default(),
        }
    }

    /// A session of nobody, for tests of what is above.
    #[cfg(test)]
    pub fn for_test(hello: Hello, sender: Sender) -> Self {
        Self::new(hello, "test".to_owned(), 1, sender, 0)
    }

    /// Output of this operation goes there from now on.
    pub fn tap(&self, operation: OperationId, tap: Arc<dyn Tap>) {
        self.taps.write().unwrap_or_else(PoisonError::into_inner).insert(operation, tap);
    }

    /// And now no more.
    pub fn untap(&self, operation: OperationId) {
        self.taps.write().unwrap_or_else(PoisonError::into_inner).remove(&operation);
    }

    fn find_tap(&self, operation: OperationId) -> Option<Arc<dyn Tap>> {
        self.taps.read().unwrap_or_else(PoisonError::into_inner).get(&operation).cloned()
    }

    /// Sends a frame that overtakes bulk. Never waits. A frame for a session that has ended is
    /// dropped: whoever needs an answer also hears of the end.
    pub fn tell<B: Body>(&self, operation: Option<OperationId>, body: &B) {
        match Envelope::of(body) {
            Ok(envelope) => {
                let _ = self.sender.control(&Envelope { id: operation, ..envelope });
            }
            Err(error) => tracing::error!(%error, "a frame of our own could not be encoded"),
        }
    }

    /// Sends a request.
    pub fn request(&self, envelope: &Envelope) {
        let _ = self.sender.control(envelope);
    }

    /// Sends a frame of an operation's bulk, in turn with others.
    ///
    /// # Errors
    /// When the session ends first.
    pub async fn send_bulk<B: Body>(
        &self,
        operation: OperationId,
        body: &B,
    ) -> Result<(), reeve_link::Closed> {
        let envelope = Envelope::about(operation, body).map_err(|_| reeve_link::Closed)?;
        self.sender.data(operation, &envelope).await
    }

    /// Says goodbye and closes.
    pub fn dismiss(&self, reason: GoodbyeReason, message: &str, retry_after: Duration) {
        let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        self.tell(None, &Goodbye { reason, message: message.to_owned(), retry_after_ms });
        self.sender.close();
    }

    /// Waits until the connection is closed.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Whether the connection is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// When a frame came last, by our clock, µs.
    #[must_use]
    pub fn heard_us(&self) -> i64 {
        self.heard_us.load(Ordering::Relaxed)
    }

    /// The agent's clock minus ours, to the second or so.
    #[must_use]
    pub fn skew_ms(&self) -> i64 {
        self.skew_us.load(Ordering::Relaxed) / 1000
    }

    /// The last heartbeat's metrics.
    #[must_use]
    pub fn metrics(&self) -> Option<Metrics> {
        *self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the agent to answer; whether it did before the time was up. A closed session does not.
    pub(super) async fn answers_within(&self, limit: Duration, now_us: i64) -> bool {
        let probe = rand::random::<u64>() | 1;
        self.tell(None, &Heartbeat { time_us: now_us, probe: Some(probe), ..Heartbeat::default() });
        let answered = async {
            loop {
                let notified = self.answer.notified();
                if self.answered.load(Ordering::Acquire) == probe {
                    return true;
                }
                notified.await;
            }
        };
        tokio::select! {
            answered = answered => answered,
            () = self.closed() => false,
            () = tokio::time::sleep(limit) => false,
        }
    }

    /// Reads until the connection ends, and says why it did.
    pub(super) async fn read_all<T: Transport>(
        self: &Arc<Self>,
        fleet: &Fleet,
        receiver: &mut Receiver<T>,
    ) -> LinkError {
        loop {
            let envelope = match receiver.next().await {
                Ok(envelope) => envelope,
                Err(error) => return error,
            };
            let now_us = fleet.0.clock.micros();
            self.heard_us.store(now_us, Ordering::Relaxed);
            if let Err(breach) = self.take(fleet, envelope, now_us).await {
                metrics::counter!("reeve_protocol_breaches_total").increment(1);
                tracing::warn!(machine = self.name, epoch = self.epoch, %breach, "closing a link");
                self.dismiss(GoodbyeReason::Protocol, &breach.to_string(), Duration::from_secs(5));
                return LinkError::Closed;
            }
        }
    }

    async fn take(
        self: &Arc<Self>,
        fleet: &Fleet,
        envelope: Envelope,
        now_us: i64,
    ) -> Result<(), Breach> {
        match &envelope.kind {
            Kind::Heartbeat => self.take_heartbeat(fleet, envelope.open()?, now_us),
            Kind::Accepted | Kind::Output | Kind::Result => {
                let operation = envelope.operation()?;
                if envelope.kind == Kind::Output
                    && let Some(tap) = self.find_tap(operation)
                {
                    return tap
                        .take(self.epoch, &envelope)
                        .map_err(|breach| Breach::Output(breach.to_string()));
                }
                self.hand_over(&fleet.0.bulk, (Arc::clone(self), envelope), fleet).await;
            }
            Kind::Report | Kind::Credit => {
                self.hand_over(&fleet.0.events, Event::Frame(Arc::clone(self), envelope), fleet)
                    .await;
            }
            Kind::Facts => {
                fleet.0.machines.keep_facts(self.machine, envelope.open()?).await;
            }
            Kind::ClientLog => {
                let line: ClientLog = envelope.open()?;
                let message: String = line.message.chars().take(4096).collect();
                tracing::info!(
                    machine = self.name,
                    level = line.level.escape_debug().to_string(),
                    "agent says: {}",
                    message.escape_debug()
                );
            }
            Kind::Goodbye => {
                let goodbye: Goodbye = envelope.open()?;
                tracing::debug!(machine = self.name, reason = ?goodbye.reason, "agent says goodbye");
                self.sender.close();
            }
            // A newer agent may say more than we understand.
            Kind::Unknown(_) => {}
            kind => return Err(Breach::Unexpected(kind.as_str().to_owned())),
        }
        Ok(())
    }

    /// Hands something on, however long it takes: a disk that stands still must not look to the
    /// agent as if we were dead, so it hears from us meanwhile.
    async fn hand_over<T>(&self, queue: &mpsc::Sender<T>, item: T, fleet: &Fleet) {
        loop {
            match tokio::time::timeout(limits::HEARTBEAT_INTERVAL, queue.reserve()).await {
                Ok(Ok(place)) => return place.send(item),
                // The reader lives as long as the program; when it is gone, so are we.
                Ok(Err(_)) => return,
                Err(_) => {
                    let time_us = fleet.0.clock.micros();
                    self.tell(None, &Heartbeat { time_us, ..Heartbeat::default() });
                }
            }
        }
    }

    fn take_heartbeat(&self, fleet: &Fleet, heartbeat: Heartbeat, now_us: i64) {
        self.skew_us.store(heartbeat.time_us.saturating_sub(now_us), Ordering::Relaxed);
        if let Some(metrics) = heartbeat.metrics {
            *self.metrics.lock().unwrap_or_else(PoisonError::into_inner) = Some(metrics);
        }
        let (samples, metrics) = (&heartbeat.samples, heartbeat.metrics.as_ref());
        fleet.0.histories.take(self.machine, samples, metrics, now_us);
        match heartbeat.probe {
            Some(probe) => {
                self.answered.store(probe, Ordering::Release);
                self.answer.notify_waiters();
            }
            None => self.tell(None, &Heartbeat { time_us: now_us, ..Heartbeat::default() }),
        }
    }
}
