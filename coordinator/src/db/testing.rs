//! Databases for tests: each test runs on SQLite and on PostgreSQL.
//!
//! The PostgreSQL server is started by the test process itself, from a cluster made once, and ends
//! with it, however it ends: a small shell beside it waits on a pipe that only this process holds.

use std::fs::{File, Permissions};
use std::future::Future;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::Db;

/// Part of every message about a missing server.
const REMEDY: &str = "run `make test` once: it installs what the tests need (Debian package \
                      'postgresql'); no test is skipped for lack of it";

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

struct Cluster {
    /// Holds the socket and everything else.
    folder: PathBuf,
    /// When its standard input closes, it stops the server and removes the folder.
    _shell: Child,
}

/// Runs a test on a fresh, migrated SQLite file, then on a fresh, migrated PostgreSQL database.
pub async fn for_each_engine<F, Fut>(test: F)
where
    F: Fn(Db) -> Fut,
    Fut: Future<Output = ()>,
{
    let (db, _folder) = sqlite().await;
    eprintln!("engine: sqlite");
    test(db).await;
    eprintln!("engine: postgres");
    test(postgres().await).await;
}

/// A fresh, migrated SQLite file, which goes with the folder.
pub async fn sqlite() -> (Db, TempDir) {
    let folder = TempDir::new().expect("a temporary folder");
    // Characters that mean something in URLs must not mean anything in paths.
    let path = folder.path().join("a ?#%20 b.db");
    let db = Db::connect(&format!("sqlite:{}", path.display())).await.expect("a SQLite file");
    db.migrate().await.expect("migrations");
    (db, folder)
}

/// A fresh, migrated PostgreSQL database.
pub async fn postgres() -> Db {
    let db = Db::connect(&postgres_url().await).await.expect("a PostgreSQL database");
    db.migrate().await.expect("migrations");
    db
}

/// The URL of a fresh, empty PostgreSQL database.
pub async fn postgres_url() -> String {
    let cluster = CLUSTER.get_or_init(start).await;
    let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    let mut conn = PgConnection::connect(&url(cluster, "postgres")).await.expect("the server");
    sqlx::raw_sql(AssertSqlSafe(format!("create database {name}")))
        .execute(&mut conn)
        .await
        .expect("a database");
    url(cluster, &name)
}

fn url(cluster: &Cluster, database: &str) -> String {
    format!("postgres://postgres@localhost/{database}?host={}", cluster.folder.display())
}

async fn start() -> Cluster {
    let programs = find_programs();
    let account = server_account();
    let template = make_template(&programs, account);
    let folder = TempDir::with_prefix("reeve-pg-").expect("a temporary folder").keep();
    give(&folder, account);
    // The server must not see a signal meant for the tests; it stops when the pipe closes.
    let script = r#"
        cp -r --reflink=auto "$2" "$3/data" || exit 1
        "$1/postgres" -D "$3/data" -k "$3" >"$3/log" 2>&1 &
        server=$!
        read -r _
        kill -QUIT "$server"
        wait "$server"
        rm -rf "$3"
    "#;
    let mut shell = command("sh", account)
        .args(["-c", script, "sh"])
        .arg(&programs)
        .arg(&template)
        .arg(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("a shell");
    let state = folder.join("data/postmaster.pid");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !std::fs::read_to_string(&state).is_ok_and(|text| text.contains("ready")) {
        if Instant::now() > deadline || shell.try_wait().expect("its state").is_some() {
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            panic!("PostgreSQL did not start: {log}\n{REMEDY}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Cluster { folder, _shell: shell }
}

/// A cluster fresh from `initdb`, made by the first test that needs it and copied by all.
fn make_template(programs: &Path, account: Option<(u32, u32)>) -> PathBuf {
    let user = account.map_or_else(own_uid, |(uid, _)| uid);
    let version = programs.parent().and_then(Path::file_name).unwrap_or_default();
    let base = std::env::temp_dir()
        .join(format!("reeve-test-postgres-{user}-{}", version.to_string_lossy()));
    match std::fs::create_dir(&base) {
        Ok(()) => give(&base, account),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists, "{base:?}"),
    }
    let owner = std::fs::metadata(&base).expect("the folder").uid();
    assert!(owner == user || owner == own_uid(), "{base:?} belongs to somebody else; remove it");
    let lock = File::create(base.join("lock")).expect("a lock file");
    lock.lock().expect("the lock");
    let (template, ready) = (base.join("data"), base.join("ready"));
    if !ready.exists() {
        let _ = std::fs::remove_dir_all(&template);
        let output = command(programs.join("initdb"), account)
            .args(["--no-sync", "--username=postgres", "--auth=trust", "--encoding=UTF8"])
            .args(["--locale=C", "--wal-segsize=1", "-D"])
            .arg(&template)
            .output()
            .expect("initdb");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let settings = template.join("postgresql.auto.conf");
        // Nothing here outlives the test, so nothing needs to reach the disk.
        std::fs::write(
            settings,
            "listen_addresses = ''\nfsync = off\nsynchronous_commit = off\n\
             full_page_writes = off\nshared_buffers = 16MB\nmax_connections = 80\n\
             wal_level = minimal\nmax_wal_senders = 0\nautovacuum = off\n",
        )
        .expect("settings");
        File::create(&ready).expect("the mark");
    }
    template
}

/// Newest first in Debian's place, else on the path.
fn find_programs() -> PathBuf {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    versions
        .into_iter()
        .rev()
        .map(|(_, folder)| folder)
        .chain(std::env::split_paths(&on_path))
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
        .unwrap_or_else(|| panic!("PostgreSQL's programs are not on this machine; {REMEDY}"))
}

/// PostgreSQL refuses to run as root: the account to run it as then.
fn server_account() -> Option<(u32, u32)> {
    if own_uid() != 0 {
        return None;
    }
    let accounts = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let ids = ["postgres", "nobody"].iter().find_map(|name| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    Some(ids.unwrap_or_else(|| panic!("there is no account 'postgres'; {REMEDY}")))
}

fn own_uid() -> u32 {
    std::fs::metadata("/proc/self").expect("/proc").uid()
}

fn give(folder: &Path, account: Option<(u32, u32)>) {
    std::fs::set_permissions(folder, Permissions::from_mode(0o700)).expect("permissions");
    if let Some((uid, gid)) = account {
        chown(folder, Some(uid), Some(gid)).expect("a new owner");
    }
}

#[allow(clippy::disallowed_methods, reason = "a test's own server, not part of the product")]
fn command(
    program: impl AsRef<std::ffi::OsStr>,
    account: Option<(u32, u32)>,
) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command.current_dir("/");
    if let Some((uid, gid)) = account {
        command.uid(uid).gid(gid);
    }
    command
}
