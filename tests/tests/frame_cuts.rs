//! The connection ends behind every frame of an operation, one after the other, each way.

use reeve_sdk::api::OperationState;
use reeve_tests::Cluster;
use reeve_tests::proxy::{Direction, Fault, Proxy};

/// More frames than a short operation and its reconnects can have.
const MOST: u64 = 60;

fn cut_behind_every_frame(direction: Direction, fault: Fault) {
    // Frames can be seen where there is no TLS; what is done about a cut is the same.
    let cluster = Cluster::builder().plain().start();
    let proxy = Proxy::to(cluster.coordinator.address());
    let mut web = cluster.agent("web-1").dials(&format!("http://{}", proxy.address())).start();
    let starts = cluster.folder().join("starts");
    let mut cuts = 0;
    for frames in 1..MOST {
        // A new agent, because one that was cut off again and again waits ever longer.
        web.stop();
        web.restart();
        let before = proxy.faults();
        proxy.after_frames(direction, frames, fault);
        let line =
            format!("echo {frames} >> {}; echo out; echo err >&2; cat; exit 3", starts.display());
        let arguments = ["run", "web-1", "--wait", "1m", "--stdin", "--shell", &line];
        let run = cluster.reeve_with_input(arguments, b"fed".to_vec());
        let told = format!("{fault:?} {direction:?} behind frame {frames}: {run}");
        assert_eq!(run.code, 3, "{told}");
        assert_eq!(run.text(), "out\nfed", "{told}");
        assert!(run.stderr.contains("err\n"), "{told}");
        assert_eq!(cluster.last_operation().state, OperationState::Failed, "{told}");
        let expected: String = (1..=frames).map(|frame| format!("{frame}\n")).collect();
        assert_eq!(std::fs::read_to_string(&starts).expect("starts"), expected, "{told}");
        if proxy.faults() == before {
            // It had fewer frames: every boundary has been cut at.
            proxy.calm();
            break;
        }
        cuts += 1;
    }
    println!("{cuts} cuts");
    assert!((4..MOST - 1).contains(&cuts), "{cuts} cuts");
}

#[test]
fn cut_behind_every_frame_to_the_coordinator_loses_nothing() {
    cut_behind_every_frame(Direction::Up, Fault::Reset);
}

#[test]
fn cut_behind_every_frame_to_the_machine_loses_nothing() {
    cut_behind_every_frame(Direction::Down, Fault::Reset);
}

#[test]
fn half_closed_behind_every_frame_loses_nothing() {
    cut_behind_every_frame(Direction::Up, Fault::HalfClose);
}
