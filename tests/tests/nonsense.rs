//! Strangers and machines say what makes no sense. Their link is closed; nobody else notices.

use reeve_protocol::{Envelope, Heartbeat, Kind, encode, limits};
use reeve_tests::scripted_agent::{Connection, Identity};
use reeve_tests::{Agent, Cluster};

fn world() -> Cluster {
    Cluster::start()
}

/// Somebody honest still gets their answer, and nothing panicked.
fn others_are_unharmed(cluster: &Cluster, honest: &Agent) {
    cluster
        .reeve(["run", honest.name(), "--", "echo", "fine"])
        .expect_code(0)
        .expect_stdout("fine\n");
    let log = cluster.coordinator.log();
    assert!(!log.contains("panicked"), "{log}");
}

fn nonsense() -> Vec<Vec<u8>> {
    let envelope = |kind: Kind, body: Vec<u8>| {
        encode(&Envelope { kind, id: None, name: String::new(), body }).expect("bytes")
    };
    vec![
        Vec::new(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xc1; 100],
        // 1,000 nested arrays.
        vec![0x91; 1000],
        // A map that claims four billion entries.
        vec![0xdf, 0xff, 0xff, 0xff, 0xff],
        // A string that claims four gigabytes.
        vec![0xdb, 0xff, 0xff, 0xff, 0xff, b'x'],
        envelope(Kind::Hello, vec![0xc0]),
        envelope(Kind::Output, vec![0xff; 64]),
        envelope(Kind::Result, Vec::new()),
        envelope(Kind::Report, b"\x82\xa1a\x01\xa1b\x02".to_vec()),
    ]
}

#[test]
fn nonsense_before_the_login_closes_that_connection_only() {
    let cluster = world();
    let honest = cluster.agent("honest").start();
    for (number, bytes) in nonsense().into_iter().enumerate() {
        let mut stranger = Connection::open(&cluster);
        stranger.send(bytes);
        stranger.wait_for_close();
        println!("nonsense {number} was turned away");
    }
    let mut stranger = Connection::open(&cluster);
    stranger.send_text("hello?");
    stranger.wait_for_close();
    others_are_unharmed(&cluster, &honest);
}

#[test]
fn nonsense_after_the_login_closes_that_session_only() {
    let cluster = world();
    let honest = cluster.agent("honest").start();
    let identity = Identity::join(&cluster, "strange");
    for (number, bytes) in nonsense().into_iter().enumerate() {
        let mut session = Connection::open_session(&cluster, &identity);
        session.send(bytes);
        session.wait_for_close();
        println!("nonsense {number} was turned away");
    }
    others_are_unharmed(&cluster, &honest);
}

#[test]
fn oversize_messages_close_the_link_before_and_after_the_login() {
    let cluster = world();
    let honest = cluster.agent("honest").start();
    let mut stranger = Connection::open(&cluster);
    stranger.send(vec![0; limits::MAX_HANDSHAKE_BYTES + 1]);
    stranger.wait_for_close();
    let identity = Identity::join(&cluster, "strange");
    let mut session = Connection::open_session(&cluster, &identity);
    session.send(vec![0; limits::MAX_FRAME_BYTES + 1]);
    session.wait_for_close();
    let mut session = Connection::open_session(&cluster, &identity);
    session.send(vec![0; 20 << 20]);
    session.wait_for_close();
    others_are_unharmed(&cluster, &honest);
}

#[test]
fn whoever_says_nothing_is_let_go_after_the_handshakes_time() {
    let cluster = world();
    let start = std::time::Instant::now();
    let mut silent = Connection::open(&cluster);
    silent.wait_for_close();
    assert!(start.elapsed() < limits::HANDSHAKE_TIMEOUT + std::time::Duration::from_secs(5));
}

#[test]
fn session_without_a_login_carries_nothing() {
    let cluster = world();
    let mut stranger = Connection::open(&cluster);
    stranger.say(&Heartbeat::default());
    stranger.wait_for_close();
}

#[test]
fn unknown_kind_of_message_breaks_nothing() {
    let cluster = world();
    let identity = Identity::join(&cluster, "newer");
    let mut session = Connection::open_session(&cluster, &identity);
    let unknown = Envelope {
        kind: Kind::Unknown("telepathy".to_owned()),
        id: None,
        name: String::new(),
        body: vec![],
    };
    session.send(encode(&unknown).expect("bytes"));
    session.say(&Heartbeat { time_us: 1, ..Heartbeat::default() });
    let _answer: Heartbeat = session.hear();
}
