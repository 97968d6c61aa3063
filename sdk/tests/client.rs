//! The client against a scripted coordinator over real sockets.

#![allow(clippy::expect_used, clippy::large_futures, reason = "this is test code")]

mod scripted;

use std::sync::atomic::Ordering;
use std::time::Duration;

use reeve_protocol::{Gap, Stream};
use reeve_sdk::{Client, Error, Event, Follow, RetryLimits, Which, command, probe};
use scripted::{Plan, Planned, Server, TOKEN};

/// Nothing here takes longer, whatever goes wrong.
const DEADLINE: Duration = Duration::from_secs(30);

fn client(server: &Server) -> Client {
    let limits = RetryLimits { total: Duration::from_secs(5), follow: Duration::from_secs(10) };
    Client::builder(&server.url).token(TOKEN).retry(limits).build().expect("client")
}

/// Bytes that differ at every offset that could be mixed up.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

#[derive(Default)]
struct Seen {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    gaps: Vec<Gap>,
    interruptions: usize,
    resumptions: usize,
    jobs: usize,
}

async fn watch(mut follow: Follow) -> Result<Seen, Error> {
    let all = async {
        let mut seen = Seen::default();
        while let Some(event) = follow.next().await? {
            match event {
                Event::Output(output) => {
                    let own = match output.stream {
                        Stream::Stdout => &mut seen.stdout,
                        Stream::Stderr => &mut seen.stderr,
                    };
                    if seen.gaps.is_empty() {
                        assert_eq!(output.offset, own.len() as u64, "offset in its own stream");
                    }
                    own.extend_from_slice(&output.bytes);
                }
                Event::Gap { gap, .. } => seen.gaps.push(gap),
                Event::Interrupted { .. } => seen.interruptions += 1,
                Event::Resumed => seen.resumptions += 1,
                Event::Job(_) => seen.jobs += 1,
                Event::Operation(_) => {}
            }
        }
        Ok(seen)
    };
    tokio::time::timeout(DEADLINE, all).await.expect("in time")
}

#[tokio::test]
async fn every_byte_arrives_once_over_a_road_that_keeps_breaking() {
    let server = Server::start().await;
    let (stdout, stderr) = (pattern(700_000), pattern(90_001));
    let planned = Planned {
        output: vec![
            (Stream::Stdout, stdout[..300_000].to_vec()),
            (Stream::Stderr, stderr.clone()),
            (Stream::Stdout, stdout[300_000..].to_vec()),
        ],
        ..Planned::succeeds("web-1", b"")
    };
    let plan = Plan { cut_after: Some(130_000), overlap: 1_000, ..Plan::of(vec![planned]) };
    server.script.plan("web-1", plan);
    let follow = client(&server).run(&command("web-1", ["x"])).expect("run");
    let seen = watch(follow).await.expect("whole");
    assert!(seen.stdout == stdout && seen.stderr == stderr, "bytes differ");
    assert!(seen.interruptions >= 3, "{} interruptions", seen.interruptions);
    assert_eq!(seen.interruptions, seen.resumptions);
    assert_eq!(server.script.memory().jobs.len(), 1, "started more than once");
    assert!(server.script.count("POST /api/jobs/") >= 3, "resumed by following");
}

/// Cut before the first frame: nobody can know whether the job was recorded, so the submission is
/// repeated with its key.
#[tokio::test]
async fn a_submission_that_broke_before_its_answer_starts_once() {
    let server = Server::start().await;
    let plan = Plan { cut_after: Some(20), ..Plan::of(vec![Planned::succeeds("web-1", b"hello")]) };
    server.script.plan("web-1", plan);
    let script = server.script.clone();
    let mut follow = client(&server).run(&command("web-1", ["x"])).expect("run");
    let repeated = async {
        while script.count("POST /api/jobs") < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        event = follow.next() => panic!("an event without a frame: {event:?}"),
        () = repeated => {}
        () = tokio::time::sleep(DEADLINE) => panic!("the submission was not repeated"),
    }
    for recorded in server.script.memory().jobs.values_mut() {
        recorded.plan.cut_after = None;
    }
    let seen = watch(follow).await.expect("whole");
    assert_eq!(seen.stdout, b"hello");
    assert_eq!(server.script.memory().jobs.len(), 1);
}

