//! The command that a soak's operations run: it does what its order says and keeps accounts of its
//! own beside it, so that what Reeve tells can be held against what really happened.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Nothing that a soak started outlives it by more.
const LAST_RESORT: Duration = Duration::from_secs(180);

/// How the command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With this code.
    Exit(i32),
    /// By this signal, sent to itself.
    Signal(i32),
    /// Not by itself.
    Never,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Where the accounts are kept.
    pub folder: PathBuf,
    /// What the bytes are made from.
    pub seed: u64,
    /// Bytes to write to stdout.
    pub stdout: u64,
    /// Bytes to write to stderr.
    pub stderr: u64,
    /// Over how long.
    pub millis: u64,
    /// Read stdin to its end and write it to stdout, instead of the bytes above.
    pub echo: bool,
    /// Leave processes behind that do all they can to stay.
    pub children: bool,
    /// How it ends.
    pub end: End,
}

/// What the command says it did, written just before its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Bytes written to stdout.
    pub stdout: u64,
    /// Their SHA-256.
    pub stdout_sha256: String,
    /// Bytes written to stderr.
    pub stderr: u64,
    /// Their SHA-256.
    pub stderr_sha256: String,
    /// How it was about to end.
    pub end: End,
}

/// Byte `at` of the stream made from `seed`: any byte, and as likely as any other.
pub fn bytes(seed: u64, from: u64, to: u64) -> Vec<u8> {
    (from..to)
        .map(|at| {
            // SplitMix64, one step for eight bytes.
            let mut z = seed.wrapping_add((at / 8 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (z ^ (z >> 31)).to_le_bytes()[(at % 8) as usize]
        })
        .collect()
}

/// The seed of what goes to stderr.
pub fn stderr_seed(seed: u64) -> u64 {
    !seed
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where an operation's account is.
pub fn account_file(folder: &Path, operation: &str) -> PathBuf {
    folder.join(format!("end-{operation}"))
}

/// Where an operation notes how much its writes have brought out, two numbers of eight bytes.
pub fn progress_file(folder: &Path, operation: &str) -> PathBuf {
    folder.join(format!("progress-{operation}"))
}

/// Where every start leaves a line.
pub fn starts_file(folder: &Path) -> PathBuf {
    folder.join("starts")
}

/// Does what the order says.
pub fn run(order: &str) -> anyhow::Result<()> {
    let order: Order = serde_json::from_str(order).context("the order")?;
    let operation = std::env::var("REEVE_OPERATION").context("REEVE_OPERATION")?;
    let mut starts =
        OpenOptions::new().append(true).create(true).open(starts_file(&order.folder))?;
    starts.write_all(format!("{operation}\n").as_bytes())?;
    let mut out = Out::new(&progress_file(&order.folder, &operation))?;
    if order.children {
        leave_children()?;
    }
    if order.echo {
        let mut buffer = vec![0; 64 * 1024];
        let mut stdin = std::io::stdin().lock();
        loop {
            let read = stdin.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            out.write(0, &buffer[..read])?;
        }
    } else {
        write_all(&order, &mut out)?;
    }
    let [stdout, stderr] = out.sums();
    let account = Account {
        stdout: out.written[0],
        stdout_sha256: stdout,
        stderr: out.written[1],
        stderr_sha256: stderr,
        end: order.end,
    };
    let file = account_file(&order.folder, &operation);
    match order.end {
        End::Exit(code) => {
            write_whole(&file, &account)?;
            std::process::exit(code);
        }
        End::Signal(signal) => {
            write_whole(&file, &account)?;
            // Nobody wants to look into its core.
            setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
            kill(Pid::this(), Signal::try_from(signal)?)?;
        }
        End::Never => {}
    }
    std::thread::sleep(LAST_RESORT);
    std::process::exit(99);
}

/// Both streams, mixed, over the time that was given.
fn write_all(order: &Order, out: &mut Out) -> anyhow::Result<()> {
    let wanted = [order.stdout, order.stderr];
    let seeds = [order.seed, stderr_seed(order.seed)];
    let total = (order.stdout + order.stderr).max(1);
    let start = Instant::now();
    let mut turn = 0_u64;
    loop {
        let left = [wanted[0] - out.written[0], wanted[1] - out.written[1]];
        if left == [0, 0] {
            break;
        }
        // Sizes from one byte to more than a pipe holds at once.
        let dice = order.seed.wrapping_add(turn).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let stream = if left[0] == 0 || (left[1] > 0 && dice.is_multiple_of(3)) { 1 } else { 0 };
        let size = (1 + dice % (1 << (dice % 17))).min(left[stream]);
        let at = out.written[stream];
        out.write(stream, &bytes(seeds[stream], at, at + size))?;
        turn += 1;
        let done = out.written[0] + out.written[1];
        let due = Duration::from_millis(order.millis * done / total);
        if let Some(early) = due.checked_sub(start.elapsed()) {
            std::thread::sleep(early);
        }
    }
    if let Some(early) = Duration::from_millis(order.millis).checked_sub(start.elapsed()) {
        std::thread::sleep(early);
    }
    Ok(())
}

/// Double forks, a session of their own, deaf to what is usually sent first.
fn leave_children() -> anyhow::Result<()> {
    let quiet = |line: &str| {
        Command::new("sh")
            .args(["-c", line])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    };
    quiet("trap '' TERM INT HUP; (setsid sh -c 'sleep 170 & sleep 170' &)")?;
    quiet("nohup sleep 170 &")?;
    Ok(())
}

fn write_whole(path: &Path, account: &Account) -> anyhow::Result<()> {
    let draft = path.with_extension("new");
    fs::write(&draft, serde_json::to_vec(account)?)?;
    Ok(fs::rename(&draft, path)?)
}

/// Both streams, with accounts.
struct Out {
    streams: [File; 2],
    written: [u64; 2],
    sums: [Sha256; 2],
    progress: File,
}

impl Out {
    fn new(progress: &Path) -> anyhow::Result<Self> {
        use std::os::fd::AsFd;
        // Without buffers: what is noted as written has to be in the pipe.
        let stdout = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
        let stderr = File::from(std::io::stderr().as_fd().try_clone_to_owned()?);
        Ok(Self {
            streams: [stdout, stderr],
            written: [0; 2],
            sums: [Sha256::new(), Sha256::new()],
            progress: File::create(progress)?,
        })
    }

    fn write(&mut self, stream: usize, mut bytes: &[u8]) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            let written = self.streams[stream].write(bytes)?;
            self.sums[stream].update(&bytes[..written]);
            self.written[stream] += written as u64;
            self.progress.write_all_at(&self.written[stream].to_le_bytes(), 8 * stream as u64)?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    fn sums(&self) -> [String; 2] {
        self.sums.clone().map(|sum| sum.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }
}
