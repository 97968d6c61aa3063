//! The bytes of every message, version by version. Agents and coordinators of other releases read
//! and write exactly these, so a difference here is a broken link out there.
//!
//! When a test fails, the encoding has changed: take the change back. Files of a version that was
//! released are never edited and never removed.
//!
//! To add a message, a field or an operation to the version that is being made: add a new sample
//! below (keep the old ones, which show that a message without the new field still reads the same),
//! then `REEVE_UPDATE=1 cargo test -p reeve-protocol --test golden`. That writes files that are
//! missing and never touches one that is there.
//!
//! To begin version 2: raise `VERSION` and add a line to its history (protocol/src/version.rs), copy
//! `v1` to `v2`, and give both folders to the tests here. What version 1 wrote has to be readable for as
//! long as `MINIMUM_VERSION` is 1: then only [`reads_as`] is asked of `v1`.

#![allow(clippy::expect_used, reason = "this is test code")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use reeve_protocol::enrol::{Register, Registered};
use reeve_protocol::ops::{
    Command, ExecuteCommand, ExplainOperation, FileFind, FileGrep, FileHistory, FileKind, FileList,
    FileMkdir, FileMode, FileMove, FileRemove, FileRestore, FileStat, GrepBinary, GrepReport,
    Leftovers, OpenTerminal, Operation, RemotePath, SpoolFull, Stdin,
};
use reeve_protocol::token::{Pin, Token};
use reeve_protocol::{
    Accepted, Acknowledge, ApprovalStamp, Body, Challenge, ClientLog, Containment, Control,
    CoordinatorId, Credit, DiskFact, Envelope, Evidence, Facts, Gap, Goodbye, GoodbyeReason,
    Heartbeat, Hello, JournalId, Kind, MachineId, Metrics, NetworkFact, OperationId,
    OperationReport, OperationResult, Outcome, Output, Proof, Refusal, Reject, RejectCode, Report,
    ReportedState, Request, Sample, SignalName, Stream, Totals, Usage, VersionRange, Welcome,
    decode, encode, proof_message,
};
use uuid::Uuid;

const MACHINE: MachineId = MachineId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));
const COORDINATOR: CoordinatorId =
    CoordinatorId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0002));
const JOURNAL: JournalId = JournalId(Uuid::from_u128(0x0190_0000_0000_4000_8000_0000_0000_0003));
const OPERATION: OperationId =
    OperationId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0004));
const BOOT: &str = "5f1c7a3e-0000-4000-8000-000000000005";
const TIME_US: i64 = 1_795_000_000_000_000;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

/// Everything that has been said, to be compared at the end.
#[derive(Default)]
struct Samples {
    bytes: BTreeMap<String, Vec<u8>>,
    kinds: BTreeSet<String>,
}

impl Samples {
    /// A message about no operation.
    fn add<B: Body + PartialEq + std::fmt::Debug>(&mut self, name: &str, body: &B) {
        self.envelope(name, Envelope::of(body).expect("encodes"), body);
    }

    /// A message about an operation.
    fn about<B: Body + PartialEq + std::fmt::Debug>(&mut self, name: &str, body: &B) {
        self.envelope(name, Envelope::about(OPERATION, body).expect("encodes"), body);
    }

    fn envelope<B: Body + PartialEq + std::fmt::Debug>(
        &mut self,
        name: &str,
        envelope: Envelope,
        body: &B,
    ) {
        self.kinds.insert(envelope.kind.as_str().to_owned());
        reads_as(name, &envelope, body);
        self.put(name, encode(&envelope).expect("encodes"));
    }

    fn put(&mut self, name: &str, bytes: Vec<u8>) {
        assert!(self.bytes.insert(name.to_owned(), bytes).is_none(), "{name} is there twice");
    }
}

/// The file of this name, read with this build, is the message with this body.
fn reads_as<B: Body + PartialEq + std::fmt::Debug>(name: &str, envelope: &Envelope, body: &B) {
    let Some(bytes) = read(name) else { return };
    let found: Envelope = decode(&bytes).expect(name);
    assert_eq!(found, *envelope, "{name}");
    assert_eq!(found.open::<B>().expect(name), *body, "{name}");
}

fn path(name: &str) -> PathBuf {
    folder().join(format!("{name}.hex"))
}

