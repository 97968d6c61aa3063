//! Tokens and pins.

use std::process::Stdio;
use std::sync::atomic::Ordering;

use ed25519_dalek::{Signature, VerifyingKey};
use reeve_protocol::enrol::{Register, Registered};
use reeve_protocol::ops::{Command, ExecuteCommand};
use reeve_protocol::token::Pin;
use reeve_protocol::{
    Acknowledge, CoordinatorId, Envelope, Goodbye, OperationId, OperationResult, Outcome,
    Output as ProtocolOutput, Reject, RejectCode, Report, ReportedState, proof_message,
};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::server::{PATIENCE, Server, program, stderr};

fn shell(line: &str) -> ExecuteCommand {
    ExecuteCommand::new(Command::Shell(line.to_owned()))
}

async fn enrol(server: &Server, state: &std::path::Path) -> (Register, CoordinatorId) {
    let token = server.token(server.pin);
    let run = program(state)
        .args(["enroll", &server.url(), "--name", "web-1"])
        .env("REEVE_JOIN_TOKEN", &token)
        .output();
    let coordinator_id = CoordinatorId::new();
    let serve = async {
        let mut stream = server.accept().await.expect("TLS");
        let (head, body) = server.read_request(&mut stream).await;
        assert!(head.starts_with("POST /api/clients/register HTTP/1.1\r\n"), "{head}");
        let register: Register = serde_json::from_slice(&body).expect("a registration");
        let registered = Registered {
            machine_id: register.machine_id,
            name: "web-1".to_owned(),
            coordinator_id,
            channel_binding: register.channel_binding,
        };
        let text = serde_json::to_string(&registered).expect("encodes");
        Server::answer(&mut stream, "201 Created", &text).await;
        register
    };
    let (output, register) = tokio::join!(run, serve);
    let output = output.expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(register.token, token);
    assert!(register.channel_binding);
    (register, coordinator_id)
}

#[tokio::test]
async fn wrong_pin_sends_nothing_and_names_both_pins() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let wrong = Pin([0xAB; 32]);
    let run = program(&folder.path().join("state"))
        .args(["enroll", &server.url()])
        .env("REEVE_JOIN_TOKEN", server.token(wrong))
        .output();
    let (output, accepted) = tokio::join!(run, server.accept());
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains(&wrong.to_string()), "{text}");
    assert!(text.contains(&server.pin.to_string()), "{text}");
    assert!(accepted.is_err(), "the agent went on with a stranger");
    assert_eq!(server.received.load(Ordering::SeqCst), 0);
    assert!(!folder.path().join("state/identity.json").exists());
}

#[tokio::test]
async fn refusal_is_shown_and_a_retry_is_the_same_machine() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let run = program(&state)
        .args(["enroll", &server.url()])
        .env("REEVE_JOIN_TOKEN", server.token(server.pin))
        .output();
    let serve = async {
        let mut stream = server.accept().await.expect("TLS");
        let (_, body) = server.read_request(&mut stream).await;
        let problem = r#"{"code":"token_used","detail":"this token was used already"}"#;
        Server::answer(&mut stream, "403 Forbidden", problem).await;
        serde_json::from_slice::<Register>(&body).expect("a registration")
    };
    let (output, first) = tokio::join!(run, serve);
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("this token was used already") && text.contains("token_used"), "{text}");
    let (second, _) = enrol(&server, &state).await;
    assert_eq!((first.machine_id, first.public_key), (second.machine_id, second.public_key));
    // Enrolled is enrolled.
    let output = program(&state)
        .args(["enroll", &server.url()])
        .env("REEVE_JOIN_TOKEN", server.token(server.pin))
        .output()
        .await
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("already enrolled as 'web-1'"), "{}", stderr(&output));
}

#[tokio::test]
async fn secrets_are_for_the_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    enrol(&server, &state).await;
    for (name, mode) in [("", 0o700), ("key", 0o600), ("identity.json", 0o600)] {
        let path = state.join(name);
        let data = std::fs::metadata(&path).expect("it is there");
        assert_eq!(data.permissions().mode() & 0o777, mode, "{}", path.display());
    }
    assert!(!state.join("pending").exists());
}

#[tokio::test]
async fn mistyped_token_is_told_before_anything_happens() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = program(&folder.path().join("state"))
        .args(["enroll", "https://127.0.0.1:1"])
        .env("REEVE_JOIN_TOKEN", "rv_join_nonsense")
        .output()
        .await
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("join token"), "{}", stderr(&output));
}

