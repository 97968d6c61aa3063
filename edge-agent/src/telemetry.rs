//! The agent's own log: to stderr for people or programs, and its warnings to the coordinator.

use std::fmt::Write as _;
use std::io::IsTerminal;

use reeve_protocol::ClientLog;
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use crate::uplink::session::to_client_log;

/// Lines waiting for a session. When it is full, new lines go to stderr only.
const QUEUE: usize = 64;

/// Lines on their way to the coordinator.
#[derive(Debug)]
pub struct LogQueue {
    receiver: mpsc::Receiver<ClientLog>,
}

impl LogQueue {
    /// A queue into which nothing is put.
    #[must_use]
    pub fn empty() -> Self {
        Self { receiver: mpsc::channel(1).1 }
    }

    /// The next line; never returns when there will be none.
    pub async fn next(&mut self) -> ClientLog {
        match self.receiver.recv().await {
            Some(line) => line,
            None => std::future::pending().await,
        }
    }
}

struct ToCoordinator {
    sender: mpsc::Sender<ClientLog>,
}

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?} "),
            name => write!(self.0, "{name}={value:?} "),
        };
    }
}

impl<S: Subscriber> Layer<S> for ToCoordinator {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            _ => return,
        };
        // Only our own: what libraries say may hold anything.
        if !event.metadata().target().starts_with("reeve_agent") {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        let _ = self.sender.try_send(to_client_log(level, line.0.trim_end()));
    }
}

/// Starts logging. `RUST_LOG` says how much; `info` without it.
#[must_use]
pub fn start() -> LogQueue {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let stderr = std::io::stderr;
    let human = std::io::stderr().is_terminal();
    let layer = if human {
        fmt::layer().with_writer(stderr).with_target(false).boxed()
    } else {
        fmt::layer().json().flatten_event(true).with_writer(stderr).boxed()
    };
    // A second start, as in tests, keeps the first.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .with(ToCoordinator { sender })
        .try_init();
    LogQueue { receiver }
}
