//! Keys of a swarm, and how its machines join.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use ed25519_dalek::SigningKey;
use futures_util::{StreamExt, TryStreamExt};
use reeve_agent::uplink::tls::{PinVerifier, client_config};
use reeve_protocol::enrol::{Register, Registered};
use reeve_protocol::token::Pin;
use reeve_protocol::{CoordinatorId, Facts, JournalId, MachineId};
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Options, add};

/// Machines that join at the same time.
const AT_ONCE: usize = 16;

/// A coordinator that says "too many requests" is asked again after this long.
const PATIENCE: Duration = Duration::from_millis(500);

/// What an agent keeps on its disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// Its id.
    pub machine: MachineId,
    /// Its Ed25519 key.
    pub key: [u8; 32],
    /// Its memory's id.
    pub journal: JournalId,
    /// Its name.
    pub name: String,
    /// Whom it joined.
    pub coordinator: CoordinatorId,
    /// Whether its proofs are bound to the TLS channel.
    pub channel_binding: bool,
}

/// Settings of real agents: TLS 1.3, the pin, full handshakes.
pub fn tls(pin: Pin) -> anyhow::Result<Arc<ClientConfig>> {
    Ok(client_config(PinVerifier::new(pin))?)
}

/// Reads the identities that are kept, and joins for the rest.
pub async fn join_all(
    options: &Options,
    pin: Pin,
    joined: &AtomicU64,
) -> anyhow::Result<Vec<Identity>> {
    let mut identities = match &options.keys {
        Some(path) => load(path)?,
        None => Vec::new(),
    };
    identities.truncate(options.agents);
    joined.store(identities.len() as u64, Ordering::Relaxed);
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(ClientConfig::clone(&*tls(pin)?))
        .timeout(Duration::from_secs(60))
        .no_proxy()
        .build()?;
    let missing = identities.len()..options.agents;
    let more: Vec<Identity> = futures_util::stream::iter(missing)
        .map(|at| join(&http, options, options.first + at, joined))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let grown = !more.is_empty();
    identities.extend(more);
    if let Some(path) = options.keys.as_ref().filter(|_| grown) {
        fs::write(path, serde_json::to_vec(&identities)?)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(identities)
}

fn load(path: &Path) -> anyhow::Result<Vec<Identity>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .with_context(|| format!("{} holds no keys of a swarm", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

async fn join(
    http: &reqwest::Client,
    options: &Options,
    number: usize,
    joined: &AtomicU64,
) -> anyhow::Result<Identity> {
    let key: [u8; 32] = rand::random();
    let machine = MachineId(Uuid::now_v7());
    let public = SigningKey::from_bytes(&key).verifying_key();
    let name = format!("{}-{number:05}", options.prefix);
    let request = Register {
        token: options.token.clone(),
        machine_id: machine,
        public_key: public.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect(),
        name: Some(name.clone()),
        channel_binding: true,
        facts: facts(&name),
    };
    let url = format!("{}/api/clients/register", options.url.trim_end_matches('/'));
    let registered: Registered = loop {
        let answer = http.post(&url).json(&request).send().await.context("joining")?;
        match answer.status().as_u16() {
            200..300 => break answer.json().await.context("the answer to joining")?,
            429 | 503 => tokio::time::sleep(PATIENCE).await,
            status => bail!("{name} may not join: {status} {}", answer.text().await?),
        }
    };
    add(joined);
    Ok(Identity {
        machine,
        key,
        journal: JournalId(Uuid::now_v7()),
        name: registered.name,
        coordinator: registered.coordinator_id,
        channel_binding: registered.channel_binding,
    })
}

/// As long as those of a real machine.
pub fn facts(name: &str) -> Facts {
    Facts {
        hostname: name.to_owned(),
        machine_id: "00000000000000000000000000000000".to_owned(),
        os_id: "debian".to_owned(),
        os_name: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        os_version: "12".to_owned(),
        kernel: "6.1.0-28-amd64".to_owned(),
        architecture: "x86_64".to_owned(),
        cpus: 4,
        cpu_model: "a processor of a swarm".to_owned(),
        memory_total: 8 << 30,
        agent_version: AGENT_VERSION.to_owned(),
        ..Facts::default()
    }
}

/// What agents of a swarm call their release.
pub const AGENT_VERSION: &str = "swarm";
