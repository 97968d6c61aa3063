//! The bytes of one operation as they are, over any number of connections.

use std::time::Instant;

use bytes::Bytes;
use reeve_protocol::OperationId;
use reqwest::Response;

use crate::retry::Backoff;
use crate::{Client, Error};

/// Which of an operation's byte sequences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// Both, in the order in which they were written.
    #[default]
    All,
    /// stdout alone.
    Stdout,
    /// stderr alone.
    Stderr,
}

impl Which {
    fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A download. Ask [`Self::next`] until it says `None`.
pub struct OutputStream {
    client: Client,
    operation: OperationId,
    which: Which,
    /// Where the next byte comes from, while nothing was dropped before it.
    offset: u64,
    follow: bool,
    response: Option<Response>,
    began: bool,
    ended: bool,
    last_contact: Instant,
    backoff: Backoff,
}

impl OutputStream {
    pub(crate) fn new(
        client: Client,
        operation: OperationId,
        which: Which,
        from: u64,
        follow: bool,
    ) -> Self {
        Self {
            client,
            operation,
            which,
            offset: from,
            follow,
            response: None,
            began: false,
            ended: false,
            last_contact: Instant::now(),
            backoff: Backoff::new(),
        }
    }

    /// The next bytes.
    ///
    /// # Errors
    /// When the coordinator refuses, or contact is lost for good.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while !self.ended {
            let error = match self.advance().await {
                Ok(Some(bytes)) => {
                    self.offset += bytes.len() as u64;
                    self.last_contact = Instant::now();
                    self.backoff = Backoff::new();
                    return Ok(Some(bytes));
                }
                Ok(None) => {
                    self.ended = true;
                    break;
                }
                Err(error) => error,
            };
            self.response = None;
            let limits = self.client.retry_limits();
            let patience = if self.began { limits.follow } else { limits.total };
            let pause = self.backoff.pause(error.retry_after());
            if !error.is_transient() || self.last_contact.elapsed() + pause > patience {
                self.ended = true;
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            if self.began && self.has_gaps().await? {
                self.ended = true;
                return Err(Error::Setup(format!(
                    "the connection broke, and output that was partly dropped cannot be gone on with ({error}); ask for it again"
                )));
            }
        }
        Ok(None)
    }

    async fn advance(&mut self) -> Result<Option<Bytes>, Error> {
        let response = match &mut self.response {
            Some(response) => response,
            None => {
                let response = self
                    .client
                    .get(&["api", "operations", &self.operation.to_string(), "output"])
                    .query("stream", Some(self.which.as_str()))
                    .query("from", Some(self.offset))
                    .query("follow", self.follow.then_some(true))
                    .attempt()
                    .await?;
                self.began = true;
                self.response.insert(response)
            }
        };
        let chunk = response.chunk().await;
        chunk.map_err(|error| Error::from_transport(self.client.url(), None, error))
    }

    /// With a hole in it, the number of bytes that came does not say where the next one is.
    async fn has_gaps(&self) -> Result<bool, Error> {
        let output = self.client.operation(self.operation).await?.output;
        Ok(output.gaps.is_some_and(|gaps| !gaps.is_empty()))
    }
}
