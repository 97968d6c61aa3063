//! What the catalogue declares against what the risk rules compute.

use std::collections::BTreeMap;

use reeve_protocol::ops::{Command, Effect};

use super::samples;
use crate::catalogue;

#[test]
fn every_look_is_assessed_as_read_and_no_change_is_worse_than_declared() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for runbook in &catalogue().runbooks {
        for step in &runbook.step {
            for template in step.commands() {
                let line = samples::line(runbook, template);
                let assessed = reeve_risk::assess(&Command::Shell(line.clone()), &BTreeMap::new());
                seen += 1;
                // What looks from outside of inspect mode asks anyway; it must not destroy.
                let bound = if step.outside { Effect::Change } else { step.effect };
                if assessed.effect > bound {
                    wrong.push(format!("{}: {line}\n    {:?}", runbook.id, assessed.findings));
                }
            }
        }
    }
    assert!(seen > 250, "only {seen} commands");
    assert!(wrong.is_empty(), "{} of {seen} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
