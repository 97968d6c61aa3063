//! One request for many machines: which they are, in which steps, and what comes of those that are
//! not there.

use std::time::Duration;

use reeve_sdk::api::{
    ExecuteCommandRequest, JobPreview, JobRequest, JobState, MachineState, OperationRequest,
    OperationState, Rollout,
};
use reeve_tests::{Agent, Cluster, eventually, on_each_database};

fn shell(line: &str) -> OperationRequest {
    OperationRequest::ExecuteCommand(ExecuteCommandRequest {
        shell: Some(line.to_owned()),
        ..ExecuteCommandRequest::default()
    })
}

fn request(selector: &str, line: &str) -> JobRequest {
    JobRequest {
        selector: selector.to_owned(),
        operation: shell(line),
        rollout: Rollout::default(),
        wait_ms: None,
        output_limit: None,
        dry_run: false,
        input: None,
        output_to: None,
        relay: false,
        redact: false,
    }
}

fn fleet(cluster: &Cluster, names: &[(&str, &str)]) -> Vec<Agent> {
    names.iter().map(|(name, role)| cluster.agent(name).label("role", role).start()).collect()
}

on_each_database! {
    fn selectors_choose_by_name_glob_and_label(builder) {
        let cluster = builder.start();
        let _fleet = fleet(&cluster, &[("web-1", "web"), ("web-2", "web"), ("db-1", "db")]);
        for (selector, expected) in [
            ("@all", "db-1 web-1 web-2"),
            ("web-*", "web-1 web-2"),
            ("db-1,web-2", "db-1 web-2"),
            ("role=web", "web-1 web-2"),
            ("role!=web", "db-1"),
            ("role=*b", "db-1 web-1 web-2"),
        ] {
            let preview: JobPreview = cluster
                .api
                .post("/api/jobs", &JobRequest { dry_run: true, ..request(selector, "true") })
                .json();
            let mut names: Vec<String> = preview.targets.into_iter().map(|t| t.machine).collect();
            names.sort();
            assert_eq!(names.join(" "), expected, "{selector}");
        }
        cluster.reeve(["run", "role=web", "--dry-run", "--", "true"]).expect_code(0).expect_says("web-2");
        assert!(cluster.api.get("/api/jobs").json::<reeve_sdk::api::Page<reeve_sdk::api::Job>>().items.is_empty());
    }

    fn many_answers_are_prefixed_summed_up_and_counted(builder) {
        let cluster = builder.start();
        let _fleet = fleet(&cluster, &[("web-1", "web"), ("web-2", "web"), ("db-1", "db")]);
        let run = cluster.reeve(["run", "@all", "--shell", "echo from-$(hostname >/dev/null; echo here)"]);
        run.expect_code(0).expect_says("from-here");
        for name in ["web-1", "web-2", "db-1"] {
            run.expect_says(name);
        }
        // Fails on the machines whose agent's state folder says web.
        let run = cluster.reeve(["run", "@all", "--shell", "exit 1"]);
        run.expect_code(1).expect_says("db-1");
    }
}

#[test]
fn unknown_machine_is_an_error_that_names_the_nearest() {
    let cluster = Cluster::start();
    let _fleet = fleet(&cluster, &[("web-1", "web"), ("db-1", "db")]);
    let problem = cluster.api.post("/api/jobs", &request("wbe-1", "true")).problem(404);
    assert_eq!(problem.code, "machine_not_found");
    assert!(problem.nearest.contains(&"web-1".to_owned()), "{problem:?}");
    assert!(problem.detail.contains("wbe-1"), "{problem:?}");
    cluster.reeve(["run", "wbe-1", "--", "true"]).expect_code(255).expect_says("web-1");
}

#[test]
fn selector_that_matches_nothing_is_an_error_and_never_everything() {
    let cluster = Cluster::start();
    let _fleet = fleet(&cluster, &[("web-1", "web")]);
    for selector in ["role=nobody", "nothing-*", "role!=web"] {
        let problem = cluster.api.post("/api/jobs", &request(selector, "true")).problem(422);
        assert_eq!(problem.code, "empty_selector", "{selector}");
        cluster.reeve(["run", selector, "--", "true"]).expect_code(255);
    }
    for selector in ["", "=", "a b", "web-1,,db", "@some"] {
        let answer = cluster.api.post("/api/jobs", &request(selector, "true"));
        assert_eq!(answer.status, 422, "{answer}");
    }
}

