//! An open session: what comes in is handed to the operations, what they have to say goes out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use reeve_link::{Receiver, Sender, Transport};
use reeve_protocol::{
    Acknowledge, ClientLog, CodecError, Control, Credit, Envelope, Goodbye, GoodbyeReason,
    Heartbeat, Kind, OperationId, Report, Request, limits,
};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::attempt::Connected;
use super::outbox::Outbox;
use super::samples::Samples;
use crate::host;
use crate::keeper::wire::ToKeeper;
use crate::operations::{Answer, CommandError, Operation, Operations};
use crate::tasks::Tasks;
use crate::telemetry::LogQueue;

/// For the last words of a session.
const PARTING_LIMIT: Duration = Duration::from_secs(2);

/// Why a session is over.
#[derive(Debug)]
pub enum End {
    /// We were told to stop.
    Stopped,
    /// The coordinator closed it on purpose.
    Goodbye(Goodbye),
    /// The link broke, or was broken off.
    Broken(String),
}

/// What of an operation goes on in this session.
struct Delivery {
    /// How far output may be sent.
    allowed: watch::Sender<u64>,
    /// Set once the outbox runs.
    outbox: Option<watch::Receiver<u64>>,
}

/// One session.
pub struct Session {
    operations: Operations,
    sender: Sender,
    tasks: Tasks,
    deliveries: HashMap<OperationId, Delivery>,
    heartbeat: Duration,
    /// What the machine did since the last heartbeat.
    samples: Samples,
}

impl Session {
    /// Takes over an opened session.
    #[must_use]
    pub fn open<T: Transport>(
        connected: Connected<T>,
        operations: Operations,
    ) -> (Self, Receiver<T>) {
        let session = Self {
            operations,
            sender: connected.sender,
            tasks: connected.tasks,
            deliveries: HashMap::new(),
            heartbeat: Duration::from_millis(connected.welcome.heartbeat_ms),
            samples: Samples::start(),
        };
        (session, connected.receiver)
    }

    /// Runs it to its end.
    pub async fn run<T: Transport>(
        mut self,
        mut receiver: Receiver<T>,
        logs: &mut LogQueue,
        stop: CancellationToken,
    ) -> End {
        let end = match self.introduce() {
            Ok(()) => self.follow(&mut receiver, logs, &stop).await,
            Err(error) => End::Broken(error),
        };
        match &end {
            End::Stopped => self.part(GoodbyeReason::Restarting, "the agent stops"),
            End::Broken(reason) => self.part(GoodbyeReason::Protocol, reason),
            End::Goodbye(_) => self.sender.close(),
        }
        let _ = timeout(PARTING_LIMIT, self.sender.closed()).await;
        self.tasks.close_and_wait(PARTING_LIMIT).await;
        end
    }

    fn part(&self, reason: GoodbyeReason, message: &str) {
        let goodbye = Goodbye { reason, message: message.to_owned(), retry_after_ms: 0 };
        if let Ok(envelope) = Envelope::of(&goodbye) {
            let _ = self.sender.control(&envelope);
        }
        self.sender.close();
    }

    fn say(&self, envelope: Result<Envelope, CodecError>) -> Result<(), String> {
        let envelope = envelope.map_err(|error| error.to_string())?;
        self.sender.control(&envelope).map_err(|error| error.to_string())
    }

    /// What we hold, then what we are.
    fn introduce(&mut self) -> Result<(), String> {
        let reports = self.operations.report();
        for report in &reports {
            let allowed = watch::Sender::new(0);
            self.deliveries.insert(report.id, Delivery { allowed, outbox: None });
        }
        let mut chunks = reports.chunks(limits::MAX_REPORT_OPERATIONS).peekable();
        if chunks.peek().is_none() {
            self.say(Envelope::of(&Report { operations: Vec::new(), last: true }))?;
        }
        while let Some(chunk) = chunks.next() {
            let last = chunks.peek().is_none();
            self.say(Envelope::of(&Report { operations: chunk.to_vec(), last }))?;
        }
        let settings = self.operations.settings();
        let inspect = Some(settings.inspection.fact.clone());
        let facts = host::facts::read(Some(self.operations.containment()), inspect);
        self.say(Envelope::of(&facts))
    }

