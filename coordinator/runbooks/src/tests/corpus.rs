//! Sentences as people write them, against what they get.

use super::examples::{ids, machine};
use crate::{Reply, Request, catalogue, plan};

/// `runbook: sentence`, one per line.
const ANSWERED: &str = include_str!("corpus_answered.txt");
/// Sentences that nothing may be changed for.
const HARMLESS: &str = include_str!("corpus_harmless.txt");

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[test]
fn what_operators_ask_gets_the_runbook_that_answers_it() {
    let machines = [machine("web-1", "web")];
    let mut wrong = Vec::new();
    let mut seen = 0;
    for line in lines(ANSWERED) {
        let (wanted, sentence) = line.split_once(": ").unwrap();
        let got = ids(&plan(&Request { prompt: sentence, machines: &machines, named: false }));
        seen += 1;
        if got.join("+") != wanted {
            wrong.push(format!("'{sentence}' gives {got:?}, not {wanted}"));
        }
    }
    assert!(seen >= 150, "only {seen} sentences");
    assert!(wrong.is_empty(), "{} of {seen} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn nothing_is_changed_for_what_is_no_clear_request() {
    let machines = [machine("web-1", "web")];
    let mut wrong = Vec::new();
    let mut seen = 0;
    for sentence in lines(HARMLESS) {
        seen += 1;
        let reply = plan(&Request { prompt: sentence, machines: &machines, named: false });
        let changes = match &reply {
            Reply::Plan(plan) => plan
                .runbook
                .split('+')
                .any(|id| catalogue().find(id).is_none_or(crate::Runbook::changes)),
            Reply::ShellLine { .. } => true,
            _ => false,
        };
        if changes {
            wrong.push(format!("'{sentence}' gives {:?}", ids(&reply)));
        }
    }
    assert!(seen >= 80, "only {seen} sentences");
    assert!(wrong.is_empty(), "{} of {seen} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
