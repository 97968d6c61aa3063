//! A coordinator, its agents and the people who use them, in one temporary folder.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use reeve_sdk::api::{
    EnrolmentTokenCreated, Job, JobRequest, LoginResponse, NewEnrolmentToken, Operation, Page,
    SetupRequest,
};
use tempfile::TempDir;

use crate::agent::{AgentBuilder, Containment};
use crate::database::Postgres;
use crate::reeve::{Finished, Running};
use crate::{Api, Coordinator, Database, binaries, processes};

/// The first administrator's password.
const PASSWORD: &str = "correct horse battery";

/// Stories ask far more often than people do.
const LIMITS: &str = "
[limits]
requests_per_minute = 4000000
logins_per_minute = 4000000
";

/// A cluster to be.
pub struct ClusterBuilder {
    database: Database,
    config: String,
    limits: String,
    data: Option<PathBuf>,
    plain: bool,
    listen: Option<String>,
    clock: Option<String>,
}

impl ClusterBuilder {
    /// Without TLS, so that a proxy can see the frames of agents.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Listens elsewhere than on the loopback.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Self {
        self.listen = Some(address.to_owned());
        self
    }

    /// The coordinator's clock differs, as faketime(1) says it: `+2h`.
    #[must_use]
    pub fn clock(mut self, clock: &str) -> Self {
        self.clock = Some(clock.to_owned());
        self
    }

    /// Which database.
    #[must_use]
    pub fn database(mut self, database: Database) -> Self {
        self.database = database;
        self
    }

    /// More lines for `coordinator.toml`; for `[limits]` see [`Self::limits`].
    #[must_use]
    pub fn config(mut self, text: &str) -> Self {
        text.clone_into(&mut self.config);
        self
    }

    /// More lines for `[limits]`.
    #[must_use]
    pub fn limits(mut self, text: &str) -> Self {
        text.clone_into(&mut self.limits);
        self
    }

    /// Another data folder than one in the temporary folder.
    #[must_use]
    pub fn data(mut self, folder: &Path) -> Self {
        self.data = Some(folder.to_owned());
        self
    }

    /// Starts the coordinator and sets up its administrator.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn start(self) -> Cluster {
        // Whoever is orphaned below this process comes back to it, so nothing can slip away unseen.
        nix::sys::prctl::set_child_subreaper(true).expect("become a subreaper");
        // Short, because socket paths below it may have 108 bytes at most (unix(7)).
        let folder = tempfile::Builder::new().prefix("reeve-").tempdir().expect("a folder");
        let postgres =
            (self.database == Database::Postgres).then(|| Postgres::start(folder.path()));
        let data = self.data.unwrap_or_else(|| folder.path().join("data"));
        let mut coordinator = Coordinator::new(
            folder.path(),
            data,
            postgres.as_ref().map(Postgres::url),
            format!("{}\n{LIMITS}{}\n", self.config, self.limits),
        );
        if self.plain {
            coordinator.plain();
        }
        if let Some(address) = &self.listen {
            coordinator.listen(address);
        }
        if let Some(clock) = &self.clock {
            coordinator.set_clock(clock);
        }
        let _print_logs_if_start_fails = PrintLogs(folder.path().to_owned());
        coordinator.start();
        let guest = Api::new(coordinator.url(), &coordinator.ca_pem());
        let code = fs::read_to_string(coordinator.data().join("setup-code")).expect("setup-code");
        let admin: LoginResponse = guest
            .post(
                "/api/auth/setup",
                &SetupRequest {
                    code: code.trim().to_owned(),
                    password: PASSWORD.to_owned(),
                    name: None,
                },
            )
            .json();
        let api = guest.with_token(&admin.token);
        println!("story on database {:?}", self.database);
        Cluster { coordinator, guest, api, database: self.database, postgres, folder }
    }
}

/// A coordinator, its agents and the people who use them. Everything ends with this value.
pub struct Cluster {
    /// The coordinator.
    pub coordinator: Coordinator,
    /// The API for somebody who has not logged in.
    pub guest: Api,
    /// The API for the administrator.
    pub api: Api,
    /// What it keeps its records in.
    pub database: Database,
    postgres: Option<Postgres>,
    folder: TempDir,
}

