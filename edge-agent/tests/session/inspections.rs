//! Commands in inspect mode, asked for over the link.

use reeve_agent::policy::{Allow, ExecRule, Policy};
use reeve_protocol::ops::{ExecuteCommand, Leftovers, Mode, Stdin};
use reeve_protocol::{Control, Facts, Kind, OperationId, Outcome};

use crate::agent::{Agent, Coordinator, Got, Machine, shell};

fn inspection(line: &str) -> ExecuteCommand {
    ExecuteCommand { mode: Mode::Inspect, ..shell(line) }
}

fn code(got: &Got) -> &str {
    match got.outcome() {
        Outcome::Refused(refusal) => &refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}

async fn connect(machine: &Machine) -> (Agent, Coordinator) {
    let agent = machine.start().await;
    let coordinator = agent.connect().await;
    (agent, coordinator)
}

#[tokio::test]
async fn agent_tells_whether_it_can_inspect_and_what_installs_packages() {
    let machine = Machine::new();
    let (_agent, mut coordinator) = connect(&machine).await;
    let facts: Facts = loop {
        let envelope = coordinator.hear().await;
        if envelope.kind == Kind::Facts {
            break envelope.open().expect("facts");
        }
    };
    let inspect = facts.inspect.expect("told");
    assert!(inspect.available, "{}", inspect.reason);
    for wall in ["namespaces", "capabilities", "seccomp"] {
        assert!(inspect.walls.iter().any(|stands| stands == wall), "{inspect:?}");
    }
    assert!(!facts.package_manager.is_empty());
}

#[tokio::test]
async fn inspection_runs_as_somebody_else_each_time_and_changes_nothing() {
    let machine = Machine::new();
    let (_agent, mut coordinator) = connect(&machine).await;
    let target = machine.folder.path().join("made");
    let line = format!("id -u; touch {} && echo changed", target.display());
    let mut uids = std::collections::HashSet::new();
    for _ in 0..3 {
        let got = coordinator.run(OperationId::new(), &inspection(&line)).await;
        let text = String::from_utf8(got.stdout.clone()).expect("text");
        let uid: u32 = text.trim().parse().expect("one number and no more");
        assert!(uid > 60_000 && uids.insert(uid), "{text}");
        assert_eq!(got.outcome(), &Outcome::Exited { code: 1 });
    }
    assert!(!target.exists());
    let got = coordinator.run(OperationId::new(), &shell(&line)).await;
    assert_eq!(got.outcome(), &Outcome::Exited { code: 0 });
    assert!(target.exists());
}

#[tokio::test]
async fn agents_own_folder_cannot_be_read() {
    let machine = Machine::new();
    let (_agent, mut coordinator) = connect(&machine).await;
    let state = machine.state();
    assert!(state.join("journal").exists());
    let line = format!("ls -A {}; cat {}/journal", state.display(), state.display());
    let got = coordinator.run(OperationId::new(), &inspection(&line)).await;
    assert_eq!(got.outcome(), &Outcome::Exited { code: 1 });
    assert_eq!(String::from_utf8_lossy(&got.stdout), "BLOCKED_BY_POLICY\n");
}

#[tokio::test]
async fn machine_for_looking_only_refuses_ordinary_commands() {
    let mut machine = Machine::new();
    machine.policy = Policy {
        allow: Allow { exec: ExecRule::Inspect, ..Allow::default() },
        ..Policy::default()
    };
    let (_agent, mut coordinator) = connect(&machine).await;
    let got = coordinator.run(OperationId::new(), &shell("true")).await;
    assert_eq!(code(&got), "policy_exec");
    let got = coordinator.run(OperationId::new(), &inspection("echo seen")).await;
    assert_eq!(
        (got.outcome(), got.stdout.as_slice()),
        (&Outcome::Exited { code: 0 }, &b"seen\n"[..])
    );
}

#[tokio::test]
async fn machine_that_cannot_enforce_it_starts_nothing() {
    let mut machine = Machine::new();
    // A probe that says nothing.
    machine.program = "/bin/true".into();
    let (_agent, mut coordinator) = connect(&machine).await;
    let got = coordinator.run(OperationId::new(), &inspection("echo ran")).await;
    assert_eq!(code(&got), "inspect_unavailable");
    assert!(got.stdout.is_empty() && got.accepted == 0);
}

#[tokio::test]
async fn what_makes_no_sense_in_inspect_mode_is_refused() {
    let machine = Machine::new();
    let (_agent, mut coordinator) = connect(&machine).await;
    let user = ExecuteCommand { user: Some("root".to_owned()), ..inspection("true") };
    let keeps = ExecuteCommand { leftovers: Leftovers::Keep, ..inspection("true") };
    for command in [user, keeps] {
        let got = coordinator.run(OperationId::new(), &command).await;
        assert_eq!(code(&got), "invalid");
    }
}

#[tokio::test]
async fn inspection_ends_by_its_time_by_a_cancel_and_leaves_no_process() {
    let machine = Machine::new();
    let (_agent, mut coordinator) = connect(&machine).await;
    let id = OperationId::new();
    let mut late = inspection("setsid sleep 300 & sleep 300");
    late.timeout_ms = Some(300);
    late.grace_ms = 100;
    let got = coordinator.run(id, &late).await;
    assert!(matches!(got.outcome(), Outcome::TimedOut { .. }), "{:?}", got.outcome());
    let marked =
        |id| reeve_agent::host::process::list_with_environment(&format!("REEVE_OPERATION={id}"));
    assert!(marked(id).is_empty());
    let result = got.results.last().expect("a result");
    assert_eq!(result.containment, reeve_protocol::Containment::CgroupV2);

    let id = OperationId::new();
    coordinator.request(id, &inspection("echo ready; sleep 300"));
    let mut got = Got::default();
    coordinator.follow(id, &mut got, |got| got.next > 0).await;
    coordinator.say(id, &Control::Cancel { reason: "enough".to_owned() });
    coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
    assert!(matches!(got.outcome(), Outcome::Cancelled { .. }), "{:?}", got.outcome());
    assert!(marked(id).is_empty());
}

#[tokio::test]
async fn inspection_may_read_what_it_is_sent() {
    let machine = Machine::new();
    let (_agent, mut coordinator) = connect(&machine).await;
    let id = OperationId::new();
    coordinator
        .request(id, &ExecuteCommand { stdin: Stdin::Stream, ..inspection("cat /dev/stdin") });
    coordinator.say(id, &Control::Input { offset: 0, bytes: b"hello".to_vec() });
    coordinator.say(id, &Control::CloseInput { offset: 5 });
    let mut got = Got::default();
    coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
    assert_eq!(
        (got.outcome(), got.stdout.as_slice()),
        (&Outcome::Exited { code: 0 }, &b"hello"[..])
    );
}