#[test]
fn same_idempotency_key_starts_once() {
    let cluster = Cluster::start();
    let _fleet = fleet(&cluster, &[("web-1", "web")]);
    let starts = cluster.folder().join("starts");
    let line = format!("echo start >> {}", starts.display());
    let key = [("idempotency-key", "the-same-key")];
    let first = cluster.api.post_with("/api/jobs", &key, &request("web-1", &line));
    let first: reeve_sdk::api::Job = first.json();
    let again: reeve_sdk::api::Job =
        cluster.api.post_with("/api/jobs", &key, &request("web-1", &line)).json();
    assert_eq!(first.id, again.id);
    eventually("it has run", Duration::from_secs(20), || {
        cluster.job(first.id).state == JobState::Succeeded
    });
    assert_eq!(std::fs::read_to_string(&starts).expect("starts"), "start\n");
    let other = cluster.api.post_with("/api/jobs", &key, &request("web-1", "true"));
    assert_eq!(other.problem(422).code, "idempotency_mismatch");
}

on_each_database! {
    fn hundred_requests_at_once_with_one_key_start_once(builder) {
        let cluster = builder.start();
        let _fleet = fleet(&cluster, &[("web-1", "web")]);
        let starts = cluster.folder().join("starts");
        let body = request("web-1", &format!("echo start >> {}", starts.display()));
        let key = [("idempotency-key", "hundred")];
        let gate = std::sync::Barrier::new(100);
        let ids: std::collections::BTreeSet<_> = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..100)
                .map(|_| {
                    scope.spawn(|| {
                        gate.wait();
                        // 409: the first is still being recorded; as any client would, ask again.
                        reeve_tests::eventually_some("it is answered", Duration::from_secs(60), || {
                            let answer = cluster.api.post_with("/api/jobs", &key, &body);
                            assert!(matches!(answer.status, 200 | 201 | 409), "{answer}");
                            (answer.status != 409).then(|| answer.json::<reeve_sdk::api::Job>().id)
                        })
                    })
                })
                .collect();
            asking.into_iter().map(|asked| asked.join().expect("an answer")).collect()
        });
        assert_eq!(ids.len(), 1, "{ids:?}");
        let id = *ids.first().expect("a job");
        eventually("it has run", Duration::from_secs(20), || {
            cluster.job(id).state == JobState::Succeeded
        });
        assert_eq!(std::fs::read_to_string(&starts).expect("starts"), "start\n");
        let jobs: reeve_sdk::api::Page<reeve_sdk::api::Job> = cluster.api.load("/api/jobs");
        assert_eq!(jobs.items.len(), 1);
    }
}

#[test]
fn offline_machine_fails_at_once_and_is_named() {
    let cluster = Cluster::start();
    let mut fleet = fleet(&cluster, &[("web-1", "web"), ("web-2", "web")]);
    fleet[1].stop();
    fleet[1].wait_until(MachineState::Offline);
    let run = cluster.reeve(["run", "web-2", "--", "true"]);
    run.expect_says("web-2").expect_says("offline");
    assert!(run.code != 0 && run.took < Duration::from_secs(10), "{run}");
    // The others are not held up by it.
    let run = cluster.reeve(["run", "role=web", "--", "echo", "here"]);
    run.expect_code(1).expect_says("here").expect_says("web-2");
}

#[test]
fn waiting_job_runs_when_the_machine_comes() {
    let cluster = Cluster::start();
    let mut fleet = fleet(&cluster, &[("web-1", "web")]);
    fleet[0].stop();
    fleet[0].wait_until(MachineState::Offline);
    let run = cluster.spawn_reeve(["run", "web-1", "--wait", "5m", "--", "echo", "at last"]);
    eventually("it waits", Duration::from_secs(20), || {
        let page: reeve_sdk::api::Page<reeve_sdk::api::Job> = cluster.api.load("/api/jobs?limit=1");
        page.items.first().is_some_and(|job| job.counts.queued == 1)
    });
    fleet[0].restart();
    run.finish().expect_code(0).expect_stdout("at last\n");
}

