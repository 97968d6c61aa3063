//! Something hangs, and the machine says why.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use nix::sys::signal::Signal;
use reeve_sdk::api::{
    ExecuteCommandRequest, Explained, JobRequest, OperationRequest, OperationState, Rollout,
    StallAdvice,
};
use reeve_tests::{Cluster, eventually, on_each_containment, processes};

const PATIENCE: Duration = Duration::from_secs(30);

fn shell(line: &str) -> ExecuteCommandRequest {
    ExecuteCommandRequest { shell: Some(line.to_owned()), ..ExecuteCommandRequest::default() }
}

/// Starts a command and waits until it runs.
fn start(cluster: &Cluster, command: ExecuteCommandRequest) -> reeve_sdk::api::Operation {
    let job = cluster.submit(&JobRequest {
        selector: "web-1".to_owned(),
        operation: OperationRequest::ExecuteCommand(command),
        rollout: Rollout::default(),
        wait_ms: None,
        output_limit: None,
        dry_run: false,
        input: None,
        output_to: None,
        relay: false,
        redact: false,
    });
    let id = job.single.expect("one operation").id;
    eventually("it runs", PATIENCE, || {
        let operation: reeve_sdk::api::Operation =
            cluster.api.load(&format!("/api/operations/{id}"));
        operation.state == OperationState::Running
    });
    cluster.api.load(&format!("/api/operations/{id}"))
}

fn explain(cluster: &Cluster, operation: &reeve_sdk::api::Operation) -> Explained {
    let path = format!("/api/operations/{}/explain", operation.id);
    cluster.api.post(&path, &serde_json::json!({})).json()
}

/// Asks until the answer is the expected cause: a command needs a moment to get where it hangs.
fn expect_cause(
    cluster: &Cluster,
    operation: &reeve_sdk::api::Operation,
    cause: &str,
) -> Explained {
    let mut last = None;
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < deadline {
        let explained = explain(cluster, operation);
        if explained.stall.cause == cause {
            assert!(explained.confident, "{explained:#?}");
            keep_evidence(cause, &explained);
            return explained;
        }
        last = Some(explained);
    }
    panic!("not {cause} but {last:#?}");
}

/// `REEVE_KEEP_EVIDENCE=FOLDER` writes down what was found, for the table tests of the rules.
fn keep_evidence(cause: &str, explained: &Explained) {
    let Ok(folder) = std::env::var("REEVE_KEEP_EVIDENCE") else { return };
    let test = std::thread::current().name().unwrap_or("test").replace("::", "-");
    let path = std::path::Path::new(&folder).join(format!("{cause}.{test}.json"));
    let text = serde_json::to_string_pretty(&explained.findings).expect("JSON");
    std::fs::write(path, text).expect("written");
}

fn says(explained: &Explained, words: &[&str]) {
    for word in words {
        assert!(explained.stall.explanation.contains(word), "no '{word}' in {explained:#?}");
    }
}

on_each_containment! {
    fn command_that_waits_for_stdin_is_said_to(containment) {
        let cluster = Cluster::start();
        let _web = cluster.agent("web-1").containment(containment).start();
        let command = ExecuteCommandRequest {
            argv: Some(vec!["cat".to_owned()]),
            stdin: true,
            ..ExecuteCommandRequest::default()
        };
        let operation = start(&cluster, command);
        let explained = expect_cause(&cluster, &operation, "waits_for_input");
        says(&explained, &["cat (pid", "stdin"]);
        assert_eq!(explained.stall.advice, StallAdvice::Answer);
        assert_eq!(explained.stall.by, "rules");
        assert_eq!(explained.stall.operation, operation.id);
    }

    fn children_are_looked_at_behind_those_that_wait_for_them(containment) {
        let cluster = Cluster::start();
        let _web = cluster.agent("web-1").containment(containment).start();
        let marker = processes::marker();
        let operation = start(
            &cluster,
            shell(&format!("echo begin; sh -c 'sh -c \"sleep {marker}; :\"; :'; :")),
        );
        let explained = expect_cause(&cluster, &operation, "sleeping");
        says(&explained, &["sleep (pid", "sleeps for"]);
        assert_eq!(explained.findings.processes.len(), 4, "{explained:#?}");
        let last = explained.findings.last_output.expect("output");
        assert_eq!((last.text.as_str(), last.is_whole_line), ("begin", true));
    }
}

#[test]
fn holder_of_a_lock_is_named() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let path = cluster.folder().join("the.lock");
    let held = File::create(&path).expect("a file");
    let _lock = nix::fcntl::Flock::lock(held, nix::fcntl::FlockArg::LockExclusive).expect("locked");
    let operation = start(&cluster, shell(&format!("flock {} true; :", path.display())));
    let explained = expect_cause(&cluster, &operation, "waits_for_lock");
    let own = format!("(pid {}", std::process::id());
    says(&explained, &["flock (pid", "the.lock", "held by", &own]);
    assert_eq!(explained.stall.advice, StallAdvice::Wait);

    let job = operation.job_id.to_string();
    let told = cluster.reeve(["jobs", "explain", &job]);
    told.expect_code(0).expect_says("waits for lock").expect_says("the.lock");
    told.expect_says("advice: wait").expect_says(&format!("reeve jobs cancel {job}"));
    let id = operation.id.to_string();
    let again: Explained = cluster.reeve(["-o", "json", "jobs", "explain", &id]).json();
    assert_eq!(again.stall.operation, operation.id);
    let unknown = "01900000-0000-7000-8000-000000000000";
    cluster.reeve(["jobs", "explain", unknown]).expect_code(255).expect_says("no operation");
}

