//! Agents and keepers that die.

use reeve_agent::host;
use reeve_agent::keeper::files::{self, Spec};
use reeve_agent::state::journal::{Event, Journal, Record};
use reeve_protocol::ops::{Leftovers, Stdin};
use reeve_protocol::{Containment, Control, Evidence, OperationId, Outcome};

use crate::agent::{Got, Machine, shell, wait_until};

pub fn find_keeper(machine: &Machine, id: OperationId) -> u32 {
    let folder = machine.state().join("operations").join(id.to_string());
    let folder = host::unix::open_folder(&folder).expect("the folder is there");
    let file: reeve_agent::keeper::files::KeeperFile =
        reeve_agent::keeper::files::load(folder).expect("the keeper wrote itself down");
    assert_eq!(host::process::find_start_time(file.pid), Some(file.start_time));
    file.pid
}

#[tokio::test]
async fn command_outlives_the_agent_and_nothing_is_missing() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let id = OperationId::new();
    let mut command = shell("seq 1 50000; read line; seq 50001 100000; exit 17");
    command.stdin = Stdin::Stream;
    coordinator.request(id, &command);
    let mut got = Got::default();
    coordinator.follow(id, &mut got, |got| got.next > 100_000).await;
    drop(coordinator);
    agent.die().await;
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let report = coordinator.report.take().expect("a report");
    assert_eq!(report.operations[0].id, id);
    coordinator.acknowledge(id, got.next, false);
    // The new agent's hand is on the command.
    coordinator.say(id, &Control::Input { offset: 0, bytes: b"go\n".to_vec() });
    coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
    let expected: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    assert!(got.stdout == expected.as_bytes());
    assert_eq!(got.outcome(), &Outcome::Exited { code: 17 });
}

#[tokio::test]
async fn command_that_ends_without_an_agent_keeps_its_result() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let id = OperationId::new();
    let mut command = shell("echo before; read line; echo after; exit 12");
    command.stdin = Stdin::Stream;
    coordinator.request(id, &command);
    let mut got = Got::default();
    coordinator.follow(id, &mut got, |got| got.next == 7).await;
    coordinator.say(id, &Control::CloseInput { offset: 0 });
    drop(coordinator);
    agent.die().await;
    let folder = machine.state().join("operations").join(id.to_string());
    // Whether the end of stdin got through or not: somebody ends the command.
    if !folder.join("exit").exists() {
        let agent = machine.start().await;
        let coordinator = agent.connect().await;
        coordinator.say(id, &Control::CloseInput { offset: 0 });
        wait_until("it is over", || folder.join("exit").exists()).await;
        agent.die().await;
    }
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    coordinator.acknowledge(id, 0, false);
    let mut got = Got::default();
    coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
    assert_eq!(got.stdout, b"before\nafter\n");
    assert_eq!(got.outcome(), &Outcome::Exited { code: 12 });
}

#[tokio::test]
async fn killed_keeper_is_lost_with_evidence_and_leaves_no_process() {
    for grouped in [true, false] {
        let mut machine = Machine::new();
        machine.grouped = grouped;
        let agent = machine.start().await;
        let mut coordinator = agent.connect().await;
        let id = OperationId::new();
        let mut command = shell("setsid sleep 1000 & echo up; sleep 1000");
        command.leftovers = Leftovers::Kill;
        coordinator.request(id, &command);
        let mut got = Got::default();
        coordinator.follow(id, &mut got, |got| got.next == 3 && got.accepted == 1).await;
        let mark = format!("REEVE_OPERATION={id}");
        wait_until("all of it runs", || host::process::list_with_environment(&mark).len() == 3)
            .await;
        host::process::kill(find_keeper(&machine, id));
        coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
        let result = got.results.last().expect("a result");
        let Outcome::Lost(Evidence { code, last_byte, killed, boot_id, .. }) = &result.outcome
        else {
            panic!("{result:?}")
        };
        assert_eq!((code.as_str(), *last_byte, *killed), ("keeper_killed", Some(3), 3));
        assert_eq!(boot_id.as_deref(), Some(host::read_boot_id().as_str()));
        let expected = if grouped { Containment::CgroupV2 } else { Containment::ProcessGroup };
        assert_eq!(result.containment, expected);
        assert_eq!(host::process::list_with_environment(&mark), Vec::<u32>::new());
    }
}

#[tokio::test]
async fn keeper_and_agent_killed_together_is_lost_once_and_stays_lost() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let id = OperationId::new();
    coordinator.request(id, &shell("echo up; sleep 1000"));
    let mut got = Got::default();
    coordinator.follow(id, &mut got, |got| got.next == 3).await;
    drop(coordinator);
    agent.die().await;
    host::process::kill(find_keeper(&machine, id));
    for _ in 0..2 {
        let agent = machine.start().await;
        let mut coordinator = agent.connect().await;
        coordinator.acknowledge(id, 0, false);
        // Its output is delivered all the same, before the result.
        let mut got = Got::default();
        coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
        assert_eq!(got.stdout, b"up\n");
        assert!(
            matches!(got.outcome(), Outcome::Lost(Evidence { code, .. }) if code == "keeper_killed"),
            "{:?}",
            got.outcome()
        );
        coordinator.cut().await;
        agent.die().await;
    }
    let mark = format!("REEVE_OPERATION={id}");
    assert_eq!(host::process::list_with_environment(&mark), Vec::<u32>::new());
}