fn read(name: &str) -> Option<Vec<u8>> {
    let text = fs::read_to_string(path(name)).ok()?;
    let digits: String = text.split_whitespace().collect();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect(name);
    Some((0..digits.len()).step_by(2).map(byte).collect())
}

fn to_text(bytes: &[u8]) -> String {
    let line =
        |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes.chunks(32).map(line).collect()
}

fn write_missing(name: &Path, contents: &str) {
    if std::env::var_os("REEVE_UPDATE").is_some() && !name.exists() {
        fs::write(name, contents).expect("writes");
    }
}

fn samples() -> Samples {
    let mut all = Samples::default();
    handshake(&mut all);
    requests(&mut all);
    file_requests(&mut all);
    running(&mut all);
    results(&mut all);
    machine(&mut all);
    all
}

fn handshake(all: &mut Samples) {
    all.add(
        "hello",
        &Hello {
            versions: VersionRange { min: 1, max: 1 },
            agent_version: "0.1.0".to_owned(),
            machine: MACHINE,
            operations: vec!["execute_command".to_owned()],
            boot_id: BOOT.to_owned(),
            journal: JOURNAL,
            max_concurrent: 32,
        },
    );
    all.add(
        "challenge",
        &Challenge { version: 1, coordinator: COORDINATOR, nonce: (0..32).collect() },
    );
    all.add("proof", &Proof { signature: (100..164).collect() });
    all.add("welcome", &Welcome { epoch: 7, heartbeat_ms: 15_000, coordinator_time_us: TIME_US });
    for (word, code) in [
        ("version", RejectCode::Version),
        ("unknown_machine", RejectCode::UnknownMachine),
        ("revoked", RejectCode::Revoked),
        ("bad_proof", RejectCode::BadProof),
        ("cloned", RejectCode::Cloned),
        ("unavailable", RejectCode::Unavailable),
        ("malformed", RejectCode::Malformed),
    ] {
        let message = "why, and what to do".to_owned();
        all.add(&format!("reject-{word}"), &Reject { code, message, retry_after_ms: 2_000 });
    }
}

/// With every field, one path of any bytes among them.
fn file_requests(all: &mut Samples) {
    let path = || RemotePath::new(&b"/srv/caf\xe9\n"[..]);
    let hash = || Some("0f".repeat(32));
    file_request(all, &FileStat { path: path(), follow: true, hash: true });
    file_request(
        all,
        &FileList {
            depth: 3,
            limit: 100,
            skip_hidden: true,
            one_file_system: true,
            ..FileList::new(path())
        },
    );
    file_request(
        all,
        &FileFind {
            globs: vec!["*.conf".to_owned()],
            exclude: vec![".git".to_owned()],
            ignore_case: true,
            kinds: vec![FileKind::File, FileKind::Symlink],
            min_size: Some(1),
            max_size: Some(1 << 40),
            newer_than_s: Some(3600),
            older_than_s: Some(60),
            owner: Some("deploy".to_owned()),
            max_depth: Some(4),
            skip_hidden: true,
            one_file_system: true,
            limit: Some(1000),
            ..FileFind::new(path())
        },
    );
    file_request(
        all,
        &FileGrep {
            fixed: true,
            ignore_case: true,
            word: true,
            invert: true,
            before: 1,
            after: 2,
            globs: vec!["*.log".to_owned()],
            exclude: vec![".git".to_owned()],
            max_depth: Some(4),
            skip_hidden: true,
            one_file_system: true,
            report: GrepReport::Counts,
            binary: GrepBinary::Skip,
            max_per_file: Some(10),
            limit: Some(1000),
            ..FileGrep::new(path(), "caf\u{e9}")
        },
    );
    file_request(all, &FileMkdir { parents: true, mode: Some(0o750), ..FileMkdir::new(path()) });
    file_request(
        all,
        &FileMode {
            mode: Some(0o640),
            clear: 0o022,
            add: 0o100,
            add_search: 0o111,
            user: Some("deploy".to_owned()),
            group: Some("1000".to_owned()),
            recursive: true,
            ..FileMode::new(path())
        },
    );
    file_request(
        all,
        &FileMove {
            replace: true,
            if_match: hash(),
            no_version: true,
            ..FileMove::new(path(), "/srv/new")
        },
    );
    let one = FileRemove { if_match: hash(), no_version: true, ..FileRemove::new(path()) };
    file_request(all, &one);
    file_request(all, &FileHistory { beneath: true, ..FileHistory::new(path()) });
    file_request(
        all,
        &FileRestore { if_match: hash(), parents: true, ..FileRestore::new(path(), 17) },
    );
}

