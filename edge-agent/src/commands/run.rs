//! `reeve-agent run`: the agent itself.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use reeve_protocol::{Containment, limits};
use tokio::signal::unix::{SignalKind, signal};

use super::StateArgument;
use crate::host;
use crate::operations::{Inspection, Operations, Settings};
use crate::policy::{self, Policy};
use crate::state::StateFolder;
use crate::state::identity::{Identity, load_key};
use crate::state::status::{Connection, StatusFile};
use crate::tasks::Tasks;
use crate::uplink::attempt::Attempt;
use crate::uplink::endpoint::Endpoint;
use crate::uplink::{self, Detail, Observer};

/// For tasks to end at the stop. Keepers are no tasks: they go on.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// The status file is for people: it may be this much behind.
const STATUS_PAUSE: Duration = Duration::from_millis(250);

/// Set to `process_group`, keeps operations out of control groups, for machines where those do
/// harm, and for tests.
const CONTAINMENT_VARIABLE: &str = "REEVE_CONTAINMENT";

#[derive(Debug, Args)]
pub struct RunArguments {
    #[command(flatten)]
    state: StateArgument,
    /// This machine's policy [default: /etc/reeve/agent.toml, if there is one]
    #[arg(long, env = "REEVE_AGENT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

struct Shown {
    status: tokio::sync::watch::Sender<StatusFile>,
}

impl Observer for Shown {
    fn note(&mut self, connection: Connection, detail: Detail) {
        self.status.send_modify(|status| {
            status.connection = connection;
            status.since_us = host::now_us();
            status.last_error = detail.error;
            status.epoch = detail.epoch;
            status.clock_skew_ms = detail.clock_skew_ms;
        });
    }
}

pub async fn main(arguments: RunArguments) -> anyhow::Result<ExitCode> {
    let logs = crate::telemetry::start();
    let folder = StateFolder::create(arguments.state.path())?;
    let identity = Identity::load(&folder)?;
    let key = load_key(&folder)?;
    let _guard = folder.lock()?;
    let default = PathBuf::from(policy::DEFAULT_PATH);
    let path = arguments.config.as_ref().unwrap_or(&default);
    let policy = Policy::load(path, arguments.config.is_some())?;
    let pin = match identity.pin.as_str() {
        "" => None,
        pin => Some(pin.parse().context("the pin in the identity cannot be used")?),
    };
    let endpoint = Endpoint::new(&identity.url, pin)?;
    let groups = match std::env::var(CONTAINMENT_VARIABLE) {
        Ok(word) if word == "process_group" => None,
        _ => host::cgroup::prepare(&marker(&identity)),
    };
    if groups.is_none() {
        tracing::info!("no control groups: commands are held together by process groups");
    }
    let tasks = Tasks::new();
    // The thread that is there when the machine gives out no more.
    tokio::task::spawn_blocking(|| ()).await?;
    // Not a path: an upgrade may replace the file while we run.
    let program = PathBuf::from("/proc/self/exe");
    let inspection = Inspection::probe(&program, &policy, &folder).await;
    if !inspection.fact.available {
        tracing::info!("no inspect mode: {}", inspection.fact.reason);
    }
    let settings = Settings {
        folder: folder.clone(),
        policy,
        program,
        inspection,
        groups,
        boot_id: host::read_boot_id(),
        spool_bytes: limits::SPOOL_BYTES,
    };
    let operations = Operations::recover(settings, tasks.clone()).await?;
    let status = tokio::sync::watch::Sender::new(StatusFile {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        since_us: host::now_us(),
        containment: match operations.containment() {
            Containment::CgroupV2 => "cgroup_v2".to_owned(),
            _ => "process_group".to_owned(),
        },
        ..StatusFile::default()
    });
    tasks.spawn("status", keep_status(folder, operations.clone(), status.subscribe()));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tracing::info!(
        machine = %identity.machine_id,
        name = identity.name,
        coordinator = identity.url,
        "agent started"
    );
    // Not an error where there is no service manager.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let stop = tasks.token();
    let attempt = Attempt { endpoint, identity, key };
    let uplink = uplink::run(attempt, operations, logs, Shown { status }, stop.clone());
    tokio::pin!(uplink);
    tokio::select! {
        () = &mut uplink => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; running commands go on");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    stop.cancel();
    // It says goodbye by itself, within limits of its own.
    let _ = tokio::time::timeout(STOP_LIMIT, uplink).await;
    tasks.close_and_wait(STOP_LIMIT).await;
    Ok(ExitCode::SUCCESS)
}

/// Tells agents apart that share the root control group.
fn marker(identity: &Identity) -> String {
    identity.machine_id.to_string().chars().take(8).collect()
}

/// Writes the status file whenever something changes, not too often.
async fn keep_status(
    folder: StateFolder,
    operations: Operations,
    mut status: tokio::sync::watch::Receiver<StatusFile>,
) {
    let mut changes = operations.changes();
    loop {
        let mut current = status.borrow_and_update().clone();
        changes.borrow_and_update();
        for operation in operations.list() {
            let id = operation.id().to_string();
            if operation.is_finished() {
                current.unacknowledged.push(id);
            } else {
                current.running.push(id);
            }
        }
        if let Err(error) = current.save(&folder) {
            tracing::debug!(%error, "the status file could not be written");
        }
        tokio::time::sleep(STATUS_PAUSE).await;
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return },
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}