#[tokio::test]
async fn gaps_are_told_and_not_mistaken_for_loss() {
    let server = Server::start().await;
    let gap = Gap { from: 5, to: 1_000_005, stdout: 1_000_000, stderr: 0 };
    let planned = Planned {
        output: vec![(Stream::Stdout, b"head\n".to_vec()), (Stream::Stdout, b"tail\n".to_vec())],
        gap: Some(gap),
        ..Planned::succeeds("web-1", b"")
    };
    server.script.plan("web-1", Plan::of(vec![planned]));
    let seen =
        watch(client(&server).run(&command("web-1", ["x"])).expect("run")).await.expect("ok");
    assert_eq!(seen.stdout, b"head\ntail\n");
    assert_eq!(seen.gaps, [gap]);
    assert_eq!(seen.interruptions, 0);
}

#[tokio::test]
async fn a_busy_coordinator_is_asked_again() {
    let server = Server::start().await;
    server.script.plan("web-1", Plan::of(vec![Planned::succeeds("web-1", b"x")]));
    server.script.busy.store(2, Ordering::SeqCst);
    let follow = client(&server).run(&command("web-1", ["x"])).expect("run");
    assert_eq!(watch(follow).await.expect("ok").stdout, b"x");
    server.script.busy.store(2, Ordering::SeqCst);
    client(&server).me().await.expect("asked again");
    assert_eq!(server.script.count("GET /api/auth/me"), 3);
}

#[tokio::test]
async fn contact_lost_for_too_long_ends_the_following() {
    let server = Server::start().await;
    let plan = Plan {
        until_cancelled: true,
        cut_after: None,
        ..Plan::of(vec![Planned::succeeds("m", b"x")])
    };
    server.script.plan("m", plan);
    let limits = RetryLimits { total: Duration::from_secs(5), follow: Duration::from_millis(300) };
    let client = Client::builder(&server.url).token(TOKEN).retry(limits).build().expect("client");
    let created = client.create_job(&command("m", ["x"])).await.expect("job");
    for recorded in server.script.memory().jobs.values_mut() {
        recorded.plan.cut_after = Some(5_000);
        recorded.plan.operations[0].output = vec![(Stream::Stdout, pattern(9_000))];
    }
    // From the first byte on every request is refused.
    let mut follow = client.follow(created.id);
    assert!(matches!(follow.next().await, Ok(Some(Event::Job(_)))));
    server.script.busy.store(u32::MAX, Ordering::SeqCst);
    let outcome = tokio::time::timeout(DEADLINE, watch(follow)).await.expect("in time");
    assert!(matches!(outcome, Err(Error::LostContact { .. })), "{:?}", outcome.err());
}

#[tokio::test]
async fn output_downloads_resume_by_offset() {
    let server = Server::start().await;
    let bytes = pattern(250_000);
    let plan =
        Plan { cut_after: Some(60_000), ..Plan::of(vec![Planned::succeeds("web-1", &bytes)]) };
    server.script.plan("web-1", plan);
    let client = client(&server);
    let job = client.create_job(&command("web-1", ["x"])).await.expect("job");
    let operation = job.single.expect("one").id;
    let mut stream = client.output(operation, Which::Stdout, 0, false);
    let mut got = Vec::new();
    while let Some(chunk) =
        tokio::time::timeout(DEADLINE, stream.next()).await.expect("in time").expect("ok")
    {
        got.extend_from_slice(&chunk);
    }
    assert!(got == bytes, "{} bytes", got.len());
    assert!(server.script.count("GET /api/operations/") >= 4);
}