fn file_request<W: Operation + PartialEq + std::fmt::Debug>(all: &mut Samples, work: &W) {
    let request = Request {
        boot_id: BOOT.to_owned(),
        journal: JOURNAL,
        expires_in_ms: None,
        body: encode(work).expect("encodes"),
        approval: None,
        redact: false,
    };
    let envelope = Envelope::request(OPERATION, W::NAME, &request).expect("encodes");
    all.envelope(&format!("request-{}", W::NAME), envelope, &request);
    assert_eq!(decode::<W>(&request.body).expect("decodes"), *work);
}

fn requests(all: &mut Samples) {
    let mut full = ExecuteCommand::new(Command::Argv(vec!["df".to_owned(), "-h".to_owned()]));
    full.user = Some("deploy".to_owned());
    full.cwd = Some("/srv".to_owned());
    full.env = BTreeMap::from([("KEY".to_owned(), "value".to_owned())]);
    full.stdin = Stdin::Stream;
    full.timeout_ms = Some(60_000);
    full.grace_ms = 1_000;
    full.spool_full = SpoolFull::DropMiddle;
    full.leftovers = Leftovers::Keep;
    let plain = ExecuteCommand::new(Command::Shell("a | b".to_owned()));
    for (name, command, expires_in_ms) in
        [("request-argv", full, Some(3_600_000)), ("request-shell", plain, None)]
    {
        let body = encode(&command).expect("encodes");
        let request = Request {
            boot_id: BOOT.to_owned(),
            journal: JOURNAL,
            expires_in_ms,
            body,
            approval: None,
            redact: false,
        };
        let envelope =
            Envelope::request(OPERATION, ExecuteCommand::NAME, &request).expect("encodes");
        all.envelope(name, envelope, &request);
        assert_eq!(decode::<ExecuteCommand>(&request.body).expect("decodes"), command);
    }
    let line = ExecuteCommand::new(Command::Shell("systemctl restart app".to_owned()));
    let request = Request {
        boot_id: BOOT.to_owned(),
        journal: JOURNAL,
        expires_in_ms: None,
        body: encode(&line).expect("encodes"),
        approval: Some(ApprovalStamp {
            digest: (0..32).collect(),
            machines: (32..64).collect(),
            expires_us: TIME_US,
        }),
        redact: false,
    };
    let envelope = Envelope::request(OPERATION, ExecuteCommand::NAME, &request).expect("encodes");
    all.envelope("request-approved", envelope, &request);
    let question = ExplainOperation { operation: OPERATION };
    let request = Request { body: encode(&question).expect("encodes"), approval: None, ..request };
    let envelope = Envelope::request(OPERATION, ExplainOperation::NAME, &request).expect("encodes");
    all.envelope("request-explain_operation", envelope, &request);
    assert_eq!(decode::<ExplainOperation>(&request.body).expect("decodes"), question);
    let shell = OpenTerminal { columns: 120, rows: 40, ..OpenTerminal::default() };
    let program = OpenTerminal {
        command: Some(vec!["vi".to_owned(), "/etc/motd".to_owned()]),
        user: Some("deploy".to_owned()),
        cwd: Some("/srv".to_owned()),
        env: BTreeMap::from([("COLORTERM".to_owned(), "truecolor".to_owned())]),
        term: "screen".to_owned(),
        idle_limit_ms: 0,
        record: false,
        ..OpenTerminal::default()
    };
    for (name, terminal) in [("shell", shell), ("program", program)] {
        let request = Request { body: encode(&terminal).expect("encodes"), ..request.clone() };
        let envelope = Envelope::request(OPERATION, OpenTerminal::NAME, &request).expect("encodes");
        all.envelope(&format!("request-open_terminal-{name}"), envelope, &request);
        assert_eq!(decode::<OpenTerminal>(&request.body).expect("decodes"), terminal);
    }
    for (name, control) in [
        ("control-input", Control::Input { offset: 65_536, bytes: vec![0, 255, 10] }),
        ("control-close_input", Control::CloseInput { offset: 65_539 }),
        ("control-resize", Control::Resize { columns: 120, rows: 40 }),
        ("control-cancel", Control::Cancel { reason: "no longer wanted".to_owned() }),
    ] {
        all.about(name, &control);
    }
    for (word, signal) in [
        ("hup", SignalName::Hup),
        ("int", SignalName::Int),
        ("quit", SignalName::Quit),
        ("term", SignalName::Term),
        ("kill", SignalName::Kill),
        ("usr1", SignalName::Usr1),
        ("usr2", SignalName::Usr2),
        ("stop", SignalName::Stop),
        ("cont", SignalName::Cont),
    ] {
        all.about(&format!("control-signal-{word}"), &Control::Signal { signal });
    }
    all.about("acknowledge-output", &Acknowledge { durable: 131_072, result: false });
    all.about("acknowledge-result", &Acknowledge { durable: u64::MAX, result: true });
    all.about("credit-output", &Credit::Output { until: 196_608 });
}

