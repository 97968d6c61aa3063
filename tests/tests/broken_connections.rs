//! The network goes away in the middle, at any byte, for any time.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use reeve_sdk::api::MachineState;
use reeve_tests::proxy::{Direction, Fault, Proxy};
use reeve_tests::{Cluster, Gate, eventually};

#[test]
fn agents_connection_cut_in_the_middle_of_a_command_loses_nothing() {
    let cluster = Cluster::start();
    let proxy = Proxy::to(cluster.coordinator.address());
    let _web = cluster.agent("web-1").dials(&proxy.url()).start();
    let before = proxy.passed(Direction::Up);
    // 10 MB of text go up; the cut comes after about a third of them.
    proxy.after(Direction::Up, 3_333_333, Fault::Reset);
    let expected: String = (1..=1_400_000).map(|number| format!("{number}\n")).collect();
    let run = cluster.spawn_reeve(["run", "web-1", "--", "seq", "1", "1400000"]).finish();
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.text() == expected, "{} bytes of {}", run.stdout.len(), expected.len());
    assert_eq!(proxy.faults(), 1, "the cut did not happen");
    assert!(proxy.passed(Direction::Up) - before > 3_333_333, "nothing went up after the cut");
}

#[test]
fn agents_connection_cut_at_random_bytes_loses_nothing() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let cluster = Cluster::start();
    let proxy = Proxy::to(cluster.coordinator.address());
    let _web = cluster.agent("web-1").dials(&proxy.url()).start();
    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    for round in 0..6_u64 {
        let direction = if random.random_bool(0.7) { Direction::Up } else { Direction::Down };
        let limit = if direction == Direction::Up { 1_000_000 } else { 2_000 };
        let fault = if random.random_bool(0.5) { Fault::Reset } else { Fault::Close };
        let at = random.random_range(1..limit);
        proxy.after(direction, at, fault);
        let line = "seq 1 200000; echo done >&2; exit 9";
        let run = cluster.reeve(["run", "web-1", "--wait", "1m", "--shell", line]);
        assert_eq!(
            run.code, 9,
            "seed {seed}, round {round}, {fault:?} {direction:?} {at}: {}",
            run.stderr
        );
        assert!(run.text() == expected, "seed {seed}, round {round}: {} bytes", run.stdout.len());
    }
}

#[test]
fn persons_connection_cut_in_the_middle_goes_on_where_it_was() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let proxy = Proxy::to(cluster.coordinator.address());
    let gate = Gate::in_folder(cluster.folder());
    let line = gate.count(4);
    let mut run = cluster.spawn_reeve_at(&proxy.url(), ["run", "web-1", "--shell", &line]);
    run.wait_for("\n1000\n");
    proxy.cut();
    gate.open();
    run.finish().expect_code(4).expect_stdout(&Gate::counted());
    assert!(proxy.faults() >= 1 && proxy.connections() >= 2, "the cut did not happen");
}

#[test]
fn persons_download_cut_at_a_byte_arrives_whole() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let proxy = Proxy::to(cluster.coordinator.address());
    proxy.after(Direction::Down, 1_234_567, Fault::Reset);
    let expected: String = (1..=700_000).map(|number| format!("{number}\n")).collect();
    let run =
        cluster.spawn_reeve_at(&proxy.url(), ["run", "web-1", "--", "seq", "1", "700000"]).finish();
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.text() == expected, "{} bytes of {}", run.stdout.len(), expected.len());
    assert_eq!(proxy.faults(), 1, "the cut did not happen");
}

#[test]
fn stdin_cut_in_the_middle_arrives_whole() {
    let cluster = Cluster::start();
    let proxy = Proxy::to(cluster.coordinator.address());
    let _web = cluster.agent("web-1").dials(&proxy.url()).start();
    proxy.after(Direction::Down, 1_500_000, Fault::Reset);
    let input: Vec<u8> =
        (1..=500_000).flat_map(|number| format!("{number}\n").into_bytes()).collect();
    let run = cluster.reeve_with_input(["run", "web-1", "--stdin", "--", "cat"], input.clone());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout == input, "{} bytes of {}", run.stdout.len(), input.len());
    assert_eq!(proxy.faults(), 1, "the cut did not happen");
}

#[test]
fn long_cut_fills_the_spool_blocks_the_command_and_loses_nothing() {
    let cluster = Cluster::start();
    let proxy = Proxy::to(cluster.coordinator.address());
    let web = cluster.agent("web-1").dials(&proxy.url()).start();
    let gate = Gate::in_folder(cluster.folder());
    // More than the spool holds, so the command has to wait for the network.
    let line = format!("echo ready; {}; head -c 100M /dev/zero; echo end", gate.wait());
    let mut run = cluster.spawn_reeve(["run", "web-1", "--shell", &line]);
    run.wait_for("ready\n");
    proxy.refuse(true);
    proxy.cut();
    web.wait_until(MachineState::Offline);
    gate.open();
    eventually("the command waits for room", Duration::from_secs(30), || {
        // Blocked in a write to its pipe, not ended: see proc_pid_wchan(5).
        reeve_tests::processes::with_argument("100M").iter().any(|process| process.state == 'S')
    });
    proxy.refuse(false);
    let run = run.finish();
    run.expect_code(0);
    assert_eq!(run.stdout.len(), 6 + (100 << 20) + 4);
    assert!(run.stdout.ends_with(b"end\n"));
}

#[test]
fn half_open_connection_is_noticed_within_45_seconds() {
    let cluster = Cluster::start();
    let proxy = Proxy::to(cluster.coordinator.address());
    let web = cluster.agent("web-1").dials(&proxy.url()).start();
    let connections = proxy.connections();
    proxy.after(Direction::Up, 0, Fault::BlackHole);
    proxy.after(Direction::Down, 0, Fault::BlackHole);
    eventually("both ends gave up and the agent dialled again", Duration::from_secs(60), || {
        proxy.connections() > connections
    });
    web.wait_until(MachineState::Online);
    cluster.reeve(["run", "web-1", "--", "echo", "back"]).expect_code(0).expect_stdout("back\n");
}
