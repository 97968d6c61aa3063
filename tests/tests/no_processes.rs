//! A machine that gives out no more processes and threads, and a command that takes all it gets.

use std::time::Duration;

use reeve_sdk::api::{CancelRequest, History, Job, MachineState, OperationState};
use reeve_tests::{
    Cluster, Containment, ProcessLimit, eventually, eventually_some, on_each_containment, processes,
};

const LIMIT: Duration = Duration::from_secs(40);

/// What the machine gives out to the agent and everything that it starts.
const MOST: u32 = 120;

/// Starts one process after the other, each in a session of its own and deaf to whoever asks nicely:
/// 2,000 at most, however many it may have. Then it stays itself.
const BOMB: &str = "#!/bin/sh
trap '' TERM INT HUP
if [ \"$1\" = all ]; then
  count=0
  while [ $count -lt 2000 ]; do setsid sleep \"$2\" & count=$((count + 1)); done
  exit
fi
\"$0\" all \"$2\"
exec sleep \"$2\"
";

fn lay_bomb(cluster: &Cluster) -> String {
    let path = cluster.folder().join("bomb");
    std::fs::write(&path, BOMB).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, mode).expect("made a program");
    path.to_string_lossy().into_owned()
}

fn none_left(marker: &str) {
    eventually("no process of it remains", LIMIT, || processes::with_argument(marker).is_empty());
}

on_each_containment! {
    fn fork_bomb_at_the_machines_limit_ends_with_all_its_processes(containment) {
        let cluster = Cluster::start();
        let limit = ProcessLimit::new();
        let agent = cluster.agent("web-1").containment(containment);
        let web = match containment {
            Containment::CgroupV2 => agent.through(&["sh", "-c", &limit.enter(), "sh"]).start(),
            // It sees no control groups, and nothing that it starts leaves ours.
            Containment::Fallback => {
                let web = agent.start();
                limit.hold(web.pid());
                web
            }
        };
        cluster.reeve(["run", "web-1", "--", "true"]).expect_code(0);
        limit.set(MOST);
        let (bomb, marker) = (lay_bomb(&cluster), processes::marker());
        let run = cluster.spawn_reeve(["run", "web-1", "--", &bomb, "once", &marker]);
        eventually("it has taken all there is", LIMIT, || limit.was_reached());
        let job = cluster.last_operation().job_id;
        // The shell that could not start another one ends, and leaves room for one.
        let makes = |process: &processes::Process| process.arguments.contains(&"all".to_owned());
        eventually("it makes no more", LIMIT, || {
            !processes::with_argument(&bomb).iter().any(makes)
        });
        limit.set(limit.count());
        // What is asked for now does not run, and says why; the agent lives.
        let other = cluster.reeve(["run", "web-1", "--", "true"]);
        assert_ne!(other.code, 0, "{other}");
        other.expect_says("gives out no more processes");
        assert_eq!(web.machine().state, MachineState::Online);
        let job: Job = cluster.api.post(&format!("/api/jobs/{job}/cancel"), &CancelRequest::default()).json();
        assert_ne!(run.finish_within(LIMIT).code, 0);
        none_left(&marker);
        let operation = cluster.operations(job.id).remove(0);
        assert_eq!(operation.state, OperationState::Cancelled, "{operation:?}");
        eventually("its keeper is gone", LIMIT, || web.keepers().is_empty());
        // Within the same bound.
        cluster.reeve(["run", "web-1", "--", "echo", "again"]).expect_code(0).expect_stdout("again\n");
        assert!(!web.log().contains("panicked"), "{}", web.log());
    }
}

#[test]
fn fork_bomb_within_a_bound_of_its_own_hurts_nobody_else() {
    let cluster = Cluster::start();
    let web = cluster.agent("web-1").start();
    let limit = ProcessLimit::new();
    limit.set(MOST);
    let (bomb, marker) = (lay_bomb(&cluster), processes::marker());
    let words = ["sh", "-c", &limit.enter(), "sh", &bomb, "once", &marker];
    let run = cluster.spawn_reeve(["run", "web-1", "--timeout", "5s", "--"].iter().chain(&words));
    eventually("it has taken all there is", LIMIT, || limit.was_reached());
    cluster.reeve(["run", "web-1", "--", "echo", "meanwhile"]).expect_code(0);
    run.finish_within(LIMIT).expect_code(124);
    none_left(&marker);
    assert_eq!(limit.count(), 0);
    assert_eq!(web.machine().state, MachineState::Online);
}

/// How many samples of its memory there are.
fn count_samples(cluster: &Cluster) -> usize {
    let history: History = cluster.api.get("/api/machines/web-1/metrics?series=memory").json();
    history.series[0].avg.iter().flatten().count()
}

#[test]
fn coordinator_that_is_given_no_thread_goes_on() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let before = eventually_some("there are samples", Duration::from_secs(60), || {
        Some(count_samples(&cluster)).filter(|count| *count > 0)
    });
    let limit = ProcessLimit::new();
    limit.hold(cluster.coordinator.pid());
    limit.set(1);
    // Output that goes into a file, a password that is checked, a chart.
    let bytes = "3000000";
    let line = format!("head -c {bytes} /dev/zero");
    assert_eq!(
        cluster.reeve(["run", "web-1", "--shell", &line]).expect_code(0).stdout.len(),
        3_000_000
    );
    eventually("there are more samples", Duration::from_secs(60), || {
        count_samples(&cluster) > before
    });
    limit.lift();
    assert!(!cluster.coordinator.log().contains("panicked"), "{}", cluster.coordinator.log());
}