fn accepted() -> Accepted {
    Accepted { started_us: TIME_US, pid: Some(4242), containment: Containment::CgroupV2 }
}

fn running(all: &mut Samples) {
    all.about("accepted", &accepted());
    all.about(
        "accepted-process_group",
        &Accepted { pid: None, containment: Containment::ProcessGroup, ..accepted() },
    );
    let output = Output {
        stream: Stream::Stdout,
        offset: 1_000,
        all: 1_500,
        bytes: b"line\n\x00\xff".to_vec(),
        gap: None,
    };
    all.about("output-stdout", &output);
    all.about("output-stderr", &Output { stream: Stream::Stderr, ..output.clone() });
    let gap = Some(Gap { from: 1_500, to: 9_500, stdout: 7_000, stderr: 1_000 });
    all.about("output-gap", &Output { bytes: Vec::new(), gap, ..output });
    all.about("credit-stdin", &Credit::Stdin { received: 65_536, until: 327_680, closed: false });
    let report = |state| OperationReport {
        id: OPERATION,
        state,
        spool_from: 4_096,
        spool_to: 8_192,
        accepted: accepted(),
        stdin_received: 65_536,
    };
    all.add("report-nothing", &Report { operations: Vec::new(), last: true });
    all.add(
        "report-two",
        &Report {
            operations: vec![report(ReportedState::Running), report(ReportedState::Finished)],
            last: false,
        },
    );
}

fn results(all: &mut Samples) {
    let (code, message) = ("stable_word".to_owned(), "why, and what to do".to_owned());
    let refusal = Refusal { code: code.clone(), message: message.clone() };
    let evidence = Evidence {
        code: "keeper_killed".to_owned(),
        message: message.clone(),
        boot_id: Some(BOOT.to_owned()),
        last_byte: Some(8_192),
        last_seen_us: Some(TIME_US),
        killed: 2,
    };
    for (name, outcome) in [
        ("exited", Outcome::Exited { code: 3 }),
        ("signaled", Outcome::Signaled { signal: 9 }),
        ("not_started", Outcome::NotStarted { exit_code: 127, code, message }),
        ("timed_out", Outcome::TimedOut { exit_code: None, signal: Some(15) }),
        ("cancelled", Outcome::Cancelled { exit_code: Some(0), signal: None }),
        ("refused", Outcome::Refused(refusal)),
        ("lost", Outcome::Lost(evidence)),
    ] {
        let result = OperationResult {
            outcome,
            started_us: Some(TIME_US),
            finished_us: TIME_US + 1_500_000,
            duration_ms: 1_500,
            containment: Containment::CgroupV2,
            totals: Totals { all: 8_192, stdout: 8_000, stderr: 192 },
            leftovers_killed: 1,
            usage: Usage { user_us: 900, system_us: 100, max_rss_kib: 2_048 },
        };
        all.about(&format!("result-{name}"), &result);
    }
    all.about(
        "result-never_started",
        &OperationResult {
            outcome: Outcome::Exited { code: 0 },
            started_us: None,
            finished_us: TIME_US,
            duration_ms: 0,
            containment: Containment::None,
            totals: Totals::default(),
            leftovers_killed: 0,
            usage: Usage::default(),
        },
    );
}

