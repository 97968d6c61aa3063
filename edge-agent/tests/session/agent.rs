//! An agent in this process, and the coordinator's end of its sessions.

use std::path::PathBuf;
use std::time::Duration;

use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use reeve_agent::host;
use reeve_agent::operations::{Inspection, Operations, Settings};
use reeve_agent::policy::Policy;
use reeve_agent::state::StateFolder;
use reeve_agent::state::identity::Identity;
use reeve_agent::tasks::Tasks;
use reeve_agent::telemetry::LogQueue;
use reeve_agent::uplink::attempt::{Attempt, AttemptError};
use reeve_agent::uplink::endpoint::Endpoint;
use reeve_agent::uplink::session::{End, Session};
use reeve_link::{MemoryTransport, Receiver, Sender};
use reeve_protocol::ops::{Command, ExecuteCommand, Operation};
use reeve_protocol::{
    Acknowledge, Body, Challenge, CoordinatorId, Credit, Envelope, Hello, Kind, MachineId,
    OperationId, OperationResult, Outcome, Output, Proof, Report, Request, Stream, Welcome,
    proof_message,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub const PATIENCE: Duration = Duration::from_secs(30);

/// What survives the agent's death: its folder.
pub struct Machine {
    pub folder: tempfile::TempDir,
    pub policy: Policy,
    pub grouped: bool,
    /// What keepers are started from.
    pub program: PathBuf,
}

impl Machine {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let program = PathBuf::from(env!("CARGO_BIN_EXE_reeve-agent"));
        Self { folder, policy: Policy::default(), grouped: true, program }
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub async fn start(&self) -> Agent {
        self.start_in_boot(&host::read_boot_id()).await
    }

    pub async fn start_in_boot(&self, boot_id: &str) -> Agent {
        let folder = StateFolder::create(self.state()).expect("made");
        let tasks = Tasks::new();
        let groups = self.grouped.then(|| {
            let mount = host::cgroup::find_mount().expect("cgroup v2 is mounted");
            let base = mount.join("reeve-session-tests").join(std::process::id().to_string());
            std::fs::create_dir_all(&base).expect("control groups can be made: run as root");
            base
        });
        let inspection = Inspection::probe(&self.program, &self.policy, &folder).await;
        let settings = Settings {
            inspection,
            folder,
            policy: self.policy.clone(),
            program: self.program.clone(),
            groups,
            boot_id: boot_id.to_owned(),
            spool_bytes: reeve_protocol::limits::SPOOL_BYTES,
        };
        let operations = Operations::recover(settings, tasks.clone()).await.expect("recovers");
        let key = SigningKey::from_bytes(&[7; 32]);
        let verifying = key.verifying_key();
        let identity = Identity {
            url: "http://127.0.0.1:1".to_owned(),
            machine_id: MachineId::new(),
            name: "test".to_owned(),
            coordinator_id: CoordinatorId::new(),
            ca_pem: String::new(),
            pin: String::new(),
            channel_binding: true,
        };
        let endpoint = Endpoint::new(&identity.url, None).expect("a URL");
        Agent { operations, tasks, attempt: Attempt { endpoint, identity, key }, verifying }
    }
}

pub struct Agent {
    pub operations: Operations,
    pub tasks: Tasks,
    pub attempt: Attempt,
    verifying: VerifyingKey,
}

impl Agent {
    /// As SIGKILL would: nothing is said to anybody.
    pub async fn die(self) {
        assert!(self.tasks.close_and_wait(PATIENCE).await);
    }

    /// Opens a session whose other end is ours.
    pub async fn connect(&self) -> Coordinator {
        let (theirs, ours) = reeve_link::memory_pair();
        let (sender, mut receiver, driver) = reeve_link::open(ours, Default::default());
        let tasks = Tasks::new();
        tasks.spawn("coordinator's link", driver.run());
        let exporter = [9; 32];
        let shake = self.attempt.handshake(theirs, Some(exporter), &self.operations);
        let welcome = async {
            let hello: Hello = open(&mut receiver).await;
            let identity = &self.attempt.identity;
            let nonce = vec![5; 32];
            let challenge = Challenge {
                version: 1,
                coordinator: identity.coordinator_id,
                nonce: nonce.clone(),
            };
            sender.control(&Envelope::of(&challenge).expect("encodes")).expect("open");
            let proof: Proof = open(&mut receiver).await;
            let message =
                proof_message(identity.coordinator_id, hello.machine, &nonce, Some(&exporter));
            let signature = Signature::from_slice(&proof.signature).expect("64 bytes");
            self.verifying.verify_strict(&message, &signature).expect("the proof is right");
            let welcome = Welcome { epoch: 1, heartbeat_ms: 15_000, coordinator_time_us: 0 };
            sender.control(&Envelope::of(&welcome).expect("encodes")).expect("open");
            hello
        };
        let (connected, hello) = tokio::join!(shake, welcome);
        let (session, agent_receiver) =
            Session::open(connected.expect("a session"), self.operations.clone());
        let stop = CancellationToken::new();
        let (ended, end) = mpsc::channel(1);
        let inner_stop = stop.clone();
        self.tasks.spawn("session", async move {
            let mut logs = LogQueue::empty();
            let _ = ended.send(session.run(agent_receiver, &mut logs, inner_stop).await).await;
        });
        let mut coordinator =
            Coordinator { hello, sender, receiver, tasks, stop, end, report: None };
        let report: Report = coordinator.hear().await.open().expect("a report comes first");
        assert!(report.last);
        coordinator.report = Some(report);
        coordinator
    }

    /// A handshake that is to fail.
    pub async fn fail_to_connect(&self, coordinator: CoordinatorId) -> AttemptError {
        let (theirs, ours) = reeve_link::memory_pair();
        let (sender, mut receiver, driver) = reeve_link::open(ours, Default::default());
        let tasks = Tasks::new();
        tasks.spawn("coordinator's link", driver.run());
        let shake = self.attempt.handshake(theirs, None, &self.operations);
        let answer = async {
            let _: Hello = open(&mut receiver).await;
            let challenge = Challenge { version: 1, coordinator, nonce: vec![5; 32] };
            sender.control(&Envelope::of(&challenge).expect("encodes")).expect("open");
            assert!(receiver.next().await.is_err(), "something was proven to a stranger");
        };
        tokio::join!(shake, answer).0.err().expect("no session")
    }
}

async fn open<B: Body>(receiver: &mut Receiver<MemoryTransport>) -> B {
    receiver.next().await.expect("a message").open().expect("of this kind")
}

/// The coordinator's end of one session.
pub struct Coordinator {
    pub hello: Hello,
    pub sender: Sender,
    pub receiver: Receiver<MemoryTransport>,
    tasks: Tasks,
    pub stop: CancellationToken,
    pub end: mpsc::Receiver<End>,
    pub report: Option<Report>,
}

/// Everything that came of one operation.
#[derive(Debug, Default)]
pub struct Got {
    pub accepted: usize,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub next: u64,
    pub results: Vec<OperationResult>,
}

impl Got {
    pub fn outcome(&self) -> &Outcome {
        &self.results.last().expect("a result").outcome
    }

    /// Takes a message, and checks that it is the next byte of its stream.
    pub fn take(&mut self, envelope: &Envelope) {
        match envelope.kind {
            Kind::Accepted => self.accepted += 1,
            Kind::Output => {
                let output: Output = envelope.open().expect("output");
                assert_eq!(output.all, self.next, "bytes lost or sent twice");
                assert!(output.gap.is_none());
                let stream = match output.stream {
                    Stream::Stdout => &mut self.stdout,
                    Stream::Stderr => &mut self.stderr,
                };
                assert_eq!(output.offset, stream.len() as u64);
                stream.extend_from_slice(&output.bytes);
                self.next += output.bytes.len() as u64;
            }
            Kind::Result => self.results.push(envelope.open().expect("a result")),
            _ => {}
        }
    }
}

pub fn shell(line: &str) -> ExecuteCommand {
    ExecuteCommand::new(Command::Shell(line.to_owned()))
}

impl Coordinator {
    pub async fn hear(&mut self) -> Envelope {
        tokio::time::timeout(PATIENCE, self.receiver.next())
            .await
            .expect("the agent was silent")
            .expect("the link is open")
    }

    pub fn say<B: Body>(&self, id: OperationId, body: &B) {
        let envelope = Envelope::about(id, body).expect("encodes");
        self.sender.control(&envelope).expect("the link is open");
    }

    pub fn request_as(&self, id: OperationId, name: &str, request: &Request) {
        let envelope = Envelope::request(id, name, request).expect("encodes");
        self.sender.control(&envelope).expect("the link is open");
    }

    pub fn make_request(&self, command: &ExecuteCommand) -> Request {
        Request {
            boot_id: self.hello.boot_id.clone(),
            journal: self.hello.journal,
            expires_in_ms: None,
            body: reeve_protocol::encode(command).expect("encodes"),
            approval: None,
            redact: false,
        }
    }

    pub fn request(&self, id: OperationId, command: &ExecuteCommand) {
        self.request_as(id, ExecuteCommand::NAME, &self.make_request(command));
    }

    pub fn acknowledge(&self, id: OperationId, durable: u64, result: bool) {
        self.say(id, &Acknowledge { durable, result });
    }

    /// Listens, acknowledging everything and allowing a megabyte ahead, until `enough`.
    pub async fn follow(
        &mut self,
        id: OperationId,
        got: &mut Got,
        mut enough: impl FnMut(&Got) -> bool,
    ) {
        while !enough(got) {
            let envelope = self.hear().await;
            if envelope.id != Some(id) {
                continue;
            }
            got.take(&envelope);
            if envelope.kind == Kind::Output {
                self.acknowledge(id, got.next, false);
                self.say(id, &Credit::Output { until: got.next + 1024 * 1024 });
            }
        }
    }

    /// Runs a command to its end and acknowledges it.
    pub async fn run(&mut self, id: OperationId, command: &ExecuteCommand) -> Got {
        self.request(id, command);
        let mut got = Got::default();
        self.follow(id, &mut got, |got| !got.results.is_empty()).await;
        self.acknowledge(id, got.next, true);
        got
    }

    /// As a cut cable: both ends notice, nobody says anything.
    pub async fn cut(mut self) -> Option<End> {
        self.sender.abort();
        assert!(self.tasks.close_and_wait(PATIENCE).await);
        drop(self.receiver);
        tokio::time::timeout(PATIENCE, self.end.recv()).await.expect("the agent notices")
    }
}

pub async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < until, "waited in vain until {what}");
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
