//! Which machines a plan is for.

use super::examples::{ids, machine};
use crate::{Machine, Plan, Reply, Request, plan};
use reeve_protocol::ops::Command;

fn fleet() -> Vec<Machine> {
    let mut all = vec![
        machine("web-1", "web"),
        machine("web-2", "web"),
        machine("db-1", "db"),
        machine("edge-berlin", "edge"),
    ];
    all[3].os_id = "alpine".to_owned();
    all[3].init = "openrc".to_owned();
    all[3].package_manager = "apk".to_owned();
    all[3].online = false;
    all
}

fn ask(prompt: &str, machines: &[Machine], named: bool) -> Reply {
    plan(&Request { prompt, machines, named })
}

fn planned(prompt: &str, named: bool) -> Plan {
    match ask(prompt, &fleet(), named) {
        Reply::Plan(plan) => plan,
        other => panic!("'{prompt}' gives {other:?}"),
    }
}

fn names(plan: &Plan) -> Vec<&str> {
    let mut names: Vec<&str> =
        plan.steps.iter().flat_map(|step| &step.machines).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn names_and_labels_in_the_sentence_choose_machines() {
    let all = ["db-1", "edge-berlin", "web-1", "web-2"];
    for (sentence, wanted) in [
        ("disk usage on web-1", &["web-1"][..]),
        ("web-2 disk usage", &["web-2"]),
        ("memory usage on web-1 and db-1", &["db-1", "web-1"]),
        ("memory usage on web-1, web-2 and db-1", &["db-1", "web-1", "web-2"]),
        ("disk usage on all web servers", &["web-1", "web-2"]),
        ("uptime of the web machines", &["web-1", "web-2"]),
        ("disk usage role=db", &["db-1"]),
        ("failed services everywhere", &all),
        ("failed services on all machines", &all),
        ("failed services on every server", &all),
        ("load on the edge nodes", &["edge-berlin"]),
        ("restart nginx on WEB-1", &["web-1"]),
    ] {
        assert_eq!(names(&planned(sentence, false)), wanted, "{sentence}");
    }
}

#[test]
fn each_part_of_a_sentence_has_its_own_machines() {
    let plan = planned("disk usage on web-1 and memory usage on db-1", false);
    for step in &plan.steps {
        let Command::Shell(line) = &step.command else { panic!("{step:?}") };
        let wanted = if line.starts_with("df") { "web-1" } else { "db-1" };
        assert_eq!(step.machines, [wanted], "{line}");
    }
    let plan = planned("restart nginx on web-2 and show its logs", false);
    assert_eq!(names(&plan), ["web-2"]);
    assert!(
        plan.steps
            .iter()
            .any(|s| matches!(&s.command, Command::Shell(l) if l.contains("-u nginx")))
    );
}

#[test]
fn a_selector_means_all_of_its_machines_unless_some_are_named() {
    assert_eq!(names(&planned("disk usage", true)).len(), 4);
    assert_eq!(names(&planned("disk usage on db-1", true)), ["db-1"]);
}

#[test]
fn without_a_name_one_machine_is_clear_and_several_are_asked_about() {
    let one = [machine("only", "web")];
    assert_eq!(ids(&ask("disk usage", &one, false)), ["disk.usage"]);
    match ask("disk usage", &fleet(), false) {
        Reply::NeedsSlot { runbook, question } => {
            assert_eq!(runbook, "machines");
            assert!(question.contains("web-1") && question.contains("edge-berlin"), "{question}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(ask("df -h", &fleet(), false), Reply::NeedsSlot { .. }));
    assert!(matches!(ask("disk usage", &[], false), Reply::NeedsSlot { .. }));
}

#[test]
fn names_that_fit_no_machine_are_told_with_the_nearest() {
    for (sentence, unknown) in [
        ("disk usage on web-9", "web-9"),
        ("disk usage on all cache servers", "cache"),
        ("restart nginx on gandalf", "gandalf"),
        ("disk usage on web-1 and web-7", "web-7"),
        ("uptime on role=cache", "role=cache"),
    ] {
        for named in [false, true] {
            match ask(sentence, &fleet(), named) {
                Reply::UnknownMachine { names, .. } => assert_eq!(names, [unknown], "{sentence}"),
                other => panic!("'{sentence}' gives {other:?}"),
            }
        }
    }
    match ask("disk usage on web-9", &fleet(), false) {
        Reply::UnknownMachine { nearest, .. } => assert_eq!(nearest, ["web-1", "web-2"]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_on_a_machine_is_no_machine() {
    for sentence in
        ["who listens on port 80", "traffic on eth0", "which files are on /srv", "services on boot"]
    {
        let reply = ask(sentence, &fleet()[..1], false);
        assert!(!matches!(reply, Reply::UnknownMachine { .. }), "'{sentence}' gives {reply:?}");
    }
}

#[test]
fn a_host_to_talk_to_is_not_where_it_runs() {
    let plan = planned("ping db-1 from web-1", false);
    assert_eq!(names(&plan), ["web-1"]);
    assert!(matches!(&plan.steps[0].command, Command::Shell(line) if line.ends_with("db-1")));
}

#[test]
fn commands_follow_the_kind_of_machine_and_who_is_away_is_noted() {
    let plan = planned("is htop installed on all machines", false);
    let lines: Vec<&Command> = plan.steps.iter().map(|step| &step.command).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(matches!(lines[0], Command::Shell(l) if l.starts_with("dpkg-query")));
    assert!(matches!(lines[1], Command::Shell(l) if l.starts_with("apk ")));
    assert_eq!(plan.steps[1].machines, ["edge-berlin"]);
    assert!(
        plan.notes.iter().any(|note| note.contains("edge-berlin is offline")),
        "{:?}",
        plan.notes
    );
}

#[test]
fn a_condition_follows_its_machines() {
    let plan = planned("restart nginx on all machines", false);
    for (n, step) in plan.steps.iter().enumerate() {
        let Some(only_if) = &step.only_if else { continue };
        let decides = &plan.steps[only_if.step as usize - 1];
        assert!((only_if.step as usize) <= n);
        assert!(step.machines.iter().all(|name| decides.machines.contains(name)), "{step:?}");
        assert!(step.depends_on.contains(&only_if.step));
        assert!(decides.expect.rules.iter().any(|rule| rule.id == only_if.finding));
    }
    assert_eq!(plan.steps.iter().filter(|step| step.only_if.is_some()).count(), 2);
}

#[test]
fn machines_that_no_command_fits_are_left_out_and_told() {
    let mut machines = fleet();
    machines[0].os_id = "plan9".to_owned();
    machines[0].package_manager = String::new();
    let Reply::Plan(plan) = ask("is htop installed", &machines, true) else { panic!() };
    assert!(!names(&plan).contains(&"web-1"));
    assert!(plan.notes.iter().any(|note| note.contains("web-1")), "{:?}", plan.notes);
}
