//! One operation on one WebSocket, both ways. For stored operations it goes on by itself after a
//! break, output and stdin by offset, so that each byte counts once.

mod driver;
mod input;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use reeve_protocol::{OperationId, Stream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::api::Operation;
use crate::{Client, Error};
use driver::Driver;
pub use input::ChannelInput;
use input::Shared;

/// Events waiting to be taken. With more, the connection is not read from, and the machine waits.
const EVENT_QUEUE: usize = 16;

/// Which way a channel goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelMode {
    /// Only out of the operation.
    Read,
    /// Both ways.
    Write,
}

/// Where a channel begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelFrom {
    /// At this merged offset.
    Offset(u64),
    /// This many bytes before the end.
    Tail(u64),
}

impl From<u64> for ChannelFrom {
    fn from(offset: u64) -> Self {
        Self::Offset(offset)
    }
}

/// Something that happened.
#[derive(Debug)]
pub enum ChannelEvent {
    /// The operation, when its state has changed. A state that is terminal is the last event.
    State(Box<Operation>),
    /// Bytes it wrote, in order, each once.
    Output {
        /// Where.
        stream: Stream,
        /// Offset of the first in the merged order of both streams.
        all: u64,
        /// Never empty.
        bytes: Bytes,
    },
    /// These offsets are not kept any more.
    Gap {
        /// The first.
        from: u64,
        /// Behind the last.
        to: u64,
    },
    /// How far stdin has got.
    Received {
        /// Bytes that reach the operation whatever happens.
        received: u64,
        /// It reads no more.
        closed: bool,
    },
    /// The connection was lost; it is being resumed. Once per outage.
    Interrupted {
        /// In words.
        why: String,
    },
    /// Contact again, after [`ChannelEvent::Interrupted`].
    Resumed,
}

/// A channel to an operation. What it is given is sent and what comes is fetched in the background,
/// within bounds, until it is dropped.
pub struct Channel {
    events: mpsc::Receiver<Result<ChannelEvent, Error>>,
    input: ChannelInput,
    task: AbortHandle,
}

impl Client {
    /// A channel to an operation. Has to be called within a Tokio runtime.
    pub fn channel(
        &self,
        operation: OperationId,
        from: impl Into<ChannelFrom>,
        mode: ChannelMode,
    ) -> Channel {
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        let shared = Arc::new(Shared::new());
        let driver = Driver {
            client: self.clone(),
            operation,
            from: from.into(),
            mode,
            shared: Arc::clone(&shared),
            events: sender,
            ended: false,
            last_contact: Instant::now(),
        };
        // Ends with the channel, which aborts it when it is dropped.
        #[allow(clippy::disallowed_methods)]
        let task = tokio::spawn(driver.run()).abort_handle();
        Channel { events, input: ChannelInput::new(shared), task }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.task.abort();
        self.input.close();
    }
}

impl Channel {
    /// The next thing that happened; `None` when the operation has ended and all of it was handed
    /// out. Dropping the future before it is ready loses nothing.
    ///
    /// # Errors
    /// When the coordinator refuses, there was no contact for longer than
    /// [`crate::RetryLimits::follow`], or relayed output broke off ([`Error::RelayBroken`]). After an
    /// error nothing more comes.
    pub async fn next(&mut self) -> Result<Option<ChannelEvent>, Error> {
        self.events.recv().await.transpose()
    }

    /// The way in, for somebody else.
    #[must_use]
    pub fn input(&self) -> ChannelInput {
        self.input.clone()
    }

    /// As [`ChannelInput::send`].
    pub async fn send(&self, bytes: Bytes) -> bool {
        self.input.send(bytes).await
    }

    /// As [`ChannelInput::resize`].
    pub fn resize(&self, columns: u16, rows: u16) {
        self.input.resize(columns, rows);
    }

    /// As [`ChannelInput::close_input`].
    pub fn close_input(&self) {
        self.input.close_input();
    }
}
