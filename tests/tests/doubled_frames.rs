//! A network, or a peer, that says things twice: whole frames of an open session come again.

use std::time::Duration;

use reeve_sdk::api::{MachineState, OperationState};
use reeve_tests::proxy::{Direction, Proxy};
use reeve_tests::{Cluster, Running, eventually};

const LIMIT: Duration = Duration::from_secs(60);

/// So many frames pass, some of them twice, before the network is sane again.
const ENOUGH: u64 = 5;

fn frames_that_come_twice(direction: Direction) {
    for every in [1, 2, 3] {
        // Frames can be seen where there is no TLS.
        let cluster = Cluster::builder().plain().start();
        let proxy = Proxy::to(cluster.coordinator.address());
        let web = cluster.agent("web-1").dials(&format!("http://{}", proxy.address())).start();
        let starts = cluster.folder().join("starts");
        proxy.double(direction, Some(every));
        let line = format!(
            "echo start >> {}; seq 1 20000; cat; sleep 1; seq 20001 40000; exit 3",
            starts.display()
        );
        let words = ["run", "web-1", "--wait", "1m", "--stdin", "--shell", &line];
        let (command, line) = cluster.reeve_command(cluster.api.token(), words);
        let run = Running::start(command, Some(b"fed\n".to_vec()), line);
        eventually("frames have come twice", LIMIT, || proxy.doubled(direction) * every >= ENOUGH);
        proxy.double(direction, None);
        let run = run.finish();
        let told = format!("every {every}. {direction:?}: {run}");
        println!("every {every}. {direction:?}: {} came twice", proxy.doubled(direction));
        assert!(proxy.doubled(direction) > 0, "{told}");
        let numbers =
            |from: u32, to: u32| (from..=to).map(|n| format!("{n}\n")).collect::<String>();
        let expected = format!("{}fed\n{}", numbers(1, 20_000), numbers(20_001, 40_000));
        assert!(run.text() == expected, "{told}");
        assert_eq!(run.code, 3, "{told}");
        assert_eq!(cluster.last_operation().state, OperationState::Failed, "{told}");
        assert_eq!(std::fs::read_to_string(&starts).expect("starts"), "start\n", "{told}");
        web.wait_until(MachineState::Online);
        cluster.reeve(["run", "web-1", "--", "echo", "ok"]).expect_code(0).expect_stdout("ok\n");
    }
}

#[test]
fn frames_that_come_twice_to_the_coordinator_change_nothing() {
    frames_that_come_twice(Direction::Up);
}

#[test]
fn frames_that_come_twice_to_the_machine_change_nothing() {
    frames_that_come_twice(Direction::Down);
}
