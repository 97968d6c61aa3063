//! Bytes of version 1 of everything that an upgraded agent meets from older keepers. These never
//! change: what follows them gets a new version.

use reeve_agent::host::users::Account;
use reeve_agent::keeper::files::{self, Asked, Filed, KeeperFile, Spec, Terminal};
use reeve_agent::keeper::wire::{FromKeeper, Incoming, StdinState, ToKeeper, to_frame};
use reeve_protocol::ops::{Command, ExecuteCommand, OpenTerminal};
use reeve_protocol::{
    Accepted, Containment, OperationId, OperationResult, Outcome, SignalName, Totals, Usage,
};

use crate::kept::{Setup, shell};

fn id() -> OperationId {
    "01234567-89ab-7def-8123-456789abcdef".parse().expect("an id")
}

#[track_caller]
fn check(name: &str, bytes: &[u8]) {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    let golden = std::fs::read(&path).unwrap_or_default();
    assert!(golden == bytes, "{path} differs from what this build writes: {}", show(bytes));
}

fn show(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn check_file<T: Filed + PartialEq + std::fmt::Debug>(name: &str, value: &T) {
    let bytes = files::to_bytes(value).expect("encodes");
    check(name, &bytes);
    assert_eq!(&files::from_bytes::<T>(&bytes).expect("decodes"), value);
    // Another version, and a file cut anywhere, are damage and never a panic.
    let mut newer = bytes.clone();
    newer[7] += 1;
    assert!(files::from_bytes::<T>(&newer).is_err());
    for length in 0..bytes.len() {
        assert!(files::from_bytes::<T>(&bytes[..length]).is_err(), "cut at {length}");
    }
}

#[test]
fn files_of_version_one_stay_as_they_are() {
    let mut command = ExecuteCommand::new(Command::Argv(vec!["echo".into(), "hello".into()]));
    command.env.insert("A".to_owned(), "b".to_owned());
    command.timeout_ms = Some(1000);
    check_file(
        "spec.v1",
        &Spec {
            id: id(),
            command,
            account: Account {
                name: "deploy".to_owned(),
                uid: 1000,
                gid: 1001,
                groups: vec![1001, 27],
                home: "/home/deploy".to_owned(),
                shell: "/bin/sh".to_owned(),
            },
            switch_user: true,
            created_us: 1_700_000_000_000_000,
            boot_id: "boot".to_owned(),
            group: Some("/sys/fs/cgroup/reeve/op-1".into()),
            spool_bytes: 64,
            segment_bytes: 4,
            walls: None,
            work: None,
            terminal: None,
        },
    );
    check_file("spec-terminal.v1", &terminal_spec());
    check_file(
        "asked.v1",
        &Asked {
            id: id(),
            name: "explain_operation".to_owned(),
            created_us: 1_700_000_000_000_000,
            boot_id: "boot".to_owned(),
        },
    );
    check_file(
        "keeper.v1",
        &KeeperFile {
            pid: 4242,
            start_time: 123_456,
            boot_id: "boot".to_owned(),
            version: "0.1.0".to_owned(),
        },
    );
    check_file(
        "exit.v1",
        &OperationResult {
            outcome: Outcome::TimedOut { exit_code: None, signal: Some(9) },
            started_us: Some(1),
            finished_us: 2,
            duration_ms: 3,
            containment: Containment::CgroupV2,
            totals: Totals { all: 6, stdout: 4, stderr: 2 },
            leftovers_killed: 1,
            usage: Usage { user_us: 7, system_us: 8, max_rss_kib: 9 },
        },
    );
}

fn terminal_spec() -> Spec {
    let asked = OpenTerminal { user: Some("deploy".to_owned()), ..OpenTerminal::default() };
    Spec {
        id: id(),
        command: asked.to_command("/bin/bash"),
        account: Account {
            name: "deploy".to_owned(),
            uid: 1000,
            gid: 1001,
            groups: vec![1001],
            home: "/home/deploy".to_owned(),
            shell: "/bin/bash".to_owned(),
        },
        switch_user: true,
        created_us: 1_700_000_000_000_000,
        boot_id: "boot".to_owned(),
        group: None,
        spool_bytes: 64,
        segment_bytes: 4,
        walls: None,
        work: None,
        terminal: Some(Terminal {
            columns: 120,
            rows: 40,
            login: true,
            idle_limit_ms: Some(60_000),
        }),
    }
}

#[test]
fn messages_of_version_one_stay_as_they_are() {
    let stdin = StdinState { received: 1, until: 2, closed: false };
    let from_keeper = [
        FromKeeper::Hello {
            version: 1,
            keeper: 4242,
            spool_from: 3,
            spool_to: 4,
            accepted: Accepted {
                started_us: 5,
                pid: Some(6),
                containment: Containment::ProcessGroup,
            },
            stdin,
        },
        FromKeeper::Progress { to: 300 },
        FromKeeper::Stdin(stdin),
        FromKeeper::Exited,
    ];
    let to_keeper = [
        ToKeeper::Release { upto: 70_000 },
        ToKeeper::Input { offset: 1, bytes: vec![0, 255] },
        ToKeeper::CloseInput { offset: 3 },
        ToKeeper::Signal { signal: SignalName::Usr1 },
        ToKeeper::Resize { columns: 80, rows: 24 },
        ToKeeper::Cancel { reason: "why".to_owned() },
    ];
    let mut from: Vec<u8> = Vec::new();
    for message in &from_keeper {
        from.extend_from_slice(&to_frame(message).expect("encodes"));
    }
    let mut to: Vec<u8> = Vec::new();
    for message in &to_keeper {
        to.extend_from_slice(&to_frame(message).expect("encodes"));
    }
    check("from_keeper.v1", &from);
    check("to_keeper.v1", &to);
    // In pieces of any size, what went in comes out.
    for size in 1..from.len() {
        let mut incoming = Incoming::default();
        let mut got: Vec<FromKeeper> = Vec::new();
        for piece in from.chunks(size) {
            incoming.push(piece);
            while let Some(message) = incoming.take().expect("whole") {
                got.push(message);
            }
        }
        assert_eq!(got, from_keeper);
    }
}

#[test]
fn message_of_a_newer_peer_is_passed_over() {
    #[derive(serde::Serialize)]
    struct Newer {
        say: &'static str,
        r#do: &'static str,
        more: u8,
    }
    let frame = to_frame(&Newer { say: "dance", r#do: "dance", more: 1 }).expect("encodes");
    let mut incoming = Incoming::default();
    incoming.push(&frame);
    assert_eq!(incoming.take::<FromKeeper>().expect("whole"), Some(FromKeeper::Unknown));
    incoming.push(&frame);
    assert_eq!(incoming.take::<ToKeeper>().expect("whole"), Some(ToKeeper::Unknown));
}

#[tokio::test]
async fn segment_of_version_one_stays_as_it_is() {
    let mut kept = Setup::of(shell("printf out; sleep 0.1; printf err >&2")).start();
    kept.finish();
    let name = format!("spool.{:020}", 0);
    check("segment.v1", &std::fs::read(kept.folder.join(name)).expect("a segment"));
}
