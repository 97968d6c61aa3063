//! An open session of one agent.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt, StreamExt};
use reeve_protocol::{
    Acknowledge, Body, Control, Credit, Envelope, Goodbye, Heartbeat, Kind, Metrics, OperationId,
    Report, Request, Sample, Welcome, decode, encode, limits,
};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Message;

use super::agent::{BOOT, Socket};
use super::join::facts;
use super::operations::{Answer, Next, Operations};
use super::{Identity, Shared, add};

/// Far enough away that nothing is waited for.
const NEVER: Duration = Duration::from_secs(3600);

pub(super) struct Session<'a> {
    socket: Socket,
    identity: &'a Identity,
    operations: &'a mut Operations,
    shared: &'a Shared,
}

/// The session is over; when to come back at the earliest.
struct Over(Duration);

impl<E: std::error::Error> From<E> for Over {
    fn from(_: E) -> Self {
        Self(Duration::ZERO)
    }
}

impl<'a> Session<'a> {
    pub(super) fn new(
        socket: Socket,
        identity: &'a Identity,
        operations: &'a mut Operations,
        shared: &'a Shared,
    ) -> Self {
        Self { socket, identity, operations, shared }
    }

    /// To its end; when to come back at the earliest.
    pub(super) async fn run(mut self, welcome: &Welcome) -> Duration {
        let Err(Over(not_before)) = self.serve(welcome).await;
        not_before
    }

    async fn serve(&mut self, welcome: &Welcome) -> Result<std::convert::Infallible, Over> {
        let every = Duration::from_millis(welcome.heartbeat_ms.max(1000));
        self.introduce().await?;
        self.beat(None, 0).await?;
        let mut beat_at = Instant::now() + every;
        let mut heard = Instant::now();
        loop {
            let due = self.operations.due().unwrap_or_else(|| Instant::now() + NEVER);
            tokio::select! {
                received = self.socket.next() => {
                    heard = Instant::now();
                    match received {
                        Some(Ok(Message::Binary(bytes))) => self.take(&decode(&bytes)?).await?,
                        Some(Ok(Message::Close(_)) | Err(_)) | None => {
                            return Err(Over(Duration::ZERO));
                        }
                        Some(Ok(_)) => {}
                    }
                }
                () = sleep_until(beat_at) => {
                    if heard.elapsed() > limits::SILENCE_LIMIT {
                        return Err(Over(Duration::ZERO));
                    }
                    beat_at += every;
                    self.beat(None, 3).await?;
                }
                () = sleep_until(due) => self.work().await?,
            }
        }
    }

    async fn introduce(&mut self) -> Result<(), Over> {
        let mut reports = self.operations.report();
        loop {
            let rest = reports.split_off(reports.len().min(limits::MAX_REPORT_OPERATIONS));
            let last = rest.is_empty();
            self.feed(None, &Report { operations: reports, last }).await?;
            if last {
                break;
            }
            reports = rest;
        }
        self.feed(None, &facts(&self.identity.name)).await?;
        Ok(self.socket.flush().await?)
    }

    async fn beat(&mut self, probe: Option<u64>, samples: u64) -> Result<(), Over> {
        let running = u32::try_from(self.operations.count()).unwrap_or(u32::MAX);
        let metrics = Metrics {
            load1: 0.25,
            load5: 0.25,
            load15: 0.25,
            memory_total: 8 << 30,
            memory_available: 6 << 30,
            disk_total: 100 << 30,
            disk_available: 50 << 30,
            running,
            uptime_s: 86_400,
        };
        let samples = (0..samples).rev().map(sample).collect();
        self.feed(None, &Heartbeat { time_us: now_us(), probe, metrics: Some(metrics), samples })
            .await?;
        Ok(self.socket.flush().await?)
    }

    async fn take(&mut self, envelope: &Envelope) -> Result<(), Over> {
        match envelope.kind {
            Kind::Request => {
                let id = envelope.operation()?;
                let request: Request = envelope.open()?;
                if request.boot_id != BOOT || request.journal != self.identity.journal {
                    return Err(Over(Duration::ZERO));
                }
                self.start(id).await?;
                self.work().await?;
            }
            Kind::Acknowledge => {
                let id = envelope.operation()?;
                let acknowledge: Acknowledge = envelope.open()?;
                if !acknowledge.result {
                    self.operations.resume(id, acknowledge.durable);
                    self.work().await?;
                } else if self.operations.forget(id) {
                    add(&self.shared.tally.finished);
                }
            }
            Kind::Credit => {
                if let Credit::Output { until } = envelope.open()? {
                    self.operations.allow(envelope.operation()?, until);
                    self.work().await?;
                }
            }
            Kind::Control => {
                if let Control::Cancel { .. } = envelope.open()? {
                    self.operations.cancel(envelope.operation()?);
                    self.work().await?;
                }
            }
            Kind::Heartbeat => {
                let heartbeat: Heartbeat = envelope.open()?;
                if heartbeat.probe.is_some() {
                    self.beat(heartbeat.probe, 0).await?;
                }
            }
            Kind::Goodbye => {
                let goodbye: Goodbye = envelope.open()?;
                return Err(Over(Duration::from_millis(goodbye.retry_after_ms)));
            }
            _ => {}
        }
        Ok(())
    }

    async fn start(&mut self, id: OperationId) -> Result<(), Over> {
        let output = self.shared.output.load(Ordering::Relaxed);
        let delay = Duration::from_millis(self.shared.delay_ms.load(Ordering::Relaxed));
        match self.operations.request(id, output, delay, now_us()) {
            Answer::Started(accepted) => {
                add(&self.shared.tally.started);
                self.feed(Some(id), &accepted).await
            }
            Answer::Known(accepted) => {
                add(&self.shared.tally.repeated);
                self.feed(Some(id), &accepted).await
            }
            Answer::Forgotten(result) => {
                add(&self.shared.tally.repeated);
                self.feed(Some(id), &result).await
            }
        }
    }

    /// Sends what can be sent of all operations.
    async fn work(&mut self) -> Result<(), Over> {
        while let Some((id, next)) = self.operations.next() {
            match next {
                Next::Output(output) => self.feed(Some(id), &output).await?,
                Next::Result(result) => self.feed(Some(id), &result).await?,
            }
        }
        Ok(self.socket.flush().await?)
    }

    async fn feed<B: Body>(&mut self, id: Option<OperationId>, body: &B) -> Result<(), Over> {
        let envelope = Envelope { id, ..Envelope::of(body)? };
        Ok(self.socket.feed(Message::binary(encode(&envelope)?)).await?)
    }
}

/// As large as those of a machine at work.
fn sample(ago: u64) -> Sample {
    Sample {
        ago,
        cpu_user: Some(123),
        cpu_system: Some(45),
        cpu_iowait: Some(1),
        cpu_steal: Some(0),
        load: Some(25),
        memory_used: Some(2_000_000),
        swap_used: Some(0),
        disk_read: Some(0),
        disk_write: Some(40_000),
        network_in: Some(1200),
        network_out: Some(900),
        pressure_cpu: Some(10),
        pressure_memory: Some(0),
        pressure_io: Some(3),
    }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
