//! What is not done, and what is not understood.

use std::path::PathBuf;
use std::time::Duration;

use reeve_agent::policy::{Allow, ExecRule, Policy};
use reeve_agent::uplink::session::End;
use reeve_protocol::{
    ApprovalStamp, CoordinatorId, Envelope, Evidence, Goodbye, GoodbyeReason, Heartbeat, JournalId,
    Kind, OperationId, Outcome, Request, approval_message,
};
use sha2::{Digest, Sha256};

use crate::agent::{Agent, Coordinator, Got, Machine, shell};

async fn refusal(coordinator: &mut Coordinator, name: &str, request: &Request) -> String {
    let id = OperationId::new();
    coordinator.request_as(id, name, request);
    let mut got = Got::default();
    coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
    assert_eq!((got.accepted, got.next), (0, 0));
    match got.outcome() {
        Outcome::Refused(refusal) => refusal.code.clone(),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn each_reason_to_refuse_has_its_code() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let good = coordinator.make_request(&shell("echo never"));
    let mut user = shell("true");
    user.user = Some("no-such-user-here".to_owned());
    let mut relative = shell("true");
    relative.cwd = Some("here".to_owned());
    let cases = [
        ("unsupported", "dance", good.clone()),
        ("rebooted", "execute_command", Request { boot_id: "other".to_owned(), ..good.clone() }),
        ("journal_gone", "execute_command", Request { journal: JournalId::new(), ..good.clone() }),
        ("expired", "execute_command", Request { expires_in_ms: Some(0), ..good.clone() }),
        ("invalid", "execute_command", Request { body: vec![0xc1], ..good.clone() }),
        ("invalid", "execute_command", coordinator.make_request(&relative)),
        ("unknown_user", "execute_command", coordinator.make_request(&user)),
    ];
    for (expected, name, request) in cases {
        assert_eq!(refusal(&mut coordinator, name, &request).await, expected);
    }
    let left = std::fs::read_dir(machine.state().join("operations")).expect("a folder").count();
    assert_eq!(left, 0, "a refused operation left a folder");
}

#[tokio::test]
async fn what_is_not_what_was_approved_does_not_start() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let mut request = coordinator.make_request(&shell("exit 3"));
    let machines: [u8; 32] = Sha256::digest(b"the machines").into();
    let body: [u8; 32] = Sha256::digest(&request.body).into();
    let message = approval_message(&body, &machines, 7);
    request.approval = Some(ApprovalStamp {
        digest: Sha256::digest(message).to_vec(),
        machines: machines.to_vec(),
        expires_us: 7,
    });
    let tampered = coordinator.make_request(&shell("exit 4")).body;
    let tampered = Request { body: tampered, ..request.clone() };
    assert_eq!(refusal(&mut coordinator, "execute_command", &tampered).await, "approval_mismatch");
    let left = std::fs::read_dir(machine.state().join("operations")).expect("a folder").count();
    assert_eq!(left, 0, "a refused operation left a folder");
    let id = OperationId::new();
    coordinator.request_as(id, "execute_command", &request);
    let mut got = Got::default();
    coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
    assert_eq!(got.outcome(), &Outcome::Exited { code: 3 });
}

#[tokio::test]
async fn policy_has_the_last_word() {
    let mut machine = Machine::new();
    machine.policy = Policy {
        allow: Allow { exec: ExecRule::Nothing, ..Allow::default() },
        ..Policy::default()
    };
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let request = coordinator.make_request(&shell("true"));
    assert_eq!(refusal(&mut coordinator, "execute_command", &request).await, "policy_exec");
}

