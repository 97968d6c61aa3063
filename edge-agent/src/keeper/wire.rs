//! What agent and keeper say to each other: length-prefixed MessagePack over a Unix socket. An
//! upgraded agent meets old keepers, so: add, never change.

use std::io::{self, Read};

use reeve_protocol::{Accepted, CodecError, SignalName};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Said in `hello`.
///
/// History:
/// - 1 (2026-11): first.
pub const VERSION: u32 = 1;

/// One message, bytes: a full piece of stdin and what is around it.
pub const MAX_MESSAGE_BYTES: usize = reeve_protocol::limits::MAX_DATA_BYTES + 4096;

/// Keeper → agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum FromKeeper {
    /// First message of every connection, once the command runs.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// The keeper's process id.
        keeper: u32,
        /// First merged offset still in the spool.
        spool_from: u64,
        /// Merged offset behind the last byte in the spool.
        spool_to: u64,
        /// As the coordinator is to be told.
        accepted: Accepted,
        /// Where stdin stands.
        stdin: StdinState,
    },
    /// There is output up to here. Several steps may be told as one.
    Progress {
        /// Merged offset, exclusive.
        to: u64,
    },
    /// Where stdin stands now.
    Stdin(StdinState),
    /// `exit` is written and all output before it. The keeper ends.
    Exited,
    /// Something a newer keeper says.
    #[serde(other)]
    Unknown,
}

/// Where stdin stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StdinState {
    /// Bytes the keeper has taken.
    pub received: u64,
    /// More than these it will not take for now.
    pub until: u64,
    /// The command closed its stdin, or its end was delivered.
    pub closed: bool,
}

/// Agent → keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum ToKeeper {
    /// Output below this merged offset is durable elsewhere.
    Release {
        /// Exclusive.
        upto: u64,
    },
    /// Bytes for stdin.
    Input {
        /// Offset of the first.
        offset: u64,
        /// The bytes.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// End of stdin.
    CloseInput {
        /// Length of the whole stdin.
        offset: u64,
    },
    /// To the command's process group.
    Signal {
        /// Which.
        signal: SignalName,
    },
    /// New terminal size; without a terminal, nothing happens.
    Resize {
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// End it.
    Cancel {
        /// For the record.
        reason: String,
    },
    /// Something a newer agent says.
    #[serde(other)]
    Unknown,
}

/// The bytes of a message, its length in front (little endian).
///
/// # Errors
/// When it cannot be encoded.
pub fn to_frame<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    let mut frame = Vec::new();
    add_frame(message, &mut frame)?;
    Ok(frame)
}

/// As [`to_frame`], behind what is in `bytes`.
///
/// # Errors
/// When it cannot be encoded; `bytes` is as before then.
pub fn add_frame<T: Serialize>(message: &T, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    if let Err(error) = reeve_protocol::encode_into(message, bytes) {
        bytes.truncate(start);
        return Err(error);
    }
    let length = u32::try_from(bytes.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(head) = bytes.get_mut(start..start + 4) {
        head.copy_from_slice(&length.to_le_bytes());
    }
    Ok(())
}

/// What is wrong with what came over the socket.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// No message of ours is that long.
    #[error("a message of {0} bytes is too long")]
    TooLong(usize),
    /// The message makes no sense.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// Bytes as they come, messages as they are whole.
#[derive(Debug, Default)]
pub struct Incoming {
    /// Made once and used again and again; what is read lies in `taken..filled`.
    buffer: Vec<u8>,
    taken: usize,
    filled: usize,
}

/// Read at once, at most: some full messages.
const READ_BYTES: usize = 4 * MAX_MESSAGE_BYTES;

/// Of these the buffer is made at first: most operations have no stdin.
const FIRST_BYTES: usize = 4096;

impl Incoming {
    /// More bytes came.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = self.make_room(bytes.len());
        room[..bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
    }

    /// Reads once, as much as there is up to some messages.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn read(&mut self, source: &mut impl Read) -> io::Result<usize> {
        // Twice what was there last time: who sends much is read in large steps.
        let wanted = (self.buffer.len()).clamp(FIRST_BYTES, READ_BYTES);
        let count = source.read(self.make_room(wanted))?;
        self.filled += count;
        Ok(count)
    }

    fn make_room(&mut self, wanted: usize) -> &mut [u8] {
        if self.taken > 0 {
            self.buffer.copy_within(self.taken..self.filled, 0);
            self.filled -= self.taken;
            self.taken = 0;
        }
        if self.buffer.len() < self.filled + wanted {
            self.buffer.resize(self.filled + wanted, 0);
        }
        &mut self.buffer[self.filled..]
    }

    /// The next whole message.
    ///
    /// # Errors
    /// When it is none; the connection is of no use any more.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, WireError> {
        let rest = &self.buffer[self.taken..self.filled];
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_MESSAGE_BYTES {
            return Err(WireError::TooLong(length));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = reeve_protocol::decode(body)?;
        self.taken += 4 + length;
        Ok(Some(message))
    }
}
