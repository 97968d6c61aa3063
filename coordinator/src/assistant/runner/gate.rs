//! Who has to say yes before a part of a try runs, if anybody.
//!
//! What only reads runs at once where the kernel keeps it from changing anything (inspect mode). It
//! needs a yes, as a change does, where a machine cannot do that, where it is to run as somebody, and
//! where a command that a model wrote would talk over the network: that is how something could leave. A runbook's command, or
//! the asker's own line, may talk. Everything else is for the policy to judge.

use reeve_protocol::ops::{Effect, Mode, Network};
use reeve_risk::Assessment;
use reeve_sdk::api::{OperationState, PlannedCommand};

use super::super::record::{MachineRef, Part, Try, names, to_command};
use super::{Runner, Stop};

/// Machines of one part: a selector's text is bounded, and so is what a person can take in.
const MACHINES_PER_PART: usize = 200;

/// What a planned command may do.
pub(super) struct Assessed {
    /// The graver of what was computed and what the plan claims.
    pub effect: Effect,
    /// Why.
    pub reasons: Vec<String>,
    /// What it needs of the network in inspect mode.
    pub network: Network,
}

/// Assesses a command, whoever planned it. Of an operation everything is known: no shell takes part
/// in it.
pub(super) fn assess(command: &PlannedCommand, claimed: Effect) -> Assessed {
    if let Some(work) = command.operation.as_ref().and_then(|operation| operation.as_work()) {
        let effect = work.effect().max(claimed);
        return Assessed { effect, reasons: vec![work.describe()], network: Network::None };
    }
    let assessed = reeve_risk::assess(&to_command(command), &command.env);
    Assessed {
        effect: assessed.effect.max(claimed),
        reasons: reasons(&assessed, claimed),
        network: wider(command.network, assessed.network),
    }
}

/// Why a command has its effect, for people.
fn reasons(assessed: &Assessment, claimed: Effect) -> Vec<String> {
    let mut reasons: Vec<String> = assessed
        .findings
        .iter()
        .map(|finding| format!("{}: {}", finding.segment, finding.reason))
        .collect();
    if claimed > assessed.effect {
        reasons.push(format!("the plan says that it is a {}", claimed.as_str()));
    }
    reasons
}

/// The one of two that has more of the network.
fn wider(one: Network, other: Network) -> Network {
    match (one, other) {
        (Network::Use, _) | (_, Network::Use) => Network::Use,
        (Network::View, _) | (_, Network::View) => Network::View,
        (Network::None, Network::None) => Network::None,
    }
}

/// What the policy is asked about: something that only reads counts as a change where the kernel
/// does not keep it from being one, and where it would talk.
pub(super) fn gated_effect(each: &Try, part: &Part) -> Effect {
    if each.effect == Effect::Read && part.mode == Mode::Inspect && part.because.is_none() {
        Effect::Read
    } else {
        each.effect.max(Effect::Change)
    }
}

impl Runner {
    /// A try's parts: machines that need the same are together.
    pub(super) async fn parts(
        &self,
        machines: &[MachineRef],
        command: &PlannedCommand,
        effect: Effect,
        trusted: bool,
    ) -> Result<Vec<Part>, Stop> {
        let mut parts = Vec::new();
        if effect != Effect::Read {
            add_parts(&mut parts, "n", machines, Mode::Normal, None);
            return Ok(parts);
        }
        // It changes nothing by what it is; the kernel has not to see to it.
        if command.operation.is_some() {
            add_parts(&mut parts, "i", machines, Mode::Inspect, None);
            return Ok(parts);
        }
        if let Some(user) = &command.user {
            // Inspect mode has users of its own, which read more than this one may.
            let why = format!("it was asked to run as {user}, which inspect mode cannot");
            add_parts(&mut parts, "n", machines, Mode::Normal, Some(&why));
            return Ok(parts);
        }
        let talks = (command.network == Network::Use && !trusted)
            .then(|| "it would talk over the network".to_owned());
        let (mut able, mut unable) = (Vec::new(), Vec::new());
        let mut why = String::new();
        for machine in machines {
            match self.inspect_fact(machine).await? {
                Ok(()) => able.push(machine.clone()),
                Err(reason) => {
                    if why.is_empty() {
                        why = format!("inspect mode unavailable on {}: {reason}", machine.name);
                    }
                    unable.push(machine.clone());
                }
            }
        }
        add_parts(&mut parts, "i", &able, Mode::Inspect, talks.as_deref());
        add_parts(&mut parts, "n", &unable, Mode::Normal, Some(&why));
        Ok(parts)
    }

    /// Whether a machine can keep a command from changing anything; why not.
    async fn inspect_fact(&self, machine: &MachineRef) -> Result<Result<(), String>, Stop> {
        let machines = &self.assistant.0.machines;
        let Some(known) = machines.registry().find(machine.id) else {
            return Ok(Err("the machine is gone".to_owned()));
        };
        loop {
            match machines.describe(std::slice::from_ref(&known)).await {
                Ok(found) => {
                    let fact = found.into_iter().next().and_then(|found| found.facts.inspect);
                    return Ok(match fact {
                        Some(fact) if fact.available => Ok(()),
                        Some(fact) if !fact.reason.is_empty() => Err(fact.reason),
                        _ => Err("its agent does not say that it can".to_owned()),
                    });
                }
                Err(error) => self.wait_out(&error.into()).await?,
            }
        }
    }

    /// What a machine said of itself may be old: where it refused because it cannot keep the
    /// command from changing anything, the command needs a yes. Whether there is such a part now.
    pub(super) async fn add_refused_parts(&self, step: u32, number: u32) -> Result<bool, Stop> {
        let Some((each, _)) = self.load_part(step, number, 0).await else { return Ok(false) };
        let mut unable: Vec<MachineRef> = Vec::new();
        let mut why = String::new();
        for part in each.parts.iter().filter(|part| part.mode == Mode::Inspect) {
            let Some(job) = part.job else { continue };
            for row in self.rows_of(job).await? {
                let code = row.reason.as_ref().map_or("", |reason| reason.code.as_str());
                if row.state == OperationState::Refused && code == "inspect_unavailable" {
                    let machine = MachineRef { id: row.machine_id, name: row.machine.clone() };
                    let message = row.reason.as_ref().map_or("", |reason| reason.message.as_str());
                    why = format!("inspect mode unavailable on {}: {message}", machine.name);
                    unable.push(machine);
                }
            }
        }
        let again = |part: &Part| part.mode == Mode::Normal;
        unable.retain(|machine| {
            !each
                .parts
                .iter()
                .filter(|part| again(part))
                .any(|part| part.machines.contains(machine))
        });
        if unable.is_empty() {
            return Ok(false);
        }
        self.ledger
            .change(|draft| {
                if let Some(each) = draft.attempt(step, number) {
                    add_parts(&mut each.parts, "r", &unable, Mode::Normal, Some(&why));
                }
                let who = names(&unable).join(", ");
                draft.note("inspect_unavailable", format!("on {who} this needs a yes: {why}"));
            })
            .await?;
        Ok(true)
    }
}

fn add_parts(
    parts: &mut Vec<Part>,
    name: &str,
    machines: &[MachineRef],
    mode: Mode,
    because: Option<&str>,
) {
    for (at, piece) in machines.chunks(MACHINES_PER_PART).enumerate() {
        parts.push(Part {
            name: if at == 0 { name.to_owned() } else { format!("{name}{}", at + 1) },
            machines: piece.to_vec(),
            mode,
            because: because.map(str::to_owned),
            approval: None,
            waits: false,
            job: None,
            ended: false,
            refused: None,
        });
    }
}
