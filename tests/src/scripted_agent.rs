//! An agent that says what it is told to, to show what the coordinator makes of nonsense. It joins
//! with a real token and proves a real key; from there on anything goes.

use std::time::Duration;

use ed25519_dalek::{Signer, SigningKey};
use futures_util::{SinkExt, StreamExt};
use reeve_protocol::enrol::{Register, Registered};
use reeve_protocol::{
    Body, Challenge, Envelope, Facts, Hello, JournalId, MachineId, Proof, VersionRange, Welcome,
    decode, encode, proof_message,
};
use reeve_sdk::api::{EnrolmentTokenCreated, NewEnrolmentToken};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use uuid::Uuid;

use crate::Cluster;

/// How long it waits for anything.
const LIMIT: Duration = Duration::from_secs(30);

/// A joined machine without an agent.
pub struct Identity {
    machine: MachineId,
    key: SigningKey,
    /// Its name.
    pub name: String,
}

impl Identity {
    /// Joins.
    ///
    /// # Panics
    /// When it may not.
    #[must_use]
    pub fn join(cluster: &Cluster, name: &str) -> Self {
        let token: EnrolmentTokenCreated = cluster
            .api
            .post(
                "/api/enrolment-tokens",
                &NewEnrolmentToken { name: Some(name.to_owned()), ..NewEnrolmentToken::default() },
            )
            .json();
        let key = SigningKey::from_bytes(&rand::random());
        let machine = MachineId(Uuid::now_v7());
        let public_key =
            key.verifying_key().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let joined: Registered = cluster
            .guest
            .post(
                "/api/clients/register",
                &Register {
                    token: token.token,
                    machine_id: machine,
                    public_key,
                    name: None,
                    channel_binding: true,
                    facts: Facts::default(),
                },
            )
            .json();
        Self { machine, key, name: joined.name }
    }
}

/// A WebSocket to the coordinator's `/ws/client`.
pub struct Connection {
    runtime: Runtime,
    socket: WebSocketStream<TlsStream<TcpStream>>,
}

impl Connection {
    /// Dials, without a word of the handshake.
    ///
    /// # Panics
    /// When the coordinator does not open a WebSocket.
    #[must_use]
    pub fn open(cluster: &Cluster) -> Self {
        let _second_time = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut roots = rustls::RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(&cluster.coordinator.ca_pem()).expect("PEM");
        roots.add(authority).expect("a CA");
        let config =
            rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let address = cluster.coordinator.address().to_owned();
        let mut request =
            format!("wss://{address}/ws/client").into_client_request().expect("a URL");
        request.headers_mut().insert(
            "sec-websocket-protocol",
            reeve_protocol::SUBPROTOCOL.parse().expect("a header"),
        );
        let socket = runtime.block_on(async {
            let tcp = TcpStream::connect(&address).await.expect("connect");
            let name = ServerName::try_from("127.0.0.1").expect("a name");
            let tls = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config))
                .connect(name, tcp)
                .await
                .expect("TLS");
            tokio_tungstenite::client_async(request, tls).await.expect("a WebSocket").0
        });
        Self { runtime, socket }
    }

    /// Dials and opens a session.
    ///
    /// # Panics
    /// When the coordinator does not welcome it.
    #[must_use]
    pub fn open_session(cluster: &Cluster, identity: &Identity) -> Self {
        let mut connection = Self::open(cluster);
        connection.say(&Hello {
            versions: VersionRange::ours(),
            agent_version: "scripted".to_owned(),
            machine: identity.machine,
            operations: reeve_protocol::ops::NAMES.iter().map(|&name| name.to_owned()).collect(),
            boot_id: "00000000-0000-0000-0000-000000000000".to_owned(),
            journal: JournalId(Uuid::nil()),
            max_concurrent: 4,
        });
        let challenge: Challenge = connection.hear();
        let exporter = connection
            .socket
            .get_ref()
            .get_ref()
            .1
            .export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None)
            .expect("TLS exporter");
        let message = proof_message(
            challenge.coordinator,
            identity.machine,
            &challenge.nonce,
            Some(&exporter),
        );
        connection.say(&Proof { signature: identity.key.sign(&message).to_bytes().to_vec() });
        let _welcome: Welcome = connection.hear();
        connection
    }

    /// Sends a well-formed message.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn say<B: Body>(&mut self, body: &B) {
        self.send(encode(&Envelope::of(body).expect("an envelope")).expect("bytes"));
    }

    /// Sends any bytes as one binary message. That the other end has closed is no error here.
    pub fn send(&mut self, bytes: Vec<u8>) {
        let _closed = self.runtime.block_on(self.socket.send(Message::binary(bytes)));
    }

    /// Sends text, which the protocol has no use for.
    pub fn send_text(&mut self, text: &str) {
        let _closed = self.runtime.block_on(self.socket.send(Message::text(text)));
    }

    /// The next message, which has to be a `B`.
    ///
    /// # Panics
    /// When it is something else.
    pub fn hear<B: Body>(&mut self) -> B {
        match self.next() {
            Some(Message::Binary(bytes)) => {
                let envelope: Envelope = decode(&bytes).expect("an envelope");
                envelope.open().unwrap_or_else(|error| panic!("{error}: {envelope:?}"))
            }
            other => panic!("expected {}, got {other:?}", B::KIND.as_str()),
        }
    }

    /// Waits until the other end closes, whatever it says before. The close code, when it gave one.
    ///
    /// # Panics
    /// When it does not close within half a minute.
    pub fn wait_for_close(&mut self) -> Option<u16> {
        let mut code = None;
        while let Some(message) = self.next() {
            if let Message::Close(frame) = message {
                code = frame.map(|frame| frame.code.into());
            }
        }
        code
    }

    fn next(&mut self) -> Option<Message> {
        let next = async { tokio::time::timeout(LIMIT, self.socket.next()).await };
        match self.runtime.block_on(next).expect("an answer or an end in time") {
            None | Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => None,
            Some(Ok(message)) => Some(message),
            // A reset is an end, too.
            Some(Err(_)) => None,
        }
    }
}
