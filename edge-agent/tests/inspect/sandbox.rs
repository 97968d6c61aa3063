//! Running a command in inspect mode, and the same one without.

use reeve_agent::host::sandbox::{Walls, choose_uids};
use reeve_protocol::Outcome;
use reeve_protocol::ops::{Command, ExecuteCommand, Mode, Network};

use crate::kept::{Kept, Setup, shell};

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Ran {
    pub outcome: Outcome,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn code(&self) -> i32 {
        match self.outcome {
            Outcome::Exited { code } => code,
            _ => panic!("{self:?}"),
        }
    }

    /// What it printed, of a command that succeeded.
    #[track_caller]
    pub fn text(self) -> String {
        assert_eq!(self.code(), 0, "{self:?}");
        self.stdout
    }
}

/// The walls of a machine whose owner decided nothing.
pub fn walls() -> Walls {
    let number = reeve_protocol::OperationId::new().0.as_u128();
    Walls {
        uid: choose_uids(None).pick(number),
        blocked: Vec::new(),
        allowed: vec!["/".to_owned()],
        bus: Vec::new(),
    }
}

pub fn start(mut command: ExecuteCommand, network: Network, walls: Walls) -> Kept {
    command.mode = Mode::Inspect;
    command.network = network;
    let mut setup = Setup::of(command);
    setup.walls = Some(walls);
    setup.start()
}

pub fn finish(mut kept: Kept) -> Ran {
    let outcome = kept.finish().outcome;
    let read = kept.read(0);
    Ran {
        outcome,
        stdout: String::from_utf8_lossy(&read.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&read.stderr).into_owned(),
    }
}

pub fn inspect_with(command: ExecuteCommand, network: Network, walls: Walls) -> Ran {
    finish(start(command, network, walls))
}

/// A shell line in inspect mode.
pub fn inspect(line: &str) -> Ran {
    inspect_with(shell(line), Network::View, walls())
}

/// The same without walls.
pub fn run(line: &str) -> Ran {
    finish(Setup::of(ExecuteCommand::new(Command::Shell(line.to_owned()))).start())
}
