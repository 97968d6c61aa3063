//! Logs and metrics of the process.

use std::io::IsTerminal;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::{Log, LogFormat, LogLevel};

/// Seconds; from a warm cache to a slow client.
const BUCKETS: &[f64] = &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0];

/// The metrics of the process. The `metrics` crate has one recorder for all, so this is global too;
/// several coordinators in one test process share it.
static METRICS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Changes what is logged while the process runs.
#[derive(Clone)]
pub struct LogControl(reload::Handle<EnvFilter, Registry>);

impl LogControl {
    /// From now on.
    pub fn set_level(&self, level: LogLevel) {
        if let Err(error) = self.0.reload(filter(level)) {
            tracing::warn!(%error, "the log level could not be changed");
        }
    }
}

/// Starts logging for the whole process, to standard error. Panics are logged as well.
pub fn start_logging(log: Log) -> LogControl {
    let (filter, control) = reload::Layer::new(filter(log.level));
    let as_json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if as_json {
        lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).boxed()
    };
    // Only the first call in a process has an effect.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(place, "panic: {text}");
    }));
    LogControl(control)
}

/// `RUST_LOG` has the last word: it is how somebody looks into one module.
fn filter(level: LogLevel) -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        // Libraries say at `debug` what concerns them only.
        let others = match level {
            LogLevel::Debug => LogLevel::Info,
            other => other,
        };
        EnvFilter::new(format!(
            "{},reeve={1},reeve_coordinator={1},reeve_link={1}",
            others.as_str(),
            level.as_str()
        ))
    })
}

/// Starts counting for the whole process.
pub fn start_metrics() {
    METRICS.get_or_init(|| {
        let builder = PrometheusBuilder::new().set_buckets(BUCKETS).ok()?;
        builder
            .install_recorder()
            .inspect_err(|error| tracing::warn!(%error, "there will be no metrics"))
            .ok()
    });
}

/// In Prometheus' text format.
#[must_use]
pub fn render_metrics() -> String {
    let Some(Some(handle)) = METRICS.get() else { return String::new() };
    // Folds histograms' samples away, which otherwise pile up between two scrapes.
    handle.run_upkeep();
    handle.render()
}

/// Folds samples away when nobody scrapes.
pub fn tidy_metrics() {
    if let Some(Some(handle)) = METRICS.get() {
        handle.run_upkeep();
    }
}
