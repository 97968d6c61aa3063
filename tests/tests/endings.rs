//! Somebody or something ends a command, and no process of it remains.

use std::time::Duration;

use nix::sys::signal::Signal;
use reeve_sdk::api::{CancelRequest, Job, JobState, OperationState};
use reeve_tests::{Cluster, eventually, on_each_containment, processes};

/// A shell line that does all it can to stay: a child in a session of its own whose parent has
/// gone, deaf to TERM, INT and HUP; and the shell itself just as deaf.
fn stubborn(marker: &str) -> String {
    format!(
        "trap '' TERM INT HUP; (setsid sh -c 'trap \"\" TERM INT HUP; sleep {marker} & sleep {marker} & wait; sleep {marker}' &) ; \
         sleep {marker} & echo started; while :; do sleep {marker}; done"
    )
}

fn none_left(marker: &str) {
    eventually("no process of it remains", Duration::from_secs(15), || {
        processes::with_argument(marker).is_empty()
    });
}

on_each_containment! {
    fn cancelled_command_leaves_no_process(containment) {
        let cluster = Cluster::start();
        let _web = cluster.agent("web-1").containment(containment).start();
        let marker = &processes::marker();
        let mut run = cluster.spawn_reeve(["run", "web-1", "--shell", &stubborn(marker)]);
        run.wait_for("started");
        assert!(processes::with_argument(marker).len() >= 4);
        let operation = cluster.last_operation();
        let job: Job = cluster
            .api
            .post(&format!("/api/jobs/{}/cancel", operation.job_id), &CancelRequest::default())
            .json();
        assert!(job.cancel_requested.is_some());
        let run = run.finish();
        assert_ne!(run.code, 0, "{run}");
        none_left(marker);
        let operation = cluster.last_operation();
        assert_eq!(operation.state, OperationState::Cancelled);
        assert_eq!(operation.containment, Some(containment.wire()));
        assert_eq!(cluster.job(operation.job_id).state, JobState::Cancelled);
    }

    fn timed_out_command_leaves_no_process(containment) {
        let cluster = Cluster::start();
        let _web = cluster.agent("web-1").containment(containment).start();
        let marker = &processes::marker();
        cluster
            .reeve(["run", "web-1", "--timeout", "2s", "--shell", &stubborn(marker)])
            .expect_code(124)
            .expect_stdout("started\n");
        none_left(marker);
    }

    fn command_that_ends_takes_what_it_left_running_along(containment) {
        let cluster = Cluster::start();
        let _web = cluster.agent("web-1").containment(containment).start();
        let marker = &processes::marker();
        let line = format!("(setsid sleep {marker} >/dev/null 2>&1 &); echo bye");
        cluster.reeve(["run", "web-1", "--shell", &line]).expect_code(0).expect_stdout("bye\n");
        none_left(marker);
        assert!(cluster.last_operation().leftovers_killed >= 1);
    }
}

#[test]
fn interrupt_once_cancels_and_leaves_nothing() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let marker = &processes::marker();
    let line = format!("echo started; sleep {marker}");
    let mut run = cluster.spawn_reeve(["run", "web-1", "--shell", &line]);
    run.wait_for("started");
    run.signal(Signal::SIGINT);
    let run = run.finish();
    assert_ne!(run.code, 0, "{run}");
    none_left(marker);
    assert_eq!(cluster.last_operation().state, OperationState::Cancelled);
}

#[test]
fn interrupt_twice_detaches_names_the_job_and_attach_comes_back() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let gate = reeve_tests::Gate::in_folder(cluster.folder());
    // Deaf to TERM, with a long grace, so that the second interrupt comes while it still runs. A
    // second process is not, and says when it was asked.
    let [ready, asked] = ["ready", "asked"].map(|name| cluster.folder().join(name));
    let line = format!(
        "(trap 'touch {asked}' TERM; touch {ready}; tail -f /dev/null & wait) & \
         until test -e {ready}; do sleep 0.01; done; trap '' TERM INT; {}",
        gate.count(6),
        asked = asked.display(),
        ready = ready.display(),
    );
    let mut run = cluster.spawn_reeve(["run", "web-1", "--grace", "60s", "--shell", &line]);
    run.wait_for("\n1000\n");
    run.signal(Signal::SIGINT);
    let job = cluster.last_operation().job_id;
    eventually("the cancel was asked for", Duration::from_secs(10), || {
        cluster.job(job).cancel_requested.is_some()
    });
    run.signal(Signal::SIGINT);
    let run = run.finish_within(Duration::from_secs(10));
    run.expect_says(&job.to_string());
    let attached = cluster.spawn_reeve(["jobs", "attach", &job.to_string()]);
    // Had it ended before the cancel came to it, it would have ended by itself.
    eventually("it was asked to end", Duration::from_secs(20), || asked.exists());
    gate.open();
    let attached = attached.finish();
    assert_eq!(attached.text(), reeve_tests::Gate::counted(), "{attached}");
    assert_eq!(cluster.last_operation().state, OperationState::Cancelled);
}

#[test]
fn detached_job_is_shown_and_its_output_fetched_later() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let run = cluster.reeve(["run", "web-1", "--detach", "--shell", "echo later; exit 2"]);
    run.expect_code(0);
    let operation = cluster.last_operation();
    let job = operation.job_id.to_string();
    run.expect_says(&job);
    eventually("it has ended", Duration::from_secs(20), || {
        cluster.last_operation().state.is_terminal()
    });
    cluster.reeve(["jobs", "output", &job]).expect_says("later");
    cluster.reeve(["jobs", "show", &job]).expect_code(0).expect_says("web-1");
    cluster.reeve(["jobs", "list"]).expect_code(0).expect_says(&job[..8]);
}