#[tokio::test]
async fn full_machine_says_busy_and_takes_work_again_later() {
    let mut machine = Machine::new();
    machine.policy = Policy { max_concurrent: 1, ..Policy::default() };
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let first = OperationId::new();
    coordinator.request(first, &shell("sleep 1000"));
    let mut got = Got::default();
    coordinator.follow(first, &mut got, |got| got.accepted == 1).await;
    let request = coordinator.make_request(&shell("true"));
    assert_eq!(refusal(&mut coordinator, "execute_command", &request).await, "busy");
    coordinator.say(first, &reeve_protocol::Control::Cancel { reason: String::new() });
    coordinator.follow(first, &mut got, |got| !got.results.is_empty()).await;
    let got = coordinator.run(OperationId::new(), &shell("exit 4")).await;
    assert_eq!(got.outcome(), &Outcome::Exited { code: 4 });
}

#[tokio::test]
async fn malformed_message_closes_the_link_and_nothing_else() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let id = OperationId::new();
    coordinator.request(id, &shell("read line; echo alive"));
    let mut got = Got::default();
    coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
    let garbage = Envelope { kind: Kind::Credit, id: Some(id), name: String::new(), body: vec![1] };
    coordinator.sender.control(&garbage).expect("open");
    let end = coordinator.end.recv().await.expect("the session ends");
    assert!(matches!(end, End::Broken(_)), "{end:?}");
    drop(coordinator);
    let mut coordinator = agent.connect().await;
    let got = coordinator.run(OperationId::new(), &shell("exit 6")).await;
    assert_eq!(got.outcome(), &Outcome::Exited { code: 6 });
}

#[tokio::test]
async fn message_of_an_unknown_kind_is_ignored() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let odd = Kind::Unknown("from_the_future".to_owned());
    let odd = Envelope { kind: odd, id: None, name: String::new(), body: vec![1] };
    coordinator.sender.control(&odd).expect("open");
    let got = coordinator.run(OperationId::new(), &shell("exit 6")).await;
    assert_eq!(got.outcome(), &Outcome::Exited { code: 6 });
}

#[tokio::test]
async fn stranger_gets_no_proof() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let error = agent.fail_to_connect(CoordinatorId::new()).await.to_string();
    assert!(error.contains("another coordinator"), "{error}");
}

#[tokio::test]
async fn stop_says_goodbye() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    coordinator.stop.cancel();
    loop {
        let envelope = coordinator.hear().await;
        if envelope.kind == Kind::Goodbye {
            let goodbye: Goodbye = envelope.open().expect("a goodbye");
            assert_eq!(goodbye.reason, GoodbyeReason::Restarting);
            return;
        }
    }
}

/// A command that wrote a million bytes and is over, of which most is still on the machine.
async fn start_unread(
    machine: &Machine,
    agent: &Agent,
    coordinator: &mut Coordinator,
) -> (OperationId, Got, PathBuf) {
    let id = OperationId::new();
    coordinator.request(id, &shell("head -c 1000000 /dev/zero"));
    let mut got = Got::default();
    let is_finished = || agent.operations.find(id).is_some_and(|operation| operation.is_finished());
    while !is_finished() {
        let envelope = coordinator.hear().await;
        if envelope.id == Some(id) {
            got.take(&envelope);
        }
        if got.next >= reeve_protocol::limits::INITIAL_CREDIT {
            crate::agent::wait_until("it is over", is_finished).await;
        }
    }
    let folder = machine.state().join("operations").join(id.to_string());
    let entries = std::fs::read_dir(&folder).expect("a folder").filter_map(Result::ok);
    let mut segments =
        entries.filter(|entry| entry.file_name().to_string_lossy().contains(".0000"));
    let segment = segments.next().expect("a segment").path();
    assert!(segments.next().is_none());
    (id, got, segment)
}

#[tokio::test]
async fn damaged_spool_is_lost_and_never_silently_short() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let (id, mut got, segment) = start_unread(&machine, &agent, &mut coordinator).await;
    let file = std::fs::OpenOptions::new().write(true).open(segment).expect("opens");
    file.set_len(200_000).expect("cut");
    coordinator.say(id, &reeve_protocol::Credit::Output { until: 2_000_000 });
    coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
    let Outcome::Lost(Evidence { code, .. }) = got.outcome() else { panic!("{:?}", got.outcome()) };
    assert_eq!(code, "spool_damaged");
}

