//! `reeve machines`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::ArgValueCandidates;
use reeve_sdk::api::{Machine, MachineChange, MachineState};

use super::completion::machine_names;
use super::{collect, confirm, labels_text, machine_show};
use crate::args::Global;
use crate::connection::connect;
use crate::durations::{age, size};
use crate::failure::Failure;
use crate::output::{Column, Row, column, print_list, wide};
use crate::terminal::note;

const EXAMPLES: &str = "\
Examples:
  reeve machines                          all of them
  reeve machines list 'role=web'          some
  reeve machines show web-1
  reeve machines label web-1 role=web tier- (sets role, removes tier)
  reeve machines revoke web-1             never let it in again";

/// Machines.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Machines {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// List machines
    List(List),
    /// Show one machine; while it is online it is asked itself
    Show(Show),
    /// Set labels (KEY=VALUE) and remove them (KEY-)
    Label(Label),
    /// Give a machine another name
    Rename(Rename),
    /// Close its session and never let it in again
    Revoke(Sure),
    /// Revoke it and take it off the list
    Remove(Sure),
    /// Let a quarantined machine in again
    Unquarantine(One),
}

#[derive(Args, Default)]
struct List {
    /// Which: names, globs, labels or @all
    selector: Option<String>,
    /// Only those in this state
    #[arg(long)]
    state: Option<State>,
}

#[derive(Clone, Copy, ValueEnum)]
enum State {
    Online,
    Offline,
    Quarantined,
    Revoked,
}

#[derive(Args)]
struct One {
    /// Name or id
    #[arg(add = ArgValueCandidates::new(machine_names))]
    machine: String,
}

#[derive(Args)]
struct Show {
    /// Name or id
    #[arg(add = ArgValueCandidates::new(machine_names))]
    machine: String,
    /// Do not ask the machine: only what is stored
    #[arg(long)]
    stored: bool,
}

#[derive(Args)]
struct Label {
    /// Name or id
    #[arg(add = ArgValueCandidates::new(machine_names))]
    machine: String,
    /// KEY=VALUE sets, KEY- removes
    #[arg(required = true)]
    labels: Vec<String>,
}

#[derive(Args)]
struct Rename {
    /// Name or id
    #[arg(add = ArgValueCandidates::new(machine_names))]
    machine: String,
    /// The new name
    name: String,
}

#[derive(Args)]
struct Sure {
    /// Name or id
    #[arg(add = ArgValueCandidates::new(machine_names))]
    machine: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// The word for a state.
pub fn state_word(state: MachineState) -> &'static str {
    match state {
        MachineState::Online => "online",
        MachineState::Offline => "offline",
        MachineState::Quarantined => "quarantined",
        MachineState::Revoked => "revoked",
    }
}

impl Row for Machine {
    const COLUMNS: &'static [Column] = &[
        column("NAME"),
        column("STATE"),
        column("LABELS"),
        column("SEEN"),
        column("RUNNING"),
        wide("OS"),
        wide("ARCH"),
        wide("CPUS"),
        wide("MEMORY"),
        wide("LOAD"),
        wide("AGENT"),
        wide("ID"),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            state_word(self.state).to_owned(),
            labels_text(&self.labels),
            self.last_seen.map(age).unwrap_or_default(),
            self.running.to_string(),
            self.facts.os_name.clone(),
            self.facts.architecture.clone(),
            self.facts.cpus.to_string(),
            size(self.facts.memory_total),
            self.metrics.map(|metrics| format!("{:.2}", metrics.load1)).unwrap_or_default(),
            self.agent_version.clone(),
            self.id.to_string(),
        ]
    }
}

impl Machines {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let client = connect(global)?;
        match self.action.unwrap_or_else(|| Action::List(List::default())) {
            Action::List(list) => {
                let state = list.state.map(|state| match state {
                    State::Online => MachineState::Online,
                    State::Offline => MachineState::Offline,
                    State::Quarantined => MachineState::Quarantined,
                    State::Revoked => MachineState::Revoked,
                });
                let selector = list.selector.as_deref();
                let machines = collect(None, |paging| {
                    let client = client.clone();
                    async move { client.machines(selector, state, &paging).await }
                })
                .await?;
                if machines.is_empty() {
                    note("no machines; 'reeve tokens create' makes a token to join one with");
                }
                print_list(global.output, &machines)?;
            }
            Action::Show(Show { machine, stored }) => {
                let machine = client.machine(&machine).await?;
                machine_show::show(global, &client, &machine, stored).await?;
            }
            Action::Label(Label { machine, labels }) => {
                let change = MachineChange { labels: parse_labels(&labels)?, ..Default::default() };
                let machine = client.change_machine(&machine, &change).await?;
                note(&format!("{}: {}", machine.name, labels_text(&machine.labels)));
            }
            Action::Rename(Rename { machine, name }) => {
                let change = MachineChange { name: Some(name), ..Default::default() };
                let changed = client.change_machine(&machine, &change).await?;
                note(&format!("{machine} is now {}", changed.name));
            }
            Action::Revoke(Sure { machine, yes }) => {
                confirm(yes, &format!("Revoking {machine}"))?;
                client.revoke_machine(&machine).await?;
                note(&format!("{machine} is revoked"));
            }
            Action::Remove(Sure { machine, yes }) => {
                confirm(yes, &format!("Removing {machine}"))?;
                client.remove_machine(&machine).await?;
                note(&format!("{machine} is removed"));
            }
            Action::Unquarantine(One { machine }) => {
                let change = MachineChange { quarantined: Some(false), ..Default::default() };
                client.change_machine(&machine, &change).await?;
                note(&format!("{machine}: the next agent that proves its key is let in"));
            }
        }
        Ok(crate::exit::OK)
    }
}

fn parse_labels(texts: &[String]) -> Result<BTreeMap<String, Option<String>>, Failure> {
    let parse = |text: &String| match (text.split_once('='), text.strip_suffix('-')) {
        (Some((key, value)), _) if !key.is_empty() => Ok((key.to_owned(), Some(value.to_owned()))),
        (None, Some(key)) if !key.is_empty() => Ok((key.to_owned(), None)),
        _ => Err(Failure::usage(format!("'{text}' is no label; KEY=VALUE sets, KEY- removes"))),
    };
    texts.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_set_and_removed() {
        let texts = ["role=web".to_owned(), "tier-".to_owned(), "note=a=b-".to_owned()];
        let labels = parse_labels(&texts).expect("labels");
        assert_eq!(labels.get("role"), Some(&Some("web".to_owned())));
        assert_eq!(labels.get("tier"), Some(&None));
        assert_eq!(labels.get("note"), Some(&Some("a=b-".to_owned())));
        assert!(parse_labels(&["role".to_owned()]).is_err());
        assert!(parse_labels(&["=x".to_owned()]).is_err());
    }
}
