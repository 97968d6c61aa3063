//! One agent's life: connect, prove, serve, come back.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use ed25519_dalek::{Signer, SigningKey};
use futures_util::{SinkExt, StreamExt};
use reeve_agent::uplink::policy::{Policy, find_patience};
use reeve_protocol::{
    Body, Challenge, Envelope, Hello, Kind, Proof, Reject, SUBPROTOCOL, VersionRange, Welcome,
    decode, encode, limits, proof_message,
};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::counted::Counted;
use super::join::AGENT_VERSION;
use super::operations::Operations;
use super::session::Session;
use super::{Identity, Shared, add};

pub(super) type Socket = WebSocketStream<TlsStream<Counted>>;

/// Small, for there are thousands.
const BUFFER: usize = 4 * 1024;

/// How many operations each takes at once.
const MAX_CONCURRENT: u32 = 32;

/// The boot of every machine of a swarm.
pub(super) const BOOT: &str = "00000000-0000-4000-8000-000000000000";

/// Refused with these words, and when to come back at the earliest.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Refused {
    message: String,
    not_before: Duration,
}

pub(super) struct Agent {
    identity: Identity,
    source: Option<IpAddr>,
    operations: Operations,
}

impl Agent {
    pub(super) fn new(identity: Identity, source: Option<IpAddr>) -> Self {
        Self { identity, source, operations: Operations::default() }
    }

    pub(super) async fn run(mut self, shared: Arc<Shared>) {
        let stop = shared.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.come_and_go(&shared) => {}
        }
    }

    async fn come_and_go(&mut self, shared: &Arc<Shared>) {
        let mut policy = Policy::new(rand::random());
        loop {
            let not_before = match Box::pin(self.open(shared)).await {
                Ok((socket, welcome)) => {
                    add(&shared.tally.sessions);
                    let online = Online::new(shared);
                    let began = Instant::now();
                    let session =
                        Session::new(socket, &self.identity, &mut self.operations, shared);
                    let not_before = session.run(&welcome).await;
                    drop(online);
                    policy.note_session(began.elapsed());
                    not_before
                }
                Err(error) => {
                    add(&shared.tally.failures);
                    let not_before = error.downcast_ref::<Refused>().map(|one| one.not_before);
                    *shared.complaint.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(format!("{}: {error:#}", self.identity.name));
                    not_before.unwrap_or_default()
                }
            };
            if shared.hasty {
                policy = Policy::new(rand::random());
            }
            tokio::time::sleep(policy.next_pause(not_before)).await;
        }
    }

    async fn open(&self, shared: &Arc<Shared>) -> anyhow::Result<(Socket, Welcome)> {
        let mut socket = timeout(limits::HANDSHAKE_TIMEOUT, self.dial(shared))
            .await
            .context("no connection in time")??;
        let welcome = timeout(limits::HANDSHAKE_TIMEOUT, self.prove(&mut socket))
            .await
            .context("no welcome in time")??;
        Ok((socket, welcome))
    }

    async fn dial(&self, shared: &Arc<Shared>) -> anyhow::Result<Socket> {
        let tcp = match self.source {
            Some(source) => {
                let socket = TcpSocket::new_v4()?;
                socket.bind(SocketAddr::new(source, 0))?;
                socket.connect(shared.address).await
            }
            None => TcpStream::connect(shared.address).await,
        };
        let tcp = tcp.context("connecting")?;
        tcp.set_nodelay(true)?;
        let tcp = Counted::new(tcp, shared);
        let tls = shared.tls.connect(shared.server_name.clone(), tcp).await.context("TLS")?;
        let mut request = format!("wss://{}/ws/client", shared.host).into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse()?);
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(limits::MAX_FRAME_BYTES))
            .max_frame_size(Some(limits::MAX_FRAME_BYTES));
        let opened = tokio_tungstenite::client_async_with_config(request, tls, Some(config)).await;
        Ok(opened.context("opening a WebSocket")?.0)
    }

    async fn prove(&self, socket: &mut Socket) -> anyhow::Result<Welcome> {
        let me = &self.identity;
        say(
            socket,
            &Hello {
                versions: VersionRange::ours(),
                agent_version: AGENT_VERSION.to_owned(),
                machine: me.machine,
                operations: reeve_protocol::ops::NAMES.iter().map(|&name| name.into()).collect(),
                boot_id: BOOT.to_owned(),
                journal: me.journal,
                max_concurrent: MAX_CONCURRENT,
            },
        )
        .await?;
        let challenge: Challenge = hear(socket).await?;
        ensure!(challenge.coordinator == me.coordinator, "another coordinator answers");
        let exporter = socket.get_ref().get_ref().1.export_keying_material(
            [0; 32],
            b"EXPORTER-Channel-Binding",
            None,
        )?;
        let message = proof_message(
            challenge.coordinator,
            me.machine,
            &challenge.nonce,
            me.channel_binding.then_some(&exporter),
        );
        let key = SigningKey::from_bytes(&me.key);
        say(socket, &Proof { signature: key.sign(&message).to_bytes().to_vec() }).await?;
        hear(socket).await
    }
}

async fn say<B: Body>(socket: &mut Socket, body: &B) -> anyhow::Result<()> {
    Ok(socket.send(Message::binary(encode(&Envelope::of(body)?)?)).await?)
}

async fn hear<B: Body>(socket: &mut Socket) -> anyhow::Result<B> {
    let message = socket.next().await.context("closed in the handshake")??;
    let Message::Binary(bytes) = message else { bail!("closed in the handshake") };
    let envelope: Envelope = decode(&bytes)?;
    if envelope.kind == Kind::Reject {
        let reject: Reject = envelope.open()?;
        let not_before = find_patience(&reject);
        return Err(Refused { message: reject.message, not_before }.into());
    }
    Ok(envelope.open()?)
}

/// Counts a session while it is open.
struct Online<'a>(&'a Shared);

impl<'a> Online<'a> {
    fn new(shared: &'a Shared) -> Self {
        add(&shared.tally.online);
        Self(shared)
    }
}

impl Drop for Online<'_> {
    fn drop(&mut self) {
        self.0.tally.online.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}
