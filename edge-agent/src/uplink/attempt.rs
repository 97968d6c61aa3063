//! One try: connect, upgrade to a WebSocket, prove who we are.

use std::time::Duration;

use ed25519_dalek::{Signer, SigningKey};
use reeve_link::{LinkError, Receiver, Sender, Settings, Transport, WebSocket};
use reeve_protocol::{
    Challenge, CodecError, Envelope, Hello, Kind, Proof, Reject, RejectCode, SUBPROTOCOL,
    VersionRange, Welcome, limits, proof_message,
};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use super::endpoint::{ByteStream, Endpoint, EndpointError};
use crate::operations::Operations;
use crate::state::identity::Identity;
use crate::tasks::Tasks;

/// Heartbeats are never more often than this, whatever `welcome` says.
const SHORTEST_HEARTBEAT: Duration = Duration::from_secs(1);

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// No connection.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Connected, but not to agents' WebSocket.
    #[error("the coordinator did not open a WebSocket: {0}")]
    WebSocket(#[source] Box<tungstenite::Error>),
    /// Something other than the handshake came.
    #[error("the handshake broke: {0}")]
    Link(#[from] LinkError),
    /// A message made no sense.
    #[error("the handshake broke: {0}")]
    Codec(#[from] CodecError),
    /// The link closed.
    #[error("the handshake broke: {0}")]
    Closed(#[from] reeve_link::Closed),
    /// Another message was expected.
    #[error("the handshake broke: expected '{expected}', got '{found}'")]
    Unexpected {
        /// What was expected.
        expected: &'static str,
        /// What came.
        found: String,
    },
    /// Another coordinator answers.
    #[error(
        "another coordinator answers at this address ({found}); this machine is enrolled with {expected}, nothing was proven to it"
    )]
    OtherCoordinator {
        /// Who answers.
        found: String,
        /// Who should.
        expected: String,
    },
    /// The coordinator says no.
    #[error("the coordinator refuses ({}): {}", describe_code(.0.code), .0.message)]
    Rejected(Reject),
    /// It took too long.
    #[error("the handshake was not over within {0:?}")]
    TimedOut(Duration),
}

/// What a refusal means to whoever looks after this machine.
fn describe_code(code: RejectCode) -> &'static str {
    match code {
        RejectCode::Version => "version",
        RejectCode::UnknownMachine => "unknown_machine",
        RejectCode::Revoked => "revoked",
        RejectCode::BadProof => "bad_proof",
        RejectCode::Cloned => "cloned",
        RejectCode::Unavailable => "unavailable",
        RejectCode::Malformed => "malformed",
        RejectCode::Unknown => "for a reason this version does not know",
    }
}

/// Who tries, and where.
#[derive(Debug)]
pub struct Attempt {
    /// Where the coordinator is.
    pub endpoint: Endpoint,
    /// Who we are.
    pub identity: Identity,
    /// What proves it.
    pub key: SigningKey,
}

/// A session that has just been opened.
pub struct Connected<T: Transport> {
    /// To the coordinator.
    pub sender: Sender,
    /// From the coordinator.
    pub receiver: Receiver<T>,
    /// The link's writing loop runs in these.
    pub tasks: Tasks,
    /// What the coordinator said.
    pub welcome: Welcome,
}

impl Attempt {
    /// Tries once.
    ///
    /// # Errors
    /// Why there is no session.
    pub async fn connect(
        &self,
        operations: &Operations,
    ) -> Result<Connected<WebSocket<Box<dyn ByteStream>>>, AttemptError> {
        let opened = self.endpoint.open().await?;
        let websocket = |error| AttemptError::WebSocket(Box::new(error));
        let mut request = self.endpoint.websocket_url().into_client_request().map_err(websocket)?;
        request
            .headers_mut()
            .insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
        let config = Some(reeve_link::client_config());
        let upgrade = tokio_tungstenite::client_async_with_config(request, opened.stream, config);
        let (socket, _) = timeout(limits::HANDSHAKE_TIMEOUT, upgrade)
            .await
            .map_err(|_| AttemptError::TimedOut(limits::HANDSHAKE_TIMEOUT))?
            .map_err(websocket)?;
        let exporter = opened.exporter.filter(|_| self.identity.channel_binding);
        self.handshake(WebSocket(socket), exporter, operations).await
    }

    /// Opens a session on a transport.
    ///
    /// # Errors
    /// Why there is no session.
    pub async fn handshake<T: Transport>(
        &self,
        transport: T,
        exporter: Option<[u8; 32]>,
        operations: &Operations,
    ) -> Result<Connected<T>, AttemptError> {
        let limit = limits::HANDSHAKE_TIMEOUT;
        timeout(limit, self.shake_hands(transport, exporter, operations))
            .await
            .map_err(|_| AttemptError::TimedOut(limit))?
    }

    async fn shake_hands<T: Transport>(
        &self,
        transport: T,
        exporter: Option<[u8; 32]>,
        operations: &Operations,
    ) -> Result<Connected<T>, AttemptError> {
        let settings =
            Settings { max_frame_bytes: limits::MAX_HANDSHAKE_BYTES, ..Settings::default() };
        let (sender, mut receiver, driver) = reeve_link::open(transport, settings);
        let tasks = Tasks::new();
        tasks.spawn("link", driver.run());
        // Dropping the guard on any error closes the link.
        let guard = tasks.token().drop_guard();
        sender.control(&Envelope::of(&Hello {
            versions: VersionRange::ours(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: self.identity.machine_id,
            operations: Operations::names(),
            boot_id: operations.settings().boot_id.clone(),
            journal: operations.journal_id(),
            max_concurrent: operations.settings().policy.max_concurrent,
        })?)?;
        let challenge: Challenge = expect(&mut receiver, Kind::Challenge, "challenge").await?;
        if challenge.coordinator != self.identity.coordinator_id {
            return Err(AttemptError::OtherCoordinator {
                found: challenge.coordinator.to_string(),
                expected: self.identity.coordinator_id.to_string(),
            });
        }
        let message = proof_message(
            challenge.coordinator,
            self.identity.machine_id,
            &challenge.nonce,
            exporter.as_ref().map(<[u8; 32]>::as_slice),
        );
        let signature = self.key.sign(&message).to_bytes().to_vec();
        sender.control(&Envelope::of(&Proof { signature })?)?;
        let mut welcome: Welcome = expect(&mut receiver, Kind::Welcome, "welcome").await?;
        let shortest = u64::try_from(SHORTEST_HEARTBEAT.as_millis()).unwrap_or(u64::MAX);
        welcome.heartbeat_ms = welcome.heartbeat_ms.max(shortest);
        receiver.set(Settings::default());
        guard.disarm();
        Ok(Connected { sender, receiver, tasks, welcome })
    }
}

async fn expect<T: Transport, B: reeve_protocol::Body>(
    receiver: &mut Receiver<T>,
    kind: Kind,
    expected: &'static str,
) -> Result<B, AttemptError> {
    let envelope = receiver.next().await?;
    if envelope.kind == Kind::Reject {
        return Err(AttemptError::Rejected(envelope.open()?));
    }
    if envelope.kind != kind {
        let found = envelope.kind.as_str().to_owned();
        return Err(AttemptError::Unexpected { expected, found });
    }
    Ok(envelope.open()?)
}
