//! What the process owes its surroundings: the data folder, the port, signals, systemd.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use reeve_coordinator::Running;
use reeve_coordinator::config::{self, Args};
use reeve_coordinator::telemetry::LogControl;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior};

/// Connections the kernel keeps until they are taken: all agents may come back at once.
const BACKLOG: u32 = 4096;

/// For people, on standard output.
pub fn say(text: &str) {
    // Nobody reads it if that fails.
    let _ = io::stdout().write_all(text.as_bytes());
    let _ = io::stdout().flush();
}

/// The one line that says why it does not run.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The data folder, held by this process alone.
pub struct DataFolder {
    _lock: File,
}

impl DataFolder {
    /// Makes the folder if it is not there. The lock goes with the process, however it ends.
    pub fn lock(path: &Path) -> anyhow::Result<Self> {
        let advice = "check who owns it, or name another with --data";
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
            anyhow::anyhow!("data folder {} cannot be made: {error}; {advice}", path.display())
        })?;
        let name = path.join("lock");
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(&name).map_err(
            |error| {
                anyhow::anyhow!(
                    "data folder {} cannot be written: {error}; {advice}",
                    path.display()
                )
            },
        )?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _lock: lock }),
            Err(TryLockError::WouldBlock) => bail!(
                "data folder {} is used by another reeve-coordinator; stop that one, or name \
                 another folder with --data",
                path.display()
            ),
            Err(TryLockError::Error(error)) => {
                bail!("{} cannot be locked: {error}; put the data on a local disk", name.display())
            }
        }
    }
}

/// Listens, or says why not.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bind = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart must not wait for connections of the last life to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "something else listens there; stop it, or choose another port with --listen"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need CAP_NET_BIND_SERVICE; choose another with --listen"
            }
            _ => "choose an address of this host with --listen",
        };
        anyhow::anyhow!("cannot listen on {address}: {error}; {advice}")
    })
}

/// What the outside wants.
pub enum Signal {
    /// SIGHUP.
    Reload,
    /// systemd wants to know whether we are alive.
    Watchdog,
    /// SIGTERM or SIGINT.
    End,
}

/// Signals, and the watchdog's clock.
pub struct Signals {
    hang_up: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    watchdog: Option<Interval>,
}

impl Signals {
    /// From now on signals come here.
    pub fn listen() -> anyhow::Result<Self> {
        let watchdog = sd_notify::watchdog_enabled().map(|period| {
            // Twice in each period, as sd_watchdog_enabled(3) advises.
            let mut interval = tokio::time::interval((period / 2).max(Duration::from_millis(100)));
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        let on = |kind| signal(kind).context("signals cannot be handled");
        Ok(Self {
            hang_up: on(SignalKind::hangup())?,
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            watchdog,
        })
    }

    /// The next thing wanted.
    pub async fn next(&mut self) -> Signal {
        let watchdog = async {
            match &mut self.watchdog {
                Some(interval) => {
                    interval.tick().await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.hang_up.recv() => Signal::Reload,
            _ = self.terminate.recv() => Signal::End,
            _ = self.interrupt.recv() => Signal::End,
            () = watchdog => Signal::Watchdog,
        }
    }

    /// Waits until somebody wants the end.
    pub async fn end(&mut self) {
        loop {
            match self.next().await {
                Signal::End => return,
                Signal::Watchdog => notify::alive(),
                Signal::Reload => {}
            }
        }
    }
}

/// Reads certificates, the log level and the policy again; on an error everything stays as it was.
pub fn reload(args: &Args, running: &Running, log: &LogControl) {
    notify::reloading();
    let state = &running.state;
    let config = match config::load(args) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "settings were not reloaded");
            notify::ready();
            return;
        }
    };
    log.set_level(config.log.level);
    state.approvals.set_policy(config.policy.clone());
    match state.ca.reload(&config, &state.clock) {
        Ok(()) => tracing::info!("reloaded certificates, log level and policy"),
        Err(error) => tracing::error!(%error, "certificates were not reloaded"),
    }
    notify::ready();
}

/// sd_notify(3). Without systemd nothing happens.
pub mod notify {
    use sd_notify::NotifyState;

    /// Started, or done with reloading.
    pub fn ready() {
        send(&[NotifyState::Ready]);
    }

    /// Reading settings again.
    pub fn reloading() {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => send(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!(%error, "no monotonic clock"),
        }
    }

    /// On the way out.
    pub fn stopping() {
        send(&[NotifyState::Stopping]);
    }

    /// Still here.
    pub fn alive() {
        send(&[NotifyState::Watchdog]);
    }

    fn send(state: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(state) {
            tracing::debug!(%error, "systemd was not told");
        }
    }
}
