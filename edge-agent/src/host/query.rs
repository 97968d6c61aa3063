//! Asking a program of the machine's something, to its end and within bounds.

use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::pipe;

/// Bytes of an answer that are kept.
const MAX_ANSWER: u64 = 8 * 1024 * 1024;

/// How often it is looked whether a program has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a program said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its exit code; nothing when a signal ended it.
    pub code: Option<i32>,
    /// What is no UTF-8 is replaced.
    pub stdout: String,
    /// Likewise.
    pub stderr: String,
}

/// Runs a program in the C locale and without stdin. What takes longer than `limit` is killed.
///
/// # Errors
/// When it cannot be started or does not end in time.
pub fn run(program: &str, arguments: &[&str], limit: Duration) -> io::Result<Answer> {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the host folder, where processes are made"
    )]
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("LC_ALL", "C")
        .env("LANG", "C")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // One thread for each pipe: a program that fills one while the other is read would wait for ever.
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let code = wait(&mut child, limit)?;
    let text = |reader: Option<std::thread::JoinHandle<Vec<u8>>>| {
        let bytes = reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ok(Answer { code, stdout: text(stdout), stderr: text(stderr) })
}

fn collect(pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut pipe = pipe.take(MAX_ANSWER);
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<i32>> {
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code());
        }
        if Instant::now() >= until {
            let _ = child.kill();
            let _ = child.wait();
            let text = format!("it did not end within {} s", limit.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        pipe::pause(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_and_the_code_come_back() {
        let limit = Duration::from_secs(20);
        let answer = run("sh", &["-c", "echo out; echo err >&2; exit 3"], limit).expect("ran");
        let expected =
            Answer { code: Some(3), stdout: "out\n".to_owned(), stderr: "err\n".to_owned() };
        assert_eq!(answer, expected);
        let much = run("sh", &["-c", "yes | head -c 300000 >&2; echo end"], limit).expect("ran");
        assert_eq!((much.stderr.len(), much.stdout.as_str()), (300_000, "end\n"));
    }

    #[test]
    fn what_does_not_end_is_ended() {
        let error = run("sleep", &["1000"], Duration::from_millis(50)).expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(run("/no/such/program", &[], Duration::from_secs(1)).is_err());
    }
}
