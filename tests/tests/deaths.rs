//! Agent, keeper and coordinator die in the middle of a command. Nothing is lost, nothing starts
//! twice, and where the truth cannot be known, that is what is said.

use std::time::Duration;

use nix::sys::signal::Signal;
use reeve_sdk::api::{MachineState, OperationState};
use reeve_tests::{Cluster, Gate, eventually, on_each_containment, on_each_database, processes};

on_each_database! {
    fn agent_killed_in_the_middle_of_a_command_loses_nothing(builder) {
        let cluster = builder.start();
        let mut web = cluster.agent("web-1").start();
        let gate = Gate::in_folder(cluster.folder());
        let mut run = cluster.spawn_reeve(["run", "web-1", "--shell", &gate.count(7)]);
        run.wait_for("\n1000\n");
        web.kill9();
        web.wait_until(MachineState::Offline);
        // The command goes on to its end while no agent is there.
        gate.open();
        eventually("the command has ended", Duration::from_secs(20), || {
            !gate.has_commands()
        });
        web.restart();
        run.finish().expect_code(7).expect_stdout(&Gate::counted());
        assert_eq!(cluster.last_operation().state, OperationState::Failed);
    }

    fn coordinator_killed_in_the_middle_of_a_command_loses_nothing(builder) {
        let mut cluster = builder.start();
        let _web = cluster.agent("web-1").start();
        let gate = Gate::in_folder(cluster.folder());
        let mut run = cluster.spawn_reeve(["run", "web-1", "--shell", &gate.count(7)]);
        run.wait_for("\n1000\n");
        cluster.coordinator.kill9();
        gate.open();
        eventually("the command has ended", Duration::from_secs(20), || {
            !gate.has_commands()
        });
        cluster.coordinator.start();
        run.finish().expect_code(7).expect_stdout(&Gate::counted());
        let operation = cluster.last_operation();
        assert_eq!(operation.exit_code, Some(7));
        // What was stored is what was seen, from its first byte.
        let stored = cluster.api.get(&format!("/api/operations/{}/output?stream=stdout&from=0", operation.id));
        assert_eq!(String::from_utf8_lossy(&stored.body), Gate::counted());
    }

    fn agent_and_coordinator_killed_together_lose_nothing(builder) {
        let mut cluster = builder.start();
        let mut web = cluster.agent("web-1").start();
        let gate = Gate::in_folder(cluster.folder());
        let mut run = cluster.spawn_reeve(["run", "web-1", "--shell", &gate.count(0)]);
        run.wait_for("\n1000\n");
        web.kill9();
        cluster.coordinator.kill9();
        gate.open();
        cluster.coordinator.start();
        web.restart();
        run.finish().expect_code(0).expect_stdout(&Gate::counted());
    }
}

on_each_containment! {
    fn keeper_killed_means_lost_with_evidence_and_nothing_left_alive(containment) {
        let cluster = Cluster::start();
        let web = cluster.agent("web-1").containment(containment).start();
        let gate = Gate::in_folder(cluster.folder());
        let marker = processes::marker();
        let line = format!("sleep {marker} & echo started; {}", gate.wait());
        let mut run = cluster.spawn_reeve(["run", "web-1", "--shell", &line]);
        run.wait_for("started");
        web.keeper().signal(Signal::SIGKILL);
        let run = run.finish();
        run.expect_says("lost");
        assert_ne!(run.code, 0, "{run}");
        let operation = cluster.last_operation();
        assert_eq!(operation.state, OperationState::Lost);
        let reason = operation.reason.expect("a reason");
        assert_eq!(reason.code, "keeper_killed", "{reason:?}");
        eventually("nothing of it is alive", Duration::from_secs(10), || {
            processes::with_argument(&marker).is_empty()
        });
    }

    fn agent_and_keeper_killed_means_lost_after_the_restart(containment) {
        let cluster = Cluster::start();
        let mut web = cluster.agent("web-1").containment(containment).start();
        let marker = processes::marker();
        let line = format!("echo started; sleep {marker}");
        let mut run = cluster.spawn_reeve(["run", "web-1", "--shell", &line]);
        run.wait_for("started");
        let keeper = web.keeper();
        web.kill9();
        keeper.signal(Signal::SIGKILL);
        web.restart();
        run.finish().expect_says("lost");
        assert_eq!(cluster.last_operation().state, OperationState::Lost);
        eventually("nothing of it is alive", Duration::from_secs(10), || {
            processes::with_argument(&marker).is_empty()
        });
    }
}

#[test]
fn agent_stopped_and_upgraded_leaves_commands_running() {
    let cluster = Cluster::start();
    let mut web = cluster.agent("web-1").start();
    let gate = Gate::in_folder(cluster.folder());
    let mut run = cluster.spawn_reeve(["run", "web-1", "--shell", &gate.count(5)]);
    run.wait_for("\n1000\n");
    web.stop();
    web.restart();
    gate.open();
    run.finish().expect_code(5).expect_stdout(&Gate::counted());
}

#[test]
fn command_whose_agent_dies_again_and_again_runs_once() {
    let cluster = Cluster::start();
    let mut web = cluster.agent("web-1").start();
    let gate = Gate::in_folder(cluster.folder());
    let starts = cluster.folder().join("starts");
    let line = format!("echo start >> {}; {}", starts.display(), gate.count(0));
    let mut run = cluster.spawn_reeve(["run", "web-1", "--shell", &line]);
    run.wait_for("\n1000\n");
    for _ in 0..3 {
        web.kill9();
        web.restart();
    }
    gate.open();
    run.finish().expect_code(0).expect_stdout(&Gate::counted());
    assert_eq!(std::fs::read_to_string(starts).expect("starts"), "start\n");
}

#[test]
fn stopping_coordinator_waits_for_nobody_who_only_watches() {
    // Whoever stops it would otherwise wait for as long as it may take at most.
    let mut cluster = Cluster::builder().config("[drain]\ntimeout = '10m'").start();
    let _web = cluster.agent("web-1").start();
    let gate = Gate::in_folder(cluster.folder());
    let mut run = cluster.spawn_reeve(["run", "web-1", "--shell", &gate.count(0)]);
    run.wait_for("\n1000\n");
    let id = cluster.last_operation().id.to_string();
    let api = cluster.api.clone();
    let path = format!("/api/operations/{id}/output?stream=stdout&from=0&follow=true");
    let watched = std::thread::spawn(move || {
        api.send(reqwest::Method::GET, &path, &[], Vec::new()).map(|answer| answer.body.len())
    });
    let status = cluster.coordinator.stop(Duration::from_secs(60));
    assert!(status.success(), "{status}");
    let _cut_off = watched.join().expect("the watcher ends too");
    gate.open();
    cluster.coordinator.start();
    run.finish().expect_code(0).expect_stdout(&Gate::counted());
}

#[test]
fn stopping_coordinator_tells_agents_and_they_come_back() {
    let mut cluster = Cluster::start();
    let web = cluster.agent("web-1").start();
    let gate = Gate::in_folder(cluster.folder());
    let mut run = cluster.spawn_reeve(["run", "web-1", "--shell", &gate.count(0)]);
    run.wait_for("\n1000\n");
    let status = cluster.coordinator.stop(Duration::from_secs(60));
    assert!(status.success(), "{status}");
    gate.open();
    cluster.coordinator.start();
    run.finish().expect_code(0).expect_stdout(&Gate::counted());
    web.wait_until(MachineState::Online);
}
