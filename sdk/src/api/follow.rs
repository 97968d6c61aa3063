//! The stream in which a job is followed: states and output of all its operations on one
//! connection. `Content-Type: application/vnd.reeve.follow`.
//!
//! A sequence of frames, each a fixed header and a payload, integers big-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 1 | kind |
//! | 16 | operation id (zero for frames about the job) |
//! | 8 | offset in the merged order |
//! | 8 | offset in its own stream |
//! | 4 | length of the payload |
//!
//! After a break, ask again with the merged offsets reached: `POST /api/jobs/{id}/follow` with
//! [`FollowRequest`].

use std::collections::BTreeMap;

use reeve_protocol::{Gap, OperationId, Stream};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.reeve.follow";

/// Bytes of a header.
pub const HEADER_BYTES: usize = 37;

/// The largest payload of one frame, bytes. A reader refuses more.
pub const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;

/// Where to go on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FollowRequest {
    /// Merged offset already seen, by operation id; operations left out start at 0.
    #[serde(default)]
    pub offsets: BTreeMap<String, u64>,
    /// Whether to send output at all, or only states.
    #[serde(default)]
    pub states_only: bool,
    /// The viewer is connected to this terminal of the job. That is shown to others and noted in
    /// the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach: Option<Attach>,
}

/// A connection to a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// Which.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub operation: OperationId,
    /// To type, too, which needs the role operator.
    pub types: bool,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Payload: the job as JSON. First, and last before `End`.
    Job,
    /// Payload: an operation as JSON, whenever its state changes.
    Operation,
    /// Payload: bytes of stdout or stderr.
    Output(Stream),
    /// Payload: a [`Gap`] as JSON.
    Gap,
    /// Nothing happened for a while; no payload.
    KeepAlive,
    /// Everything has ended and everything was sent; no payload.
    End,
}

impl FrameKind {
    fn to_byte(self) -> u8 {
        match self {
            Self::Job => 1,
            Self::Operation => 2,
            Self::Output(Stream::Stdout) => 3,
            Self::Output(Stream::Stderr) => 4,
            Self::Gap => 5,
            Self::KeepAlive => 6,
            Self::End => 7,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Job,
            2 => Self::Operation,
            3 => Self::Output(Stream::Stdout),
            4 => Self::Output(Stream::Stderr),
            5 => Self::Gap,
            6 => Self::KeepAlive,
            7 => Self::End,
            _ => return None,
        })
    }
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub kind: FrameKind,
    /// The operation it is about; zero for the job.
    pub operation: OperationId,
    /// Offset in the merged order.
    pub all: u64,
    /// Offset in its own stream.
    pub offset: u64,
    /// Length of the payload.
    pub length: u32,
}

/// Bytes that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum BadFrame {
    #[error("unknown frame kind {0}")]
    Kind(u8),
    #[error("frame of {0} bytes, at most {MAX_PAYLOAD_BYTES} are allowed")]
    TooLong(u32),
}

impl Header {
    /// A frame about the job.
    #[must_use]
    pub fn about_job(kind: FrameKind, length: u32) -> Self {
        Self { kind, operation: OperationId(Uuid::nil()), all: 0, offset: 0, length }
    }

    /// As bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = self.kind.to_byte();
        bytes[1..17].copy_from_slice(self.operation.0.as_bytes());
        bytes[17..25].copy_from_slice(&self.all.to_be_bytes());
        bytes[25..33].copy_from_slice(&self.offset.to_be_bytes());
        bytes[33..37].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// From bytes.
    ///
    /// # Errors
    /// When the kind is unknown or the payload too long.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, BadFrame> {
        fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
            let mut out = [0; N];
            out.copy_from_slice(&bytes[at..at + N]);
            out
        }
        let length = u32::from_be_bytes(take(bytes, 33));
        if length as usize > MAX_PAYLOAD_BYTES {
            return Err(BadFrame::TooLong(length));
        }
        Ok(Self {
            kind: FrameKind::from_byte(bytes[0]).ok_or(BadFrame::Kind(bytes[0]))?,
            operation: OperationId(Uuid::from_bytes(take(bytes, 1))),
            all: u64::from_be_bytes(take(bytes, 17)),
            offset: u64::from_be_bytes(take(bytes, 25)),
            length,
        })
    }
}

/// The payload of a [`FrameKind::Gap`] frame.
pub type GapPayload = Gap;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_survives_the_way_through_bytes() {
        for kind in 1..=7 {
            let header = Header {
                kind: FrameKind::from_byte(kind).expect("known kind"),
                operation: OperationId(Uuid::from_u128(99)),
                all: u64::MAX - 1,
                offset: 1 << 40,
                length: 65_536,
            };
            assert_eq!(Header::parse(&header.to_bytes()), Ok(header));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let mut bytes = Header::about_job(FrameKind::End, 0).to_bytes();
        bytes[0] = 99;
        assert_eq!(Header::parse(&bytes), Err(BadFrame::Kind(99)));
        let long = Header::about_job(FrameKind::Job, u32::MAX).to_bytes();
        assert_eq!(Header::parse(&long), Err(BadFrame::TooLong(u32::MAX)));
    }
}
