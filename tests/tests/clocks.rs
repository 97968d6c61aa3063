//! Clocks that are two hours wrong. Deadlines travel as remaining time, so nothing depends on them.

use std::time::Duration;

use reeve_sdk::api::{MachineState, OperationState};
use reeve_tests::{Cluster, Gate};

/// A day at work: a command, its deadline, a machine that has to be waited for, a restart.
fn everything_works(mut cluster: Cluster, machines_clock: Option<&str>) {
    let mut web = cluster.agent("web-1");
    if let Some(clock) = machines_clock {
        web = web.clock(clock);
    }
    let mut web = web.start();
    cluster.reeve(["run", "web-1", "--", "echo", "here"]).expect_code(0).expect_stdout("here\n");
    // A deadline is neither over at once nor forgotten.
    let run = cluster.reeve(["run", "web-1", "--timeout", "1s", "--", "sleep", "3600"]);
    run.expect_code(124);
    assert!(run.took > Duration::from_millis(900), "{run}");
    assert_eq!(cluster.last_operation().state, OperationState::TimedOut);
    // Nor is the time somebody is ready to wait.
    web.stop();
    web.wait_until(MachineState::Offline);
    let waiting = cluster.spawn_reeve(["run", "web-1", "--wait", "5m", "--", "echo", "late"]);
    web.restart();
    waiting.finish().expect_code(0).expect_stdout("late\n");
    let gate = Gate::in_folder(cluster.folder());
    let mut run = cluster.spawn_reeve(["run", "web-1", "--shell", &gate.count(5)]);
    run.wait_for("\n1000\n");
    cluster.coordinator.kill9();
    web.kill9();
    gate.open();
    cluster.coordinator.start();
    web.restart();
    run.finish().expect_code(5).expect_stdout(&Gate::counted());
}

#[test]
fn machine_whose_clock_is_two_hours_ahead_works() {
    everything_works(Cluster::start(), Some("+2h"));
}

#[test]
fn machine_whose_clock_is_two_hours_behind_works() {
    everything_works(Cluster::start(), Some("-2h"));
}

#[test]
fn coordinator_whose_clock_is_two_hours_ahead_works() {
    everything_works(Cluster::builder().clock("+2h").start(), None);
}

#[test]
fn coordinator_whose_clock_is_two_hours_behind_works() {
    everything_works(Cluster::builder().clock("-2h").start(), None);
}

#[test]
fn coordinators_clock_that_jumps_between_restarts_expires_nothing_that_runs() {
    for clock in ["+2h", "-2h"] {
        let mut cluster = Cluster::start();
        let web = cluster.agent("web-1").start();
        let gate = Gate::in_folder(cluster.folder());
        let mut run = cluster.spawn_reeve(["run", "web-1", "--shell", &gate.count(5)]);
        run.wait_for("\n1000\n");
        cluster.coordinator.kill9();
        cluster.coordinator.set_clock(clock);
        cluster.coordinator.start();
        web.wait_until(MachineState::Online);
        gate.open();
        run.finish().expect_code(5).expect_stdout(&Gate::counted());
    }
}
