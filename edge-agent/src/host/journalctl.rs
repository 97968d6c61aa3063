//! journalctl(1), as a child whose output is read.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

/// What is kept of what it complains about.
const MAX_COMPLAINTS: u64 = 16 * 1024;

/// A running journalctl. Ends when dropped.
#[derive(Debug)]
pub struct Journalctl {
    child: Child,
    stdout: File,
    complaints: Option<JoinHandle<String>>,
}

impl Journalctl {
    /// Starts it with these arguments; it writes no colours and asks nobody.
    ///
    /// # Errors
    /// What execve(2) says: `NotFound` where there is none.
    pub fn start(arguments: &[String]) -> io::Result<Self> {
        #[allow(clippy::disallowed_methods, reason = "host is where processes are made")]
        let mut command = std::process::Command::new("journalctl");
        let mut child = command
            .args(arguments)
            .env("LC_ALL", "C")
            .env("SYSTEMD_COLORS", "0")
            .env("SYSTEMD_PAGER", "")
            .env_remove("SYSTEMD_LOG_LEVEL")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let stdout = File::from(OwnedFd::from(child.stdout.take().ok_or_else(gone)?));
        let mut stderr = child.stderr.take().ok_or_else(gone)?;
        let complaints =
            std::thread::Builder::new().name("complaints".to_owned()).spawn(move || {
                let mut text = Vec::new();
                let _ = stderr.by_ref().take(MAX_COMPLAINTS).read_to_end(&mut text);
                // What is more is read and dropped, so that it never waits for us.
                let _ = io::copy(&mut stderr, &mut io::sink());
                String::from_utf8_lossy(&text).into_owned()
            })?;
        Ok(Self { child, stdout, complaints: Some(complaints) })
    }

    /// Reads some of its output; 0 bytes are the end.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stdout.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Whether it has output, or has ended, within a time.
    #[must_use]
    pub fn has_more(&self, within: Duration) -> bool {
        let limit = Timespec {
            tv_sec: i64::try_from(within.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(within.subsec_nanos()),
        };
        let mut descriptors = [PollFd::from_borrowed_fd(self.stdout.as_fd(), PollFlags::IN)];
        !matches!(rustix::event::poll(&mut descriptors, Some(&limit)), Ok(0))
    }

    /// Waits for its end: whether it was content, and what it complained about.
    pub fn finish(mut self) -> (bool, String) {
        let content = self.child.wait().is_ok_and(|status| status.success());
        let complaints = self.complaints.take().and_then(|thread| thread.join().ok());
        (content, complaints.unwrap_or_default())
    }
}

impl Drop for Journalctl {
    fn drop(&mut self) {
        // After `finish` there is nobody left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
