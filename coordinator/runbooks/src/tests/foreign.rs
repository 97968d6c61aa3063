//! Text from the sentence stays text.

use proptest::prelude::*;
use reeve_protocol::ops::Command;

use super::examples::machine;
use super::samples;
use crate::quote::quote;
use crate::{Reply, Request, SlotKind, catalogue, plan};

const KINDS: [SlotKind; 14] = [
    SlotKind::Service,
    SlotKind::User,
    SlotKind::Package,
    SlotKind::Process,
    SlotKind::Pid,
    SlotKind::Host,
    SlotKind::Container,
    SlotKind::Port,
    SlotKind::Path,
    SlotKind::Name,
    SlotKind::Text,
    SlotKind::Size,
    SlotKind::Since,
    SlotKind::Count,
];

#[test]
fn options_and_control_characters_are_no_values() {
    for text in ["-rf", "--help", "-", "a\nb", "a\0b", "", "x\u{1b}[31m"] {
        for kind in KINDS {
            assert!(kind.fill("slot", text).is_err(), "{kind:?} takes {text:?}");
        }
    }
    for (kind, text) in [
        (SlotKind::Path, "/etc/../root"),
        (SlotKind::Path, "etc/passwd"),
        (SlotKind::Pid, "1"),
        (SlotKind::Pid, "-1"),
        (SlotKind::Port, "0"),
        (SlotKind::Port, "70000"),
        (SlotKind::Service, "a;b"),
        (SlotKind::Service, "$(id)"),
        (SlotKind::User, "bob smith"),
        (SlotKind::Package, "htop && id"),
        (SlotKind::Host, "a|b"),
        (SlotKind::Count, "1001"),
        (SlotKind::Size, "0 GB"),
        (SlotKind::Since, "0 minutes"),
    ] {
        assert!(kind.fill("slot", text).is_err(), "{kind:?} takes {text:?}");
    }
}

#[test]
fn injections_in_sentences_end_as_one_word_or_as_no_value() {
    let machines = [machine("web-1", "web")];
    for sentence in [
        "restart \"nginx; rm -rf /\"",
        "restart 'nginx && reboot'",
        "search the logs for \"$(reboot)\"",
        "search the logs for \"'; reboot; '\"",
        "which files contain \"`reboot`\"",
        "find files named \"*; reboot\"",
        "who owns \"/etc/$(reboot)\"",
        "back up \"/etc/x'; reboot #\"",
        "ping \"example.org; reboot\"",
    ] {
        let reply = plan(&Request { prompt: sentence, machines: &machines, named: false });
        let Reply::Plan(plan) = reply else { continue };
        for step in &plan.steps {
            let Command::Shell(line) = &step.command else { panic!("{step:?}") };
            let assessed = reeve_risk::assess(&step.command, &std::collections::BTreeMap::new());
            assert!(assessed.effect <= step.effect, "{line}: {assessed:?}");
            let words = shlex::split(line).unwrap();
            assert!(!words.iter().any(|word| word == "reboot"), "{line}");
        }
    }
}

proptest! {
    #[test]
    fn quoted_text_is_one_word_whatever_it_holds(text in "\\PC{0,60}") {
        prop_assert_eq!(shlex::split(&quote(&text)), Some(vec![text]));
    }

    #[test]
    fn no_prompt_makes_it_panic_or_name_foreign_machines(prompt in "\\PC{0,120}") {
        let machines = [machine("web-1", "web"), machine("db-1", "db")];
        if let Reply::Plan(plan) = plan(&Request { prompt: &prompt, machines: &machines, named: true }) {
            for step in &plan.steps {
                prop_assert!(step.machines.iter().all(|name| name == "web-1" || name == "db-1"));
            }
        }
    }

    #[test]
    fn whatever_a_slot_takes_leaves_the_command_read_or_as_declared(text in "[ -~]{1,40}") {
        for runbook in catalogue().runbooks.iter().filter(|r| !r.slots.is_empty()).take(12) {
            let mut values = samples::values(runbook);
            for (name, slot) in &runbook.slots {
                if let Ok(filled) = slot.kind.fill(name, &text) {
                    values.extend(filled);
                }
            }
            for step in &runbook.step {
                for template in step.commands() {
                    let Ok(line) = crate::template::fill(template, &values, quote) else { continue };
                    prop_assert!(shlex::split(&line).is_some(), "{}", line);
                }
            }
        }
    }
}