#[tokio::test]
async fn stdin_arrives_whole_though_calls_fail_overtake_and_are_taken_by_half() {
    let server = Server::start().await;
    server.script.plan("web-1", Plan::of(vec![Planned::succeeds("web-1", b"")]));
    let client = client(&server);
    let job = client.create_job(&command("web-1", ["x"])).await.expect("job");
    let operation = job.single.expect("one").id;
    let bytes = pattern(40_000_003);
    let sending = client.send_input(operation, bytes.as_slice());
    let summary = tokio::time::timeout(DEADLINE, sending).await.expect("in time").expect("sent");
    assert_eq!(summary.received, bytes.len() as u64);
    let memory = server.script.memory();
    let input = memory.input.get(&operation).expect("input");
    assert!(input.bytes == bytes, "stdin differs");
    assert!(input.ended, "the end was not told");
}

#[tokio::test]
async fn unknown_machines_come_with_near_names() {
    let server = Server::start().await;
    let error = client(&server).machine("wbe-1").await.expect_err("unknown");
    assert_eq!(error.code(), Some("machine_not_found"));
    assert_eq!(error.problem().expect("problem").nearest, ["web-1", "web-2"]);
}

#[tokio::test]
async fn a_pinned_client_reaches_its_coordinator_by_any_address() {
    // The certificate is not for 127.0.0.1, only for the name that all coordinators have.
    let server = Server::start_tls(&["reeve-coordinator.internal"]).await;
    let client = Client::builder(&server.url)
        .pin(server.pin.expect("pin"))
        .token(TOKEN)
        .build()
        .expect("ok");
    assert_eq!(client.me().await.expect("trusted").name, "ada");
}

#[tokio::test]
async fn a_wrong_pin_sends_nothing() {
    let server = Server::start_tls(&["127.0.0.1", "reeve-coordinator.internal"]).await;
    let other = Server::start_tls(&["127.0.0.1"]).await;
    let wrong = other.pin.expect("pin");
    let client = Client::builder(&server.url).pin(wrong).token(TOKEN).build().expect("ok");
    let error = client.me().await.expect_err("not trusted");
    assert!(matches!(error, Error::Pin { expected, .. } if expected == wrong), "{error:?}");
    assert_eq!(server.script.memory().requests, Vec::<String>::new());
    assert!(server.connections.load(Ordering::SeqCst) > 0, "it never tried");
}

#[tokio::test]
async fn a_ca_file_is_trusted_for_the_names_it_signed_and_the_system_does_not_know_it() {
    let server = Server::start_tls(&["127.0.0.1"]).await;
    let with_ca = Client::builder(&server.url).ca_pem(server.ca_pem.clone()).build().expect("ok");
    assert_eq!(with_ca.info().await.expect("trusted").product, "reeve");
    let system = Client::builder(&server.url).build().expect("ok");
    assert!(matches!(system.info().await, Err(Error::Tls { .. })));
    assert_eq!(server.script.count("GET"), 1, "the untrusted one sent something");
}

#[tokio::test]
async fn probing_shows_the_authority_and_sends_nothing() {
    let server = Server::start_tls(&["127.0.0.1"]).await;
    let presented = probe(&server.url, DEADLINE).await.expect("presented");
    assert_eq!(presented.authority(), server.pin);
    assert!(!presented.trusted);
    assert_eq!(server.script.memory().requests, Vec::<String>::new());
}

#[tokio::test]
async fn nobody_there_is_said_with_address_and_remedy() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    drop(listener);
    let limits = RetryLimits { total: Duration::ZERO, follow: Duration::ZERO };
    let client = Client::builder(&format!("http://{address}")).retry(limits).build().expect("ok");
    let text = client.info().await.expect_err("nobody").to_string();
    assert!(text.contains(&address.to_string()) && text.contains("connection refused"), "{text}");
    assert!(!text.contains('\n'));
}
