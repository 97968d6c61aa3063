//! Files kept at the coordinator for stdin of operations.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use reeve_protocol::UploadId;
use reqwest::{Body, Method};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt};
use tokio::sync::mpsc;

use super::{Call, Client};
use crate::Error;
use crate::api::{NewUpload, Page, Upload, UploadState};
use crate::retry::Backoff;

/// Read and sent at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// Chunks read ahead of the connection.
const CHUNKS_AHEAD: usize = 4;

/// A connection that takes no chunk for this long is given up.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// Until the answer to a whole body: the coordinator may read the file again for its hash.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

impl Client {
    /// Announces a file.
    ///
    /// # Errors
    /// See [`Error`]; `uploads_full` when there is no room for it.
    pub async fn create_upload(&self, new: &NewUpload) -> Result<Upload, Error> {
        self.post(&["api", "uploads"]).json(new)?.fetch().await
    }

    /// How far a file is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn upload(&self, id: UploadId) -> Result<Upload, Error> {
        self.get(&["api", "uploads", &id.to_string()]).fetch().await
    }

    /// Your files at the coordinator, newest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn uploads(&self) -> Result<Page<Upload>, Error> {
        self.get(&["api", "uploads"]).fetch().await
    }

    /// Removes a file that no running job reads.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_upload(&self, id: UploadId) -> Result<(), Error> {
        let call = self.call(Method::DELETE, &["api", "uploads", &id.to_string()]);
        call.repeatable().send().await.map(drop)
    }

    /// Appends bytes at exactly `offset`, in one attempt.
    ///
    /// # Errors
    /// See [`Error`]; `wrong_offset` says in the problem's `received` where to go on.
    pub async fn append_upload(
        &self,
        id: UploadId,
        offset: u64,
        bytes: Bytes,
    ) -> Result<Upload, Error> {
        self.appending(id, offset).bytes(bytes).fetch().await
    }

    /// Sends all of a file, from wherever the coordinator has it. Survives lost connections and
    /// restarts of the coordinator. `progress` is told how many bytes are on their way or there; the
    /// number goes back after a cut. Comes back when the coordinator has all of it, and its hash.
    ///
    /// # Errors
    /// When reading fails or ends too soon, the coordinator refuses, or there is no progress for
    /// longer than [`crate::RetryLimits::follow`].
    pub async fn send_upload(
        &self,
        id: UploadId,
        mut reader: impl AsyncRead + AsyncSeek + Unpin,
        mut progress: impl FnMut(u64),
    ) -> Result<Upload, Error> {
        let mut known = self.upload(id).await?;
        let mut backoff = Backoff::new();
        let mut since = Instant::now();
        while known.state == UploadState::Open {
            let before = known.received;
            reader.seek(std::io::SeekFrom::Start(before)).await.map_err(Error::Input)?;
            progress(before);
            let error = match self.send_rest(&known, &mut reader, &mut progress).await {
                Ok(upload) => {
                    known = upload;
                    continue;
                }
                Err(error) => error,
            };
            let passing = error.is_transient()
                || matches!(error.code(), Some("wrong_offset" | "upload_interrupted"));
            if !passing {
                return Err(error);
            }
            loop {
                let pause = backoff.pause(error.retry_after());
                if since.elapsed() + pause > self.retry_limits().follow {
                    return Err(Error::LostContact {
                        after: since.elapsed(),
                        last: Box::new(error),
                    });
                }
                tokio::time::sleep(pause).await;
                match self.upload(id).await {
                    Ok(found) => {
                        known = found;
                        break;
                    }
                    Err(again) if again.is_transient() => {}
                    Err(refused) => return Err(refused),
                }
            }
            if known.received > before {
                backoff = Backoff::new();
                since = Instant::now();
            }
        }
        progress(known.received);
        if known.state == UploadState::Broken {
            return Err(Error::protocol(format!(
                "upload {id} is not what was announced, or was not continued in time"
            )));
        }
        Ok(known)
    }

    fn appending(&self, id: UploadId, offset: u64) -> Call {
        self.call(Method::PATCH, &["api", "uploads", &id.to_string()]).query("offset", Some(offset))
    }

    /// One request with everything that is missing.
    async fn send_rest(
        &self,
        known: &Upload,
        reader: &mut (impl AsyncRead + Unpin),
        progress: &mut impl FnMut(u64),
    ) -> Result<Upload, Error> {
        let (sender, mut receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(CHUNKS_AHEAD);
        let chunks = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
        let call = self.appending(known.id, known.received);
        let mut sending = std::pin::pin!(call.attempt_stream(Body::wrap_stream(chunks)));
        let mut at = known.received;
        let reading = async {
            while at < known.size {
                let place = match tokio::time::timeout(STALLED_AFTER, sender.reserve()).await {
                    Ok(Ok(place)) => place,
                    // The request is over; its answer says why.
                    Ok(Err(_)) => return Ok(()),
                    Err(_) => return Err(self.stalled(STALLED_AFTER)),
                };
                let rest = usize::try_from(known.size - at).unwrap_or(usize::MAX);
                let most = rest.min(CHUNK_BYTES);
                let mut chunk = BytesMut::with_capacity(most).limit(most);
                if reader.read_buf(&mut chunk).await.map_err(Error::Input)? == 0 {
                    return Err(Error::Input(std::io::Error::new(
                        std::io::ErrorKind::UnexpectedEof,
                        format!("it ends after {at} bytes, and {} were announced", known.size),
                    )));
                }
                let chunk = chunk.into_inner();
                at += chunk.len() as u64;
                progress(at);
                place.send(Ok(chunk.freeze()));
            }
            drop(sender);
            Ok(())
        };
        let answer = tokio::select! {
            answer = &mut sending => answer,
            read = reading => {
                read?;
                match tokio::time::timeout(ANSWER_TIMEOUT, &mut sending).await {
                    Ok(answer) => answer,
                    Err(_) => Err(self.stalled(ANSWER_TIMEOUT)),
                }
            }
        };
        let body = answer?.bytes().await.map_err(|error| call.transport_error(error))?;
        serde_json::from_slice(&body).map_err(|error| {
            Error::protocol(format!("the answer to an upload is not understood ({error})"))
        })
    }

    fn stalled(&self, after: Duration) -> Error {
        Error::Connect {
            url: self.url().to_owned(),
            why: format!("nothing moved for {} s", after.as_secs()),
            transient: true,
            sent: true,
            source: None,
        }
    }
}
