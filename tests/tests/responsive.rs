//! What people do on a machine goes on at once beside transfers that have no end, both ways.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use reeve_protocol::Stream;
use reeve_protocol::ops::copy_stream::{COPY_FORMAT, CopyRecord, CopyStart};
use reeve_protocol::ops::{Existing, FileRead, FileWrite, RemotePath};
use reeve_sdk::api::{JobRequest, MachineState, Operation, OperationState};
use reeve_sdk::{Client, Event};
use reeve_tests::{Cluster, Person, eventually};
use tokio::io::{AsyncRead, ReadBuf};

const LIMIT: Duration = Duration::from_secs(180);

/// Commands that are run meanwhile.
const COMMANDS: usize = 50;
/// Keys that are typed meanwhile.
const KEYS: usize = 200;
/// Heartbeats that come meanwhile.
const HEARTBEATS: usize = 2;

/// A file that is long and has no data on any disk: many names for the same few pages.
const PIECE: usize = 16 * 1024 * 1024;
const PIECES: usize = 4000;

/// A tree of one file without an end, which is there already and stays: it goes the whole way, and
/// no disk fills.
struct EndlessTree {
    begin: Vec<u8>,
    piece: Vec<u8>,
    at: usize,
    given: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl EndlessTree {
    fn new(given: &Arc<AtomicU64>, over: &Arc<AtomicBool>) -> Self {
        let mut begin = Vec::new();
        let start = CopyStart { format: COPY_FORMAT, tree: true, ..CopyStart::default() };
        let entry = |path: &str, kind: &str, size: u64| {
            serde_json::json!({
                "path": path, "kind": kind, "size": size, "mode": 0o644, "uid": 0, "gid": 0,
                "modified_ns": 0,
            })
        };
        for (record, document) in [
            (CopyRecord::Start, serde_json::to_value(start).expect("JSON")),
            (CopyRecord::Entry, entry("", "directory", 0)),
            (CopyRecord::Entry, entry("file", "file", 1 << 60)),
        ] {
            let bytes = serde_json::to_vec(&document).expect("JSON");
            record.write(&mut begin, &bytes).expect("written");
        }
        let mut piece = Vec::new();
        CopyRecord::Data.write(&mut piece, &vec![7; 512 * 1024]).expect("written");
        Self { begin, piece, at: 0, given: given.clone(), over: over.clone() }
    }
}

impl AsyncRead for EndlessTree {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.over.load(Ordering::SeqCst) {
            return Poll::Ready(Ok(()));
        }
        let at = self.at;
        let rest = match at.checked_sub(self.begin.len()) {
            None => &self.begin[at..],
            Some(behind) => &self.piece[behind % self.piece.len()..],
        };
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        self.given.fetch_add(count as u64, Ordering::SeqCst);
        self.at += count;
        Poll::Ready(Ok(()))
    }
}

/// Reads what has no end and keeps nothing of it.
async fn drain(client: Client, request: JobRequest, came: Arc<AtomicU64>) {
    let mut follow = client.run(&request).expect("a request");
    while let Some(event) = follow.next().await.expect("followed") {
        if let Event::Output(output) = event
            && output.stream == Stream::Stdout
        {
            came.fetch_add(output.bytes.len() as u64, Ordering::SeqCst);
        }
    }
}

fn remote(path: &std::path::Path) -> RemotePath {
    RemotePath::from(path.to_str().expect("text"))
}

#[test]
fn commands_keys_and_heartbeats_go_on_beside_transfers_without_an_end() {
    let cluster = Cluster::start();
    let web = cluster.agent("web-1").start();
    let folder = tempfile::TempDir::new().expect("a folder");
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    std::fs::create_dir(&from).expect("a folder");
    std::fs::create_dir(&to).expect("a folder");
    std::fs::write(to.join("file"), "stays").expect("a file");
    let first = from.join("0");
    std::fs::write(&first, vec![7; PIECE]).expect("a file");
    for number in 1..PIECES {
        std::fs::hard_link(&first, from.join(format!("{number}"))).expect("a link");
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (down, up) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let over = Arc::<AtomicBool>::default();
    let read = FileRead { recursive: true, ..FileRead::new(remote(&from)) };
    let request = JobRequest { relay: true, ..JobRequest::new("web-1", read) };
    let draining = runtime.spawn(drain(cluster.client(), request, down.clone()));
    let write =
        FileWrite { recursive: true, existing: Existing::Keep, ..FileWrite::new(remote(&to)) };
    let writing = cluster.submit(&JobRequest::new("web-1", write)).single.expect("one").id;
    let (client, endless) = (cluster.client(), EndlessTree::new(&up, &over));
    let sending = runtime.spawn(async move { client.send_input(writing, endless).await });
    let received = || -> u64 {
        cluster.api.load::<Operation>(&format!("/api/operations/{writing}")).stdin_received
    };
    let moved = || (down.load(Ordering::SeqCst), received());
    eventually("both are on their way", LIMIT, || {
        let (down, up) = moved();
        down > 32 << 20 && up > 32 << 20
    });

    let command = cluster.reeve_command(cluster.api.token(), ["shell", "web-1", "--", "cat"]).0;
    let mut person = Person::start(&command, 80, 24);
    let mut heartbeats = Vec::new();
    let mut before = moved();
    let mut advances = 0;
    for round in 0..COMMANDS {
        let echo = cluster.reeve(["run", "web-1", "--", "echo", &round.to_string()]);
        echo.expect_code(0).expect_stdout(&format!("{round}\n"));
        for key in 0..KEYS / COMMANDS {
            // Each is waited for before the next, as by somebody who looks.
            let mark = format!("<{}>", round * (KEYS / COMMANDS) + key);
            person.types(&mark);
            person.sees(&mark);
        }
        let now = moved();
        if now.0 > before.0 && now.1 > before.1 {
            advances += 1;
            before = now;
        }
        let metrics = format!("{:?}", web.machine().metrics);
        if heartbeats.last() != Some(&metrics) {
            heartbeats.push(metrics);
        }
    }
    eventually("heartbeats have come", LIMIT, || {
        let metrics = format!("{:?}", web.machine().metrics);
        if heartbeats.last() != Some(&metrics) {
            heartbeats.push(metrics);
        }
        heartbeats.len() > HEARTBEATS
    });
    assert_eq!(web.machine().state, MachineState::Online);
    // Neither waited for the other: they moved on again and again meanwhile, and have not ended.
    assert!(advances > 5, "the transfers stood still");
    assert!(!draining.is_finished() && !sending.is_finished(), "the transfers have ended");
    eventually("they move on still", LIMIT, || {
        let now = moved();
        now.0 > before.0 && now.1 > before.1
    });
    over.store(true, Ordering::SeqCst);
    draining.abort();
    let sent = runtime.block_on(sending).expect("no panic").expect("sent");
    assert_eq!(sent.received, up.load(Ordering::SeqCst));
    eventually("what was cut has ended so", LIMIT, || {
        let operation: Operation = cluster.api.load(&format!("/api/operations/{writing}"));
        operation.state == OperationState::Failed
    });
    assert_eq!(std::fs::read(to.join("file")).expect("there"), b"stays");
    person.types("\r\x04");
    assert_eq!(person.ends(), 0);
}
