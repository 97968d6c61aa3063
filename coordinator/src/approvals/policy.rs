//! Which rule holds for what is to be done where. Pure.

use std::sync::Arc;

use reeve_protocol::ops::Effect;
use reeve_sdk::api::{PolicyRuleView, PolicyView};

use crate::config::{Applies, PolicyRule, PolicyVerdict};
use crate::machines::Known;

/// What asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Somebody asked for a command directly. Without a rule it runs: whoever may run commands
    /// could do the same by hand.
    Command,
    /// A step of a task. Without a rule, what changes or destroys something needs one yes.
    Task,
}

impl Origin {
    fn applies(self) -> Applies {
        match self {
            Self::Command => Applies::Command,
            Self::Task => Applies::Task,
        }
    }

    /// What holds on a machine that no rule says anything about.
    fn default_for(self, effect: Effect) -> PolicyVerdict {
        match (self, effect) {
            (Self::Command, _) | (Self::Task, Effect::Read) => PolicyVerdict::Allow,
            (Self::Task, Effect::Change | Effect::Destroy) => PolicyVerdict::Approve(1),
        }
    }
}

/// Whose yes is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// How many different people.
    pub needed: u32,
    /// The asker's own yes does not count.
    pub other_than_requester: bool,
    /// Whoever says yes shows the password again.
    pub step_up: bool,
    /// The rule that says so, for people.
    pub rule: String,
}

/// What the policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It may run.
    Allowed,
    /// It may run once people said yes.
    Needs(Requirement),
    /// It may not run.
    Refused {
        /// The rule that says so, for people.
        rule: String,
    },
}

/// The rules in force.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy(pub Vec<PolicyRule>);

/// The strictest so far.
struct Strictest {
    verdict: PolicyVerdict,
    other_than_requester: bool,
    step_up: bool,
    rule: String,
}

impl Policy {
    /// Whether any rule is about what this asks for. Without one nothing has to be looked at.
    pub fn concerns(&self, origin: Origin) -> bool {
        self.0.iter().any(|rule| rule.applies_to.contains(&origin.applies()))
    }

    /// The strictest that holds on any of the targets. On each machine the rules that match it and
    /// say something about the effect hold, the strictest of them; where there is none, the default.
    pub fn judge(&self, origin: Origin, effect: Effect, targets: &[Arc<Known>]) -> Ruling {
        let mut strictest = Strictest {
            verdict: PolicyVerdict::Allow,
            other_than_requester: false,
            step_up: false,
            rule: "default".to_owned(),
        };
        for known in targets {
            let mut ruled = false;
            for rule in &self.0 {
                let Some(verdict) = verdict(rule, effect) else { continue };
                if rule.applies_to.contains(&origin.applies())
                    && known.is_selected_by(&rule.selector)
                {
                    ruled = true;
                    let own = rule.other_than_requester;
                    let name = || format!("policy {}", rule.selector);
                    strictest.take(verdict, effect, own, rule.step_up, name);
                }
            }
            if !ruled {
                let verdict = origin.default_for(effect);
                strictest.take(verdict, effect, None, None, || "default".to_owned());
            }
        }
        let Strictest { verdict, other_than_requester, step_up, rule } = strictest;
        match verdict {
            PolicyVerdict::Allow => Ruling::Allowed,
            PolicyVerdict::Approve(needed) => {
                Ruling::Needs(Requirement { needed, other_than_requester, step_up, rule })
            }
            PolicyVerdict::Deny => Ruling::Refused { rule },
        }
    }

    /// As the API shows it.
    pub fn to_api(&self, expire_ms: u64) -> PolicyView {
        let word = |verdict: Option<PolicyVerdict>| verdict.map(|verdict| verdict.to_string());
        let rules = self.0.iter().map(|rule| PolicyRuleView {
            selector: rule.selector.to_string(),
            read: word(rule.read),
            change: word(rule.change),
            destroy: word(rule.destroy),
            other_than_requester: rule.other_than_requester,
            step_up: rule.step_up,
            applies_to: rule.applies_to.iter().map(|each| each.as_str().to_owned()).collect(),
        });
        PolicyView { rules: rules.collect(), expire_ms }
    }
}