#[tokio::test]
async fn spool_that_cannot_be_read_for_a_moment_costs_nothing() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let (id, mut got, segment) = start_unread(&machine, &agent, &mut coordinator).await;
    // Another session, so that it is opened anew.
    drop(coordinator);
    let mut coordinator = agent.connect().await;
    let aside = segment.with_extension("aside");
    std::fs::rename(&segment, &aside).expect("renamed");
    std::os::unix::fs::symlink(&segment, &segment).expect("a link that leads nowhere");
    coordinator.acknowledge(id, got.next, false);
    coordinator.say(id, &reeve_protocol::Credit::Output { until: 2_000_000 });
    // It is tried in vain for a while of which nobody has to wait for the end.
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(2)).await;
    tokio::time::resume();
    std::fs::remove_file(&segment).expect("removed");
    std::fs::rename(&aside, &segment).expect("renamed");
    coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
    assert_eq!(got.outcome(), &Outcome::Exited { code: 0 });
    assert_eq!(got.stdout.len(), 1_000_000);
}

#[tokio::test]
async fn probe_is_answered_at_once_with_its_number() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    for number in [1, u64::MAX] {
        let probe = Heartbeat { time_us: 1, probe: Some(number), ..Heartbeat::default() };
        coordinator.sender.control(&Envelope::of(&probe).expect("encodes")).expect("open");
        let answer = loop {
            let envelope = coordinator.hear().await;
            if envelope.kind == Kind::Heartbeat {
                let heartbeat: Heartbeat = envelope.open().expect("a heartbeat");
                if heartbeat.probe.is_some() {
                    break heartbeat;
                }
            }
        };
        assert_eq!(answer.probe, Some(number));
        assert!(answer.time_us > 1, "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn silent_coordinator_is_noticed_although_we_go_on_talking() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let Coordinator { mut receiver, mut end, sender: _open, .. } = agent.connect().await;
    let began = tokio::time::Instant::now();
    let mut heard = 0;
    let end = loop {
        tokio::select! {
            end = end.recv() => break end.expect("the session ends"),
            Ok(envelope) = receiver.next() => {
                heard += usize::from(envelope.kind == Kind::Heartbeat);
            }
        }
    };
    assert!(matches!(&end, End::Broken(reason) if reason.contains("silent")), "{end:?}");
    let took = began.elapsed();
    let limit = reeve_protocol::limits::SILENCE_LIMIT;
    assert!(took >= limit && took < limit + std::time::Duration::from_secs(5), "{took:?}");
    assert!(heard >= 2, "only {heard} heartbeats: this is not the case that is to be tested");
}

#[tokio::test]
async fn keeper_that_cannot_be_started_is_a_refusal_that_outlives_the_agent() {
    let mut machine = Machine::new();
    machine.program = machine.folder.path().join("no-such-program");
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let id = OperationId::new();
    coordinator.request(id, &shell("true"));
    let mut got = Got::default();
    coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
    coordinator.cut().await;
    agent.die().await;
    // Not acknowledged: the next agent says the same.
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    coordinator.acknowledge(id, 0, false);
    coordinator.follow(id, &mut got, |got| got.results.len() == 2).await;
    for result in &got.results {
        let Outcome::Refused(refusal) = &result.outcome else { panic!("{result:?}") };
        assert_eq!(refusal.code, "start_failed");
    }
}

#[tokio::test]
async fn agent_that_died_while_it_tidied_up_leaves_nothing_behind() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let id = OperationId::new();
    coordinator.run(id, &shell("true")).await;
    let folder = machine.state().join("operations").join(id.to_string());
    crate::agent::wait_until("it is tidied up", || !folder.exists()).await;
    coordinator.cut().await;
    agent.die().await;
    std::fs::create_dir(&folder).expect("half of it again");
    let agent = machine.start().await;
    assert!(agent.operations.list().is_empty());
    let left = std::fs::read_dir(machine.state().join("operations")).expect("a folder").count();
    assert_eq!(left, 0);
}