#[tokio::test]
async fn reboot_is_lost_and_kills_nobody() {
    let machine = Machine::new();
    let agent = machine.start_in_boot("boot-one").await;
    let mut coordinator = agent.connect().await;
    let id = OperationId::new();
    coordinator.request(id, &shell("echo up; sleep 1000"));
    let mut got = Got::default();
    coordinator.follow(id, &mut got, |got| got.next == 3).await;
    drop(coordinator);
    agent.die().await;
    host::process::kill(find_keeper(&machine, id));
    let mark = format!("REEVE_OPERATION={id}");
    let agent = machine.start_in_boot("boot-two").await;
    let mut coordinator = agent.connect().await;
    coordinator.acknowledge(id, got.next, false);
    coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
    let Outcome::Lost(Evidence { code, boot_id, killed, .. }) = got.outcome() else {
        panic!("{:?}", got.outcome())
    };
    assert_eq!((code.as_str(), boot_id.as_deref(), *killed), ("rebooted", Some("boot-one"), 0));
    // In a real reboot these are gone; here they show that no process id of another boot is trusted.
    for pid in host::process::list_with_environment(&mark) {
        host::process::kill(pid);
    }
}

/// An operation's folder as an agent leaves it that is killed before a keeper has taken it, in the
/// journal.
async fn leave_untouched(machine: &Machine, line: &str) -> OperationId {
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let seen = OperationId::new();
    coordinator.request(seen, &shell("true"));
    coordinator.follow(seen, &mut Got::default(), |got| !got.results.is_empty()).await;
    drop(coordinator);
    agent.die().await;
    let folder = |id: OperationId| machine.state().join("operations").join(id.to_string());
    let old = host::unix::open_folder(&folder(seen)).expect("its folder");
    let spec: Spec = files::load(old).expect("what it was to run");
    let id = OperationId::new();
    std::fs::create_dir(folder(id)).expect("made");
    let new = host::unix::open_folder(&folder(id)).expect("its folder");
    files::write(&new, &Spec { id, command: shell(line), ..spec }).expect("written");
    files::offer(files::open_lock(&new).expect("its lock")).expect("offered");
    let journal = machine.state().join("journal");
    let mut journal = Journal::open(&journal, host::now_us()).expect("the journal");
    let started = Record { id, time_us: host::now_us(), event: Event::Started };
    journal.record(started).expect("recorded");
    id
}

#[tokio::test]
async fn what_no_keeper_ever_took_is_taken_back_and_runs_once_when_it_is_sent_again() {
    let machine = Machine::new();
    let starts = machine.folder.path().join("starts");
    let command = format!("echo start >> {}", starts.display());
    let id = leave_untouched(&machine, &command).await;
    // Taken back by one agent, and asked for while another runs.
    let agent = machine.start().await;
    agent.die().await;
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let report = coordinator.report.take().expect("a report");
    assert!(report.operations.iter().all(|operation| operation.id != id), "{report:?}");
    assert!(!starts.exists());
    for _ in 0..2 {
        let got = coordinator.run(id, &shell(&command)).await;
        assert_eq!(std::fs::read_to_string(&starts).expect("starts"), "start\n", "{got:?}");
    }
}

#[tokio::test]
async fn what_a_keeper_may_have_taken_is_lost() {
    let machine = Machine::new();
    // A keeper took it; one of an older release did; a disk may have forgotten that one did.
    for case in ["taken", "older keeper", "rebooted"] {
        let id = leave_untouched(&machine, "true").await;
        let folder = machine.state().join("operations").join(id.to_string());
        let mut boot = host::read_boot_id();
        match case {
            "taken" => std::fs::write(folder.join(files::LOCK), b"").expect("written"),
            "older keeper" => std::fs::write(folder.join(files::KEEPER), b"").expect("written"),
            _ => boot = "another boot".to_owned(),
        }
        let agent = machine.start_in_boot(&boot).await;
        let mut coordinator = agent.connect().await;
        coordinator.acknowledge(id, 0, false);
        let mut got = Got::default();
        coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
        let expected = if case == "rebooted" { "rebooted" } else { "keeper_killed" };
        assert!(
            matches!(got.outcome(), Outcome::Lost(Evidence { code, .. }) if code == expected),
            "{case}: {:?}",
            got.outcome()
        );
        coordinator.cut().await;
        agent.die().await;
    }
}
