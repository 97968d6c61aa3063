//! Bulk on its way to stdin: kept at the coordinator for many machines, from one machine to another,
//! and straight from who runs the command. Cut and killed in the middle, it arrives whole.

use std::io::Cursor;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use reeve_protocol::{JobId, OperationId};
use reeve_sdk::api::{
    ExecuteCommandRequest, JobInput, JobRequest, JobState, NewUpload, Operation, OperationRequest,
    OperationState, OutputTo, UploadState,
};
use reeve_sdk::command;
use reeve_tests::proxy::{Direction, Fault, Proxy};
use reeve_tests::{Cluster, eventually, eventually_some, on_each_database};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, ReadBuf};

/// For what moves tens of MiB on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A command that reads stdin, on the machines of a selector.
fn reading(selector: &str, line: &str) -> JobRequest {
    let command = ExecuteCommandRequest {
        shell: Some(line.to_owned()),
        stdin: true,
        ..ExecuteCommandRequest::default()
    };
    JobRequest::new(selector, OperationRequest::ExecuteCommand(command))
}

/// Bytes that are the same in every run and nowhere alike.
fn content(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime")
}

fn client_at(cluster: &Cluster, url: &str) -> reeve_sdk::Client {
    reeve_sdk::Client::builder(url)
        .token(cluster.api.token().expect("logged in"))
        .ca_pem(cluster.coordinator.ca_pem())
        .build()
        .expect("a client")
}

fn stdout(cluster: &Cluster, operation: OperationId) -> String {
    let answer = cluster.api.get(&format!("/api/operations/{operation}/output?stream=stdout"));
    String::from_utf8_lossy(&answer.body).into_owned()
}

fn wait_for_end(cluster: &Cluster, job: JobId) -> Vec<Operation> {
    eventually("the job has ended", LIMIT, || cluster.job(job).state != JobState::Running);
    cluster.operations(job)
}

/// Once a machine runs it and has this much of its stdin.
fn wait_until_received(cluster: &Cluster, job: JobId, bytes: u64) {
    eventually("every machine has what there is", LIMIT, || {
        cluster.operations(job).iter().all(|each| each.stdin_received >= bytes)
    });
}

#[test]
fn upload_cut_in_the_middle_goes_on_where_it_was() {
    let cluster = Cluster::start();
    let proxy = Proxy::to(cluster.coordinator.address());
    let client = client_at(&cluster, &proxy.url());
    let bytes = content(24 << 20);
    let hash = blake3::hash(&bytes).to_hex().to_string();
    let upload = runtime().block_on(async {
        let new = NewUpload { blake3: Some(hash.clone()), ..NewUpload::new(bytes.len() as u64) };
        let upload = client.create_upload(&new).await.expect("announced");
        proxy.after(Direction::Up, 9_000_000, Fault::Reset);
        client.send_upload(upload.id, Cursor::new(&bytes), |_| {}).await.expect("sent")
    });
    assert_eq!(proxy.faults(), 1, "the cut did not happen");
    assert_eq!((upload.state, upload.blake3), (UploadState::Complete, Some(hash)));
    // What had come before the cut was not all sent again.
    let passed = proxy.passed(Direction::Up);
    assert!(passed < bytes.len() as u64 + 9_000_000, "{passed} bytes went up");
    let kept = cluster.coordinator.data().join("uploads").join(upload.id.to_string());
    assert!(std::fs::read(kept).expect("a file") == bytes, "other bytes are kept");
}

on_each_database! {
    fn fan_out_survives_a_cut_a_killed_agent_and_a_killed_coordinator(builder) {
        let mut cluster = builder.start();
        let proxy = Proxy::to(cluster.coordinator.address());
        let mut agents: Vec<_> = (1..=5)
            .map(|number| {
                let agent = cluster.agent(&format!("web-{number}"));
                if number == 1 { agent.dials(&proxy.url()).start() } else { agent.start() }
            })
            .collect();
        let bytes = content(20 << 20);
        let half = bytes.len() / 2;
        let client = cluster.client();
        let runtime = runtime();
        let upload = runtime.block_on(async {
            let upload = client.create_upload(&NewUpload::new(bytes.len() as u64)).await;
            let id = upload.expect("announced").id;
            let part = bytes[..half].to_vec().into();
            client.append_upload(id, 0, part).await.expect("appended")
        });
        assert_eq!(upload.received, half as u64);
        // The first machine's connection breaks while the first half goes down.
        proxy.after(Direction::Down, 4_000_000, Fault::Reset);
        let input = Some(JobInput { upload: upload.id });
        let job = cluster.submit(&JobRequest { input, ..reading("web-*", "sha256sum") }).id;
        wait_until_received(&cluster, job, half as u64);
        assert_eq!(proxy.faults(), 1, "the cut did not happen");
        agents[1].kill9();
        cluster.coordinator.kill9();
        cluster.coordinator.start();
        agents[1].restart();
        let sent = runtime.block_on(client.send_upload(upload.id, Cursor::new(&bytes), |_| {}));
        assert_eq!(sent.expect("sent").state, UploadState::Complete);
        let operations = wait_for_end(&cluster, job);
        assert_eq!(operations.len(), 5);
        let expected = format!("{}  -\n", sha256(&bytes));
        for operation in operations {
            assert_eq!(operation.state, OperationState::Succeeded, "{operation:?}");
            assert_eq!(stdout(&cluster, operation.id), expected, "{}", operation.machine);
        }
    }
}

