//! Keepers that are held ready, and what becomes of them when those who hold them die.

use reeve_agent::host;
use reeve_protocol::ops::Stdin;
use reeve_protocol::{Control, OperationId, Outcome};

use crate::agent::{Coordinator, Got, Machine, shell, wait_until};
use crate::restarts::find_keeper;

/// What a process and its parent are called.
fn arguments(pid: u32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// The nursery, and the one it holds ready.
fn find_makers(machine: &Machine) -> Vec<u32> {
    let state = machine.state().to_string_lossy().into_owned();
    let is_maker = |pid: &u32| {
        let arguments = arguments(*pid);
        arguments.get(1).is_some_and(|word| word == host::nursery::WORD)
            && arguments.get(2).is_some_and(|folder| folder.starts_with(&state))
    };
    host::process::list_pids().into_iter().filter(is_maker).collect()
}

/// The nursery, and the one it holds ready, when both are there.
fn find_nursery(machine: &Machine) -> Option<(u32, u32)> {
    let [first, second] = <[u32; 2]>::try_from(find_makers(machine)).ok()?;
    match (parent(first), parent(second)) {
        (_, Some(parent)) if parent == first => Some((first, second)),
        (Some(parent), _) if parent == second => Some((second, first)),
        _ => None,
    }
}

fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent");
    Some(line.trim().parse().expect("a number"))
}

/// Starts commands that wait for a line until the nursery has made a keeper for one.
async fn start_from_nursery(
    machine: &Machine,
    coordinator: &mut Coordinator,
) -> (OperationId, u32) {
    coordinator.run(OperationId::new(), &shell("true")).await;
    wait_until("there is a nursery", || find_nursery(machine).is_some()).await;
    let (nursery, _) = find_nursery(machine).expect("a nursery");
    for _ in 0..100 {
        let id = OperationId::new();
        let mut command = shell("echo up; read line; exit 3");
        command.stdin = Stdin::Stream;
        coordinator.request(id, &command);
        let mut got = Got::default();
        coordinator.follow(id, &mut got, |got| got.next == 3).await;
        if parent(find_keeper(machine, id)) == Some(nursery) {
            return (id, nursery);
        }
        // The agent did not know yet that it is ready.
        coordinator.say(id, &Control::CloseInput { offset: 0 });
        coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
        coordinator.acknowledge(id, got.next, true);
    }
    panic!("the nursery made no keeper");
}

async fn end(coordinator: &mut Coordinator, id: OperationId, seen: u64) {
    coordinator.say(id, &Control::CloseInput { offset: 0 });
    let mut got = Got { next: seen, stdout: vec![0; 3], ..Got::default() };
    coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
    assert_eq!(got.outcome(), &Outcome::Exited { code: 3 });
}

#[tokio::test]
async fn keeper_from_the_nursery_is_shown_as_what_it_keeps() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let (id, _) = start_from_nursery(&machine, &mut coordinator).await;
    let folder = machine.state().join("operations").join(id.to_string());
    let keeper = find_keeper(&machine, id);
    assert_eq!(arguments(keeper), ["reeve-agent", "keep", &folder.to_string_lossy()]);
    // It has the descriptors of a keeper and no others: nothing holds the nursery's or the agent's.
    let open = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count();
    assert!(open(keeper) <= 16, "{} descriptors", open(keeper));
    end(&mut coordinator, id, 3).await;
}

#[tokio::test]
async fn killed_nursery_ends_no_command_and_stops_none_from_starting() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let (id, nursery) = start_from_nursery(&machine, &mut coordinator).await;
    host::process::kill(nursery);
    wait_until("it is gone", || !find_makers(&machine).contains(&nursery)).await;
    for _ in 0..3 {
        let got = coordinator.run(OperationId::new(), &shell("echo x; exit 4")).await;
        assert_eq!(
            (got.stdout.as_slice(), got.outcome()),
            (&b"x\n"[..], &Outcome::Exited { code: 4 })
        );
    }
    wait_until("nobody waits for what does not come", || find_makers(&machine).is_empty()).await;
    end(&mut coordinator, id, 3).await;
}

#[tokio::test]
async fn killed_while_it_was_held_ready_it_is_replaced() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let (id, nursery) = start_from_nursery(&machine, &mut coordinator).await;
    for _ in 0..3 {
        wait_until("one is held ready", || find_nursery(&machine).is_some()).await;
        let (_, held) = find_nursery(&machine).expect("one held ready");
        host::process::kill(held);
        let got = coordinator.run(OperationId::new(), &shell("echo x; exit 4")).await;
        assert_eq!(got.outcome(), &Outcome::Exited { code: 4 });
    }
    wait_until("one is held ready", || find_nursery(&machine).is_some()).await;
    assert_eq!(find_nursery(&machine).expect("both").0, nursery);
    end(&mut coordinator, id, 3).await;
}

#[tokio::test]
async fn nursery_ends_with_its_agent_and_its_keepers_go_on() {
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let (id, _) = start_from_nursery(&machine, &mut coordinator).await;
    drop(coordinator);
    agent.die().await;
    wait_until("the nursery is gone", || find_makers(&machine).is_empty()).await;
    assert!(host::process::find_start_time(find_keeper(&machine, id)).is_some());
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    coordinator.acknowledge(id, 3, false);
    end(&mut coordinator, id, 3).await;
}
