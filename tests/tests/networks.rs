//! Real networks: namespaces, a virtual cable, addresses that change. What the kernel does with
//! connections when nobody tells it that they are over.

use std::time::Duration;

use reeve_sdk::api::MachineState;
use reeve_tests::{Agent, Cluster, Gate, Network, eventually};

fn world(network: &Network) -> (Cluster, Agent) {
    let cluster = Cluster::builder().listen("0.0.0.0:0").start();
    let port = cluster.coordinator.address().rsplit(':').next().expect("a port").to_owned();
    let url = format!("https://{}:{port}", network.near());
    let web = cluster.agent("web-1").on(network).dials(&url).start();
    (cluster, web)
}

/// Descriptors of a process that are TCP connections which the kernel holds for established.
fn established(cluster: &Cluster) -> usize {
    let sockets = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap_or_default();
    let port = cluster.coordinator.address().rsplit(':').next().expect("a port");
    let port = format!(":{:04X}", port.parse::<u16>().expect("a port"));
    let near = "0100D50A";
    sockets
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, _, state) = (fields.next()?, fields.next()?, fields.next()?);
            (local == format!("{near}{port}") && state == "01").then_some(())
        })
        .count()
}

#[test]
fn cable_pulled_for_a_while_loses_nothing() {
    let network = Network::make();
    let (cluster, _web) = world(&network);
    let gate = Gate::in_folder(cluster.folder());
    let mut run = cluster.spawn_reeve(["run", "web-1", "--shell", &gate.count(7)]);
    run.wait_for("\n1000\n");
    network.pull();
    gate.open();
    eventually("the command ends without a network", Duration::from_secs(20), || {
        !gate.has_commands()
    });
    network.plug();
    run.finish().expect_code(7).expect_stdout(&Gate::counted());
}

#[test]
fn cable_pulled_for_long_is_noticed_at_both_ends_and_frees_the_connection() {
    let network = Network::make();
    let (cluster, web) = world(&network);
    let gate = Gate::in_folder(cluster.folder());
    let mut run = cluster.spawn_reeve(["run", "web-1", "--shell", &gate.count(7)]);
    run.wait_for("\n1000\n");
    assert_eq!(established(&cluster), 1);
    network.pull();
    eventually("the coordinator has noticed", Duration::from_secs(60), || {
        web.machine().state == MachineState::Offline && established(&cluster) == 0
    });
    eventually("the machine has noticed", Duration::from_secs(30), || {
        web.log().contains("not connected")
    });
    gate.open();
    network.plug();
    run.finish().expect_code(7).expect_stdout(&Gate::counted());
}

#[test]
fn machine_whose_address_changes_comes_back_and_loses_nothing() {
    let mut network = Network::make();
    let (cluster, web) = world(&network);
    let gate = Gate::in_folder(cluster.folder());
    let mut run = cluster.spawn_reeve(["run", "web-1", "--shell", &gate.count(7)]);
    run.wait_for("\n1000\n");
    // Neither end hears of it: both hold a connection that leads nowhere.
    network.change_address();
    gate.open();
    let run = run.finish();
    run.expect_code(7).expect_stdout(&Gate::counted());
    web.wait_until(MachineState::Online);
    assert_eq!(established(&cluster), 1, "the old connection was let go");
}
