//! An agent that says what a test tells it to, over a real port: it joins with a real token, proves
//! a real key, and from there on does nothing by itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::{Signer, SigningKey};
use futures_util::{SinkExt, StreamExt};
use reeve_protocol::enrol::{Register, Registered};
use reeve_protocol::ops::{ExecuteCommand, NAMES};
use reeve_protocol::{
    Accepted, Acknowledge, Body, Challenge, Containment, Control, Credit, Envelope, Facts, Gap,
    Heartbeat, Hello, JournalId, Kind, MachineId, OperationId, OperationReport, OperationResult,
    Outcome, Output, Proof, Report, ReportedState, Request, Stream, Totals, Usage, VersionRange,
    Welcome, decode, encode, limits, proof_message,
};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::hex;
use crate::testing::TestCoordinator;

/// How long it waits for anything.
pub const LIMIT: Duration = Duration::from_secs(30);

/// When commands of a scripted agent started, by its clock.
pub const STARTED_US: i64 = 1_700_000_000_000_000;

/// What an agent keeps on its disk.
#[derive(Clone)]
pub struct Identity {
    pub machine: MachineId,
    pub key: SigningKey,
    pub name: String,
    pub boot: String,
    pub journal: JournalId,
    pub max_concurrent: u32,
}

impl Identity {
    /// A key and an id that nobody knows yet.
    pub fn new() -> Self {
        Self {
            machine: MachineId::new(),
            key: SigningKey::from_bytes(&rand::random()),
            name: String::new(),
            boot: "boot-1".to_owned(),
            journal: JournalId::new(),
            max_concurrent: 32,
        }
    }

    /// What it shows to join.
    pub fn register(&self, token: &str) -> Register {
        Register {
            token: token.to_owned(),
            machine_id: self.machine,
            public_key: hex(self.key.verifying_key().as_bytes()),
            name: None,
            channel_binding: true,
            facts: Facts { hostname: "host.example.org".to_owned(), ..Facts::default() },
        }
    }

    /// Joins with a token.
    pub async fn join(server: &TestCoordinator, token: &str) -> Self {
        let mut identity = Self::new();
        let joined: Registered =
            server.post("", "/api/clients/register", &identity.register(token)).await;
        assert_eq!(joined.machine_id, identity.machine);
        assert!(joined.channel_binding);
        identity.name = joined.name;
        identity
    }

    /// What it says first.
    pub fn hello(&self) -> Hello {
        Hello {
            versions: VersionRange::ours(),
            agent_version: "scripted".to_owned(),
            machine: self.machine,
            operations: NAMES.iter().map(|&name| name.to_owned()).collect(),
            boot_id: self.boot.clone(),
            journal: self.journal,
            max_concurrent: self.max_concurrent,
        }
    }
}

/// A command that a test plays.
#[derive(Clone, Debug)]
pub struct Script {
    pub id: OperationId,
    pub totals: Totals,
}

impl Script {
    pub fn new(id: OperationId) -> Self {
        Self { id, totals: Totals::default() }
    }

    /// As the agent reports it after a reconnect.
    pub fn report(&self, state: ReportedState) -> OperationReport {
        OperationReport {
            id: self.id,
            state,
            spool_from: 0,
            spool_to: self.totals.all,
            accepted: accepted(),
            stdin_received: 0,
        }
    }

    /// How it ended.
    pub fn result(&self, outcome: Outcome) -> OperationResult {
        let never_ran = matches!(outcome, Outcome::Refused(_) | Outcome::NotStarted { .. });
        OperationResult {
            outcome,
            started_us: (!never_ran).then_some(STARTED_US),
            finished_us: STARTED_US + 5000,
            duration_ms: 5,
            containment: Containment::CgroupV2,
            totals: self.totals,
            leftovers_killed: 0,
            usage: Usage::default(),
        }
    }
}

fn accepted() -> Accepted {
    Accepted { started_us: STARTED_US, pid: Some(7), containment: Containment::CgroupV2 }
}

/// One connection.
pub struct Agent {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    /// Heard while waiting for something else.
    kept: VecDeque<Envelope>,
    /// After the welcome.
    pub epoch: u64,
}

impl Agent {
    /// Dials, without a word of the handshake.
    pub async fn dial(server: &TestCoordinator) -> Self {
        let protocol = Some(reeve_protocol::SUBPROTOCOL);
        let socket = Self::websocket(server, "/ws/client", protocol).await;
        Self { socket, kept: VecDeque::new(), epoch: 0 }
    }

    /// A WebSocket to any route.
    pub async fn websocket(
        server: &TestCoordinator,
        path: &str,
        protocol: Option<&str>,
    ) -> WebSocketStream<TlsStream<TcpStream>> {
        Self::try_websocket(server, path, protocol).await.expect("a WebSocket")
    }