fn facts() -> Facts {
    Facts {
        hostname: "web-1".to_owned(),
        machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
        os_id: "debian".to_owned(),
        os_name: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        os_version: "12".to_owned(),
        kernel: "6.1.0".to_owned(),
        architecture: "x86_64".to_owned(),
        cpus: 4,
        cpu_model: "A processor".to_owned(),
        memory_total: 8 << 30,
        disks: vec![DiskFact {
            mount: "/".to_owned(),
            kind: "ext4".to_owned(),
            total: 100 << 30,
            available: 60 << 30,
        }],
        networks: vec![NetworkFact {
            name: "eth0".to_owned(),
            mac: "52:54:00:12:34:56".to_owned(),
            addresses: vec!["192.0.2.7".to_owned(), "2001:db8::7".to_owned()],
        }],
        agent_version: "0.1.0".to_owned(),
        agent_user: "root".to_owned(),
        containment: Some(Containment::CgroupV2),
        init: "systemd".to_owned(),
        package_manager: String::new(),
        os_like: String::new(),
        inspect: None,
    }
}

fn machine(all: &mut Samples) {
    let metrics = Metrics {
        load1: 0.5,
        load5: 0.25,
        load15: 1.0,
        memory_total: 8 << 30,
        memory_available: 6 << 30,
        disk_total: 100 << 30,
        disk_available: 60 << 30,
        running: 3,
        uptime_s: 86_400,
    };
    let plain = Heartbeat { time_us: TIME_US, ..Heartbeat::default() };
    all.add("heartbeat-coordinator", &plain);
    all.add("heartbeat-probe", &Heartbeat { probe: Some(0xDEAD_BEEF), ..plain.clone() });
    all.add("heartbeat-agent", &Heartbeat { metrics: Some(metrics), ..plain.clone() });
    let earlier = Sample { ago: 1, cpu_user: Some(12), load: Some(52), ..Sample::default() };
    let sample = Sample {
        ago: 0,
        cpu_user: Some(123),
        cpu_system: Some(45),
        cpu_iowait: Some(6),
        cpu_steal: Some(0),
        load: Some(152),
        memory_used: Some(7_000_000),
        swap_used: Some(0),
        disk_read: Some(4096),
        disk_write: Some(40_000),
        network_in: Some(1200),
        network_out: Some(900),
        pressure_cpu: Some(12),
        pressure_memory: None,
        pressure_io: Some(3),
    };
    let samples = vec![earlier, sample];
    all.add("heartbeat-samples", &Heartbeat { metrics: Some(metrics), samples, ..plain });
    let (level, message) = ("warn".to_owned(), "a line".to_owned());
    all.add("client_log", &ClientLog { level, message, time_us: TIME_US });
    all.add("facts", &facts());
    all.add("facts-none", &Facts::default());
    for (word, reason) in [
        ("restarting", GoodbyeReason::Restarting),
        ("revoked", GoodbyeReason::Revoked),
        ("replaced", GoodbyeReason::Replaced),
        ("cloned", GoodbyeReason::Cloned),
        ("protocol", GoodbyeReason::Protocol),
    ] {
        let message = "why".to_owned();
        all.add(&format!("goodbye-{word}"), &Goodbye { reason, message, retry_after_ms: 250 });
    }
}

