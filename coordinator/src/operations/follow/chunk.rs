//! Frames put together, so that small ones go to the viewer in one piece.

use bytes::{BufMut, Bytes, BytesMut};
use reeve_protocol::OperationId;
use reeve_sdk::api::follow::{FrameKind, HEADER_BYTES, Header};
use reeve_sdk::api::{Job, Operation};
use serde::Serialize;

use crate::operations::output::Part;
use crate::problem::ApiError;

/// What is put together is sent from this size on.
const LARGE_BYTES: usize = 64 * 1024;

/// Frames on their way.
#[derive(Default)]
pub struct Chunk(BytesMut);

impl Chunk {
    /// Whether it is time to send it.
    pub fn is_large(&self) -> bool {
        self.0.len() > LARGE_BYTES
    }

    /// What there is, if anything.
    pub fn take(&mut self) -> Option<Bytes> {
        (!self.0.is_empty()).then(|| self.0.split().freeze())
    }

    /// A frame whose content, or the beginning of it, is at hand.
    pub fn frame(&mut self, header: Header, payload: &[u8]) {
        self.0.reserve(HEADER_BYTES + payload.len());
        self.0.put_slice(&header.to_bytes());
        self.0.put_slice(payload);
    }

    /// A frame without content.
    pub fn about_job(&mut self, kind: FrameKind) {
        self.frame(Header::about_job(kind, 0), &[]);
    }

    /// How the job is now.
    pub fn job(&mut self, job: &Job) -> Result<(), ApiError> {
        let payload = to_json(job)?;
        self.frame(Header::about_job(FrameKind::Job, length(&payload)), &payload);
        Ok(())
    }

    /// How an operation is now.
    pub fn operation(&mut self, operation: &Operation) -> Result<(), ApiError> {
        let payload = to_json(operation)?;
        let header = Header {
            kind: FrameKind::Operation,
            operation: operation.id,
            all: operation.output.all,
            offset: 0,
            length: length(&payload),
        };
        self.frame(header, &payload);
        Ok(())
    }

    /// A part of an operation's output.
    pub fn part(&mut self, operation: OperationId, part: Part) -> Result<(), ApiError> {
        match part {
            Part::Bytes { stream, all, offset, bytes } => {
                let kind = FrameKind::Output(stream);
                let length = length(&bytes);
                self.frame(Header { kind, operation, all, offset, length }, &bytes);
            }
            Part::Gap(gap) => {
                let payload = to_json(&gap)?;
                let (kind, length) = (FrameKind::Gap, length(&payload));
                let header = Header { kind, operation, all: gap.from, offset: 0, length };
                self.frame(header, &payload);
            }
        }
        Ok(())
    }
}

fn length(payload: &[u8]) -> u32 {
    u32::try_from(payload.len()).unwrap_or(u32::MAX)
}

fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(ApiError::internal)
}
