//! A coordinator's front: its own authority, the route that enrols, agents' WebSocket.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reeve_link::{Receiver, Sender, WebSocket};
use reeve_protocol::ops::{ExecuteCommand, Operation};
use reeve_protocol::token::{Pin, Token};
use reeve_protocol::{
    Body, Challenge, CoordinatorId, Envelope, Hello, OperationId, Proof, Request, Welcome,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite;

/// Longer than anything here takes, shorter than a person's patience.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

pub struct Server {
    pub listener: TcpListener,
    pub pin: Pin,
    acceptor: TlsAcceptor,
    /// Bytes of application data received in all.
    pub received: Arc<AtomicUsize>,
}

impl Server {
    /// A server whose certificate is for the fixed name only: the pin is what counts.
    pub async fn start() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let name = reeve_agent::uplink::tls::FIXED_NAME.to_owned();
        let leaf = CertificateParams::new(vec![name])
            .expect("parameters")
            .signed_by(&key, &authority)
            .expect("a certificate");
        let authority = CertificateDer::from(authority.der().to_vec());
        let pin = reeve_agent::uplink::tls::hash_key(&authority).expect("a pin");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = vec![CertificateDer::from(leaf.der().to_vec()), authority];
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a chain");
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.expect("a port"),
            pin,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            received: Arc::default(),
        }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.listener.local_addr().expect("bound"))
    }

    pub fn token(&self, pin: Pin) -> String {
        let id = uuid::Uuid::from_u128(1);
        Token { kind: "join".to_owned(), id, secret: [3; 32], pin: Some(pin) }.to_text()
    }

    /// The next connection, or why there was no TLS.
    pub async fn accept(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let (stream, _) = self.listener.accept().await.expect("a connection");
        self.acceptor.accept(stream).await
    }

    /// One request: its head and body.
    pub async fn read_request(&self, stream: &mut TlsStream<TcpStream>) -> (String, Vec<u8>) {
        let mut bytes = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).await.expect("readable");
            assert!(count > 0, "hung up after {bytes:?}");
            self.received.fetch_add(count, Ordering::SeqCst);
            bytes.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0_usize);
            if bytes.len() >= head.len() + 4 + length {
                return (head.to_owned(), bytes[head.len() + 4..].to_vec());
            }
        }
    }

    pub async fn answer(stream: &mut TlsStream<TcpStream>, status: &str, body: &str) {
        let text = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(text.as_bytes()).await.expect("written");
        stream.shutdown().await.expect("closed");
    }
}

/// The coordinator's end of an agent's link.
pub struct Link {
    pub sender: Sender,
    pub receiver: Receiver<WebSocket<TlsStream<TcpStream>>>,
    /// What both ends know of their TLS channel.
    pub exporter: [u8; 32],
    tasks: reeve_agent::tasks::Tasks,
}

impl Server {
    /// The next agent, up to and with its `hello`.
    pub async fn accept_agent(&self) -> (Link, Hello) {
        let stream = self.accept().await.expect("TLS");
        let exporter = stream
            .get_ref()
            .1
            .export_keying_material([0_u8; 32], b"EXPORTER-Channel-Binding", None)
            .expect("an exporter");
        #[allow(clippy::result_large_err, reason = "the library's callback")]
        let socket = tokio_tungstenite::accept_hdr_async(
            stream,
            |request: &tungstenite::handshake::server::Request,
             mut response: tungstenite::handshake::server::Response| {
                assert_eq!(request.uri().path(), "/ws/client");
                let protocol = request.headers()["sec-websocket-protocol"].clone();
                assert_eq!(protocol, reeve_protocol::SUBPROTOCOL);
                response.headers_mut().insert("sec-websocket-protocol", protocol);
                Ok(response)
            },
        )
        .await
        .expect("a WebSocket");
        let (sender, mut receiver, driver) =
            reeve_link::open(WebSocket(socket), Default::default());
        let tasks = reeve_agent::tasks::Tasks::new();
        tasks.spawn("link", driver.run());
        let hello: Hello = receiver.next().await.expect("hello").open().expect("hello");
        (Link { sender, receiver, exporter, tasks }, hello)
    }
}

impl Link {
    pub fn say<B: Body>(&self, body: &B) {
        self.sender.control(&Envelope::of(body).expect("encodes")).expect("open");
    }

    /// Opens the session; the proof that was given.
    pub async fn welcome(&mut self, coordinator: CoordinatorId, nonce: Vec<u8>) -> Proof {
        self.say(&Challenge { version: 1, coordinator, nonce });
        let proof = self.receiver.next().await.expect("proof").open().expect("proof");
        self.say(&Welcome { epoch: 1, heartbeat_ms: 15_000, coordinator_time_us: 0 });
        proof
    }

    /// Asks for a command.
    pub fn request(&self, hello: &Hello, id: OperationId, command: &ExecuteCommand) {
        let request = Request {
            boot_id: hello.boot_id.clone(),
            journal: hello.journal,
            expires_in_ms: None,
            body: reeve_protocol::encode(command).expect("encodes"),
            approval: None,
            redact: false,
        };
        let envelope = Envelope::request(id, ExecuteCommand::NAME, &request).expect("encodes");
        self.sender.control(&envelope).expect("open");
    }

    /// The next message of a kind.
    pub async fn hear<B: Body>(&mut self) -> B {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.receiver.next()).await;
            let envelope = next.expect("the agent was silent").expect("the link is open");
            if envelope.kind == B::KIND {
                return envelope.open().expect("of this kind");
            }
        }
    }

    /// Hangs up without a word.
    pub async fn cut(self) {
        self.sender.abort();
        assert!(self.tasks.close_and_wait(PATIENCE).await);
    }
}

pub fn program(state: &Path) -> tokio::process::Command {
    #[allow(clippy::disallowed_methods, reason = "the program under test")]
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_reeve-agent"));
    command.env("REEVE_AGENT_STATE", state).stdin(Stdio::null()).kill_on_drop(true);
    command
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