#[test]
fn every_message_has_the_bytes_it_always_had() {
    let all = samples();
    let mut wrong = Vec::new();
    for (name, bytes) in &all.bytes {
        write_missing(&path(name), &to_text(bytes));
        match read(name) {
            None => wrong.push(format!("{name}: there is no file; see the head of this test")),
            Some(found) if found != *bytes => wrong.push(format!(
                "{name}: the encoding has changed\n  was\n{}  is\n{}",
                to_text(&found),
                to_text(bytes)
            )),
            Some(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A file that nothing reads any more is a message that nobody promises any more.
#[test]
fn every_file_is_still_read() {
    let known = samples().bytes;
    for entry in fs::read_dir(folder()).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        if path.extension().is_some_and(|extension| extension == "hex") {
            assert!(known.contains_key(&name), "{} is read by no sample", path.display());
        }
    }
}

/// The list of kinds is in the code as a match without a default: a new kind does not compile here.
#[test]
fn every_kind_has_a_sample() {
    let next = |kind: Option<&Kind>| match kind {
        None => Some(Kind::Hello),
        Some(Kind::Hello) => Some(Kind::Challenge),
        Some(Kind::Challenge) => Some(Kind::Proof),
        Some(Kind::Proof) => Some(Kind::Welcome),
        Some(Kind::Welcome) => Some(Kind::Reject),
        Some(Kind::Reject) => Some(Kind::Request),
        Some(Kind::Request) => Some(Kind::Accepted),
        Some(Kind::Accepted) => Some(Kind::Output),
        Some(Kind::Output) => Some(Kind::Credit),
        Some(Kind::Credit) => Some(Kind::Control),
        Some(Kind::Control) => Some(Kind::Result),
        Some(Kind::Result) => Some(Kind::Acknowledge),
        Some(Kind::Acknowledge) => Some(Kind::Heartbeat),
        Some(Kind::Heartbeat) => Some(Kind::ClientLog),
        Some(Kind::ClientLog) => Some(Kind::Report),
        Some(Kind::Report) => Some(Kind::Facts),
        Some(Kind::Facts) => Some(Kind::Goodbye),
        Some(Kind::Goodbye | Kind::Unknown(_)) => None,
    };
    let kinds = samples().kinds;
    let mut kind = next(None);
    while let Some(current) = kind {
        assert!(kinds.contains(current.as_str()), "no sample of '{}'", current.as_str());
        kind = next(Some(&current));
    }
}

#[test]
fn texts_of_version_one_stay_as_they_are() {
    let pin = Pin([0xC3; 32]);
    let token = |kind: &str, pin| {
        Token { kind: kind.to_owned(), id: OPERATION.0, secret: [0xA5; 32], pin }.to_text()
    };
    let register = Register {
        token: token("join", Some(pin)),
        machine_id: MACHINE,
        public_key: "ab".repeat(32),
        name: Some("web-1".to_owned()),
        channel_binding: true,
        facts: facts(),
    };
    let registered = Registered {
        machine_id: MACHINE,
        name: "web-1".to_owned(),
        coordinator_id: COORDINATOR,
        channel_binding: true,
    };
    let nonce: Vec<u8> = (0..32).collect();
    for (name, text) in [
        ("token-join.txt", register.token.clone() + "\n"),
        ("token-key.txt", token("key", None) + "\n"),
        ("register.json", serde_json::to_string_pretty(&register).expect("JSON") + "\n"),
        ("registered.json", serde_json::to_string_pretty(&registered).expect("JSON") + "\n"),
        (
            "proof-message-bound.txt",
            to_text(&proof_message(COORDINATOR, MACHINE, &nonce, Some(&[0x5A; 32]))),
        ),
        ("proof-message-unbound.txt", to_text(&proof_message(COORDINATOR, MACHINE, &nonce, None))),
    ] {
        let path = folder().join(name);
        write_missing(&path, &text);
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, text, "{name} has changed; see the head of this test");
    }
    let read = |name: &str| fs::read_to_string(folder().join(name)).expect(name);
    serde_json::from_str::<Register>(&read("register.json")).expect("reads");
    serde_json::from_str::<Registered>(&read("registered.json")).expect("reads");
}

/// The file that coordinator and agent check their hashing against: this crate does none, so here
/// it is the bytes to be hashed that are compared.
#[test]
fn what_an_approval_is_bound_to_stays_the_same() {
    let text = fs::read_to_string(folder().join("approval-digest.txt")).expect("the vector");
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("no {name}"))
    };
    let ids = field("machines").split(' ').map(|id| id.parse().expect("an id"));
    assert_eq!(to_text(&reeve_protocol::machine_bytes(ids)).replace('\n', ""), field("ids"));
    let hash = |name: &str| -> [u8; 32] {
        let digits = field(name);
        let byte = |at: usize| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("hex");
        std::array::from_fn(byte)
    };
    let message = reeve_protocol::approval_message(
        &hash("body-sha256"),
        &hash("ids-sha256"),
        field("expires_us").parse().expect("a number"),
    );
    assert_eq!(to_text(&message).replace('\n', ""), field("message"));
}
