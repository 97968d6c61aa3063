//! The agent's own log: to stderr for people or programs, and its warnings to the coordinator.

use std::fmt::Write as _;
use std::io::IsTerminal;

use reeve_protocol::ClientLog;
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

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

/// What `RUST_LOG` asks for: a level, or `target=level` pairs, separated by commas. Patterns of
/// spans and fields are not understood: they would make the program a fifth larger.
fn read_filter(text: Option<&str>) -> Targets {
    let usual = || Targets::new().with_default(LevelFilter::INFO);
    match text.map(str::trim).filter(|text| !text.is_empty()) {
        Some(text) => text.parse().unwrap_or_else(|_| usual()),
        None => usual(),
    }
}

/// Starts logging. `RUST_LOG` says how much; `info` without it.
#[must_use]
pub fn start() -> LogQueue {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let filter = read_filter(std::env::var("RUST_LOG").ok().as_deref());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_understands_levels_and_targets_and_falls_back_to_info() {
        let enabled = |text, target, level| read_filter(text).would_enable(target, &level);
        for text in [None, Some(""), Some("reeve_agent[{id=1}]=loud")] {
            assert!(enabled(text, "reeve_agent", Level::INFO), "{text:?}");
            assert!(!enabled(text, "reeve_agent", Level::DEBUG), "{text:?}");
        }
        assert!(enabled(Some("debug"), "anything", Level::DEBUG));
        let pair = Some("warn,reeve_agent::keeper=trace");
        assert!(enabled(pair, "reeve_agent::keeper::door", Level::TRACE));
        assert!(!enabled(pair, "reeve_agent::uplink", Level::INFO));
    }
}
