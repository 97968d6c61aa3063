//! The real program against a scripted coordinator.

#![allow(clippy::expect_used, reason = "this is test code")]

#[path = "../../sdk/tests/scripted/mod.rs"]
mod scripted;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reeve_protocol::{MachineId, Stream};
use reeve_sdk::api::{Machine, MachineState, OperationState, Reason, Time};
use scripted::{Plan, Planned, Server, TOKEN};

const DEADLINE: Duration = Duration::from_secs(30);

/// A coordinator, a home, and the program.
struct Story {
    server: Server,
    home: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Story {
    fn begin() -> Self {
        Self::with(Server::start)
    }

    fn begin_tls() -> Self {
        Self::with(|| Server::start_tls(&["127.0.0.1", "reeve-coordinator.internal"]))
    }

    fn with<F: Future<Output = Server>>(start: impl FnOnce() -> F) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("runtime");
        let server = runtime.block_on(start());
        Self { server, home: tempfile::tempdir().expect("home"), _runtime: runtime }
    }

    #[allow(clippy::disallowed_methods, reason = "tests run the real program")]
    fn bare(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reeve"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.home.path())
            .env("XDG_CONFIG_HOME", self.home.path().join("config"))
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.bare(args);
        command.env("REEVE_URL", &self.server.url).env("REEVE_API_KEY", TOKEN);
        command
    }

    fn run(&self, args: &[&str]) -> Ended {
        Ended::from(self.command(args).output().expect("runs"))
    }

    fn plan(&self, selector: &str, plan: Plan) {
        self.server.script.plan(selector, plan);
    }

    fn config(&self) -> std::path::PathBuf {
        self.home.path().join("config/reeve/config.toml")
    }
}

#[derive(Debug)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

fn interrupt(child: &Child) {
    kill(Pid::from_raw(i32::try_from(child.id()).expect("pid")), Signal::SIGINT).expect("signal");
}

fn machine(name: &str, state: MachineState) -> Machine {
    Machine {
        id: MachineId::new(),
        name: name.to_owned(),
        labels: BTreeMap::from([("role".to_owned(), "web".to_owned())]),
        state,
        enrolled: Time::from_micros(1),
        last_seen: None,
        agent_version: "0.1.0".to_owned(),
        boot_id: String::new(),
        facts: Default::default(),
        metrics: None,
        running: 0,
        clock_skew_ms: None,
    }
}

