//! The coordinator as a process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{eventually, eventually_some};
use crate::{Api, binaries};

/// How long a start may take, a fresh database and certificates included.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A coordinator with its data folder.
pub struct Coordinator {
    folder: PathBuf,
    data: PathBuf,
    database_url: Option<String>,
    config: String,
    /// Without TLS.
    plain: bool,
    /// Where it listens first.
    listen: String,
    /// How its clock differs, as faketime(1) says it.
    clock: Option<String>,
    process: Option<Child>,
    /// Empty until the first start has chosen a port; the same ever after.
    url: String,
}

impl Coordinator {
    pub(crate) fn new(
        folder: &Path,
        data: PathBuf,
        database_url: Option<String>,
        config: String,
    ) -> Self {
        let folder = folder.to_owned();
        Self {
            folder,
            data,
            database_url,
            config,
            plain: false,
            listen: "127.0.0.1:0".to_owned(),
            clock: None,
            process: None,
            url: String::new(),
        }
    }

    /// Without TLS, as behind a proxy on the same machine.
    pub(crate) fn plain(&mut self) {
        self.plain = true;
        self.config.insert_str(0, "[tls]\nmode = \"off\"\n");
    }

    /// Another address than the loopback's.
    pub(crate) fn listen(&mut self, address: &str) {
        address.clone_into(&mut self.listen);
    }

    /// Another time than the machine's, from its next start on; as faketime(1) says it: `+2h`.
    pub fn set_clock(&mut self, clock: &str) {
        self.clock = Some(clock.to_owned());
    }

    fn scheme(&self) -> &'static str {
        if self.plain { "http://" } else { "https://" }
    }

    /// `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        self.url.trim_start_matches(self.scheme())
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The pin of its CA, 64 hexadecimal digits.
    ///
    /// # Panics
    /// When it speaks without TLS, or has not started yet.
    #[must_use]
    pub fn pin(&self) -> String {
        self.find_pin().expect("DATA/ca.pin")
    }

    pub(crate) fn find_pin(&self) -> Option<String> {
        let text = fs::read_to_string(self.data.join("ca.pin")).ok()?;
        Some(text.trim().to_owned())
    }

    /// Its CA, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> Vec<u8> {
        self.find_ca().expect("DATA/ca.pem")
    }

    /// Empty without TLS.
    fn find_ca(&self) -> Option<Vec<u8>> {
        if self.plain { Some(Vec::new()) } else { fs::read(self.data.join("ca.pem")).ok() }
    }

    /// Where its log is.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.folder.join("coordinator.log")
    }

    /// All it has logged, over restarts.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it is not running.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.as_ref().expect("the coordinator runs").id().cast_signed()
    }

    /// Starts it and waits until it takes work.
    ///
    /// # Panics
    /// When it does not within a minute.
    pub fn start(&mut self) {
        self.start_without_waiting();
        self.wait_until_up();
    }

    /// Waits until it takes work.
    ///
    /// # Panics
    /// When it does not within a minute.
    pub fn wait_until_up(&mut self) {
        let url_file = self.data.join("coordinator.url");
        let scheme = self.scheme();
        self.url = eventually_some("the coordinator has written its address", START_LIMIT, || {
            self.assert_running();
            let text = fs::read_to_string(&url_file).ok()?;
            Some(text.trim().to_owned()).filter(|url| url.starts_with(scheme))
        });
        // Dial by address: it is in the certificate, and no resolver is asked.
        let port = self.url.rsplit(':').next().expect("a port").to_owned();
        self.url = format!("{scheme}127.0.0.1:{port}");
        eventually("the coordinator is ready", START_LIMIT, || {
            self.assert_running();
            let Some(ca) = self.find_ca() else { return false };
            Api::new(&self.url, &ca)
                .send(reqwest::Method::GET, "/readyz", &[], Vec::new())
                .is_ok_and(|answer| answer.status == 200)
        });
    }

    /// Starts it.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn start_without_waiting(&mut self) {
        self.spawn(&[]);
    }

    /// Starts it as a process that stands still before it is the coordinator: somebody may want to
    /// attach to it. SIGCONT lets it go on.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_held(&mut self) {
        self.spawn(&crate::processes::HELD);
        crate::processes::wait_until_held(self.pid());
    }

    /// How it ended, when it has ended by itself.
    ///
    /// # Panics
    /// When it was never started.
    pub fn find_end(&mut self) -> Option<ExitStatus> {
        let process = self.process.as_mut().expect("the coordinator was started");
        process.try_wait().expect("ask for the coordinator")
    }

    fn spawn(&mut self, through: &[&str]) {
        assert!(self.process.is_none(), "the coordinator runs already");
        let listen =
            if self.url.is_empty() { self.listen.clone() } else { self.address().to_owned() };
        let config = self.folder.join("coordinator.toml");
        fs::write(&config, &self.config).expect("write the configuration");
        // An address left by the last start must not be taken for this one's.
        let _absent = fs::remove_file(self.data.join("coordinator.url"));
        let log =
            File::options().create(true).append(true).open(self.log_path()).expect("open the log");
        let mut command = match through.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(binaries::coordinator());
                command
            }
            None => Command::new(binaries::coordinator()),
        };
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("RUST_BACKTRACE", "1")
            .arg("--config")
            .arg(&config)
            .arg("--data")
            .arg(&self.data)
            .args(["--listen", &listen])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("clone a file"))
            .stderr(log);
        command.envs(crate::clock::environment(self.clock.as_deref()));
        if let Some(url) = &self.database_url {
            command.args(["--database", url]);
        }
        self.process = Some(command.spawn().expect("start reeve-coordinator"));
    }

    /// Starts it again if it has ended by itself, as systemd does (`Restart=always`). Whether it had.
    ///
    /// # Panics
    /// When it does not take work within a minute.
    pub fn start_if_ended(&mut self) -> bool {
        let process = self.process.as_mut().expect("the coordinator was started");
        if !matches!(process.try_wait(), Ok(Some(_))) {
            return false;
        }
        self.process = None;
        self.start();
        true
    }

    fn assert_running(&mut self) {
        let ended = self.process.as_mut().and_then(|process| process.try_wait().ok().flatten());
        assert!(ended.is_none(), "the coordinator ended: {ended:?}\n{}", self.log());
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill9(&mut self) {
        let mut process = self.process.take().expect("the coordinator runs");
        process.kill().expect("kill the coordinator");
        process.wait().expect("wait for the coordinator");
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("signal the coordinator");
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// When it takes longer than `limit`.
    pub fn stop(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let mut process = self.process.take().expect("the coordinator runs");
        eventually_some("the coordinator has stopped", limit, || {
            process.try_wait().expect("wait for the coordinator")
        })
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _gone = process.kill();
            let _gone = process.wait();
        }
    }
}
