//! Whoever watches and does not read holds nobody up, and costs the machine nothing.

use std::time::{Duration, Instant};

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

/// GiB that are written: two, which take a quarter of a minute, or `REEVE_FROZEN_GIB`.
fn how_much() -> u64 {
    let wanted = std::env::var("REEVE_FROZEN_GIB").ok();
    wanted.map_or(2, |text| text.parse().expect("REEVE_FROZEN_GIB is a number"))
}

#[test]
fn heavy_output_before_a_frozen_viewer_ends_and_costs_the_agent_no_memory() {
    let cluster = Cluster::start();
    let web = cluster.agent("web-1").start();
    let gibibytes = how_much();
    let line = format!("echo first; head -c {gibibytes}G /dev/zero; echo last; exit 3");
    let arguments = ["run", "web-1", "--output-limit", "16MiB", "--shell", &line];
    let mut run = cluster.spawn_reeve(arguments);
    run.wait_for("first\n");
    run.signal(Signal::SIGSTOP);
    // The command ends although nobody reads what it writes.
    let began = Instant::now();
    eventually("it has ended", Duration::from_secs(120 * gibibytes), || {
        cluster.last_operation().state.is_terminal()
    });
    println!("{gibibytes} GiB took {:.0} s", began.elapsed().as_secs_f64());
    run.signal(Signal::SIGCONT);
    let id = cluster.last_operation().id;
    let operation: reeve_sdk::api::Operation = cluster.api.load(&format!("/api/operations/{id}"));
    assert_eq!((operation.state, operation.exit_code), (OperationState::Failed, Some(3)));
    assert_eq!(operation.output.all, 6 + (gibibytes << 30) + 5, "counts stay exact: {operation:?}");
    assert!(operation.output.gaps.as_ref().is_some_and(|gaps| !gaps.is_empty()), "{operation:?}");
    let peak = peak_kib(web.pid());
    println!("the agent had {peak} KiB at most");
    assert!(peak <= AGENT_LIMIT_KIB, "the agent had {peak} KiB");
    run.finish().expect_code(3);
    // Whoever reads it later is told what is missing; a list does not know.
    let operations = cluster.operations(operation.job_id);
    assert_eq!(operations[0].output.gaps, None, "{operations:?}");
    let job = operation.job_id.to_string();
    cluster
        .reeve(["jobs", "output", &job])
        .expect_code(0)
        .expect_says("of its output were dropped");
}
