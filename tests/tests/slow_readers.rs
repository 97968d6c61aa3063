//! Whoever watches and does not read holds nobody up, and costs the machine nothing.

use std::time::Duration;

use nix::sys::signal::Signal;
use reeve_sdk::api::OperationState;
use reeve_tests::{Cluster, eventually};

/// What the agent may have in memory at most, at any moment (DESIGN.md, 6).
const AGENT_LIMIT_KIB: u64 = 24 * 1024;

/// The most memory a process has ever had, in KiB, without the pages of its own program, of which
/// an unoptimised build has several times as many (proc_pid_status(5)).
fn peak_kib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let read = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line of status");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    };
    read("VmHWM:").saturating_sub(read("RssFile:"))
}

#[test]
fn heavy_output_before_a_frozen_viewer_ends_and_costs_the_agent_no_memory() {
    let cluster = Cluster::start();
    let web = cluster.agent("web-1").start();
    let line = "echo first; head -c 2G /dev/zero; echo last; exit 3";
    let arguments = ["run", "web-1", "--output-limit", "16MiB", "--shell", line];
    let mut run = cluster.spawn_reeve(arguments);
    run.wait_for("first\n");
    run.signal(Signal::SIGSTOP);
    // The command ends although nobody reads what it writes.
    eventually("it has ended", Duration::from_secs(240), || {
        cluster.last_operation().state.is_terminal()
    });
    run.signal(Signal::SIGCONT);
    let id = cluster.last_operation().id;
    let operation: reeve_sdk::api::Operation = cluster.api.load(&format!("/api/operations/{id}"));
    assert_eq!((operation.state, operation.exit_code), (OperationState::Failed, Some(3)));
    assert_eq!(operation.output.all, 6 + (2 << 30) + 5, "counts stay exact: {operation:?}");
    assert!(!operation.output.gaps.is_empty(), "{operation:?}");
    let peak = peak_kib(web.pid());
    println!("the agent had {peak} KiB at most");
    assert!(peak <= AGENT_LIMIT_KIB, "the agent had {peak} KiB");
    run.finish().expect_code(3);
}
