//! Output that is passed on to whoever asked and kept nowhere, and channels: through cuts, deaths and
//! readers that stand still.

use std::collections::BTreeMap;
use std::time::Duration;

use reeve_protocol::{OperationId, Stream};
use reeve_sdk::api::{JobRequest, Operation, OperationState};
use reeve_sdk::{ChannelEvent, ChannelMode, Client, Error, Event, Follow, command};
use reeve_tests::proxy::{Direction, Fault, Proxy};
use reeve_tests::{Agent, Cluster, eventually, on_each_database, processes};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

/// The agent's memory while it relays, at most.
const AGENT_RSS_KIB: u64 = 24 * 1024;

fn relayed(selector: &str, line: &str) -> JobRequest {
    JobRequest { relay: true, ..command(selector, ["sh", "-c", line]) }
}

/// What was read to the end.
struct Read {
    bytes: Vec<u8>,
    last: Operation,
}

async fn read_all(mut follow: Follow) -> Result<BTreeMap<OperationId, Read>, Error> {
    let mut bytes: BTreeMap<OperationId, Vec<u8>> = BTreeMap::new();
    let mut last = BTreeMap::new();
    while let Some(event) = follow.next().await? {
        match event {
            Event::Output(output) => {
                let all = bytes.entry(output.operation).or_default();
                assert_eq!(output.all, all.len() as u64, "a gap or a repetition");
                all.extend_from_slice(&output.bytes);
            }
            Event::Operation(operation) => {
                last.insert(operation.id, *operation);
            }
            Event::Gap { gap, .. } => panic!("a gap: {gap:?}"),
            Event::Interrupted { why } => panic!("interrupted: {why}"),
            _ => {}
        }
    }
    let read = |(id, last)| (id, Read { bytes: bytes.remove(&id).unwrap_or_default(), last });
    Ok(last.into_iter().map(read).collect())
}

/// Text whose every line differs.
fn lines(count: u32) -> Vec<u8> {
    (1..=count).flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

fn rss_kib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Waits until nothing of an operation is left on its machine.
fn wait_until_clean(cluster: &Cluster, agent: &Agent, id: OperationId, state: OperationState) {
    eventually("the operation has ended", Duration::from_secs(60), || {
        let operation: Operation = cluster.api.load(&format!("/api/operations/{id}"));
        assert!(!operation.state.is_terminal() || operation.state == state, "{operation:?}");
        operation.state == state
    });
    eventually("its keeper is gone", Duration::from_secs(30), || agent.keepers().is_empty());
    eventually("its folder is gone", Duration::from_secs(30), || {
        !agent.state().join("operations").join(id.to_string()).exists()
    });
}

#[test]
fn relayed_output_survives_cuts_of_the_machines_link_byte_for_byte() {
    let cluster = Cluster::start();
    let proxy = Proxy::to(cluster.coordinator.address());
    let _web = cluster.agent("web-1").dials(&proxy.url()).start();
    let runtime = Runtime::new().expect("a runtime");
    let expected = lines(1_400_000);
    for (number, fault) in [Fault::Reset, Fault::Close].into_iter().enumerate() {
        let before = proxy.passed(Direction::Up);
        proxy.after(Direction::Up, 3_333_333, fault);
        let follow = cluster.client().run(&relayed("web-1", "seq 1 1400000; exit 7"));
        let read = runtime.block_on(read_all(follow.expect("asked"))).expect("read");
        let read = read.into_values().next().expect("one operation");
        assert!(read.bytes == expected, "{} bytes of {}", read.bytes.len(), expected.len());
        assert_eq!(read.last.exit_code, Some(7));
        assert_eq!(proxy.faults(), number as u64 + 1, "the cut did not happen");
        assert!(proxy.passed(Direction::Up) - before > 3_333_333, "nothing after the cut");
        // How much it was is known; none of it is there.
        assert_eq!(read.last.output.all, expected.len() as u64);
        let path = format!("/api/operations/{}/output", read.last.id);
        assert_eq!(cluster.api.get(&path).problem(409).code, "output_relayed");
    }
}

#[test]
fn ten_relays_at_once_arrive_whole() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let runtime = Runtime::new().expect("a runtime");
    let client = cluster.client();
    runtime.block_on(async {
        let mut all = tokio::task::JoinSet::new();
        for number in 0..10_u32 {
            let follow =
                client.run(&relayed("web-1", &format!("seq {number} 400000"))).expect("ok");
            all.spawn(async move { (number, read_all(follow).await.expect("read")) });
        }
        while let Some(read) = all.join_next().await {
            let (number, read) = read.expect("no panic");
            let read = read.into_values().next().expect("one operation");
            let whole: Vec<u8> =
                (number..=400_000).flat_map(|line| format!("{line}\n").into_bytes()).collect();
            assert!(read.bytes == whole, "{number}: {} bytes", read.bytes.len());
            assert_eq!(read.last.state, OperationState::Succeeded);
        }
    });
}

/// Begins an endless relay and reads some of it.
async fn begin(client: &Client, line: &str) -> (Follow, OperationId) {
    let mut follow = client.run(&relayed("web-1", line)).expect("asked");
    loop {
        let event = follow.next().await.expect("an event").expect("no end");
        if let Event::Output(output) = event {
            return (follow, output.operation);
        }
    }
}

