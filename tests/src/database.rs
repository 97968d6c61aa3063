//! Which database the coordinator keeps its records in.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown};
use sqlx::{Connection, Executor};

use crate::wait::eventually;

/// The databases Reeve runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// A file in the data folder.
    Sqlite,
    /// A throw-away server of Debian's `postgresql`, made for this test.
    Postgres,
}

impl Database {
    /// What `REEVE_TEST_DATABASE` says, SQLite when it says nothing.
    ///
    /// # Panics
    /// When it says something else than `sqlite` or `postgres`.
    #[must_use]
    pub fn from_env() -> Self {
        match std::env::var("REEVE_TEST_DATABASE").as_deref() {
            Err(_) | Ok("" | "sqlite") => Self::Sqlite,
            Ok("postgres") => Self::Postgres,
            Ok(other) => panic!("REEVE_TEST_DATABASE is '{other}'; there are sqlite and postgres"),
        }
    }
}

/// The write lock of a SQLite file, held by somebody else than the coordinator; given back on drop.
pub struct Lock {
    connection: sqlx::SqliteConnection,
    runtime: tokio::runtime::Runtime,
}

impl Lock {
    pub(crate) fn take(file: &Path) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let url = format!("sqlite://{}", file.display());
        let mut connection =
            runtime.block_on(sqlx::SqliteConnection::connect(&url)).expect("open the file");
        eventually("somebody else holds the lock", Duration::from_secs(20), || {
            runtime.block_on(connection.execute("begin immediate")).is_ok()
        });
        Self { connection, runtime }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _gone = self.runtime.block_on(self.connection.execute("rollback"));
    }
}

/// A running PostgreSQL server that ends with this value.
pub(crate) struct Postgres {
    folder: PathBuf,
    port: u16,
    owner: Option<User>,
    server: Option<Child>,
}

impl Postgres {
    /// Makes and starts one in `folder`. It listens on a socket in that folder only.
    pub(crate) fn start(folder: &Path) -> Self {
        let data = folder.join("postgres");
        fs::create_dir_all(&data).expect("make the server's folder");
        let owner = server_owner(&data);
        let initdb = run_as(owner.as_ref(), &find_program("initdb"))
            .args([
                "--auth=trust",
                "--username=reeve",
                "--no-sync",
                "--no-instructions",
                "--encoding=UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(data.join("data"))
            .current_dir(&data)
            .stdin(Stdio::null())
            .output()
            .expect("start initdb");
        assert!(initdb.status.success(), "initdb: {}", String::from_utf8_lossy(&initdb.stderr));
        let mut this = Self { folder: folder.to_owned(), port: free_port(), owner, server: None };
        this.start_again();
        this
    }

    /// Starts it, on the port it has once had.
    pub(crate) fn start_again(&mut self) {
        let data = self.folder.join("postgres");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("postgres.log"))
            .expect("open the server's log");
        let server = run_as(self.owner.as_ref(), &find_program("postgres"))
            .arg("-D")
            .arg(data.join("data"))
            .arg("-k")
            .arg(&data)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=50"])
            // Only the server's whole machine could lose what fsync saves, and stories kill less.
            .args(["-c", "fsync=off", "-p", &self.port.to_string()])
            .current_dir(&data)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("clone a file"))
            .stderr(log)
            .spawn()
            .expect("start postgres");
        self.server = Some(server);
        let pid_file = data.join("data/postmaster.pid");
        // The eighth line becomes `ready` (pg_ctl reads it the same way).
        eventually("the PostgreSQL server is ready", Duration::from_secs(60), || {
            let text = fs::read_to_string(&pid_file).unwrap_or_default();
            text.lines().nth(7).is_some_and(|line| line.trim() == "ready")
        });
    }

    /// Ends it at once, its connections with it.
    pub(crate) fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // SIGQUIT: at once, without tidying.
            let _gone = kill(Pid::from_raw(server.id().cast_signed()), Signal::SIGQUIT);
            let _ended = server.wait();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://reeve@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
}

/// PostgreSQL refuses to run as root; Debian's package makes a user for it.
fn server_owner(data: &Path) -> Option<User> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user = User::from_name("postgres").ok().flatten().expect(
        "there is no user 'postgres', whom Debian's package makes. Run `make install-prerequisites`.",
    );
    chown(data, Some(user.uid), Some(user.gid)).expect("give the folder to the server");
    // The folders above it are the test's own; the server only has to pass through.
    for above in data.ancestors().skip(1).take_while(|path| path.starts_with(std::env::temp_dir()))
    {
        if above == std::env::temp_dir() {
            break;
        }
        open_for_passing(above);
    }
    Some(user)
}

fn open_for_passing(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(folder).expect("look at a folder").permissions().mode();
    fs::set_permissions(folder, fs::Permissions::from_mode(mode | 0o011)).expect("open a folder");
}

fn run_as(owner: Option<&User>, program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some(user) = owner {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").process_group(0);
    command
}

fn find_program(name: &str) -> PathBuf {
    let mut folders: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    folders.sort();
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    folders
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| {
            panic!("{name} of PostgreSQL is missing. Run `make install-prerequisites`.")
        })
}
