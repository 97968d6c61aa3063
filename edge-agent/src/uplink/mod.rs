//! The connection to the coordinator: when to try (`policy`), one try (`attempt`), an open session
//! (`session`), what is sent of one operation (`outbox`).

pub mod attempt;
pub mod endpoint;
mod outbox;
pub mod policy;
mod samples;
pub mod session;
pub mod tls;

use std::time::Duration;

use reeve_protocol::GoodbyeReason;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::operations::Operations;
use crate::state::status::Connection;
use attempt::{Attempt, AttemptError};
use policy::Policy;
use session::{End, Session};

/// Told to whoever shows how the connection stands.
pub trait Observer: Send {
    /// It changed.
    fn note(&mut self, connection: Connection, detail: Detail);
}

/// What is known with a change.
#[derive(Clone, Debug, Default)]
pub struct Detail {
    /// Why there is no connection.
    pub error: Option<String>,
    /// Number of the session.
    pub epoch: Option<u64>,
    /// How far the coordinator's clock is ahead of ours, milliseconds.
    pub clock_skew_ms: Option<i64>,
}

/// Keeps a session open until `stop`. Never gives up: whatever is wrong may be mended.
pub async fn run(
    attempt: Attempt,
    operations: Operations,
    mut logs: crate::telemetry::LogQueue,
    mut observer: impl Observer,
    stop: CancellationToken,
) {
    let mut policy = Policy::new(rand::random());
    while !stop.is_cancelled() {
        let connected = tokio::select! {
            connected = attempt.connect(&operations) => connected,
            () = stop.cancelled() => return,
        };
        let (error, not_before) = match connected {
            Ok(connected) => {
                let welcome = connected.welcome.clone();
                let skew_us = welcome.coordinator_time_us - crate::host::now_us();
                tracing::info!(epoch = welcome.epoch, "session open");
                observer.note(
                    Connection::Connected,
                    Detail {
                        epoch: Some(welcome.epoch),
                        clock_skew_ms: Some(skew_us / 1000),
                        error: None,
                    },
                );
                let opened = Instant::now();
                let (session, receiver) = Session::open(connected, operations.clone());
                let end = session.run(receiver, &mut logs, stop.clone()).await;
                policy.note_session(opened.elapsed());
                describe_end(end)
            }
            Err(error) => {
                let not_before = match &error {
                    AttemptError::Rejected(reject) => policy::find_patience(reject),
                    _ => Duration::ZERO,
                };
                (error.to_string(), not_before)
            }
        };
        if stop.is_cancelled() {
            return;
        }
        let pause = policy.next_pause(not_before);
        tracing::warn!(retry_in = ?pause, "not connected: {error}");
        observer.note(Connection::Disconnected, Detail { error: Some(error), ..Detail::default() });
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn describe_end(end: End) -> (String, Duration) {
    match end {
        End::Stopped => ("stopping".to_owned(), Duration::ZERO),
        End::Broken(error) => (error, Duration::ZERO),
        End::Goodbye(goodbye) => {
            let mut pause = Duration::from_millis(goodbye.retry_after_ms);
            let what = match goodbye.reason {
                GoodbyeReason::Restarting => "the coordinator restarts",
                GoodbyeReason::Revoked => {
                    pause = pause.max(policy::UNWANTED_PAUSE);
                    "this machine was revoked; enrol it again if that was not meant"
                }
                GoodbyeReason::Replaced => "another session of this machine has taken over",
                GoodbyeReason::Cloned => {
                    pause = pause.max(policy::LONGEST_PAUSE);
                    "two agents use this machine's key; enrol the copy as a machine of its own"
                }
                GoodbyeReason::Protocol => "the coordinator says that we broke the protocol",
                GoodbyeReason::Unknown => "the coordinator closed the session",
            };
            let message = match goodbye.message.as_str() {
                "" => what.to_owned(),
                message => format!("{what}: {message}"),
            };
            (message, pause)
        }
    }
}
