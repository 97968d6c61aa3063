//! What the policy says about a task's machines, in words for whoever plans: a plan that asks for
//! what is refused anyway helps nobody. The gate does not rely on it.

use std::collections::BTreeMap;

use reeve_protocol::ops::Effect;

use super::super::super::record::MachineRef;
use super::super::Runner;
use crate::approvals::{Origin, Ruling};

/// Names in a line.
const MAX_NAMES: usize = 20;

impl Runner {
    /// A line for each ruling and the machines it holds for.
    pub(super) fn policy_digest(&self, machines: &[MachineRef]) -> String {
        let registry = self.assistant.0.machines.registry();
        let known = machines.iter().filter_map(|machine| registry.find(machine.id));
        let mut rulings: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for machine in known {
            for effect in [Effect::Read, Effect::Change, Effect::Destroy] {
                let target = std::slice::from_ref(&machine);
                let ruling = self.assistant.0.approvals.judge(Origin::Task, effect, target);
                let line = format!("{}: {}", effect.as_str(), describe(&ruling));
                rulings.entry(line).or_default().push(machine.name.clone());
            }
        }
        let lines: Vec<String> = rulings
            .into_iter()
            .map(|(ruling, names)| match names.len() {
                count if count == machines.len() => ruling,
                count if count > MAX_NAMES => format!("{ruling}, on {count} of the machines"),
                _ => format!("{ruling}, on {}", names.join(", ")),
            })
            .collect();
        lines.join("\n")
    }
}

fn describe(ruling: &Ruling) -> String {
    match ruling {
        Ruling::Allowed => "allowed".to_owned(),
        Ruling::Refused { rule } => format!("refused by {rule}"),
        Ruling::Needs(need) => {
            let others = if need.other_than_requester { ", not the asker's own" } else { "" };
            match need.needed {
                1 => format!("needs a yes{others}"),
                count => format!("needs {count} yeses{others}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::approvals::Requirement;

    #[test]
    fn rulings_are_told_in_words() {
        let need = |needed, other_than_requester| {
            let rule = "policy env=prod".to_owned();
            Ruling::Needs(Requirement { needed, other_than_requester, step_up: false, rule })
        };
        assert_eq!(describe(&Ruling::Allowed), "allowed");
        assert_eq!(describe(&need(1, false)), "needs a yes");
        assert_eq!(describe(&need(2, true)), "needs 2 yeses, not the asker's own");
        let refused = Ruling::Refused { rule: "policy env=prod".to_owned() };
        assert_eq!(describe(&refused), "refused by policy env=prod");
    }
}
