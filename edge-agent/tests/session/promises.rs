//! Nothing is lost, nothing starts twice.

use reeve_protocol::ops::Stdin;
use reeve_protocol::{Control, Credit, Kind, OperationId, Outcome, ReportedState};

use crate::agent::{Got, Machine, shell, wait_until};

#[tokio::test]
async fn command_runs_and_is_forgotten_once_acknowledged() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let id = OperationId::new();
    let got = coordinator.run(id, &shell("echo out; echo err >&2; exit 3")).await;
    assert_eq!(got.outcome(), &Outcome::Exited { code: 3 });
    assert_eq!((got.accepted, got.stdout.as_slice()), (1, &b"out\n"[..]));
    assert_eq!(got.stderr, b"err\n");
    wait_until("the folder is gone", || {
        !machine.state().join("operations").join(id.to_string()).exists()
    })
    .await;
    assert!(agent.operations.list().is_empty());
}

#[tokio::test]
async fn duplicate_request_starts_once() {
    let machine = Machine::new();
    let file = machine.folder.path().join("count");
    let command = shell(&format!("echo x >> {}; read line; echo done", file.display()));
    let command = reeve_protocol::ops::ExecuteCommand { stdin: Stdin::Stream, ..command };
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let id = OperationId::new();
    coordinator.request(id, &command);
    let mut got = Got::default();
    coordinator.follow(id, &mut got, |got| got.accepted == 1).await;
    coordinator.request(id, &command);
    coordinator.follow(id, &mut got, |got| got.accepted == 2).await;
    coordinator.say(id, &Control::CloseInput { offset: 0 });
    coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
    coordinator.acknowledge(id, got.next, true);
    // Also after it was forgotten, and by the next agent: the journal remembers.
    coordinator.request(id, &command);
    coordinator.follow(id, &mut got, |got| got.results.len() == 2).await;
    assert!(matches!(got.outcome(), Outcome::Lost(_)));
    coordinator.cut().await;
    agent.die().await;
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    coordinator.request(id, &command);
    coordinator.follow(id, &mut got, |got| got.results.len() == 3).await;
    assert!(matches!(got.outcome(), Outcome::Lost(_)));
    assert_eq!(std::fs::read_to_string(file).expect("it ran"), "x\n");
}

#[tokio::test]
async fn reconnect_goes_on_from_the_durable_offset() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let id = OperationId::new();
    // 6,888,896 bytes; acknowledged in steps, with cuts in between that lose what was in flight.
    coordinator.request(id, &shell("seq 1 1000000"));
    let mut got = Got::default();
    for cut in 1..=4 {
        coordinator.follow(id, &mut got, |got| got.next > cut * 1_000_000).await;
        // The last frames came and were never made durable: they are sent again.
        let durable = got.next - 10_000;
        got.stdout.truncate(usize::try_from(durable).expect("small"));
        got.next = durable;
        coordinator.cut().await;
        coordinator = agent.connect().await;
        let report = coordinator.report.take().expect("a report");
        assert_eq!(report.operations.len(), 1);
        assert_eq!(report.operations[0].id, id);
        assert!(report.operations[0].spool_from <= durable);
        coordinator.acknowledge(id, durable, false);
    }
    coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
    let expected: String = (1..=1_000_000).map(|number| format!("{number}\n")).collect();
    assert!(got.stdout == expected.as_bytes());
    assert_eq!(got.outcome(), &Outcome::Exited { code: 0 });
}

#[tokio::test]
async fn result_comes_again_until_it_is_acknowledged() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let id = OperationId::new();
    coordinator.request(id, &shell("echo hello; exit 9"));
    let mut got = Got::default();
    coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
    for round in 2..4 {
        coordinator.cut().await;
        coordinator = agent.connect().await;
        let report = coordinator.report.take().expect("a report");
        assert_eq!(report.operations[0].state, ReportedState::Finished);
        coordinator.acknowledge(id, got.next, false);
        coordinator.follow(id, &mut got, |got| got.results.len() == round).await;
        assert_eq!(got.outcome(), &Outcome::Exited { code: 9 });
    }
    coordinator.acknowledge(id, got.next, true);
    wait_until("it is forgotten", || agent.operations.list().is_empty()).await;
    coordinator.cut().await;
    let coordinator = agent.connect().await;
    assert_eq!(coordinator.report.expect("a report").operations, []);
}

