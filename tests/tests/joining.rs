//! Machines join with tokens, prove who they are, and are turned away when they are not.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reeve_sdk::api::{EnrolmentTokenCreated, MachineState, NewEnrolmentToken};
use reeve_tests::scripted_agent::{Connection, Identity};
use reeve_tests::{Cluster, eventually, on_each_database};

fn token(cluster: &Cluster, wanted: &NewEnrolmentToken) -> EnrolmentTokenCreated {
    cluster.api.post("/api/enrolment-tokens", wanted).json()
}

fn said(output: &std::process::Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

on_each_database! {
    fn token_works_as_often_as_it_says_and_not_once_more(builder) {
        let cluster = builder.start();
        let once = token(&cluster, &NewEnrolmentToken::default());
        let first = cluster.agent("first").prepare();
        let output = first.enroll(&once.token);
        assert!(output.status.success(), "{}", said(&output));
        let second = cluster.agent("second").prepare();
        let output = second.enroll(&once.token);
        assert!(!output.status.success());
        assert!(said(&output).contains("used"), "{}", said(&output));
        assert!(!second.state().join("identity.json").exists());
        // The same machine asking again has only missed the answer.
        let output = first.enroll(&once.token);
        assert!(output.status.success() || said(&output).contains("already"), "{}", said(&output));
    }
}

#[test]
fn wrong_expired_and_revoked_tokens_are_refused_with_a_reason() {
    let cluster = Cluster::start();
    let agent = cluster.agent("web-1").prepare();

    let good = token(&cluster, &NewEnrolmentToken::default()).token;
    let typo =
        format!("{}{}", &good[..good.len() - 1], if good.ends_with('0') { '1' } else { '0' });
    let output = agent.enroll(&typo);
    assert!(!output.status.success() && said(&output).contains("checksum"), "{}", said(&output));

    let mut forged = reeve_protocol::token::Token::parse(&good).expect("a token");
    forged.secret = [7; 32];
    let output = agent.enroll(&forged.to_text());
    assert!(!output.status.success() && said(&output).contains("token"), "{}", said(&output));

    let short = NewEnrolmentToken { expires_in_ms: Some(1000), ..NewEnrolmentToken::default() };
    let short = token(&cluster, &short);
    eventually("the token's time is up", Duration::from_secs(10), || {
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).expect("a clock").as_micros();
        now > u128::try_from(short.details.expires.as_micros()).expect("a time")
    });
    let output = agent.enroll(&short.token);
    assert!(!output.status.success() && said(&output).contains("expired"), "{}", said(&output));

    let revoked = token(&cluster, &NewEnrolmentToken::default());
    assert!(
        cluster.api.delete(&format!("/api/enrolment-tokens/{}", revoked.details.id)).status < 300
    );
    let output = agent.enroll(&revoked.token);
    assert!(!output.status.success() && said(&output).contains("revoked"), "{}", said(&output));

    assert!(!agent.state().join("identity.json").exists());
    // No secret got into the log.
    assert!(!cluster.coordinator.log().contains(&good[40..90]));
}

#[test]
fn second_machine_of_the_same_name_is_refused() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let twin = cluster.agent("twin").prepare();
    let wanted =
        NewEnrolmentToken { name: Some("web-1".to_owned()), ..NewEnrolmentToken::default() };
    let answer = cluster.api.post("/api/enrolment-tokens", &wanted);
    if answer.status == 409 {
        assert_eq!(answer.problem(409).code, "name_taken");
        return;
    }
    let token: EnrolmentTokenCreated = answer.json();
    let output = Command::new(reeve_tests::binaries::agent())
        .args(["enroll", cluster.coordinator.url(), "--name", "web-1", "--state"])
        .arg(twin.state())
        .env("REEVE_JOIN_TOKEN", &token.token)
        .output()
        .expect("enroll");
    assert!(!output.status.success() && said(&output).contains("web-1"), "{}", said(&output));
}

/// Somebody stands where the coordinator should be, with a certificate of their own.
#[test]
fn wrong_pin_sends_nothing_of_the_token() {
    let cluster = Cluster::start();
    let token = token(&cluster, &NewEnrolmentToken::default()).token;

    let _second_time = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let impostor =
        rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let key = rustls_pki_types::PrivateKeyDer::try_from(impostor.signing_key.serialize_der())
        .expect("a key");
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![impostor.cert.der().clone()], key)
        .expect("a server");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    let heard = std::thread::spawn(move || {
        let mut heard = Vec::new();
        // Every connection until the agent has given up and the story connects without TLS.
        for mut socket in listener.incoming().flatten() {
            socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
            let mut first = [0];
            if !matches!(socket.peek(&mut first), Ok(1)) || first == *b"." {
                break;
            }
            let mut tls = rustls::ServerConnection::new(config.clone()).expect("TLS");
            let mut bytes = Vec::new();
            let mut stream = rustls::Stream::new(&mut tls, &mut socket);
            let _refused = stream.read_to_end(&mut bytes);
            heard.push(bytes);
        }
        heard
    });

    let agent = cluster.agent("web-1").dials(&url).prepare();
    let output = agent.enroll(&token);
    assert!(!output.status.success());
    assert!(said(&output).contains("pin"), "{}", said(&output));
    let mut end =
        std::net::TcpStream::connect(url.trim_start_matches("https://")).expect("connect");
    std::io::Write::write_all(&mut end, b".").expect("write");
    let heard = heard.join().expect("the impostor");
    assert!(!heard.is_empty(), "the agent never dialled");
    assert!(heard.iter().all(Vec::is_empty), "the agent told the impostor something: {heard:?}");
    assert!(!agent.state().join("identity.json").exists());
    // The token is still good: nobody has used it.
    let honest = cluster.agent("web-2").prepare();
    assert!(honest.enroll(&token).status.success());
}

