//! From a stranger's connection to a session: `hello`, `challenge`, `proof`, `welcome`.

use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::{Signature, VerifyingKey};
use reeve_link::{LinkError, Receiver, Sender, Transport};
use reeve_protocol::{
    Challenge, CodecError, Envelope, GoodbyeReason, Hello, Proof, Reject, RejectCode, VersionRange,
    Welcome, limits, proof_message,
};

use super::{Fleet, Session};
use crate::db::DbError;
use crate::machines::Known;

/// Bytes of free text in a `hello`, each.
const MAX_TEXT: usize = 128;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// The connection ended first.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Not one of the messages that belong here.
    #[error(transparent)]
    Frame(#[from] CodecError),
    /// We would not have it.
    #[error("{code:?}: {message}")]
    Rejected { code: RejectCode, message: String, retry_after: Duration },
    /// The database does not answer.
    #[error("the database does not answer: {0}")]
    Database(#[from] Arc<DbError>),
}

impl From<DbError> for Failed {
    fn from(error: DbError) -> Self {
        Self::Database(Arc::new(error))
    }
}

fn rejected(code: RejectCode, message: impl Into<String>) -> Failed {
    Failed::Rejected { code, message: message.into(), retry_after: Duration::ZERO }
}

impl Failed {
    /// What the agent is told.
    pub(super) fn to_reject(&self) -> Option<Reject> {
        let reject = |code, message: &str, retry_after: Duration| {
            let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
            Some(Reject { code, message: message.to_owned(), retry_after_ms })
        };
        match self {
            Self::Link(LinkError::Malformed(_) | LinkError::TooLarge(..)) | Self::Frame(_) => {
                reject(RejectCode::Malformed, &self.to_string(), Duration::from_secs(60))
            }
            Self::Link(_) => None,
            Self::Rejected { code, message, retry_after } => reject(*code, message, *retry_after),
            Self::Database(_) => reject(
                RejectCode::Unavailable,
                "the coordinator's database does not answer; it will be tried again",
                Duration::from_secs(5),
            ),
        }
    }
}

/// Runs the exchange. On success the machine's former session, if any, has been fenced.
pub(super) async fn run<T: Transport>(
    fleet: &Fleet,
    sender: &Sender,
    receiver: &mut Receiver<T>,
    tls_exporter: Option<[u8; 32]>,
) -> Result<Arc<Session>, Failed> {
    let prove = prove(fleet, sender, receiver, tls_exporter);
    let (hello, known) =
        tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, prove).await.map_err(|_| {
            rejected(RejectCode::Malformed, "the handshake took longer than 10 seconds")
        })??;
    if fleet.is_draining() {
        return Err(Failed::Rejected {
            code: RejectCode::Unavailable,
            message: "the coordinator is stopping".to_owned(),
            retry_after: Duration::from_secs(2),
        });
    }
    fence_former(fleet, &known).await?;
    // Revoked or quarantined while we waited.
    check_standing(&*find(fleet, &hello)?)?;
    let epoch = fleet.0.machines.begin_session(&hello).await?;
    let now_us = fleet.0.clock.micros();
    let session = Session::new(hello, known.name.clone(), epoch, sender.clone(), now_us);
    session.tell(
        None,
        &Welcome {
            epoch,
            heartbeat_ms: u64::try_from(limits::HEARTBEAT_INTERVAL.as_millis()).unwrap_or(15_000),
            coordinator_time_us: now_us,
        },
    );
    Ok(Arc::new(session))
}

