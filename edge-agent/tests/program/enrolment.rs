//! Tokens and pins.

use std::sync::atomic::Ordering;

use ed25519_dalek::{Signature, VerifyingKey};
use reeve_link::WebSocket;
use reeve_protocol::enrol::{Register, Registered};
use reeve_protocol::token::Pin;
use reeve_protocol::{
    Challenge, CoordinatorId, Envelope, Hello, Kind, OperationId, OperationResult, Outcome, Proof,
    Request, Welcome, proof_message,
};

use crate::server::{Server, program, stderr};

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
    let stream = server.accept().await.expect("TLS");
    let exporter = stream
        .get_ref()
        .1
        .export_keying_material([0_u8; 32], b"EXPORTER-Channel-Binding", None)
        .expect("an exporter");
    #[allow(clippy::result_large_err, reason = "the library's callback")]
    let socket = tokio_tungstenite::accept_hdr_async(
        stream,
        |request: &tokio_tungstenite::tungstenite::handshake::server::Request,
         mut response: tokio_tungstenite::tungstenite::handshake::server::Response| {
            assert_eq!(request.uri().path(), "/ws/client");
            let protocol = request.headers()["sec-websocket-protocol"].clone();
            assert_eq!(protocol, reeve_protocol::SUBPROTOCOL);
            response.headers_mut().insert("sec-websocket-protocol", protocol);
            Ok(response)
        },
    )
    .await
    .expect("a WebSocket");
    let (sender, mut receiver, driver) = reeve_link::open(WebSocket(socket), Default::default());
    let tasks = reeve_agent::tasks::Tasks::new();
    tasks.spawn("link", driver.run());
    let hello: Hello = receiver.next().await.expect("hello").open().expect("hello");
    let nonce = vec![1; 32];
    let challenge = Challenge { version: 1, coordinator, nonce: nonce.clone() };
    sender.control(&Envelope::of(&challenge).expect("encodes")).expect("open");
    let proof: Proof = receiver.next().await.expect("proof").open().expect("proof");
    let key: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&register.public_key[at * 2..at * 2 + 2], 16).expect("hex"))
        .collect();
    let key = VerifyingKey::from_bytes(&key.try_into().expect("32 bytes")).expect("a key");
    let message = proof_message(coordinator, hello.machine, &nonce, Some(&exporter));
    let signature = Signature::from_slice(&proof.signature).expect("64 bytes");
    key.verify_strict(&message, &signature).expect("bound to this very channel");
    let welcome = Welcome { epoch: 1, heartbeat_ms: 60_000, coordinator_time_us: 0 };
    sender.control(&Envelope::of(&welcome).expect("encodes")).expect("open");
    let id = OperationId::new();
    let command = reeve_protocol::ops::ExecuteCommand::new(reeve_protocol::ops::Command::Shell(
        "exit 23".to_owned(),
    ));
    let request = Request {
        boot_id: hello.boot_id,
        journal: hello.journal,
        expires_in_ms: None,
        body: reeve_protocol::encode(&command).expect("encodes"),
    };
    let envelope = Envelope::request(id, "execute_command", &request).expect("encodes");
    sender.control(&envelope).expect("open");
    let result: OperationResult = loop {
        let envelope = receiver.next().await.expect("open");
        if envelope.kind == Kind::Result {
            break envelope.open().expect("a result");
        }
    };
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
    loop {
        if receiver.next().await.expect("a goodbye first").kind == Kind::Goodbye {
            break;
        }
    }
    assert!(agent.wait().await.expect("waited for").success());
}
