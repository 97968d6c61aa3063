use std::collections::BTreeMap;

use crate::{Machine, Reply, Request, catalogue, plan};

pub(crate) fn machine(name: &str, role: &str) -> Machine {
    Machine {
        name: name.to_owned(),
        labels: BTreeMap::from([("role".to_owned(), role.to_owned())]),
        os_id: "debian".to_owned(),
        init: "systemd".to_owned(),
        package_manager: "apt".to_owned(),
        online: true,
        ..Machine::default()
    }
}

pub(crate) fn ids(reply: &Reply) -> Vec<String> {
    match reply {
        Reply::Plan(plan) => plan.runbook.split('+').map(str::to_owned).collect(),
        Reply::NeedsSlot { runbook, .. } => vec![format!("?{runbook}")],
        Reply::ShellLine { .. } => vec!["shell".to_owned()],
        Reply::UnknownMachine { .. } => vec!["unknown machine".to_owned()],
        Reply::Unknown { .. } => Vec::new(),
    }
}

#[test]
fn the_catalogue_is_sound() {
    crate::Catalogue::built_in().unwrap();
}

#[test]
fn every_runbook_answers_its_examples_and_not_the_others() {
    let machines = [machine("web-1", "web")];
    let mut wrong = Vec::new();
    for runbook in &catalogue().runbooks {
        for (sentences, wanted) in
            [(&runbook.examples.matching, true), (&runbook.examples.mustnot, false)]
        {
            for sentence in sentences {
                let request = Request { prompt: sentence, machines: &machines, named: false };
                let ids = ids(&plan(&request));
                let alone = ids == [runbook.id.clone()];
                if alone != wanted && (wanted || ids.contains(&runbook.id)) {
                    wrong.push(format!("{}: '{sentence}' gives {ids:?}", runbook.id));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
