//! How long a key takes from being pressed to being shown, in `reeve shell` and in `ssh`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use reeve_tests::{Cluster, Sshd};

use crate::table::{Figure, Goal, Table, Unit, percentile};

/// Keys pressed.
const KEYS: usize = 100;

/// A key that is not shown within this is lost.
const LIMIT: Duration = Duration::from_secs(10);

/// What is shown once the far end echoes keys by itself.
const READY: &str = "ready-to-type";

/// One repetition: until a key is shown, medians, ms.
#[derive(Clone, Copy)]
pub struct Typed {
    ours: f64,
    ssh: f64,
}

impl Typed {
    /// Of keys through each.
    pub fn of(ours: &[Duration], ssh: &[Duration]) -> Self {
        Self { ours: percentile(ours, 0.5), ssh: percentile(ssh, 0.5) }
    }
}

/// Measures this alone; the figures as JSON.
pub fn measure(repetitions: usize) -> anyhow::Result<serde_json::Value> {
    let cluster = Cluster::start();
    let _agent = cluster.agent("bench").start();
    let folder = tempfile::tempdir()?;
    let sshd = Sshd::start(folder.path());
    let mut typed = Vec::new();
    for repetition in 0..=repetitions {
        let each = Typed::of(&through_reeve(&cluster)?, &through_ssh(&sshd)?);
        // The first one warms everything up.
        if repetition > 0 {
            typed.push(each);
        }
    }
    let mut table = Table::new(&format!("Keys: medians of {repetitions} repetitions"));
    report(&mut table, &typed);
    Ok(table.end())
}

/// Rows of it.
pub fn report(table: &mut Table, typed: &[Typed]) {
    let keys = Figure::new(typed.iter().map(|each| each.ours));
    let ssh = Figure::new(typed.iter().map(|each| each.ssh));
    let (what, beside) = ("a key, pressed until shown", (&ssh, "ssh"));
    table.row("key_echo", what, Unit::Milliseconds, &keys, beside, Goal::AtMost(2.0));
}

/// Keys through `reeve shell`.
pub fn through_reeve(cluster: &Cluster) -> anyhow::Result<Vec<Duration>> {
    let line = format!("echo {READY}; exec cat");
    let (mut command, _) =
        cluster.reeve_command(cluster.api.token(), ["shell", "bench", "--", "sh", "-c", &line]);
    Typist::start(&mut command)?.type_all()
}

/// Keys through `ssh`.
pub fn through_ssh(sshd: &Sshd) -> anyhow::Result<Vec<Duration>> {
    let mut command = Command::new("ssh");
    command
        .args(["-tt", "-p", &sshd.port().to_string()])
        .args(sshd.options())
        .args(["root@127.0.0.1", &format!("echo {READY}; exec cat")]);
    Typist::start(&mut command)?.type_all()
}

/// Somebody at a terminal.
struct Typist {
    screen: File,
    program: Child,
    seen: Vec<u8>,
}

impl Typist {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).context("a terminal")?;
        let end = |fd: &OwnedFd| fd.try_clone().map(Stdio::from);
        // The program's terminal has to be its controlling one, for raw mode and sizes.
        let program = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args())
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .env("TERM", "xterm")
            .stdin(end(&pty.slave)?)
            .stdout(end(&pty.slave)?)
            .stderr(end(&pty.slave)?)
            .spawn()?;
        drop(pty.slave);
        let mut typist = Self { screen: File::from(pty.master), program, seen: Vec::new() };
        typist.wait_for(READY.as_bytes())?;
        Ok(typist)
    }

    fn type_all(mut self) -> anyhow::Result<Vec<Duration>> {
        let mut taken = Vec::with_capacity(KEYS);
        // The first ones settle both ends.
        for key in (b'a'..=b'z').cycle().take(KEYS + 10) {
            self.seen.clear();
            let start = Instant::now();
            self.screen.write_all(&[key])?;
            self.wait_for(&[key])?;
            taken.push(start.elapsed());
        }
        // End of file, at the beginning of a line: cat ends, and the rest with it.
        self.screen.write_all(b"\n\x04")?;
        let deadline = Instant::now() + LIMIT;
        while self.program.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.program.kill()?;
                bail!("it does not end");
            }
            self.read(Duration::from_millis(10))?;
        }
        Ok(taken.split_off(10))
    }

    fn wait_for(&mut self, what: &[u8]) -> anyhow::Result<()> {
        let deadline = Instant::now() + LIMIT;
        while !self.seen.windows(what.len()).any(|window| window == what) {
            let left = deadline.saturating_duration_since(Instant::now());
            let shown = || String::from_utf8_lossy(&self.seen).into_owned();
            ensure!(!left.is_zero(), "{what:?} was not shown, but {:?}", shown());
            self.read(left)?;
        }
        Ok(())
    }

    fn read(&mut self, limit: Duration) -> anyhow::Result<()> {
        use std::os::fd::AsFd;
        let mut polled = [PollFd::new(self.screen.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        if poll(&mut polled, limit)? == 0 {
            return Ok(());
        }
        let mut buffer = [0; 4096];
        // EIO: nobody has the other end any more (pty(7)).
        if let Ok(count) = self.screen.read(&mut buffer) {
            self.seen.extend_from_slice(&buffer[..count]);
        }
        Ok(())
    }
}