    /// Likewise; what was answered instead if that was none.
    pub async fn try_websocket(
        server: &TestCoordinator,
        path: &str,
        protocol: Option<&str>,
    ) -> Result<WebSocketStream<TlsStream<TcpStream>>, http::StatusCode> {
        let mut roots = rustls::RootCertStore::empty();
        let pem = server.running.state.ca.pem().expect("a certificate");
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).expect("a CA");
        let config =
            rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_root_certificates(roots)
                .with_no_client_auth();
        let address = server.running.address;
        let mut request =
            format!("wss://{address}{path}").into_client_request().expect("a request");
        if let Some(protocol) = protocol {
            let protocol = protocol.parse().expect("a header");
            request.headers_mut().insert("sec-websocket-protocol", protocol);
        }
        let tcp = TcpStream::connect(address).await.expect("a connection");
        tcp.set_nodelay(true).expect("no delay");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let tls = connector.connect(name, tcp).await.expect("TLS");
        match tokio_tungstenite::client_async(request, tls).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(answer)) => Err(answer.status()),
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// The signature that answers a challenge on this connection.
    pub fn sign(&self, identity: &Identity, challenge: &Challenge) -> Proof {
        let exporter = self
            .socket
            .get_ref()
            .get_ref()
            .1
            .export_keying_material([0_u8; 32], b"EXPORTER-Channel-Binding", None)
            .expect("an exporter");
        let message = proof_message(
            challenge.coordinator,
            identity.machine,
            &challenge.nonce,
            Some(&exporter),
        );
        Proof { signature: identity.key.sign(&message).to_bytes().to_vec() }
    }

    /// Says hello and proves its key; what comes then is for the test to hear.
    pub async fn prove(&mut self, identity: &Identity) {
        self.say(&identity.hello()).await;
        let challenge: Challenge = self.hear().await;
        let proof = self.sign(identity, &challenge);
        self.say(&proof).await;
    }

    /// Dials and opens a session.
    pub async fn connect(server: &TestCoordinator, identity: &Identity) -> Self {
        let mut agent = Self::dial(server).await;
        agent.prove(identity).await;
        agent.epoch = agent.hear::<Welcome>().await.epoch;
        agent
    }

    /// Says something about the session.
    pub async fn say<B: Body>(&mut self, body: &B) {
        self.send(encode(&Envelope::of(body).expect("an envelope")).expect("bytes")).await;
    }

    /// Says something about an operation.
    pub async fn say_about<B: Body>(&mut self, id: OperationId, body: &B) {
        self.send(encode(&Envelope::about(id, body).expect("an envelope")).expect("bytes")).await;
    }

    /// Sends any bytes. That the other end has closed is no error here.
    pub async fn send(&mut self, bytes: Vec<u8>) {
        self.send_message(Message::binary(bytes)).await;
    }

    /// Sends any message, likewise.
    pub async fn send_message(&mut self, message: Message) {
        let sent = tokio::time::timeout(LIMIT, self.socket.send(message)).await;
        let _closed = sent.expect("the coordinator reads");
    }

    /// Reports what it holds.
    pub async fn report(&mut self, operations: Vec<OperationReport>) {
        self.say(&Report { operations, last: true }).await;
    }

    /// The next frame; nothing when the other end has closed.
    pub async fn next(&mut self) -> Option<Envelope> {
        if let Some(kept) = self.kept.pop_front() {
            return Some(kept);
        }
        self.receive().await
    }

    async fn receive(&mut self) -> Option<Envelope> {
        loop {
            let next = tokio::time::timeout(LIMIT, self.socket.next()).await;
            match next.expect("a frame or an end in time") {
                Some(Ok(Message::Binary(bytes))) => {
                    return Some(decode(&bytes).expect("an envelope"));
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// The next frame, which has to be a `B`.
    pub async fn hear<B: Body>(&mut self) -> B {
        let envelope = self.next().await.expect("a frame, not an end");
        envelope.open().unwrap_or_else(|error| panic!("{error}: {envelope:?}"))
    }

    /// The first frame that fits; others are kept for later.
    pub async fn wait_for<T>(&mut self, what: &str, fits: impl Fn(&Envelope) -> Option<T>) -> T {
        let kept = self.kept.iter().enumerate().find_map(|(at, one)| Some((at, fits(one)?)));
        if let Some((at, found)) = kept {
            self.kept.remove(at);
            return found;
        }
        loop {
            let Some(envelope) = self.receive().await else {
                panic!("closed before {what}; heard {:?}", self.kept);
            };
            match fits(&envelope) {
                Some(found) => return found,
                None => self.kept.push_back(envelope),
            }
        }
    }

    /// Everything until the other end closes.
    pub async fn hear_until_closed(&mut self) -> Vec<Envelope> {
        let mut heard = Vec::new();
        while let Some(envelope) = self.next().await {
            heard.push(envelope);
        }
        heard
    }

    /// What was heard and not asked for yet.
    pub fn kept(&self, kind: &Kind) -> usize {
        self.kept.iter().filter(|envelope| envelope.kind == *kind).count()
    }

    /// Waits until the coordinator has read everything said so far and we have heard everything it
    /// had said by then.
    pub async fn settle(&mut self) {
        let time_us = rand::random::<u32>().into();
        self.say(&Heartbeat { time_us, ..Heartbeat::default() }).await;
        self.wait_for("a heartbeat", |one| (one.kind == Kind::Heartbeat).then_some(())).await;
    }

    /// The next request.
    pub async fn request(&mut self) -> (OperationId, Request) {
        self.wait_for("a request", |one| {
            let id = one.id?;
            Some((id, one.open::<Request>().ok()?))
        })
        .await
    }

    /// The next request, started: it runs until the test ends it.
    pub async fn start(&mut self) -> Script {
        let (id, request) = self.request().await;
        let _: ExecuteCommand = decode(&request.body).expect("a command");
        self.accept(id).await;
        Script::new(id)
    }

    pub async fn accept(&mut self, id: OperationId) {
        self.say_about(id, &accepted()).await;
    }

    /// One frame of output at any offsets.
    pub async fn output(&mut self, id: OperationId, stream: Stream, at: Totals, bytes: &[u8]) {
        let offset = match stream {
            Stream::Stdout => at.stdout,
            Stream::Stderr => at.stderr,
        };
        let output = Output { stream, offset, all: at.all, bytes: bytes.to_vec(), gap: None };
        self.say_about(id, &output).await;
    }

    /// The command writes, in frames as large as they may be. The test minds the credit.
    pub async fn write(&mut self, script: &mut Script, stream: Stream, bytes: &[u8]) {
        for piece in bytes.chunks(limits::MAX_DATA_BYTES) {
            self.output(script.id, stream, script.totals, piece).await;
            let length = piece.len() as u64;
            script.totals.all += length;
            match stream {
                Stream::Stdout => script.totals.stdout += length,
                Stream::Stderr => script.totals.stderr += length,
            }
        }
    }

    /// The machine has dropped this much of what the command wrote next.
    pub async fn drop_output(&mut self, script: &mut Script, stdout: u64, stderr: u64) -> Gap {
        let from = script.totals;
        let gap = Gap { from: from.all, to: from.all + stdout + stderr, stdout, stderr };
        let offset = from.stdout;
        let output =
            Output { stream: Stream::Stdout, offset, all: from.all, bytes: vec![], gap: Some(gap) };
        self.say_about(script.id, &output).await;
        script.totals.all = gap.to;
        script.totals.stdout += stdout;
        script.totals.stderr += stderr;
        gap
    }

    /// The command ends; waits until its result is durable.
    pub async fn finish(&mut self, script: &Script, outcome: Outcome) {
        self.say_about(script.id, &script.result(outcome)).await;
        self.result_acknowledged(script.id).await;
    }

    pub async fn result_acknowledged(&mut self, id: OperationId) {
        self.wait_for("the result's acknowledgement", |one| {
            (one.id == Some(id) && one.open::<Acknowledge>().ok()?.result).then_some(())
        })
        .await;
    }

    /// Waits until output up to here is durable.
    pub async fn acknowledged(&mut self, id: OperationId, durable: u64) -> Acknowledge {
        self.wait_for("an acknowledgement", |one| {
            let acknowledge = one.open::<Acknowledge>().ok()?;
            (one.id == Some(id) && acknowledge.durable >= durable).then_some(acknowledge)
        })
        .await
    }

    /// Waits until output may be sent up to here; how far it may.
    pub async fn credit(&mut self, id: OperationId, until: u64) -> u64 {
        self.wait_for("credit", |one| match one.open::<Credit>().ok()? {
            Credit::Output { until: found } if one.id == Some(id) && found >= until => Some(found),
            _ => None,
        })
        .await
    }

    /// How far output may be sent by what was heard so far, if anything was said of it.
    pub fn granted(&mut self, id: OperationId) -> Option<u64> {
        let mut most = None;
        self.kept.retain(|one| match one.open::<Credit>() {
            Ok(Credit::Output { until }) if one.id == Some(id) => {
                most = most.max(Some(until));
                false
            }
            _ => true,
        });
        most
    }

    /// The next control frame of an operation.
    pub async fn control(&mut self, id: OperationId) -> Control {
        self.wait_for("a control frame", |one| {
            (one.id == Some(id)).then(|| one.open::<Control>().ok())?
        })
        .await
    }
}
