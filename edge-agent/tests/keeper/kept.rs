//! One keeper with one command, and a scripted agent.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reeve_agent::host;
use reeve_agent::host::sandbox::Walls;
use reeve_agent::keeper::files::{self, Spec, Terminal};
use reeve_agent::keeper::spool::{Piece, SpoolReader};
use reeve_agent::keeper::wire::{FromKeeper, Incoming, StdinState, ToKeeper, to_frame};
use reeve_protocol::ops::{Command, ExecuteCommand};
use reeve_protocol::{Accepted, OperationId, OperationResult, Stream};

/// Longer than anything here takes, shorter than a person's patience.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Kept {
    pub id: OperationId,
    pub folder: PathBuf,
    pub process: host::keeper_process::KeeperProcess,
    pub stream: Option<UnixStream>,
    incoming: Incoming,
    pub to: u64,
    pub stdin: StdinState,
    pub accepted: Option<Accepted>,
    pub exited: bool,
    _temporary: tempfile::TempDir,
}

pub fn shell(line: &str) -> ExecuteCommand {
    ExecuteCommand::new(Command::Shell(line.to_owned()))
}

pub fn argv(words: &[&str]) -> ExecuteCommand {
    ExecuteCommand::new(Command::Argv(words.iter().map(|word| (*word).to_owned()).collect()))
}

/// Where operations' groups go on this machine. These tests are to run with control groups; a
/// machine that has none can only run those for the fallback.
pub fn groups() -> PathBuf {
    let mount = host::cgroup::find_mount().expect("cgroup v2 is mounted: mount -t cgroup2 none …");
    let base = mount.join("reeve-keeper-tests");
    std::fs::create_dir_all(&base).expect("control groups can be made: run the tests as root");
    base
}

pub struct Setup {
    pub command: ExecuteCommand,
    pub grouped: bool,
    pub spool_bytes: u64,
    pub segment_bytes: u64,
    pub walls: Option<Walls>,
    pub terminal: Option<Terminal>,
}

impl Setup {
    pub fn of(command: ExecuteCommand) -> Self {
        Self {
            command,
            grouped: true,
            spool_bytes: reeve_protocol::limits::SPOOL_BYTES,
            segment_bytes: reeve_agent::keeper::spool::SEGMENT_BYTES,
            walls: None,
            terminal: None,
        }
    }

    pub fn start(self) -> Kept {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = temporary.path().join("operation");
        std::fs::create_dir(&folder).expect("a folder");
        let id = OperationId::new();
        let spec = Spec {
            id,
            command: self.command,
            account: host::users::load_own_account(),
            switch_user: false,
            created_us: host::now_us(),
            boot_id: host::read_boot_id(),
            group: self.grouped.then(|| groups().join(format!("op-{id}"))),
            spool_bytes: self.spool_bytes,
            segment_bytes: self.segment_bytes,
            walls: self.walls,
            work: None,
            terminal: self.terminal,
        };
        let fd = host::unix::open_folder(&folder).expect("the folder opens");
        files::write(&fd, &spec).expect("the spec is written");
        let lock = files::open_lock(&fd).expect("the lock opens");
        assert!(files::try_lock(&lock).expect("flock works"));
        let program = Path::new(env!("CARGO_BIN_EXE_reeve-agent"));
        let (process, stream) =
            host::keeper_process::spawn(program, &folder, lock).expect("the keeper starts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Kept {
            id,
            folder,
            process,
            stream: Some(stream),
            incoming: Incoming::default(),
            to: 0,
            stdin: StdinState::default(),
            accepted: None,
            exited: false,
            _temporary: temporary,
        }
    }
}

impl Kept {
    pub fn fd(&self) -> OwnedFd {
        host::unix::open_folder(&self.folder).expect("the folder opens")
    }

    pub fn is_alive(&self) -> bool {
        let lock = files::open_lock(self.fd()).expect("the lock opens");
        !files::try_lock(&lock).expect("flock works")
    }

    pub fn say(&mut self, message: &ToKeeper) {
        let frame = to_frame(message).expect("it encodes");
        // A keeper that has just finished hears nothing more; whoever listens learns that.
        let _ = self.stream.as_mut().expect("connected").write_all(&frame);
    }

    /// The next message, or `None` at the end of the connection.
    pub fn hear(&mut self) -> Option<FromKeeper> {
        loop {
            if let Some(message) = self.incoming.take().expect("the keeper makes sense") {
                match &message {
                    FromKeeper::Hello { accepted, spool_to, stdin, .. } => {
                        self.accepted = Some(accepted.clone());
                        self.to = *spool_to;
                        self.stdin = *stdin;
                    }
                    FromKeeper::Progress { to } => self.to = *to,
                    FromKeeper::Stdin(stdin) => self.stdin = *stdin,
                    FromKeeper::Exited => self.exited = true,
                    FromKeeper::Unknown => {}
                }
                return Some(message);
            }
            let mut buffer = [0; 4096];
            match self.stream.as_mut().expect("connected").read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.incoming.push(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the keeper was silent: {error}"),
            }
        }
    }

    pub fn hear_until(&mut self, mut enough: impl FnMut(&Self) -> bool) {
        while !enough(self) {
            assert!(self.hear().is_some(), "the keeper left early; result: {:?}", self.result());
        }
    }

    pub fn reconnect(&mut self) {
        // The door opens once the former agent has left.
        self.stream = None;
        let mut stream = None;
        wait_until("the keeper listens", || {
            stream = host::unix::connect(self.fd(), files::SOCKET).ok();
            stream.is_some()
        });
        let stream = stream.expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        self.incoming = Incoming::default();
        self.accepted = None;
        self.stream = Some(stream);
    }

    pub fn result(&self) -> Option<OperationResult> {
        files::load(self.fd()).ok()
    }

    /// Listens until the keeper is gone. How it ended.
    pub fn finish(&mut self) -> OperationResult {
        while self.hear().is_some() {}
        wait_until("the keeper's lock is free", || !self.is_alive());
        self.result().expect("an exit file")
    }

    /// All output from an offset on.
    pub fn read(&self, from: u64) -> Read_ {
        let mut reader = SpoolReader::open(self.fd(), from).expect("the spool opens");
        let end =
            SpoolReader::open(self.fd(), from).expect("opens").find_end().expect("an end").all;
        let mut read = Read_ { stdout: Vec::new(), stderr: Vec::new(), pieces: Vec::new() };
        while let Some(piece) = reader.next(end, 64 * 1024).expect("the spool is whole") {
            if let Piece::Bytes { stream, bytes, .. } = &piece {
                match stream {
                    Stream::Stdout => read.stdout.extend_from_slice(bytes),
                    Stream::Stderr => read.stderr.extend_from_slice(bytes),
                }
            }
            read.pieces.push(piece);
        }
        read
    }

    pub fn list_marked(&self) -> Vec<u32> {
        host::process::list_with_environment(&format!("REEVE_OPERATION={}", self.id))
    }
}

pub struct Read_ {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub pieces: Vec<Piece>,
}

#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "waited in vain until {what}");
        std::thread::yield_now();
    }
}