#[test]
fn busy_loop_is_told_from_waiting() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let operation = start(&cluster, shell("while :; do :; done"));
    let explained = expect_cause(&cluster, &operation, "busy");
    says(&explained, &["% of a processor"]);
}

#[test]
fn stopped_command_is_said_to_be_stopped() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let marker = processes::marker();
    let operation = start(
        &cluster,
        ExecuteCommandRequest {
            argv: Some(vec!["sleep".to_owned(), marker.clone()]),
            ..ExecuteCommandRequest::default()
        },
    );
    eventually("it is there", PATIENCE, || processes::with_argument(&marker).len() == 1);
    processes::with_argument(&marker)[0].signal(Signal::SIGSTOP);
    let explained = expect_cause(&cluster, &operation, "stopped");
    says(&explained, &["sleep (pid", "SIGCONT"]);
}

#[test]
fn connection_that_nobody_accepts_is_named() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    // A listener whose queue is full: the kernel drops further attempts, as a firewall would.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = socket.local_addr().expect("an address");
    nix::sys::socket::listen(&socket.as_fd(), nix::sys::socket::Backlog::new(1).expect("one"))
        .expect("listens");
    let mut queue = Vec::new();
    for _ in 0..8 {
        let limit = Duration::from_millis(200);
        queue.extend(std::net::TcpStream::connect_timeout(&address, limit).ok());
    }
    let line = format!("exec bash -c 'exec 3<>/dev/tcp/127.0.0.1/{}'", address.port());
    let operation = start(&cluster, shell(&line));
    let explained = expect_cause(&cluster, &operation, "connecting");
    says(&explained, &[&address.to_string()]);
}

#[test]
fn answer_that_does_not_come_is_named() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = socket.local_addr().expect("an address");
    let line = format!("exec bash -c 'exec 3<>/dev/tcp/127.0.0.1/{}; read -u 3 x'", address.port());
    let operation = start(&cluster, shell(&line));
    let explained = expect_cause(&cluster, &operation, "waits_for_reply");
    says(&explained, &[&address.to_string()]);
}

#[test]
fn named_pipe_without_another_end_is_named() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let path = cluster.folder().join("the.fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a named pipe");
    let operation = start(&cluster, shell(&format!("cat {}; :", path.display())));
    let explained = expect_cause(&cluster, &operation, "waits_for_peer");
    says(&explained, &["cat (pid", "the.fifo", "nobody has opened it to write"]);
    // Whoever opens it lets the command go on.
    let mut writer =
        File::options().write(true).custom_flags(0).open(&path).expect("opened to write");
    writer.write_all(b"done\n").expect("written");
}

#[test]
fn password_prompt_is_known_for_one() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let command = ExecuteCommandRequest {
        stdin: true,
        ..shell("printf 'Password for deploy: '; read -r secret; :")
    };
    let operation = start(&cluster, command);
    let explained = expect_cause(&cluster, &operation, "waits_for_password");
    says(&explained, &["only a person", "Password for deploy:"]);
    assert_eq!(explained.stall.advice, StallAdvice::Answer);
}

#[test]
fn of_a_pipeline_the_part_that_holds_it_up_is_named() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let marker = processes::marker();
    let operation = start(&cluster, shell(&format!("yes | sleep {marker}; :")));
    let explained = expect_cause(&cluster, &operation, "sleeping");
    says(&explained, &["sleep (pid"]);
    let facts = explained.stall.facts.join("\n");
    assert!(facts.contains("yes: state S, in write on descriptor 1"), "{facts}");
}

#[test]
fn what_has_ended_or_is_elsewhere_cannot_be_explained() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let _db = cluster.agent("db-1").start();
    cluster.reeve(["run", "web-1", "--", "true"]).expect_code(0);
    let ended = cluster.last_operation();
    let path = format!("/api/operations/{}/explain", ended.id);
    assert_eq!(cluster.api.post(&path, &serde_json::json!({})).problem(409).code, "not_running");
    let nobody = "/api/operations/01900000-0000-7000-8000-000000000000/explain";
    let problem = cluster.api.post(nobody, &serde_json::json!({})).problem(404);
    assert_eq!(problem.code, "operation_not_found");

    let operation = start(&cluster, shell("sleep 1000; :"));
    let request = serde_json::json!({
        "selector": "db-1", "operation": { "explain_operation": { "operation": operation.id } },
    });
    let problem = cluster.api.post("/api/jobs", &request).problem(422);
    assert_eq!(problem.code, "wrong_machine");
}
