//! The stages from outside, as the engine uses them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alternatives;
mod compact;
mod evidence;
mod groups;
mod injection;
mod plans;
mod prompts;
mod replays;
mod samples;
mod schemas;
mod summaries;
mod verdicts;

use std::collections::BTreeMap;

use reeve_protocol::OperationId;
use reeve_sdk::api::{OperationState, PlannedCommand};
use reeve_stages::validate::StepView;
use reeve_stages::{Excerpt, Machine, Nonce, Sample};

/// The same id for the same number, so that committed prompts do not change.
fn operation(number: u128) -> OperationId {
    OperationId(uuid::Uuid::from_u128(number))
}

fn nonce() -> Nonce {
    Nonce::new([0xa5; 16])
}

fn argv(words: &[&str]) -> PlannedCommand {
    PlannedCommand {
        argv: Some(words.iter().map(|&word| word.to_owned()).collect()),
        ..PlannedCommand::default()
    }
}

fn sample(number: u128, machine: &str, exit: i32, stdout: &[u8], stderr: &[u8]) -> Sample {
    Sample {
        operation: operation(number),
        machine: machine.to_owned(),
        machines: vec![machine.to_owned()],
        count: 1,
        outlier: false,
        state: if exit == 0 { OperationState::Succeeded } else { OperationState::Failed },
        exit_code: Some(exit),
        reason: None,
        stdout: Excerpt::of(stdout),
        stderr: Excerpt::of(stderr),
    }
}

fn machine(name: &str, labels: &[(&str, &str)], os: &str) -> Machine {
    let (name_of, manager) = match os {
        "alpine" => ("Alpine Linux v3.20", "apk"),
        "rocky" => ("Rocky Linux 9.4", "dnf"),
        _ => ("Debian GNU/Linux 12 (bookworm)", "apt"),
    };
    Machine {
        name: name.to_owned(),
        labels: labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        os_id: os.to_owned(),
        os_name: name_of.to_owned(),
        kernel: "6.1.0-25-amd64".to_owned(),
        architecture: "x86_64".to_owned(),
        init: "systemd".to_owned(),
        package_manager: manager.to_owned(),
        agent_user: "root".to_owned(),
        cpus: 4,
        memory: 8 << 30,
        disks: vec![("/".to_owned(), 40 << 30)],
        inspect: true,
        online: true,
        ..Machine::default()
    }
}

fn step() -> StepView {
    StepView {
        number: 1,
        command: argv(&["systemctl", "is-active", "nginx"]),
        purpose: "See whether nginx runs".to_owned(),
        expected: "The word active, and exit code 0".to_owned(),
        effect: reeve_protocol::ops::Effect::Read,
    }
}