impl Cluster {
    /// A coordinator on the database of `REEVE_TEST_DATABASE`, with an administrator.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A cluster with choices.
    #[must_use]
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder {
            database: Database::from_env(),
            config: String::new(),
            limits: String::new(),
            data: None,
            plain: false,
            listen: None,
            clock: None,
        }
    }

    /// The temporary folder of everything.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// An agent to be.
    #[must_use]
    pub fn agent(&self, name: &str) -> AgentBuilder<'_> {
        AgentBuilder {
            api: &self.api,
            folder: self.folder.path().join("agents"),
            name: name.to_owned(),
            url: self.coordinator.url().to_owned(),
            labels: BTreeMap::new(),
            containment: if nix::unistd::geteuid().is_root() {
                Containment::CgroupV2
            } else {
                Containment::Fallback
            },
            policy: String::new(),
            bus: None,
            user: None,
            wrapper: Vec::new(),
            environment: BTreeMap::new(),
        }
    }

    /// The API for the administrator, each request on a connection of its own (unless it speaks HTTP/2).
    #[must_use]
    pub fn hasty_api(&self) -> Api {
        let (url, ca) = (self.coordinator.url(), self.coordinator.ca_pem());
        Api::with_connections(url, &ca, 0).with_token(self.api.token().unwrap_or_default())
    }

    /// A join token that lets in so many machines.
    ///
    /// # Panics
    /// When the coordinator does not make it.
    #[must_use]
    #[track_caller]
    pub fn join_token(&self, uses: u32) -> String {
        let new = NewEnrolmentToken { uses: Some(uses), ..NewEnrolmentToken::default() };
        self.api.post("/api/enrolment-tokens", &new).json::<EnrolmentTokenCreated>().token
    }

    /// Holds the lock of the SQLite file, as another program would, until the value is dropped.
    ///
    /// # Panics
    /// When the lock cannot be had within 20 seconds.
    #[must_use]
    pub fn lock_database(&self) -> crate::database::Lock {
        crate::database::Lock::take(&self.coordinator.data().join("reeve.db"))
    }

    /// The SDK's client as the administrator.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn client(&self) -> reeve_sdk::Client {
        self.client_at(self.coordinator.url())
    }

    /// The same through another address: a proxy.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn client_at(&self, url: &str) -> reeve_sdk::Client {
        reeve_sdk::Client::builder(url)
            .token(self.api.token().expect("logged in"))
            .ca_pem(self.coordinator.ca_pem())
            .build()
            .expect("a client")
    }

    /// `reeve` as the administrator types it, to its end.
    ///
    /// # Panics
    /// When it takes longer than two minutes.
    #[track_caller]
    pub fn reeve<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Finished {
        self.spawn_reeve(arguments).finish()
    }

    /// The same with bytes on stdin.
    ///
    /// # Panics
    /// When it takes longer than two minutes.
    #[track_caller]
    pub fn reeve_with_input<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        input: Vec<u8>,
    ) -> Finished {
        let (command, line) = self.reeve_command(self.api.token(), arguments);
        Running::start(command, Some(input), line).finish()
    }

    /// `reeve` as the administrator types it, still running.
    pub fn spawn_reeve<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Running {
        let (command, line) = self.reeve_command(self.api.token(), arguments);
        Running::start(command, None, line)
    }

    /// `reeve` through another address than the coordinator's: a proxy.
    pub fn spawn_reeve_at<A: AsRef<OsStr>>(
        &self,
        url: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Running {
        let (mut command, line) = self.reeve_command(self.api.token(), arguments);
        command.env("REEVE_URL", url);
        Running::start(command, None, line)
    }

    /// `reeve` as somebody else types it.
    ///
    /// # Panics
    /// When it takes longer than two minutes.
    #[track_caller]
    pub fn reeve_as<A: AsRef<OsStr>>(
        &self,
        person: &Api,
        arguments: impl IntoIterator<Item = A>,
    ) -> Finished {
        let (command, line) = self.reeve_command(person.token(), arguments);
        Running::start(command, None, line).finish()
    }

    /// A command line with the environment of a person who has `token`; `None` has logged in
    /// nowhere.
    pub fn reeve_command<A: AsRef<OsStr>>(
        &self,
        token: Option<&str>,
        arguments: impl IntoIterator<Item = A>,
    ) -> (Command, String) {
        let home = self.folder.path().join("home");
        fs::create_dir_all(&home).expect("make a home");
        let mut command = Command::new(binaries::reeve());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &home).env("TERM", "dumb");
        if let Some(token) = token {
            command.env("REEVE_URL", self.coordinator.url()).env("REEVE_API_KEY", token);
            if let Some(pin) = self.coordinator.find_pin() {
                command.env("REEVE_CA_PIN", pin);
            }
        }
        let mut line = "reeve".to_owned();
        for argument in arguments {
            command.arg(argument.as_ref());
            line = format!("{line} {}", argument.as_ref().to_string_lossy());
        }
        (command, line)
    }

    /// Runs a command line of [`Cluster::reeve_command`] that was given more, to its end.
    ///
    /// # Panics
    /// When it takes longer than two minutes.
    #[track_caller]
    #[must_use]
    pub fn finish(&self, command: Command) -> Finished {
        let line = format!("{:?}", command.get_args().collect::<Vec<_>>());
        Running::start(command, None, line).finish()
    }

    /// Takes the PostgreSQL server away.
    ///
    /// # Panics
    /// When this cluster has none.
    pub fn stop_database(&mut self) {
        self.postgres.as_mut().expect("a PostgreSQL server").stop();
    }

    /// Brings it back, on the same port with the same data.
    ///
    /// # Panics
    /// When it does not come back.
    pub fn start_database(&mut self) {
        self.postgres.as_mut().expect("a PostgreSQL server").start_again();
    }

    /// Has a worker's operation done, and waits for what every machine answers.
    ///
    /// # Panics
    /// When the job is refused or cannot be followed.
    pub fn perform(
        &self,
        selector: &str,
        operation: impl Into<reeve_sdk::api::OperationRequest>,
    ) -> Vec<reeve_sdk::Answered> {
        let request = JobRequest::new(selector, operation);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(self.client().perform(&request)).expect("the job is followed")
    }

    /// Asks for a job.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn submit(&self, request: &JobRequest) -> Job {
        let answer = self.api.post("/api/jobs", request);
        assert_eq!(answer.status, 201, "{answer}");
        answer.json()
    }

    /// A job as it stands.
    #[must_use]
    #[track_caller]
    pub fn job(&self, id: reeve_protocol::JobId) -> Job {
        self.api.load(&format!("/api/jobs/{id}"))
    }

    /// Its operations.
    #[must_use]
    #[track_caller]
    pub fn operations(&self, id: reeve_protocol::JobId) -> Vec<Operation> {
        self.api.load::<Page<Operation>>(&format!("/api/jobs/{id}/operations?limit=1000")).items
    }

    /// The newest job's only operation: what a `reeve run` just did.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn last_operation(&self) -> Operation {
        let page: Page<Job> = self.api.load("/api/jobs?limit=1");
        let job = page.items.first().expect("a job");
        self.operations(job.id).into_iter().next().expect("an operation")
    }
}

/// Prints the end of every log when a story fails.
struct PrintLogs(PathBuf);

impl Drop for PrintLogs {
    fn drop(&mut self) {
        if std::thread::panicking() {
            print_logs(&self.0);
            print_logs(&self.0.join("agents"));
        }
    }
}

fn print_logs(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.extension().is_some_and(|extension| extension == "log") {
            let log = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
            let lines: Vec<&str> = log.lines().collect();
            let end = &lines[lines.len().saturating_sub(80)..];
            eprintln!("--- the end of {}\n{}", path.display(), end.join("\n"));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(PrintLogs(self.folder.path().to_owned()));
        // Agents first, so that nothing new starts; then what keepers and commands are left.
        processes::kill_all_of(&self.folder.path().join("agents").to_string_lossy());
        for process in processes::descendants(std::process::id().cast_signed()) {
            if process.environment.iter().any(|entry| entry.starts_with("REEVE_OPERATION=")) {
                process.signal(nix::sys::signal::Signal::SIGKILL);
            }
        }
        drop(self.postgres.take());
    }
}