async fn prove<T: Transport>(
    fleet: &Fleet,
    sender: &Sender,
    receiver: &mut Receiver<T>,
    tls_exporter: Option<[u8; 32]>,
) -> Result<(Hello, Arc<Known>), Failed> {
    let hello: Hello = receiver.next().await?.open()?;
    let version = VersionRange::ours().agree(hello.versions).ok_or_else(|| {
        rejected(
            RejectCode::Version,
            format!(
                "the agent speaks versions {} to {}, this coordinator {} to {}; upgrade the older one",
                hello.versions.min, hello.versions.max,
                VersionRange::ours().min, VersionRange::ours().max
            ),
        )
    })?;
    check_hello(&hello)?;
    let nonce: [u8; 32] = rand::random();
    let challenge = Challenge { version, coordinator: fleet.0.coordinator, nonce: nonce.to_vec() };
    let _ = sender.control(&Envelope::of(&challenge)?);
    let proof: Proof = receiver.next().await?.open()?;
    // Only now is anything said about whether the machine exists.
    let known = find(fleet, &hello)?;
    let binding = if known.channel_binding {
        Some(tls_exporter.ok_or_else(|| {
            rejected(
                RejectCode::BadProof,
                "this machine enrolled over TLS that ends in the coordinator, and this connection does not",
            )
        })?)
    } else {
        None
    };
    let message = proof_message(
        fleet.0.coordinator,
        hello.machine,
        &nonce,
        binding.as_ref().map(<[u8; 32]>::as_slice),
    );
    let valid = VerifyingKey::try_from(known.public_key.as_slice()).is_ok_and(|key| {
        Signature::from_slice(&proof.signature)
            .is_ok_and(|signature| key.verify_strict(&message, &signature).is_ok())
    });
    if !valid {
        return Err(rejected(
            RejectCode::BadProof,
            "the proof does not fit this machine's key; enrol the machine again if its key was replaced",
        ));
    }
    check_standing(&known)?;
    Ok((hello, known))
}

fn check_hello(hello: &Hello) -> Result<(), Failed> {
    let texts = std::iter::once(&hello.agent_version)
        .chain(std::iter::once(&hello.boot_id))
        .chain(&hello.operations);
    for text in texts {
        if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
            return Err(rejected(RejectCode::Malformed, "a text in hello is too long or no text"));
        }
    }
    if hello.boot_id.is_empty() || !(1..=limits::MAX_CONCURRENT).contains(&hello.max_concurrent) {
        return Err(rejected(RejectCode::Malformed, "hello lacks a boot id or a sane concurrency"));
    }
    Ok(())
}

fn find(fleet: &Fleet, hello: &Hello) -> Result<Arc<Known>, Failed> {
    fleet.0.machines.registry().find(hello.machine).ok_or_else(|| {
        rejected(
            RejectCode::UnknownMachine,
            "this machine is not enrolled here; it was removed, or the coordinator lost its data",
        )
    })
}

fn check_standing(known: &Known) -> Result<(), Failed> {
    if known.revoked_us.is_some() {
        return Err(rejected(RejectCode::Revoked, "this machine was revoked"));
    }
    if known.quarantined_us.is_some() {
        return Err(Failed::Rejected {
            code: RejectCode::Cloned,
            message: format!(
                "two agents used the key of '{}' at the same time; stop the copy, then let the machine in again with 'reeve machines unquarantine {}'",
                known.name, known.name
            ),
            retry_after: Duration::from_secs(60),
        });
    }
    Ok(())
}

/// The machine may have a session already. If its agent still answers there are two agents with
/// one key, and neither can be believed; if not, the old session is only not noticed dead yet.
async fn fence_former(fleet: &Fleet, known: &Arc<Known>) -> Result<(), Failed> {
    let Some(former) = fleet.find(known.id) else { return Ok(()) };
    let now_us = fleet.0.clock.micros();
    if !former.answers_within(limits::CLONE_PROBE_TIMEOUT, now_us).await {
        former.dismiss(GoodbyeReason::Replaced, "a newer session took over", Duration::ZERO);
        return Ok(());
    }
    tracing::error!(machine = known.name, "two agents use one key: quarantined");
    metrics::counter!("reeve_clones_total").increment(1);
    fleet
        .0
        .machines
        .quarantine(known.id, "a second agent proved the key while the first still answered")
        .await?;
    former.dismiss(
        GoodbyeReason::Cloned,
        "a second agent uses this machine's key",
        Duration::from_secs(60),
    );
    check_standing(&*find_again(fleet, known)?)
}

fn find_again(fleet: &Fleet, known: &Known) -> Result<Arc<Known>, Failed> {
    fleet
        .0
        .machines
        .registry()
        .find(known.id)
        .ok_or_else(|| rejected(RejectCode::UnknownMachine, "this machine was removed"))
}