#[test]
fn one_machine_gives_its_bytes_and_its_exit_code() {
    let story = Story::begin();
    let raw = b"\x00\xff\x1b[31mred\r\nno end".to_vec();
    let planned = Planned {
        output: vec![(Stream::Stdout, raw.clone()), (Stream::Stderr, b"oops\n".to_vec())],
        ..Planned::fails("web-1", b"", 3)
    };
    story.plan("web-1", Plan::of(vec![planned]));
    let output = story.command(&["run", "web-1", "--", "x"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(output.stdout, raw);
    assert_eq!(output.stderr, b"oops\n");
}

#[test]
fn the_request_says_exactly_what_was_typed() {
    let story = Story::begin();
    story.plan("web-1", Plan::of(vec![Planned::succeeds("web-1", b"")]));
    let ended = story.run(&[
        "run",
        "web-1",
        "--user",
        "deploy",
        "--cwd",
        "/srv",
        "--env",
        "A=b=c",
        "--timeout",
        "30s",
        "--grace",
        "2s",
        "--wait",
        "1h",
        "--batch",
        "10%",
        "--max-failures",
        "1",
        "--fail-fast",
        "--output-limit",
        "1MiB",
        "--drop-output",
        "--",
        "ls",
        "-l",
        "--",
        "a b",
        "",
    ]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let memory = story.server.script.memory();
    let request = &memory.jobs.values().next().expect("a job").request;
    let json = serde_json::to_value(request).expect("json");
    assert_eq!(
        json,
        serde_json::json!({
            "selector": "web-1",
            "operation": {"execute_command": {
                "argv": ["ls", "-l", "--", "a b", ""], "user": "deploy", "cwd": "/srv",
                "env": {"A": "b=c"}, "stdin": false, "timeout_ms": 30000, "grace_ms": 2000,
                "spool_full": "drop_middle", "leftovers": "kill",
                "mode": "normal", "network": "none", "redact": false,
            }},
            "rollout": {"batch": "10%", "max_failures": 1, "fail_fast": true},
            "wait_ms": 3_600_000, "output_limit": 1_048_576, "dry_run": false,
        })
    );
}

#[test]
fn inspection_is_asked_for_with_what_it_needs_of_the_network() {
    for (words, network) in [
        (&["--inspect"][..], "none"),
        (&["--inspect", "--network", "view"], "view"),
        (&["--inspect", "--network", "use"], "use"),
    ] {
        let story = Story::begin();
        story.plan("web-1", Plan::of(vec![Planned::succeeds("web-1", b"")]));
        let line: Vec<&str> =
            ["run", "web-1"].iter().chain(words).chain(&["--", "ls"]).copied().collect();
        assert_eq!(story.run(&line).code, 0, "{line:?}");
        let memory = story.server.script.memory();
        let request = &memory.jobs.values().next().expect("a job").request;
        let json = serde_json::to_value(request).expect("json");
        let command = &json["operation"]["execute_command"];
        assert_eq!((&command["mode"], &command["network"]), (&"inspect".into(), &network.into()));
    }
    let story = Story::begin();
    for words in [&["--inspect", "--user", "deploy"][..], &["--network", "view"]] {
        let line: Vec<&str> =
            ["run", "web-1"].iter().chain(words).chain(&["--", "ls"]).copied().collect();
        assert_eq!(story.run(&line).code, 2, "{line:?}");
    }
}

#[test]
fn many_machines_are_prefixed_counted_and_a_retry_is_offered() {
    let story = Story::begin();
    story.plan(
        "role=web",
        Plan::of(vec![
            Planned::succeeds("web-1", b"same\n"),
            Planned::succeeds("web-2", b"same\n"),
            Planned::fails("db-1", b"no\n", 3),
            Planned::offline("web-9"),
        ]),
    );
    let ended = story.run(&["run", "role=web", "--shell", "a | b"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert_eq!(ended.stdout, "web-1: same\nweb-2: same\n");
    for line in [
        "db-1:  no",
        "reeve: web-9: not reachable: web-9 is offline",
        "output: 2 identical (web-1 web-2), 1 differs (db-1)",
        "ok 2  failed 1 (db-1: exit 3)  unreachable 1 (web-9)",
    ] {
        assert!(ended.stderr.lines().any(|l| l == line), "no '{line}' in {}", ended.stderr);
    }
    let hint = ended.stderr.lines().find(|line| line.starts_with("retry: ")).expect("a hint");
    let (left, right) = hint.split_once(" --shell ").expect("shell");
    assert_eq!(right, "'a | b'");
    assert!(left.contains("db-1") && left.contains("web-9") && !left.contains("web-1,"));
}

#[test]
fn folded_output_is_shown_once_under_its_machines() {
    let story = Story::begin();
    let all = ["web-1", "web-2", "web-3"].map(|name| Planned::succeeds(name, b"6.1\n"));
    let plan = Plan::of(all.into_iter().chain([Planned::succeeds("db-1", b"5.10\n")]).collect());
    story.plan("@all", plan);
    let ended = story.run(&["run", "@all", "--fold", "--", "uname"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(
        ended.stdout,
        "── 3 machines: web-1 web-2 web-3 ──\n6.1\n── 1 machine: db-1 ──\n5.10\n"
    );
}

#[test]
fn a_broken_connection_loses_nothing_and_is_mentioned_once() {
    let story = Story::begin();
    let bytes = b"0123456789abcdef".repeat(20_000);
    let plan =
        Plan { cut_after: Some(200_000), ..Plan::of(vec![Planned::succeeds("web-1", &bytes)]) };
    story.plan("web-1", plan);
    let output = story.command(&["run", "web-1", "--", "x"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == bytes, "{} bytes", output.stdout.len());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("connection lost, resuming"), "{stderr}");
}

#[test]
fn json_has_everything_and_bytes_that_are_no_text_as_base64() {
    let story = Story::begin();
    let planned = Planned {
        output: vec![(Stream::Stdout, vec![0xFF, 0x00]), (Stream::Stderr, b"text".to_vec())],
        ..Planned::succeeds("web-1", b"")
    };
    story.plan("web-1", Plan::of(vec![planned]));
    let ended = story.run(&["run", "web-1", "-o", "json", "--", "x"]);
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).expect("json");
    let operation = &json["operations"][0];
    assert_eq!(operation["machine"], "web-1");
    assert_eq!(operation["exit_code"], 0);
    assert_eq!(operation["stdout_base64"], "/wA=");
    assert_eq!(operation["stderr"], "text");
    let ended = story.run(&["run", "web-1", "-o", "jsonl", "--", "x"]);
    let events: Vec<serde_json::Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).expect("json")).collect();
    assert_eq!(events.first().expect("first")["event"], "job");
    assert_eq!(
        events.last().expect("last"),
        &serde_json::json!({
            "event": "end", "exit_code": 0, "job": events[0]["job"]["id"],
        })
    );
    assert!(events.iter().any(|event| event["stream"] == "stderr" && event["text"] == "text"));
}

#[test]
fn stdin_is_sent_whole() {
    let story = Story::begin();
    let plan = Plan { until_input_ends: true, ..Plan::of(vec![Planned::succeeds("web-1", b"ok")]) };
    story.plan("web-1", plan);
    let bytes = b"gigabytes, a few of them\n".repeat(80_000);
    let mut child = story
        .command(&["run", "web-1", "--stdin", "--", "cat"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("runs");
    child.stdin.take().expect("stdin").write_all(&bytes).expect("written");
    let ended = Ended::from(child.wait_with_output().expect("ends"));
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "ok"), "{ended:?}");
    let memory = story.server.script.memory();
    let input = memory.input.values().next().expect("input");
    assert!(input.ended && input.bytes == bytes, "{} bytes", input.bytes.len());
    assert!(memory.jobs.values().all(|job| {
        serde_json::to_string(&job.request).is_ok_and(|request| request.contains("\"stdin\":true"))
    }));
}

fn cancellable(story: &Story) -> Child {
    let planned = Planned {
        state: OperationState::Cancelled,
        exit_code: None,
        ..Planned::succeeds("web-1", b"working\n")
    };
    story.plan("web-1", Plan { until_cancelled: true, ..Plan::of(vec![planned]) });
    let mut child = story.command(&["run", "web-1", "--", "x"]).spawn().expect("runs");
    let mut line = [0; 8];
    child.stdout.as_mut().expect("stdout").read_exact(&mut line).expect("live output");
    assert_eq!(&line, b"working\n");
    child
}

#[test]
fn the_first_interrupt_cancels_and_waits_for_the_end() {
    let story = Story::begin();
    let child = cancellable(&story);
    interrupt(&child);
    let ended = Ended::from(child.wait_with_output().expect("ends"));
    assert_eq!(ended.code, 130, "{ended:?}");
    assert_eq!(story.server.script.count("POST /api/jobs/"), 1);
    assert!(ended.stderr.contains("cancelling job"), "{ended:?}");
    assert!(ended.stderr.contains("web-1: cancelled"), "waited for the end: {ended:?}");
}

#[test]
fn the_second_interrupt_detaches_and_says_how_to_come_back() {
    let story = Story::begin();
    let child = cancellable(&story);
    // The cancellation is swallowed, as by a command that ignores it.
    for job in story.server.script.memory().jobs.values_mut() {
        job.plan.ignores_cancel = true;
    }
    interrupt(&child);
    wait_until("the cancellation arrives", || story.server.script.count("POST /api/jobs/") > 0);
    interrupt(&child);
    let ended = Ended::from(child.wait_with_output().expect("ends"));
    let id = *story.server.script.memory().jobs.keys().next().expect("a job");
    assert_eq!(ended.code, 130, "{ended:?}");
    assert!(ended.stderr.contains(&format!("reeve jobs attach {id}")), "{ended:?}");
}

#[test]
fn a_closed_stdout_ends_quietly_and_cancels() {
    let story = Story::begin();
    let plan = Plan {
        until_cancelled: true,
        ..Plan::of(vec![Planned::succeeds("web-1", &b"y\n".repeat(500_000))])
    };
    story.plan("web-1", plan);
    let mut child = story.command(&["run", "web-1", "--", "yes"]).spawn().expect("runs");
    drop(child.stdout.take());
    let ended = Ended::from(child.wait_with_output().expect("ends"));
    assert_eq!((ended.code, ended.stderr.as_str()), (141, ""));
    assert!(story.server.script.memory().jobs.values().all(|job| *job.cancelled.borrow()));
}

#[test]
fn detach_prints_the_id_and_attach_and_output_come_back() {
    let story = Story::begin();
    story.plan("web-1", Plan::of(vec![Planned::fails("web-1", b"late\n", 7)]));
    let ended = story.run(&["run", "web-1", "--detach", "--", "x"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let id = ended.stdout.trim().to_owned();
    let attached = story.run(&["jobs", "attach", &id]);
    assert_eq!((attached.code, attached.stderr.as_str()), (7, "late\n"));
    let output = story.run(&["jobs", "output", &id, "--stderr"]);
    assert_eq!((output.code, output.stdout.as_str()), (0, "late\n"));
    assert_eq!(story.run(&["jobs", "output", &id, "--stdout"]).stdout, "");
    let shown = story.run(&["jobs", "show", &id]);
    assert!(shown.stdout.contains("exit 7"), "{shown:?}");
}

#[test]
fn many_machines_need_a_yes() {
    let story = Story::begin();
    let all = (0..11).map(|i| Planned::succeeds(&format!("m{i}"), b"x\n")).collect();
    story.plan("@all", Plan::of(all));
    let ended = story.run(&["run", "@all", "--", "reboot"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("11 machines") && ended.stderr.contains("--yes"), "{ended:?}");
    assert!(story.server.script.memory().jobs.is_empty(), "it ran");
    let dry = story.run(&["run", "@all", "--dry-run", "-o", "name", "--", "reboot"]);
    assert_eq!(dry.stdout.lines().count(), 11);
    assert!(story.server.script.memory().jobs.is_empty(), "it ran");
    assert_eq!(story.run(&["run", "@all", "--yes", "--", "reboot"]).code, 0);
}

#[test]
fn unknown_machines_are_named_with_near_ones() {
    let story = Story::begin();
    let ended = story.run(&["run", "wbe-1", "--", "x"]);
    assert_eq!(ended.code, 255);
    assert_eq!(
        ended.stderr,
        "reeve: there is no machine 'wbe-1'; did you mean 'web-1' or 'web-2'?\n"
    );
    let verbose = story.run(&["-v", "machines", "show", "wbe-1"]);
    assert!(verbose.stderr.contains("request id: request-1"), "{verbose:?}");
}

#[test]
fn ends_that_no_exit_code_tells_are_said() {
    let story = Story::begin();
    story.plan("web-9", Plan::of(vec![Planned::offline("web-9")]));
    let offline = story.run(&["run", "web-9", "--", "x"]);
    assert_eq!(offline.code, 255);
    assert!(offline.stderr.contains("web-9 is offline") && offline.stderr.contains("--wait"));
    let refused = Planned {
        state: OperationState::Refused,
        exit_code: None,
        reason: Some(Reason {
            code: "policy_user".to_owned(),
            message: "not root here".to_owned(),
        }),
        ..Planned::succeeds("web-1", b"")
    };
    story.plan("web-1", Plan::of(vec![refused]));
    let ended = story.run(&["run", "web-1", "--user", "root", "--", "x"]);
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (255, "reeve: web-1: refused: not root here\n")
    );
    let timed_out =
        Planned { state: OperationState::TimedOut, ..Planned::fails("web-1", b"", 143) };
    story.plan("web-1", Plan::of(vec![timed_out]));
    assert_eq!(story.run(&["run", "web-1", "--timeout", "1s", "--", "x"]).code, 124);
    let killed = Planned { exit_code: None, signal: Some(9), ..Planned::fails("web-1", b"", 0) };
    story.plan("web-1", Plan::of(vec![killed]));
    assert_eq!(story.run(&["run", "web-1", "--", "x"]).code, 137);
}

#[test]
fn lists_turn_all_pages_and_come_in_every_format() {
    let story = Story::begin();
    for name in ["a-1", "b-1", "c-1", "d-1", "e-1"] {
        story.server.script.memory().machines.push(machine(name, MachineState::Online));
    }
    let names = story.run(&["machines", "-o", "name"]);
    assert_eq!(names.stdout, "a-1\nb-1\nc-1\nd-1\ne-1\n");
    let json: serde_json::Value =
        serde_json::from_str(&story.run(&["machines", "-o", "json"]).stdout).expect("json");
    assert_eq!(json.as_array().expect("list").len(), 5);
    assert_eq!(story.run(&["machines", "list", "-o", "jsonl"]).stdout.lines().count(), 5);
    assert!(story.run(&["machines", "-o", "yaml"]).stdout.contains("name: a-1"));
    let table = story.run(&["machines"]);
    assert!(table.stdout.starts_with("NAME"), "{table:?}");
    assert!(table.stdout.contains("role=web"));
}

#[test]
fn login_with_pin_stores_a_private_context_that_works_until_logout() {
    let story = Story::begin_tls();
    let password = story.home.path().join("password");
    std::fs::write(&password, "correct horse\n").expect("written");
    let password = password.to_str().expect("path");
    let url = format!("{}#sha256:{}", story.server.url, story.server.pin.expect("pin"));
    let login = ["login", &url, "--user", "ada", "--password-file", password];
    let ended = Ended::from(story.bare(&login).output().expect("runs"));
    assert_eq!(ended.code, 0, "{ended:?}");
    let mode = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).expect("there").permissions().mode() & 0o777
    };
    assert_eq!(mode(&story.config()), 0o600);
    let me = Ended::from(story.bare(&["whoami", "-o", "name"]).output().expect("runs"));
    assert_eq!(me.stdout, "ada\n", "{me:?}");
    let out = Ended::from(story.bare(&["logout"]).output().expect("runs"));
    assert_eq!(out.code, 0, "{out:?}");
    assert!(!std::fs::read_to_string(story.config()).expect("there").contains(TOKEN));
}

#[test]
fn login_without_pin_sends_nothing_and_names_the_flag() {
    let story = Story::begin_tls();
    let ended = Ended::from(
        story.bare(&["login", &story.server.url, "--user", "ada"]).output().expect("runs"),
    );
    assert_eq!(ended.code, 2, "{ended:?}");
    let pin = story.server.pin.expect("pin").to_string();
    assert!(ended.stderr.contains(&format!("--pin {pin}")), "{ended:?}");
    assert_eq!(story.server.script.memory().requests, Vec::<String>::new());
}

#[test]
fn a_wrong_pin_sends_nothing() {
    let story = Story::begin_tls();
    let wrong = "0".repeat(64);
    let ended = Ended::from(story.command(&["--pin", &wrong, "whoami"]).output().expect("runs"));
    assert_eq!(ended.code, 255);
    assert!(ended.stderr.contains("nothing was sent"), "{ended:?}");
    assert_eq!(story.server.script.memory().requests, Vec::<String>::new());
}

#[test]
fn the_first_login_uses_the_one_time_code() {
    let story = Story::begin();
    story.server.script.memory().code = Some("one-time".to_owned());
    let asked = Ended::from(story.bare(&["login", &story.server.url]).output().expect("runs"));
    assert_eq!(asked.code, 2);
    assert!(asked.stderr.contains("--code-file"), "{asked:?}");
    let file = |name: &str, text: &str| {
        let path = story.home.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("path").to_owned()
    };
    let (code, password) = (file("code", "one-time\n"), file("password", "a long password"));
    let args = ["login", &story.server.url, "--code-file", &code, "--password-file", &password];
    let ended = Ended::from(story.bare(&args).output().expect("runs"));
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(story.server.script.memory().code.is_none(), "the code was not used");
}

#[test]
fn without_a_login_the_remedy_is_named() {
    let story = Story::begin();
    let ended = Ended::from(story.bare(&["status"]).output().expect("runs"));
    assert_eq!(ended.code, 255);
    assert!(ended.stderr.contains("reeve login URL"), "{ended:?}");
    let mut stranger = story.bare(&["status"]);
    stranger.env("REEVE_URL", &story.server.url);
    let ended = Ended::from(stranger.output().expect("runs"));
    assert!(ended.stderr.contains("log in with 'reeve login URL'"), "{ended:?}");
}

#[test]
fn status_version_and_doctor_tell_what_they_found() {
    let story = Story::begin();
    story.server.script.memory().machines.push(machine("web-9", MachineState::Offline));
    let status = story.run(&["status", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&status.stdout).expect("json");
    assert_eq!((status.code, &json["machines"]["offline"]), (0, &serde_json::json!(1)));
    let version = story.run(&["version", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&version.stdout).expect("json");
    assert_eq!((&json["server"], &json["skew"]), (&"0.1.7".into(), &"same".into()));
    let doctor = story.run(&["doctor"]);
    assert_eq!(doctor.code, 0, "{doctor:?}");
    assert!(doctor.stdout.contains("web-9"), "{doctor:?}");
    let mut nobody = story.bare(&["doctor", "-o", "name"]);
    nobody.env("REEVE_URL", "http://127.0.0.1:1").env("REEVE_API_KEY", TOKEN);
    let ended = Ended::from(nobody.output().expect("runs"));
    assert_eq!((ended.code, ended.stdout.as_str()), (1, "tcp\n"), "{ended:?}");
}

#[test]
fn completion_offers_the_names_of_machines() {
    let story = Story::begin();
    story.server.script.memory().machines.push(machine("web-1", MachineState::Online));
    for shell in ["bash", "zsh", "fish"] {
        let ended = story.run(&["completion", shell]);
        assert!(ended.code == 0 && ended.stdout.contains("COMPLETE"), "{ended:?}");
    }
    let mut command = story.command(&["--", "reeve", "run", "we"]);
    command.env("COMPLETE", "fish");
    let ended = Ended::from(command.output().expect("runs"));
    assert!(ended.stdout.starts_with("web-1"), "{ended:?}");
}