impl Strictest {
    /// Whatever any rule that asks for people wants beside their number, all of them have to do.
    fn take(
        &mut self,
        verdict: PolicyVerdict,
        effect: Effect,
        other_than_requester: Option<bool>,
        step_up: Option<bool>,
        rule: impl FnOnce() -> String,
    ) {
        if let PolicyVerdict::Approve(people) = verdict {
            self.other_than_requester |= other_than_requester.unwrap_or(people > 1);
            self.step_up |= step_up.unwrap_or(effect == Effect::Destroy);
        }
        if verdict > self.verdict {
            self.verdict = verdict;
            self.rule = rule();
        }
    }
}

fn verdict(rule: &PolicyRule, effect: Effect) -> Option<PolicyVerdict> {
    match effect {
        Effect::Read => rule.read,
        Effect::Change => rule.change,
        Effect::Destroy => rule.destroy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reeve_protocol::MachineId;

    fn policy(text: &str) -> Policy {
        #[derive(serde::Deserialize)]
        struct File {
            policy: Vec<PolicyRule>,
        }
        Policy(toml::from_str::<File>(text).expect("a policy").policy)
    }

    fn machine(labels: &[(&str, &str)]) -> Arc<Known> {
        Arc::new(Known {
            id: MachineId::new(),
            name: "m".to_owned(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            public_key: vec![],
            channel_binding: true,
            quarantined_us: None,
            revoked_us: None,
        })
    }

    const RULES: &str = "
        [[policy]]
        match = 'env=prod'
        change = 'approve:2'
        destroy = 'deny'
        [[policy]]
        match = 'role=db'
        change = 'approve'
        step_up = true
        applies_to = ['task']
        [[policy]]
        match = 'env=lab'
        change = 'allow'
        destroy = 'approve'
        step_up = false
        other_than_requester = true";

    fn needs(needed: u32, other: bool, step_up: bool, rule: &str) -> Ruling {
        let rule = rule.to_owned();
        Ruling::Needs(Requirement { needed, other_than_requester: other, step_up, rule })
    }

    #[test]
    fn the_strictest_rule_over_all_targets_wins() {
        use Effect::{Change, Destroy, Read};
        use Origin::{Command, Task};
        let policy = policy(RULES);
        let prod = machine(&[("env", "prod")]);
        let lab = machine(&[("env", "lab")]);
        let database = machine(&[("env", "prod"), ("role", "db")]);
        let plain = machine(&[]);
        let denied = Ruling::Refused { rule: "policy env=prod".to_owned() };
        for (origin, effect, targets, expected) in [
            (Task, Read, vec![&prod, &lab, &plain], Ruling::Allowed),
            (Task, Change, vec![&plain], needs(1, false, false, "default")),
            (Task, Destroy, vec![&plain], needs(1, false, true, "default")),
            (Command, Destroy, vec![&plain], Ruling::Allowed),
            (Task, Change, vec![&lab], Ruling::Allowed),
            (Task, Change, vec![&lab, &plain], needs(1, false, false, "default")),
            (Task, Change, vec![&lab, &prod, &plain], needs(2, true, false, "policy env=prod")),
            (Command, Change, vec![&plain, &prod], needs(2, true, false, "policy env=prod")),
            (Task, Change, vec![&database], needs(2, true, true, "policy env=prod")),
            (Command, Change, vec![&database], needs(2, true, false, "policy env=prod")),
            (Task, Destroy, vec![&lab], needs(1, true, false, "policy env=lab")),
            (Task, Destroy, vec![&lab, &plain], needs(1, true, true, "policy env=lab")),
            (Task, Destroy, vec![&lab, &prod], denied.clone()),
            (Command, Destroy, vec![&prod], denied),
        ] {
            let targets: Vec<_> = targets.into_iter().cloned().collect();
            let found = policy.judge(origin, effect, &targets);
            assert_eq!(found, expected, "{origin:?} {effect:?} {:?}", targets[0].labels);
        }
    }

    #[test]
    fn a_policy_about_tasks_alone_leaves_commands_alone() {
        let rules = "[[policy]]\nmatch = '@all'\nread = 'deny'\napplies_to = ['task']\n";
        assert!(!policy(rules).concerns(Origin::Command) && policy(rules).concerns(Origin::Task));
        assert!(!Policy::default().concerns(Origin::Task));
    }
}