#[tokio::test]
async fn output_never_exceeds_credit() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let id = OperationId::new();
    coordinator.request(id, &shell("head -c 1000000 /dev/zero"));
    let mut got = Got::default();
    let mut until = reeve_protocol::limits::INITIAL_CREDIT;
    while got.results.is_empty() {
        while got.next < until.min(1_000_000) {
            let envelope = coordinator.hear().await;
            if envelope.id == Some(id) {
                got.take(&envelope);
            }
            assert!(got.next <= until, "sent {} with credit for {until}", got.next);
        }
        // Whatever came without credit would come before the answer to this.
        let probe = OperationId::new();
        coordinator.request_as(probe, "nothing", &coordinator.make_request(&shell("true")));
        loop {
            let envelope = coordinator.hear().await;
            if envelope.id == Some(id) {
                got.take(&envelope);
            }
            if envelope.id == Some(probe) {
                break;
            }
        }
        assert!(got.next <= until, "sent {} with credit for {until}", got.next);
        until = got.next + 100_000;
        coordinator.say(id, &Credit::Output { until });
        if got.next == 1_000_000 && got.results.is_empty() {
            coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
        }
    }
    assert_eq!(got.next, 1_000_000);
}

#[tokio::test]
async fn stdin_is_granted_by_window_and_taken_whole() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let id = OperationId::new();
    let mut command = shell("cat");
    command.stdin = Stdin::Stream;
    coordinator.request(id, &command);
    let whole: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let (mut sent, mut until) = (0_usize, 0_usize);
    let mut got = Got::default();
    while got.results.is_empty() {
        while sent < until.min(whole.len()) {
            let end = until.min(whole.len()).min(sent + 60_000);
            let bytes = whole[sent..end].to_vec();
            coordinator.say(id, &Control::Input { offset: sent as u64, bytes });
            sent = end;
            if sent == whole.len() {
                coordinator.say(id, &Control::CloseInput { offset: sent as u64 });
            }
        }
        let envelope = coordinator.hear().await;
        if envelope.id != Some(id) {
            continue;
        }
        got.take(&envelope);
        match envelope.kind {
            Kind::Credit => {
                if let Credit::Stdin { until: more, .. } = envelope.open().expect("credit") {
                    until = until.max(usize::try_from(more).expect("small"));
                }
            }
            Kind::Output => {
                coordinator.acknowledge(id, got.next, false);
                coordinator.say(id, &Credit::Output { until: got.next + 500_000 });
            }
            _ => {}
        }
    }
    assert!(got.stdout == whole);
}

#[tokio::test]
async fn cancel_reaches_the_command() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let id = OperationId::new();
    coordinator.request(id, &shell("echo up; sleep 1000"));
    let mut got = Got::default();
    coordinator.follow(id, &mut got, |got| got.next == 3).await;
    coordinator.say(id, &Control::Cancel { reason: "test".to_owned() });
    coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
    assert_eq!(got.outcome(), &Outcome::Cancelled { exit_code: None, signal: Some(15) });
}

#[tokio::test]
async fn sixty_four_commands_run_at_the_same_time() {
    const COUNT: usize = 64;
    let mut machine = Machine::new();
    machine.policy.max_concurrent = 64;
    let meeting = machine.folder.path().join("meeting");
    std::fs::create_dir(&meeting).expect("made");
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    // Each waits for all the others: none ends unless all of them run at once.
    let line = format!(
        "cd {}; : > $REEVE_OPERATION; until [ $(ls | wc -l) -ge {COUNT} ]; do sleep 0.05; done",
        meeting.display()
    );
    let mut all: std::collections::HashMap<_, _> =
        (0..COUNT).map(|_| (OperationId::new(), Got::default())).collect();
    for id in all.keys() {
        coordinator.request(*id, &shell(&line));
    }
    while all.values().any(|got| got.results.is_empty()) {
        let envelope = coordinator.hear().await;
        if let Some(got) = envelope.id.and_then(|id| all.get_mut(&id)) {
            got.take(&envelope);
        }
    }
    for (id, got) in &all {
        assert_eq!((got.accepted, got.outcome()), (1, &Outcome::Exited { code: 0 }), "{id}");
    }
    assert_eq!(std::fs::read_dir(&meeting).expect("a folder").count(), COUNT);
}