    async fn follow<T: Transport>(
        &mut self,
        receiver: &mut Receiver<T>,
        logs: &mut LogQueue,
        stop: &CancellationToken,
    ) -> End {
        let mut heartbeat = interval(self.heartbeat);
        // After a suspend one heartbeat is enough.
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Held over everything else that happens: how long the coordinator has been silent is
            // counted in this future, and would begin anew with every heartbeat of ours.
            let mut next = std::pin::pin!(receiver.next());
            let received = loop {
                let done = tokio::select! {
                    received = &mut next => break received,
                    _ = heartbeat.tick() => self.beat(None),
                    () = self.samples.due() => {
                        self.samples.take();
                        Ok(())
                    }
                    line = logs.next() => self.say(Envelope::of(&line)),
                    () = stop.cancelled() => return End::Stopped,
                };
                if let Err(error) = done {
                    return End::Broken(error);
                }
            };
            let taken = received
                .map_err(|error| error.to_string())
                .and_then(|envelope| self.take(&envelope));
            match taken {
                Ok(None) => {}
                Ok(Some(goodbye)) => return End::Goodbye(goodbye),
                Err(error) => return End::Broken(error),
            }
        }
    }

    /// `probe`: the number of the coordinator's question that this answers.
    fn beat(&mut self, probe: Option<u64>) -> Result<(), String> {
        let metrics = Some(host::metrics::read(self.operations.count_running()));
        let time_us = host::now_us();
        let samples = self.samples.hand_over(time_us);
        let heartbeat = Heartbeat { time_us, probe, metrics, samples };
        self.say(Envelope::of(&heartbeat))
    }

    /// One message. A body that makes no sense ends this link and nothing else.
    fn take(&mut self, envelope: &Envelope) -> Result<Option<Goodbye>, String> {
        let text = |error: CodecError| error.to_string();
        match &envelope.kind {
            Kind::Request => {
                let id = envelope.operation().map_err(text)?;
                let request: Request = envelope.open().map_err(text)?;
                self.take_request(id, &envelope.name, &request)?;
            }
            Kind::Acknowledge => {
                let id = envelope.operation().map_err(text)?;
                self.take_acknowledge(id, envelope.open().map_err(text)?);
            }
            Kind::Credit => {
                let id = envelope.operation().map_err(text)?;
                if let Credit::Output { until } = envelope.open().map_err(text)? {
                    self.allow(id, until);
                }
            }
            Kind::Control => {
                let id = envelope.operation().map_err(text)?;
                self.take_control(id, envelope.open().map_err(text)?)?;
            }
            Kind::Goodbye => return Ok(Some(envelope.open().map_err(text)?)),
            Kind::Heartbeat => {
                let heartbeat: Heartbeat = envelope.open().map_err(text)?;
                // Without a number it answers one of ours; that it came is what counts.
                if heartbeat.probe.is_some() {
                    self.beat(heartbeat.probe)?;
                }
            }
            other => tracing::debug!(kind = other.as_str(), "ignored a message"),
        }
        Ok(None)
    }

    fn take_request(
        &mut self,
        id: OperationId,
        name: &str,
        request: &Request,
    ) -> Result<(), String> {
        match self.operations.request(id, name, request) {
            Answer::Started(operation) => {
                let allowed = watch::Sender::new(limits::INITIAL_CREDIT);
                self.deliveries.insert(id, Delivery { allowed, outbox: None });
                self.deliver(operation, 0, true);
                Ok(())
            }
            Answer::Known(operation) => {
                // A duplicate. Output and result follow by themselves, or have been sent.
                match operation.view().accepted {
                    Some(accepted) => self.say(Envelope::about(id, &accepted)),
                    None => Ok(()),
                }
            }
            Answer::Result(result) => self.say(Envelope::about(id, &*result)),
        }
    }

    fn take_acknowledge(&mut self, id: OperationId, acknowledge: Acknowledge) {
        if acknowledge.result {
            self.deliveries.remove(&id);
            self.operations.forget(id);
            return;
        }
        let Some(operation) = self.operations.find(id) else { return };
        operation.release(acknowledge.durable);
        let waiting = self.deliveries.get(&id).is_some_and(|delivery| delivery.outbox.is_none());
        if waiting {
            // The coordinator now says from where to go on.
            self.allow(id, acknowledge.durable.saturating_add(limits::INITIAL_CREDIT));
            self.deliver(operation, acknowledge.durable, false);
        }
    }

    fn allow(&self, id: OperationId, until: u64) {
        if let Some(delivery) = self.deliveries.get(&id) {
            delivery.allowed.send_if_modified(|allowed| {
                let more = until > *allowed;
                *allowed = until.max(*allowed);
                more
            });
        }
    }

    fn deliver(&mut self, operation: Arc<Operation>, from: u64, announce: bool) {
        let id = operation.id();
        let Some(delivery) = self.deliveries.get_mut(&id) else { return };
        let allowed = delivery.allowed.subscribe();
        delivery.outbox = Some(allowed.clone());
        let outbox = Outbox {
            operation,
            sender: self.sender.clone(),
            operations: self.operations.clone(),
            allowed,
            from,
            announce,
        };
        self.tasks.spawn("outbox", async move {
            if let Err(error) = outbox.run().await {
                tracing::debug!(%id, %error, "sending ended early");
            }
        });
    }

    fn take_control(&self, id: OperationId, control: Control) -> Result<(), String> {
        let Some(operation) = self.operations.find(id) else {
            // It ended while this was on its way.
            return Ok(());
        };
        let message = match control {
            Control::Input { bytes, .. } if bytes.len() > limits::MAX_DATA_BYTES => {
                return Err(format!("{} bytes of stdin in one message", bytes.len()));
            }
            Control::Input { offset, bytes } => ToKeeper::Input { offset, bytes },
            Control::CloseInput { offset } => ToKeeper::CloseInput { offset },
            Control::Resize { columns, rows } => ToKeeper::Resize { columns, rows },
            Control::Signal { signal } => ToKeeper::Signal { signal },
            Control::Cancel { reason } => {
                tracing::info!(%id, reason, "cancelling");
                ToKeeper::Cancel { reason }
            }
        };
        match operation.command(message) {
            Ok(()) | Err(CommandError::Over) => Ok(()),
            Err(error @ CommandError::TooMany) => Err(error.to_string()),
        }
    }
}

/// A line of our own log, cut to what a frame may hold.
#[must_use]
pub fn to_client_log(level: &str, message: &str) -> ClientLog {
    let end = message.floor_char_boundary(limits::MAX_LOG_BYTES.min(message.len()));
    ClientLog {
        level: level.to_owned(),
        message: message[..end].to_owned(),
        time_us: host::now_us(),
    }
}