#[test]
fn machine_to_machine_survives_cuts_of_either_link_and_stores_nothing() {
    let cluster = Cluster::start();
    let (up, down) =
        (Proxy::to(cluster.coordinator.address()), Proxy::to(cluster.coordinator.address()));
    let _web = cluster.agent("web-1").dials(&up.url()).start();
    let _db = cluster.agent("db-1").dials(&down.url()).start();
    let lines = 2_000_000;
    let mut whole = String::new();
    for line in 1..=lines {
        whole.push_str(&format!("{line}\n"));
    }
    up.after(Direction::Up, 4_000_000, Fault::Reset);
    down.after(Direction::Down, 8_000_000, Fault::Reset);
    let there = cluster.submit(&reading("db-1", "sha256sum"));
    let destination = there.single.as_ref().expect("one machine").id;
    let output_to = Some(OutputTo { operation: destination });
    let source = JobRequest { output_to, ..command("web-1", ["seq", "1", &lines.to_string()]) };
    let here = cluster.submit(&source);
    for job in [here.id, there.id] {
        let operations = wait_for_end(&cluster, job);
        assert_eq!(operations[0].state, OperationState::Succeeded, "{operations:?}");
    }
    assert_eq!((up.faults(), down.faults()), (1, 1), "the cuts did not happen");
    let hash = sha256(whole.as_bytes());
    assert_eq!(stdout(&cluster, destination), format!("{hash}  -\n"));
    let status: reeve_sdk::api::Status = cluster.api.load("/api/status");
    assert!(status.output_bytes < 1_000_000, "{} bytes were stored", status.output_bytes);
}

#[test]
fn source_that_fails_ends_its_destination_with_its_last_words() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let _db = cluster.agent("db-1").start();
    let there = cluster.submit(&reading("db-1", "cat >/dev/null"));
    let destination = there.single.as_ref().expect("one machine").id;
    let output_to = Some(OutputTo { operation: destination });
    let failing = command("web-1", ["sh", "-c", "echo part; echo it broke >&2; exit 3"]);
    let here = cluster.submit(&JobRequest { output_to, ..failing });
    assert_eq!(wait_for_end(&cluster, here.id)[0].exit_code, Some(3));
    let ended = wait_for_end(&cluster, there.id).remove(0);
    assert_eq!(ended.state, OperationState::Cancelled);
    let reason = ended.reason.expect("a reason").message;
    assert!(reason.contains("it broke"), "{reason}");
}

/// Zeros until it is told to end.
struct Endless {
    over: Arc<AtomicBool>,
    given: Arc<AtomicU64>,
}

impl AsyncRead for Endless {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if !self.over.load(Ordering::SeqCst) {
            let room = buffer.remaining();
            buffer.initialize_unfilled().fill(0);
            buffer.advance(room);
            self.given.fetch_add(room as u64, Ordering::SeqCst);
        }
        Poll::Ready(Ok(()))
    }
}

#[test]
fn other_commands_run_to_their_end_while_bulk_goes_to_the_same_machine() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let job = cluster.submit(&reading("web-1", "wc -c"));
    let id = job.single.as_ref().expect("one machine").id;
    let (over, given) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let endless = Endless { over: over.clone(), given: given.clone() };
    let client = cluster.client();
    let runtime = runtime();
    let sending = runtime.spawn(async move { client.send_input(id, endless).await });
    let received = || -> u64 {
        cluster.api.load::<Operation>(&format!("/api/operations/{id}")).stdin_received
    };
    let before = eventually_some("bulk is on its way", LIMIT, || {
        Some(received()).filter(|received| *received > 64 << 20)
    });
    for number in 0..20 {
        let echoed = cluster.reeve(["run", "web-1", "--", "echo", &number.to_string()]);
        echoed.expect_code(0).expect_stdout(&format!("{number}\n"));
    }
    eventually("bulk has gone on meanwhile", LIMIT, || received() > before);
    over.store(true, Ordering::SeqCst);
    let sent = runtime.block_on(sending).expect("no panic").expect("sent");
    assert_eq!(sent.received, given.load(Ordering::SeqCst));
    let ended = wait_for_end(&cluster, job.id).remove(0);
    assert_eq!(ended.state, OperationState::Succeeded);
    assert_eq!(stdout(&cluster, id), format!("{}\n", sent.received));
}