#[tokio::test]
async fn enrolled_agent_proves_itself_over_its_channel_and_runs_a_command() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let (register, coordinator) = enrol(&server, &state).await;
    let mut agent = program(&state).arg("run").spawn().expect("it starts");
    let (mut link, hello) = server.accept_agent().await;
    let nonce = vec![1; 32];
    let proof = link.welcome(coordinator, nonce.clone()).await;
    let key: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&register.public_key[at * 2..at * 2 + 2], 16).expect("hex"))
        .collect();
    let key = VerifyingKey::from_bytes(&key.try_into().expect("32 bytes")).expect("a key");
    let message = proof_message(coordinator, hello.machine, &nonce, Some(&link.exporter));
    let signature = Signature::from_slice(&proof.signature).expect("64 bytes");
    key.verify_strict(&message, &signature).expect("bound to this very channel");
    link.request(&hello, OperationId::new(), &shell("exit 23"));
    let result: OperationResult = link.hear().await;
    assert_eq!(result.outcome, Outcome::Exited { code: 23 });
    // The status file follows within a moment.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let output =
            program(&state).args(["status", "-o", "json"]).output().await.expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() && text.contains("\"connected\"") {
            break;
        }
        assert!(std::time::Instant::now() < until, "{text}");
    }
    // A second agent is told off; the first one stops when asked.
    let second = program(&state).arg("run").output().await.expect("it runs");
    assert_eq!(second.status.code(), Some(1));
    let pid = agent.id().expect("it runs");
    assert!(stderr(&second).contains(&pid.to_string()), "{}", stderr(&second));
    let raw = rustix::process::Pid::from_raw(i32::try_from(pid).expect("small")).expect("a pid");
    rustix::process::kill_process(raw, rustix::process::Signal::TERM).expect("it runs");
    let _: Goodbye = link.hear().await;
    assert!(agent.wait().await.expect("waited for").success());
}

#[tokio::test]
async fn refused_machine_says_so_and_stays_away_for_minutes() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    enrol(&server, &state).await;
    let mut agent = program(&state).arg("run").stderr(Stdio::piped()).spawn().expect("it starts");
    let (link, _) = server.accept_agent().await;
    let message = "this machine was revoked by ada".to_owned();
    link.say(&Reject { code: RejectCode::Revoked, message, retry_after_ms: 0 });
    let mut lines = BufReader::new(agent.stderr.take().expect("a pipe")).lines();
    let line = loop {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line");
        let line = line.expect("readable").expect("the agent goes on");
        if line.contains("not connected") {
            break line;
        }
    };
    assert!(line.contains("(revoked): this machine was revoked by ada"), "{line}");
    let line: serde_json::Value = serde_json::from_str(&line).expect("JSON, as nobody reads it");
    let pause = line["retry_in"].as_str().expect("when it tries again").trim_end_matches('s');
    assert!(pause.parse::<f64>().expect("seconds") >= 300.0, "{pause}");
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        let output = program(&state).arg("status").output().await.expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.contains("(revoked): this machine was revoked by ada") {
            break;
        }
        assert!(std::time::Instant::now() < until, "{text}");
    }
    assert!(agent.try_wait().expect("asked").is_none(), "it gave up");
}

#[tokio::test]
async fn command_outlives_the_killed_agent_and_the_next_one_brings_its_end() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let (_, coordinator) = enrol(&server, &state).await;
    let mut agent = program(&state).arg("run").spawn().expect("it starts");
    let (mut link, hello) = server.accept_agent().await;
    link.welcome(coordinator, vec![1; 32]).await;
    let id = OperationId::new();
    let gate = folder.path().join("gate");
    let line = format!("echo before; cat {}; echo after; exit 29", gate.display());
    let made = std::process::Command::new("mkfifo").arg(&gate).status().expect("mkfifo");
    assert!(made.success());
    link.request(&hello, id, &shell(&line));
    let output: ProtocolOutput = link.hear().await;
    assert_eq!(output.bytes, b"before\n");
    agent.start_kill().expect("SIGKILL");
    agent.wait().await.expect("gone");
    link.cut().await;
    let _agent = program(&state).arg("run").spawn().expect("it starts again");
    let (mut link, _) = server.accept_agent().await;
    link.welcome(coordinator, vec![2; 32]).await;
    let report: Report = link.hear().await;
    assert_eq!((report.operations[0].id, report.operations[0].state), (id, ReportedState::Running));
    let acknowledge = Acknowledge { durable: 7, result: false };
    link.sender.control(&Envelope::about(id, &acknowledge).expect("encodes")).expect("open");
    // Opens the gate: the reader gets an end of file at once.
    drop(std::fs::OpenOptions::new().write(true).open(&gate).expect("the command waits"));
    let output: ProtocolOutput = link.hear().await;
    assert_eq!((output.all, output.bytes.as_slice()), (7, &b"after\n"[..]));
    let result: OperationResult = link.hear().await;
    assert_eq!(result.outcome, Outcome::Exited { code: 29 });
}