#[test]
fn expired_job_never_runs() {
    let cluster = Cluster::start();
    let mut fleet = fleet(&cluster, &[("web-1", "web")]);
    fleet[0].stop();
    fleet[0].wait_until(MachineState::Offline);
    let ran = cluster.folder().join("ran");
    let line = format!("touch {}", ran.display());
    let run = cluster.reeve(["run", "web-1", "--wait", "2s", "--shell", &line]);
    run.expect_says("in time").expect_says("never started");
    assert_ne!(run.code, 0, "{run}");
    assert_eq!(cluster.last_operation().state, OperationState::Expired);
    fleet[0].restart();
    // Whatever was still on its way would come before this.
    cluster.reeve(["run", "web-1", "--", "true"]).expect_code(0);
    assert!(!ran.exists());
}

#[test]
fn batches_go_one_after_the_other() {
    let cluster = Cluster::start();
    let names = [("m-1", "x"), ("m-2", "x"), ("m-3", "x"), ("m-4", "x"), ("m-5", "x")];
    let _fleet = fleet(&cluster, &names);
    let busy = cluster.folder().join("busy");
    std::fs::create_dir(&busy).expect("a folder");
    // Each says how many ran beside it.
    let line = format!("mkdir {0}/$$; ls {0} | wc -l; sleep 0.3; rmdir {0}/$$", busy.display());
    let job = cluster.submit(&JobRequest {
        rollout: Rollout { batch: Some("2".to_owned()), ..Rollout::default() },
        ..request("@all", &line)
    });
    eventually("it has ended", Duration::from_secs(60), || {
        cluster.job(job.id).state != JobState::Running
    });
    assert_eq!(cluster.job(job.id).state, JobState::Succeeded);
    for operation in cluster.operations(job.id) {
        let output = cluster
            .api
            .get(&format!("/api/operations/{}/output?stream=stdout&from=0", operation.id));
        let beside: u32 = String::from_utf8_lossy(&output.body).trim().parse().expect("a number");
        assert!(beside <= 2, "{beside} ran at once");
    }
}

#[test]
fn too_many_failures_stop_the_rollout() {
    let cluster = Cluster::start();
    let _fleet = fleet(&cluster, &[("m-1", "x"), ("m-2", "x"), ("m-3", "x"), ("m-4", "x")]);
    let run = cluster.reeve(["run", "@all", "--batch", "1", "--max-failures", "2", "--", "false"]);
    run.expect_code(1);
    let job = cluster.last_operation().job_id;
    let counts = cluster.job(job).counts;
    assert_eq!((counts.total, counts.failed), (4, 2), "{counts:?}");
    for operation in cluster.operations(job).iter().filter(|o| o.state != OperationState::Failed) {
        let code = operation.reason.as_ref().map(|reason| reason.code.as_str());
        assert_eq!(code, Some("rollout_stopped"), "{operation:?}");
        assert_eq!(operation.started, None);
    }
}

#[test]
fn fail_fast_cancels_what_runs() {
    let cluster = Cluster::start();
    let _quick = cluster.agent("quick").start();
    let _slow = cluster.agent("slow").policy("").start();
    let marker = reeve_tests::processes::marker();
    let gate = cluster.folder().join("slow-has-started");
    // The one that makes the folder is the slow one; the other fails once the slow one runs.
    let line =
        format!("if mkdir {0} 2>/dev/null; then sleep {marker}; else exit 1; fi", gate.display());
    let run = cluster.reeve(["run", "@all", "--fail-fast", "--shell", &line]);
    run.expect_code(1);
    let states: Vec<_> =
        cluster.operations(cluster.last_operation().job_id).iter().map(|o| o.state).collect();
    assert!(states.contains(&OperationState::Failed), "{states:?}");
    assert!(states.contains(&OperationState::Cancelled), "{states:?}");
    assert!(reeve_tests::processes::with_argument(&marker).is_empty());
}

#[test]
fn sixty_four_commands_at_once_on_one_machine_all_end() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let jobs: Vec<_> =
        (0..64).map(|n| (n, cluster.submit(&request("web-1", &format!("echo {n}"))))).collect();
    for (number, job) in jobs {
        eventually(&format!("job {number} has ended"), Duration::from_secs(60), || {
            cluster.job(job.id).state != JobState::Running
        });
        let operation = cluster.operations(job.id).remove(0);
        assert_eq!(operation.state, OperationState::Succeeded, "{operation:?}");
        let output = cluster
            .api
            .get(&format!("/api/operations/{}/output?stream=stdout&from=0", operation.id));
        assert_eq!(String::from_utf8_lossy(&output.body), format!("{number}\n"));
    }
}
