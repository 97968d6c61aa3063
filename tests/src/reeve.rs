//! `reeve`, as somebody types it.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{eventually, eventually_some};

/// A run that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit code; 128 + n when signal n ended it, as shells say.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
    line: String,
}

impl Finished {
    /// stdout as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Both, for assertions that do not care.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}{}", self.text(), self.stderr)
    }

    /// Checks the exit code.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// Checks stdout, byte by byte.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn expect_stdout(&self, text: &str) -> &Self {
        assert_eq!(self.text(), text, "{self}");
        self
    }

    /// Checks that stdout or stderr holds `text`.
    ///
    /// # Panics
    /// When neither does.
    #[track_caller]
    pub fn expect_says(&self, text: &str) -> &Self {
        assert!(self.all().contains(text), "'{text}' is not in: {self}");
        self
    }

    /// stdout as JSON.
    ///
    /// # Panics
    /// When it is none of that shape.
    #[track_caller]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.text();
        let shown: String = text.chars().take(4000).collect();
        write!(
            f,
            "`{}` ended with {} after {:?}\n--- stdout ({} bytes)\n{shown}\n--- stderr\n{}",
            self.line,
            self.code,
            self.took,
            self.stdout.len(),
            self.stderr
        )
    }
}

type Collected = Arc<Mutex<Vec<u8>>>;

/// A run that goes on.
pub struct Running {
    process: Child,
    stdout: Collected,
    stderr: Collected,
    readers: Vec<JoinHandle<()>>,
    started: Instant,
    line: String,
}

impl Running {
    /// Starts a command line, of which the words are shown as `line`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(mut command: Command, input: Option<Vec<u8>>, line: String) -> Self {
        command
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = Instant::now();
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        let (stdout, stderr) = (Collected::default(), Collected::default());
        let mut readers = vec![
            collect(process.stdout.take().expect("a pipe"), &stdout),
            collect(process.stderr.take().expect("a pipe"), &stderr),
        ];
        if let Some(input) = input {
            let mut pipe = process.stdin.take().expect("a pipe");
            readers.push(std::thread::spawn(move || {
                // A command may end without reading all; that is its right.
                let _closed = pipe.write_all(&input);
            }));
        }
        Self { process, stdout, stderr, readers, started, line }
    }

    /// What it has written to stdout so far.
    #[must_use]
    pub fn stdout(&self) -> Vec<u8> {
        self.stdout.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it has written to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        let bytes = self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until stdout holds `text`.
    ///
    /// # Panics
    /// When it does not within half a minute.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        while !holds(&self.stdout()) {
            let ended = self.process.try_wait().ok().flatten();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "`{}` has not written '{text}' (ended: {ended:?}); so far: {} / {}",
                self.line,
                String::from_utf8_lossy(&self.stdout()),
                self.stderr()
            );
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Waits until it has written at least `bytes` to stdout.
    ///
    /// # Panics
    /// When it does not within a minute.
    #[track_caller]
    pub fn wait_for_bytes(&self, bytes: usize) {
        eventually(&format!("{bytes} bytes arrived"), Duration::from_secs(60), || {
            self.stdout().len() >= bytes
        });
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When it has gone.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).expect("signal reeve");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it takes longer than `limit`.
    #[track_caller]
    pub fn finish_within(mut self, limit: Duration) -> Finished {
        let line = self.line.clone();
        let status = eventually_some(&format!("`{line}` has ended"), limit, || {
            self.process.try_wait().expect("wait for reeve")
        });
        let took = self.started.elapsed();
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader");
        }
        Finished {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: self.stdout(),
            stderr: self.stderr(),
            took,
            line,
        }
    }

    /// Waits for its end, two minutes at most.
    ///
    /// # Panics
    /// When it takes longer.
    #[track_caller]
    pub fn finish(self) -> Finished {
        self.finish_within(Duration::from_secs(120))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            if std::thread::panicking() {
                eprintln!(
                    "--- `{}` was still running; it had written {} bytes to stdout, and to stderr:\n{}",
                    self.line,
                    self.stdout().len(),
                    self.stderr()
                );
            }
            let _gone = self.process.kill();
            let _gone = self.process.wait();
        }
    }
}

fn collect(mut pipe: impl Read + Send + 'static, into: &Collected) -> JoinHandle<()> {
    let into = into.clone();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 256 * 1024];
        while let Ok(read @ 1..) = pipe.read(&mut buffer) {
            into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..read]);
        }
    })
}
