//! Somebody at a terminal of their own, who starts a program there, types, and looks.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{eventually, eventually_some};

/// What is waited for comes within this.
const PATIENCE: Duration = Duration::from_secs(30);

/// Somebody at a terminal.
pub struct Person {
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    program: Child,
    /// The terminal's path, such as `/dev/pts/7`.
    path: String,
    /// Held so that the terminal outlives the program.
    _slave: File,
    line: String,
}

impl Person {
    /// Starts a program on a terminal of this size, which becomes its controlling one.
    ///
    /// # Panics
    /// When there is no terminal to be had, or the program does not start.
    #[must_use]
    pub fn start(command: &Command, columns: u16, rows: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("a terminal");
        let path = nix::unistd::ttyname(&pty.slave).expect("a name");
        let end = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        let program = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear()
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .env("TERM", "xterm")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("setsid (util-linux) starts");
        let keyboard = File::from(pty.master);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let mut shown = keyboard.try_clone().expect("a descriptor");
        let onto = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = shown.read(&mut buffer) {
                onto.lock().unwrap_or_else(PoisonError::into_inner).extend(&buffer[..count]);
            }
        });
        Self {
            keyboard,
            screen,
            program,
            path: path.to_string_lossy().into_owned(),
            _slave: File::from(pty.slave),
            line: format!("{command:?}"),
        }
    }

    /// Types.
    ///
    /// # Panics
    /// When the terminal takes it not.
    pub fn types(&mut self, keys: impl AsRef<[u8]>) {
        self.keyboard.write_all(keys.as_ref()).expect("the terminal takes keys");
    }

    /// Everything shown so far.
    #[must_use]
    pub fn screen(&self) -> Vec<u8> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.screen()).into_owned()
    }

    /// Waits until `text` is shown.
    ///
    /// # Panics
    /// When it is not within half a minute.
    #[track_caller]
    pub fn sees(&self, text: &str) {
        let holds = || self.screen().windows(text.len()).any(|part| part == text.as_bytes());
        let deadline = std::time::Instant::now() + PATIENCE;
        while !holds() {
            let shown = self.text();
            let tail: String = shown.chars().rev().take(2000).collect();
            let tail: String = tail.chars().rev().collect();
            assert!(
                std::time::Instant::now() < deadline,
                "'{text}' is not shown by {}; the end of what is: {tail:?}",
                self.line
            );
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }

    /// Makes the window another size.
    ///
    /// # Panics
    /// When stty(1) does not do it.
    pub fn resizes(&self, columns: u16, rows: u16) {
        let done = Command::new("stty")
            .args(["-F", &self.path, "cols", &columns.to_string(), "rows", &rows.to_string()])
            .status()
            .expect("stty starts");
        assert!(done.success());
    }

    /// How the terminal is set, as stty(1) says it.
    ///
    /// # Panics
    /// When stty(1) does not.
    #[must_use]
    pub fn modes(&self) -> String {
        let output = Command::new("stty").args(["-F", &self.path, "-g"]).output();
        String::from_utf8(output.expect("stty starts").stdout).expect("text")
    }

    /// Sends the program a signal.
    ///
    /// # Panics
    /// When it has gone.
    pub fn signals(&self, signal: Signal) {
        let parent = Pid::from_raw(self.program.id().cast_signed());
        // setsid has forked when its caller led a group.
        let children = crate::processes::descendants(parent.as_raw());
        match children.first() {
            Some(child) => child.signal(signal),
            None => kill(parent, signal).expect("the program is there"),
        }
    }

    /// Waits for the program's end; its exit code.
    ///
    /// # Panics
    /// When it takes longer than half a minute.
    #[track_caller]
    pub fn ends(&mut self) -> i32 {
        let line = self.line.clone();
        let status = eventually_some(&format!("{line} has ended"), PATIENCE, || {
            self.program.try_wait().expect("wait")
        });
        status.code().unwrap_or(-1)
    }

    /// Waits until this holds of everything shown.
    ///
    /// # Panics
    /// When it does not within half a minute.
    #[track_caller]
    pub fn waits_until(&self, what: &str, holds: impl Fn(&[u8]) -> bool) {
        eventually(what, PATIENCE, || holds(&self.screen()));
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- shown by {}:\n{:?}", self.line, self.text());
        }
        for process in crate::processes::descendants(self.program.id().cast_signed()) {
            process.signal(Signal::SIGKILL);
        }
        let _gone = self.program.kill();
        let _gone = self.program.wait();
    }
}
