//! `reeve-agent status`: who this machine is and what runs, from the state folder alone.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{Format, StateArgument};
use crate::host;
use crate::state::identity::Identity;
use crate::state::status::{Connection, StatusFile};
use crate::state::{StateError, StateFolder};

#[derive(Debug, Args)]
pub struct StatusArguments {
    #[command(flatten)]
    state: StateArgument,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Serialize)]
struct Status {
    state: String,
    enrolled: bool,
    name: Option<String>,
    machine_id: Option<String>,
    coordinator: Option<String>,
    running: bool,
    agent: Option<StatusFile>,
}

pub fn main(arguments: &StatusArguments) -> anyhow::Result<ExitCode> {
    let folder = StateFolder::at(arguments.state.path());
    let identity = match Identity::load(&folder) {
        Ok(identity) => Some(identity),
        Err(StateError::NotEnrolled { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let pid = folder.find_running_agent();
    let agent = StatusFile::find(&folder).filter(|status| pid == Some(status.pid));
    let status = Status {
        state: folder.path().display().to_string(),
        enrolled: identity.is_some(),
        name: identity.as_ref().map(|identity| identity.name.clone()),
        machine_id: identity.as_ref().map(|identity| identity.machine_id.to_string()),
        coordinator: identity.as_ref().map(|identity| identity.url.clone()),
        running: pid.is_some(),
        agent,
    };
    match arguments.output {
        Format::Json => println!("{}", serde_json::to_string_pretty(&status)?),
        Format::Table => print(&status),
    }
    Ok(if status.enrolled && status.running { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(status: &Status) {
    let line = |name: &str, value: &str| println!("{name:<14} {value}");
    match (&status.name, &status.machine_id, &status.coordinator) {
        (Some(name), Some(id), Some(url)) => {
            line("machine", &format!("{name} ({id})"));
            line("coordinator", url);
        }
        _ => line("machine", "not enrolled; run 'reeve-agent enroll URL --token-file FILE'"),
    }
    line("state", &status.state);
    let Some(agent) = &status.agent else {
        let text = if status.running { "starting" } else { "not running; run 'reeve-agent run'" };
        return line("agent", text);
    };
    line("agent", &format!("running, pid {}, version {}", agent.pid, agent.version));
    let seconds = (host::now_us() - agent.since_us).max(0) / 1_000_000;
    let connection = match agent.connection {
        Connection::Starting => "not yet tried".to_owned(),
        Connection::Connected => format!(
            "connected for {seconds} s, session {}, clock skew {} ms",
            agent.epoch.unwrap_or(0),
            agent.clock_skew_ms.unwrap_or(0)
        ),
        Connection::Disconnected => format!(
            "not connected for {seconds} s: {}",
            agent.last_error.as_deref().unwrap_or("unknown reason")
        ),
    };
    line("connection", &connection);
    line("containment", &agent.containment);
    line("running", &format!("{} {}", agent.running.len(), agent.running.join(" ")));
    line(
        "to be sent",
        &format!("{} {}", agent.unacknowledged.len(), agent.unacknowledged.join(" ")),
    );
}
