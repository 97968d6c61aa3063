//! Terminals.

use bytes::Bytes;
use reeve_protocol::{JobId, OperationId};

use super::{Client, Paging};
use crate::api::follow::Attach;
use crate::api::{Page, ResizeRequest, TerminalSession, Typed, TypedPiece};
use crate::{Error, Follow};

impl Client {
    /// Terminals, newest first: only open or only ended ones, and of one machine, if that is said.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn sessions(
        &self,
        open: Option<bool>,
        machine: Option<&str>,
        paging: &Paging,
    ) -> Result<Page<TerminalSession>, Error> {
        self.get(&["api", "sessions"])
            .query("open", open)
            .query("machine", machine)
            .page(paging)
            .fetch()
            .await
    }

    /// One terminal.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn session(&self, id: OperationId) -> Result<TerminalSession, Error> {
        self.get(&["api", "sessions", &id.to_string()]).fetch().await
    }

    /// Connects to a terminal: what it shows from a merged offset on, over any number of
    /// connections. `types` says that [`Client::type_in`] will be used.
    #[must_use]
    pub fn attach(&self, job: JobId, operation: OperationId, from: u64, types: bool) -> Follow {
        Follow::attached(self.clone(), job, Attach { operation, types }, from)
    }

    /// Types at a terminal. One attempt, which may be made again with the same piece: no byte
    /// arrives twice.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn type_in(
        &self,
        operation: OperationId,
        piece: TypedPiece,
        bytes: Bytes,
    ) -> Result<Typed, Error> {
        self.post(&["api", "sessions", &operation.to_string(), "input"])
            .query("typist", Some(piece.typist))
            .query("offset", Some(piece.offset))
            .query("seen", piece.seen)
            .bytes(bytes)
            .repeatable()
            .fetch()
            .await
    }

    /// Gives a terminal another size.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn resize(&self, operation: OperationId, size: ResizeRequest) -> Result<(), Error> {
        self.post(&["api", "operations", &operation.to_string(), "resize"])
            .json(&size)?
            .repeatable()
            .send()
            .await
            .map(drop)
    }

    /// What a terminal showed and when, as asciicast version 2. To be read piece by piece.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn recording(&self, operation: OperationId) -> Result<RecordingStream, Error> {
        let call = self.get(&["api", "sessions", &operation.to_string(), "recording"]);
        let response = call.send().await?;
        Ok(RecordingStream { client: self.clone(), response })
    }
}

/// A recording on its way.
pub struct RecordingStream {
    client: Client,
    response: reqwest::Response,
}

impl RecordingStream {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When it broke off: what came is not the whole.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.response
            .chunk()
            .await
            .map_err(|error| Error::from_transport(self.client.url(), None, error))
    }
}
