//! A connection from a machine, joined to something here.

use std::io;

use bytes::BytesMut;
use reeve_protocol::Stream;
use reeve_protocol::ops::open_tunnel::HALF_CLOSED;
use reeve_protocol::ops::{Failure, OpenTunnel};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::api::{JobRequest, Operation, OperationState};
use crate::{ChannelEvent, ChannelInput, ChannelMode, Client, Error};

/// Bytes read at once of what is sent.
const READ_BYTES: usize = 64 * 1024;

/// Bytes of a worker's last words that are kept.
const MAX_WORDS: usize = 16 * 1024;

/// Why a tunnel did not come about, or broke.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The coordinator could not be asked, or broke off.
    #[error(transparent)]
    Coordinator(#[from] Error),
    /// The machine could not do it.
    #[error("{0}")]
    Machine(Failure),
    /// It ended otherwise than by itself.
    #[error("the tunnel ended: {0}")]
    Ended(String),
    /// This side could not be read or written.
    #[error("this side broke: {0}")]
    Here(#[from] io::Error),
}

impl Client {
    /// Has a machine connect to an address, and passes bytes on both ways until both halves have
    /// ended. The machine's owner says where tunnels may lead. Dropping the future breaks it off.
    ///
    /// # Errors
    /// Why it did not come about, or broke.
    pub async fn tunnel(
        &self,
        machine: &str,
        target: &OpenTunnel,
        from: impl AsyncRead + Unpin,
        to: impl AsyncWrite + Unpin,
    ) -> Result<(), TunnelError> {
        let request = JobRequest { relay: true, ..JobRequest::new(machine, target.clone()) };
        let job = self.create_job(&request).await?;
        let operation = job
            .single
            .ok_or_else(|| Error::Setup(format!("'{machine}' is more than one machine")))?;
        let mut channel = self.channel(operation.id, 0, ChannelMode::Write);
        let input = channel.input();
        let sending = send(from, &input);
        let receiving = receive(&mut channel, to);
        tokio::pin!(sending, receiving);
        tokio::select! {
            received = &mut receiving => return received,
            sent = &mut sending => sent?,
        }
        receiving.await
    }
}

async fn send(mut from: impl AsyncRead + Unpin, input: &ChannelInput) -> io::Result<()> {
    loop {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        if from.read_buf(&mut buffer).await? == 0 {
            input.close_input();
            return Ok(());
        }
        if !input.send(buffer.freeze()).await {
            // Nobody there reads any more; how it ended comes the other way.
            return Ok(());
        }
    }
}

async fn receive(
    channel: &mut crate::Channel,
    mut to: impl AsyncWrite + Unpin,
) -> Result<(), TunnelError> {
    let mut words = Vec::new();
    let mut is_open = true;
    while let Some(event) = channel.next().await? {
        match event {
            ChannelEvent::Output { stream: Stream::Stdout, bytes, .. } => {
                to.write_all(&bytes).await?;
                to.flush().await?;
            }
            ChannelEvent::Output { stream: Stream::Stderr, bytes, .. } => {
                words.extend_from_slice(&bytes);
                if words.len() > MAX_WORDS {
                    words.drain(..words.len() - MAX_WORDS);
                }
                if is_open && failures(&words).any(|failure| failure.code == HALF_CLOSED) {
                    is_open = false;
                    // It may be gone already.
                    let _ = to.shutdown().await;
                }
            }
            ChannelEvent::Gap { .. } => {
                return Err(TunnelError::Ended("bytes are missing".to_owned()));
            }
            ChannelEvent::State(operation) if operation.state.is_terminal() => {
                return judge(&operation, &words);
            }
            _ => {}
        }
    }
    Err(TunnelError::Ended("the coordinator closed it".to_owned()))
}

fn failures(words: &[u8]) -> impl Iterator<Item = Failure> {
    words.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

fn judge(operation: &Operation, words: &[u8]) -> Result<(), TunnelError> {
    if operation.state == OperationState::Succeeded {
        return Ok(());
    }
    let last = failures(words).filter(|failure| failure.code != HALF_CLOSED).last();
    if let Some(failure) = last {
        return Err(TunnelError::Machine(failure));
    }
    Err(match &operation.reason {
        Some(reason) => TunnelError::Machine(Failure::new(&reason.code, reason.message.clone())),
        None => TunnelError::Ended(format!("it is {}", operation.state.as_str())),
    })
}