on_each_database! {
    fn submitter_that_is_gone_has_its_operation_cancelled_and_nothing_left(builder) {
        let cluster = builder.start();
        let web = cluster.agent("web-1").start();
        let runtime = Runtime::new().expect("a runtime");
        let marker = processes::marker();
        let line = format!("yes {marker}");
        let (follow, id) = runtime.block_on(begin(&cluster.client(), &line));
        drop(follow);
        drop(runtime);
        wait_until_clean(&cluster, &web, id, OperationState::Cancelled);
        assert!(processes::with_argument(&marker).is_empty(), "something of it is left");
    }

    fn coordinator_killed_while_it_relays_leaves_one_end_and_nothing_else(builder) {
        let mut cluster = builder.start();
        let web = cluster.agent("web-1").start();
        let runtime = Runtime::new().expect("a runtime");
        let marker = processes::marker();
        let line = format!("yes {marker}");
        let (mut follow, id) = runtime.block_on(begin(&cluster.client(), &line));
        cluster.coordinator.kill9();
        let error = runtime.block_on(async {
            loop {
                match follow.next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("an end"),
                    Err(error) => return error,
                }
            }
        });
        assert!(error.is_relay_broken(), "{error:?}");
        cluster.coordinator.start();
        wait_until_clean(&cluster, &web, id, OperationState::Cancelled);
        assert!(processes::with_argument(&marker).is_empty(), "something of it is left");
        let operation: Operation = cluster.api.load(&format!("/api/operations/{id}"));
        assert!(operation.output.all > 0);
        cluster.reeve(["run", "web-1", "--", "echo", "fine"]).expect_code(0);
    }
}

#[test]
fn reader_that_stands_still_holds_nobody_up_and_no_memory() {
    let cluster = Cluster::start();
    let web = cluster.agent("web-1").start();
    let runtime = Runtime::new().expect("a runtime");
    let (mut follow, id) = runtime.block_on(begin(&cluster.client(), "head -c 200M /dev/zero"));
    // Nothing is read now. The command comes to a stop when spool and windows are full.
    let written = || {
        let folder = web.state().join("operations").join(id.to_string());
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        files.filter_map(|file| Some(file.metadata().ok()?.len())).sum::<u64>()
    };
    let before_kib = rss_kib(cluster.coordinator.pid());
    eventually("the spool is full", Duration::from_secs(60), || {
        written() >= reeve_protocol::limits::SPOOL_BYTES - (1 << 20)
    });
    for _ in 0..5 {
        cluster.reeve(["run", "web-1", "--", "echo", "quick"]).expect_code(0);
    }
    assert!(web.machine().state == reeve_sdk::api::MachineState::Online);
    let agent_kib = rss_kib(web.pid());
    // Not a limit of a debug build: it has no optimised code, which takes room of its own.
    assert!(agent_kib < 2 * AGENT_RSS_KIB, "the agent has {agent_kib} KiB");
    let after_kib = rss_kib(cluster.coordinator.pid());
    assert!(after_kib < before_kib + 64 * 1024, "{before_kib} KiB became {after_kib} KiB");
    let count = runtime.block_on(async {
        let mut count = 0;
        while let Some(event) = follow.next().await.expect("an event") {
            if let Event::Output(output) = event {
                assert!(output.bytes.iter().all(|byte| *byte == 0));
                count = output.all + output.bytes.len() as u64;
            }
        }
        count
    });
    assert_eq!(count, 200 << 20);
}

/// Reads a channel to its end.
async fn gather(channel: &mut reeve_sdk::Channel) -> (Vec<u8>, Option<Operation>, u32) {
    let (mut bytes, mut last, mut cuts) = (Vec::new(), None, 0);
    while let Some(event) = channel.next().await.expect("an event") {
        match event {
            ChannelEvent::Output { stream: Stream::Stdout, all, bytes: more } => {
                assert_eq!(all, bytes.len() as u64, "a gap or a repetition");
                bytes.extend_from_slice(&more);
            }
            ChannelEvent::State(operation) => last = Some(*operation),
            ChannelEvent::Interrupted { .. } => cuts += 1,
            _ => {}
        }
    }
    (bytes, last, cuts)
}

#[test]
fn channel_cut_in_the_middle_goes_on_both_ways_by_offset() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let proxy = Proxy::to(cluster.coordinator.address());
    let runtime = Runtime::new().expect("a runtime");
    let client = Client::builder(&proxy.url())
        .token(cluster.api.token().expect("logged in"))
        .ca_pem(cluster.coordinator.ca_pem())
        .build()
        .expect("a client");
    let mut request = command("web-1", ["cat"]);
    if let reeve_sdk::api::OperationRequest::ExecuteCommand(command) = &mut request.operation {
        command.stdin = true;
    }
    let input = lines(400_000);
    let sent = input.clone();
    runtime.block_on(async {
        let job = client.create_job(&request).await.expect("a job");
        let id = job.single.expect("one machine").id;
        proxy.after(Direction::Up, 1_000_000, Fault::Reset);
        proxy.after(Direction::Down, 1_500_000, Fault::Reset);
        let mut channel = client.channel(id, 0, ChannelMode::Write);
        let way_in = channel.input();
        let sending = tokio::spawn(async move {
            for piece in sent.chunks(50_000) {
                assert!(way_in.send(piece.to_vec().into()).await, "nobody reads");
            }
            way_in.close_input();
        });
        let (bytes, last, cuts) = gather(&mut channel).await;
        sending.await.expect("sent");
        assert_eq!(Sha256::digest(&bytes), Sha256::digest(&input), "{} bytes", bytes.len());
        assert_eq!(last.expect("a state").state, OperationState::Succeeded);
        assert!(cuts >= 1, "the cut did not happen");
        // Again, from the end.
        let mut again = client.channel(id, reeve_sdk::ChannelFrom::Tail(7), ChannelMode::Read);
        let mut tail = Vec::new();
        while let Some(event) = again.next().await.expect("an event") {
            if let ChannelEvent::Output { bytes, .. } = event {
                tail.extend_from_slice(&bytes);
            }
        }
        assert_eq!(tail, b"400000\n");
    });
    assert_eq!(proxy.faults(), 2, "the cuts did not happen");
}
