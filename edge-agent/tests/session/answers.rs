//! What the agent does itself goes the road of commands: kept until it is acknowledged, done once.

use reeve_protocol::ops::{ExplainOperation, Findings, Operation as _, Stdin};
use reeve_protocol::{Control, OperationId, Outcome, Request};

use crate::agent::{Coordinator, Got, Machine, shell};

/// Asks what another operation waits for.
fn ask(coordinator: &Coordinator, id: OperationId, about: OperationId) {
    let body = reeve_protocol::encode(&ExplainOperation { operation: about }).expect("encodes");
    // Boot and journal as for any command.
    let request = Request { body, ..coordinator.make_request(&shell("true")) };
    coordinator.request_as(id, ExplainOperation::NAME, &request);
}

#[tokio::test]
async fn answer_is_kept_over_reconnects_and_restarts_until_it_is_acknowledged() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let (command, question) = (OperationId::new(), OperationId::new());
    let mut waits = shell("echo ready; read line");
    waits.stdin = Stdin::Stream;
    coordinator.request(command, &waits);
    coordinator.follow(command, &mut Got::default(), |got| got.next == 6).await;
    ask(&coordinator, question, command);
    let mut first = Got::default();
    coordinator.follow(question, &mut first, |got| !got.results.is_empty()).await;
    assert_eq!(first.outcome(), &Outcome::Exited { code: 0 });
    let findings: Findings = serde_json::from_slice(&first.stdout).expect("a document");
    assert_eq!(findings.operation, command.to_string());
    let read = findings.processes.iter().any(|process| process.waits_for == [0]);
    assert!(read && findings.stdin.is_some(), "{findings:#?}");
    assert_eq!(findings.last_output.expect("a line").text, "ready");

    // Not acknowledged: it is there again, the same, for the next session and the next agent.
    drop(coordinator);
    agent.die().await;
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    coordinator.acknowledge(command, 6, false);
    coordinator.acknowledge(question, 0, false);
    let mut second = Got::default();
    coordinator.follow(question, &mut second, |got| !got.results.is_empty()).await;
    assert_eq!(second.stdout, first.stdout);

    let folder = machine.state().join("operations").join(question.to_string());
    assert!(folder.exists());
    coordinator.acknowledge(question, first.next, true);
    crate::agent::wait_until("it is forgotten", || !folder.exists()).await;
    // Asked again with the same id, it is not done again.
    ask(&coordinator, question, command);
    let mut third = Got::default();
    coordinator.follow(question, &mut third, |got| !got.results.is_empty()).await;
    assert!(
        matches!(third.outcome(), Outcome::Lost(evidence) if evidence.code == "already_finished")
    );
    // A keeper outlives whoever started it, this test too.
    coordinator.say(command, &Control::CloseInput { offset: 0 });
    let mut last = Got { next: 6, ..Got::default() };
    coordinator.follow(command, &mut last, |got| !got.results.is_empty()).await;
}

#[tokio::test]
async fn what_does_not_run_is_refused() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let question = OperationId::new();
    ask(&coordinator, question, OperationId::new());
    let mut got = Got::default();
    coordinator.follow(question, &mut got, |got| !got.results.is_empty()).await;
    let Outcome::Refused(refusal) = got.outcome() else { panic!("{:?}", got.outcome()) };
    assert_eq!(refusal.code, "not_running");
}
