//! One operation as the rest of the agent sees it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reeve_protocol::{Accepted, OperationId, OperationResult};
use tokio::sync::{mpsc, watch};

use crate::host;
use crate::keeper::files::Spec;
use crate::keeper::spool;
use crate::keeper::wire::{StdinState, ToKeeper};

/// Messages to a keeper that are not written yet. A full window of stdin in full frames is four;
/// this leaves room for small ones. More is a breach of the protocol.
pub const COMMANDS: usize = 1024;

/// What is known of an operation now.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// How it started, once it has.
    pub accepted: Option<Accepted>,
    /// Merged offset behind the last byte in the spool.
    pub spool_to: u64,
    /// Where stdin stands.
    pub stdin: StdinState,
    /// How it ended, once it has. `spool_to` is final then.
    pub finished: Option<Arc<OperationResult>>,
}

/// Why a message for a keeper was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The command is over.
    #[error("the command is over")]
    Over,
    /// The sender goes beyond its window.
    #[error("more messages than any window allows")]
    TooMany,
}

/// Who does the work of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A keeper, which runs a command.
    Command {
        /// Whether its stdin comes over the link.
        has_stdin: bool,
    },
    /// A keeper, which runs a worker of ours.
    Work {
        /// Whether its stdin comes over the link.
        has_stdin: bool,
    },
    /// A keeper, which runs a shell or a program on a terminal.
    Terminal,
    /// The agent itself; no process is made.
    Answer,
}

/// One operation. Its data is written by the task that attends to its keeper.
#[derive(Debug)]
pub struct Operation {
    id: OperationId,
    path: PathBuf,
    created_us: i64,
    kind: Kind,
    view: watch::Sender<View>,
    commands: mpsc::Sender<ToKeeper>,
}

impl Kind {
    /// Who does what a keeper was given.
    #[must_use]
    pub fn of(spec: &Spec) -> Self {
        let has_stdin = spec.has_stdin();
        match spec.work {
            _ if spec.terminal.is_some() => Self::Terminal,
            Some(_) => Self::Work { has_stdin },
            None => Self::Command { has_stdin },
        }
    }
}

impl Operation {
    /// A handle, and where its messages to the keeper come out.
    #[must_use]
    pub fn new(
        id: OperationId,
        kind: Kind,
        created_us: i64,
        path: PathBuf,
    ) -> (Arc<Self>, mpsc::Receiver<ToKeeper>) {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let operation = Self {
            id,
            path,
            created_us,
            kind,
            view: watch::Sender::new(View::default()),
            commands,
        };
        (Arc::new(operation), receiver)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> OperationId {
        self.id
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// When the agent took it.
    #[must_use]
    pub fn created_us(&self) -> i64 {
        self.created_us
    }

    /// Whether its stdin comes over the link.
    #[must_use]
    pub fn has_stdin(&self) -> bool {
        match self.kind {
            Kind::Command { has_stdin } | Kind::Work { has_stdin } => has_stdin,
            Kind::Terminal => true,
            Kind::Answer => false,
        }
    }

    /// Whether it is a command of the machine's.
    #[must_use]
    pub fn is_command(&self) -> bool {
        matches!(self.kind, Kind::Command { .. })
    }

    /// Whether it is a terminal.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.kind == Kind::Terminal
    }

    /// Whether a worker does it.
    #[must_use]
    pub fn is_work(&self) -> bool {
        matches!(self.kind, Kind::Work { .. })
    }

    /// Whether the agent does it itself.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        self.kind == Kind::Answer
    }

    /// What is known now.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Tells of every change of what is known.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.view.borrow().finished.is_some()
    }

    /// Changes what is known.
    pub fn update(&self, change: impl FnOnce(&mut View)) {
        self.view.send_modify(change);
    }

    /// Says something to the keeper. Never waits.
    ///
    /// # Errors
    /// When it is over, or too much is waiting already.
    pub fn command(&self, message: ToKeeper) -> Result<(), CommandError> {
        self.commands.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandError::TooMany,
            mpsc::error::TrySendError::Closed(_) => CommandError::Over,
        })
    }

    /// Output below `upto` is durable at the coordinator: its space may be given back.
    pub fn release(&self, upto: u64) {
        // Said again with every acknowledgement, so one that finds no room is not missed.
        if self.command(ToKeeper::Release { upto }) == Err(CommandError::Over) && self.is_finished()
        {
            let freed =
                host::unix::open_folder(&self.path).and_then(|folder| spool::release(folder, upto));
            if let Err(error) = freed {
                tracing::debug!(id = %self.id, %error, "the spool could not be released");
            }
        }
    }
}