#[test]
fn reeve_with_a_wrong_pin_sends_no_password() {
    let cluster = Cluster::start();
    let (mut command, _) = cluster.reeve_command(cluster.api.token(), ["machines", "list"]);
    let output = command.env("REEVE_CA_PIN", "0".repeat(64)).output().expect("reeve");
    assert_eq!(output.status.code(), Some(255), "{}", said(&output));
    assert!(said(&output).contains("pin"), "{}", said(&output));
}

#[test]
fn copied_agent_state_puts_the_machine_in_quarantine() {
    let cluster = Cluster::start();
    let web = cluster.agent("web-1").start();
    let copy = cluster.agent("copy").prepare();
    let copied =
        Command::new("cp").arg("-a").arg(web.state()).arg(copy.state()).status().expect("cp");
    assert!(copied.success());
    let mut copy = copy;
    copy.start_without_waiting();
    web.wait_until(MachineState::Quarantined);
    cluster.reeve(["run", "web-1", "--", "true"]).expect_says("quarantine");
    // Somebody decides: the copy is taken away, the quarantine lifted.
    copy.kill9();
    cluster.reeve(["machines", "unquarantine", "web-1"]).expect_code(0);
    let mut web = web;
    web.kill9();
    web.restart();
    cluster.reeve(["run", "web-1", "--", "echo", "back"]).expect_code(0).expect_stdout("back\n");
}

#[test]
fn agent_that_comes_back_after_a_silent_death_is_no_clone() {
    let cluster = Cluster::start();
    let proxy = reeve_tests::proxy::Proxy::to(cluster.coordinator.address());
    let mut web = cluster.agent("web-1").dials(&proxy.url()).start();
    // The coordinator hears nothing of the agent's death: the connection is left hanging.
    proxy.freeze();
    web.kill9();
    proxy.thaw();
    web.start_without_waiting();
    eventually("it is let in", Duration::from_secs(30), || {
        cluster.reeve(["run", "web-1", "--", "true"]).code == 0
    });
    assert_eq!(web.machine().state, MachineState::Online);
}

#[test]
fn revoked_machines_session_is_closed_within_two_seconds() {
    let cluster = Cluster::start();
    let identity = Identity::join(&cluster, "scripted");
    let mut session = Connection::open_session(&cluster, &identity);
    let start = Instant::now();
    let answer = cluster.api.post("/api/machines/scripted/revoke", &serde_json::json!({}));
    assert!(answer.status < 300, "{answer}");
    session.wait_for_close();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn revoked_machine_is_never_let_in_again() {
    let cluster = Cluster::start();
    let mut web = cluster.agent("web-1").start();
    cluster.reeve(["machines", "revoke", "web-1", "--yes"]).expect_code(0);
    web.wait_until(MachineState::Revoked);
    web.kill9();
    web.start_without_waiting();
    let run = cluster.reeve(["run", "web-1", "--wait", "2s", "--", "true"]);
    assert_ne!(run.code, 0, "{run}");
    assert_eq!(web.machine().state, MachineState::Revoked);
}

#[test]
fn machines_are_renamed_labelled_and_removed_by_hand() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    cluster.reeve(["machines", "rename", "web-1", "front-1"]).expect_code(0);
    cluster.reeve(["machines", "label", "front-1", "role=front", "env=test"]).expect_code(0);
    cluster.reeve(["run", "role=front", "--", "echo", "hi"]).expect_code(0).expect_says("hi");
    cluster.reeve(["machines", "show", "front-1"]).expect_code(0).expect_says("env=test");
    cluster.reeve(["machines", "remove", "front-1", "--yes"]).expect_code(0);
    cluster.reeve(["run", "front-1", "--", "true"]).expect_code(255).expect_says("front-1");
    assert_eq!(cluster.api.get("/api/machines/front-1").problem(404).code, "machine_not_found");
}

#[test]
fn token_made_by_hand_carries_the_pin_and_joins() {
    let cluster = Cluster::start();
    let made = cluster.reeve(["tokens", "create", "--label", "role=web", "-o", "json"]);
    let made: EnrolmentTokenCreated = made.expect_code(0).json();
    assert!(made.token.contains(&cluster.coordinator.pin()));
    let mut web = cluster.agent("web-1").prepare();
    let output = web.enroll(&made.token);
    assert!(output.status.success(), "{}", said(&output));
    for (file, mode) in [("identity.json", 0o600), ("key", 0o600)] {
        use std::os::unix::fs::PermissionsExt;
        let found = fs::metadata(web.state().join(file)).expect(file).permissions().mode() & 0o777;
        assert_eq!(found, mode, "{file}");
    }
    web.restart();
    cluster.reeve(["machines", "list", "-o", "json"]).expect_code(0).expect_says("\"role\"");
    cluster.reeve(["tokens", "list"]).expect_code(0);
}
