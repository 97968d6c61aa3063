//! The database: SQLite in a file or PostgreSQL, behind one concrete type.
//!
//! Both engines run the same SQL text over sqlx's `Any` driver: `$1` placeholders, `returning`,
//! `on conflict`; ids as text, times as microseconds since 1970 (`BIGINT`), JSON as text, bytes as
//! `BLOB`. No `BOOLEAN` columns (use `BIGINT` 0/1), and sums need `cast(… as bigint)`.

mod error;
mod lease;
mod migrations;
mod script;
pub mod settings;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, ConnectOptions};

pub use error::{Constraint, ConstraintKind, DbError, OnConstraint};
use lease::{Lease, Lender};
pub use script::{Answers, Sent};

/// How long a transaction or a query waits for its connection, or a statement for a lock.
const WAIT: Duration = Duration::from_secs(5);

/// Connections that read from a SQLite file at the same time.
const SQLITE_READERS: u32 = 4;

/// Between two tries to connect to a server whose queue is full.
const SOCKET_RETRY: Duration = Duration::from_millis(20);

/// Connections to a PostgreSQL server.
const POSTGRES_CONNECTIONS: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Sqlite,
    Postgres,
}

/// A handle on the database; cloning is cheap.
#[derive(Clone)]
pub struct Db {
    engine: Engine,
    readers: Lender,
    /// SQLite: one connection, handed out in the order asked for. PostgreSQL: the same pool.
    writers: Lender,
    /// The file, with SQLite.
    file: Option<Arc<PathBuf>>,
}

/// A connection for reading. Goes back to its pool when dropped.
pub struct Conn {
    conn: Lease,
    engine: Engine,
}

/// A transaction for writing. When it is dropped without [`Tx::commit`] its connection is closed,
/// which rolls it back whatever state an error has left it in: SQLite itself ends a transaction
/// that finds the disk full, and a count of open transactions kept beside it would be wrong.
pub struct Tx {
    conn: Lease,
    engine: Engine,
    /// What [`Tx::later`] put down.
    waiting: Vec<script::Statement>,
    /// Something was executed before what waited for it.
    disordered: bool,
    /// Committed, or rolled back and known to be.
    is_over: bool,
}

impl Db {
    /// Opens `sqlite:PATH` (made when absent) or `postgres://…`. Does not migrate.
    ///
    /// # Errors
    /// When the URL is neither, or the database cannot be opened or reached.
    pub async fn connect(url: &str) -> Result<Self, DbError> {
        sqlx::any::install_default_drivers();
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            Self::connect_sqlite(Path::new(path)).await
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Self::connect_postgres(url).await
        } else {
            Err(DbError::Url)
        }
    }

    async fn connect_sqlite(path: &Path) -> Result<Self, DbError> {
        let open_error = |source| DbError::Open { path: path.to_owned(), source };
        // Made here so that nobody else can read it; SQLite gives its side files the same mode.
        OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(open_error)?;
        let path = path.canonicalize().map_err(open_error)?;
        let mut url = url::Url::parse("sqlite:///").map_err(|_| DbError::Url)?;
        // The driver decodes what this encodes; it does not encode the sign of encoding itself.
        url.set_path(&path.to_str().ok_or(DbError::Url)?.replace('%', "%25"));
        let options = AnyConnectOptions::from_url(&url)?;
        let pool = || {
            AnyPoolOptions::new()
                .acquire_timeout(WAIT)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        let writers = pool()
            .max_connections(1)
            .after_connect(|conn, _| {
                Box::pin(async move {
                    sqlx::raw_sql(
                        "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL;
                         PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
                         PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384;",
                    )
                    .execute(conn)
                    .await?;
                    Ok(())
                })
            })
            .connect_with(options.clone())
            .await?;
        let readers = pool().max_connections(SQLITE_READERS).after_connect(|conn, _| {
            Box::pin(async move {
                sqlx::raw_sql(
                    "PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON;
                     PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192;
                     PRAGMA query_only = ON;",
                )
                .execute(conn)
                .await?;
                Ok(())
            })
        });
        let readers = Lender::keeping(readers.connect_lazy_with(options));
        let writers = Lender::keeping(writers);
        Ok(Self { engine: Engine::Sqlite, readers, writers, file: Some(Arc::new(path)) })
    }

    async fn connect_postgres(url: &str) -> Result<Self, DbError> {
        let options = url.parse::<AnyConnectOptions>()?;
        let pool = AnyPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS)
            .acquire_timeout(WAIT)
            .after_connect(|conn, _| {
                Box::pin(async move {
                    sqlx::raw_sql(
                        "SET lock_timeout = '5s';
                         SET idle_in_transaction_session_timeout = '60s';
                         SET application_name = 'reeve-coordinator';",
                    )
                    .execute(conn)
                    .await?;
                    Ok(())
                })
            })
            .connect_with(options)
            .await
            .map_err(|error| match error {
                // The pool keeps trying a refused connection until its time is up.
                sqlx::Error::PoolTimedOut => DbError::Lost(error),
                other => other.into(),
            })?;
        let readers = Lender::of(pool);
        Ok(Self { engine: Engine::Postgres, writers: readers.clone(), readers, file: None })
    }

    /// Brings the schema up to date.
    ///
    /// # Errors
    /// When a migration fails, was changed after it ran, or the schema is from a newer release.
    pub async fn migrate(&self) -> Result<(), DbError> {
        migrations::run(self).await
    }

    /// `sqlite` or `postgres`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.engine {
            Engine::Sqlite => "sqlite",
            Engine::Postgres => "postgres",
        }
    }

    /// The database file, with SQLite.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(|path| path.as_path())
    }

    /// A connection for reading; on SQLite it cannot write.
    ///
    /// # Errors
    /// [`DbError::Busy`] when none came free in time, [`DbError::Lost`] when the server is away.
    pub async fn reader(&self) -> Result<Conn, DbError> {
        let conn = self.acquire(&self.readers).await?;
        Ok(Conn { conn, engine: self.engine })
    }

    /// A transaction for writing. On SQLite there is one at a time, and it has the write lock from
    /// its start, so it cannot fail for a lock later.
    ///
    /// # Errors
    /// As [`Db::reader`].
    pub async fn begin(&self) -> Result<Tx, DbError> {
        let mut tx = self.begin_later().await?;
        tx.send().await?;
        Ok(tx)
    }

    /// As [`Db::begin`], but the transaction begins with what is put down for it first.
    ///
    /// # Errors
    /// As [`Db::reader`].
    pub async fn begin_later(&self) -> Result<Tx, DbError> {
        let statement = match self.engine {
            Engine::Sqlite => "BEGIN IMMEDIATE",
            Engine::Postgres => "BEGIN",
        };
        let conn = self.acquire(&self.writers).await?;
        let mut tx = Tx {
            conn,
            engine: self.engine,
            waiting: Vec::new(),
            disordered: false,
            is_over: false,
        };
        tx.later(sqlx::query(statement))?;
        Ok(tx)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), DbError> {
        let mut conn = self.reader().await?;
        sqlx::query("select 1").execute(&mut *conn).await?;
        Ok(())
    }

    /// Closes all connections, waiting for those in use.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
    }

    /// A server whose queue of connections on a Unix socket is full says so at once (EAGAIN,
    /// connect(2)) instead of letting us wait; so we do.
    async fn acquire(&self, lender: &Lender) -> Result<Lease, DbError> {
        let deadline = tokio::time::Instant::now() + WAIT;
        loop {
            match lender.lend().await {
                Err(sqlx::Error::Io(error))
                    if error.kind() == std::io::ErrorKind::WouldBlock
                        && tokio::time::Instant::now() < deadline =>
                {
                    tokio::time::sleep(SOCKET_RETRY).await;
                }
                acquired => return acquired.map_err(|error| self.acquire_error(error)),
            }
        }
    }

    /// A pool that is not full and yet has no connection to give cannot connect.
    fn acquire_error(&self, error: sqlx::Error) -> DbError {
        match error {
            sqlx::Error::PoolTimedOut
                if self.engine == Engine::Postgres
                    && self.writers.size() < POSTGRES_CONNECTIONS =>
            {
                DbError::Lost(error)
            }
            other => other.into(),
        }
    }
}

impl Tx {
    /// Makes it durable.
    ///
    /// # Errors
    /// When the database says no. Whether it is durable is then known only if it said why.
    pub async fn commit(self) -> Result<(), DbError> {
        self.commit_answered().await.map(drop)
    }

    /// As [`Tx::commit`], with the answers to what was put down for it.
    ///
    /// # Errors
    /// As [`Tx::commit`]. When it breaks a rule of the schema, nothing of it is done.
    pub async fn commit_answered(mut self) -> Result<Answers, DbError> {
        if self.disordered {
            return Err(DbError::Content("statements out of their order".to_owned()));
        }
        self.later(sqlx::query("COMMIT"))?;
        let sent = self.send().await;
        // Whatever else went wrong, the connection is not to be trusted.
        self.is_over = match &sent {
            Ok(_) => true,
            Err(error) if error.constraint().is_some() => self.roll_back().await,
            Err(_) => false,
        };
        sent
    }

    /// Whether that is known to have worked.
    async fn roll_back(&mut self) -> bool {
        sqlx::query("ROLLBACK").execute(&mut *self.conn).await.is_ok()
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if !self.is_over {
            self.conn.spoil();
        }
    }
}

impl Deref for Conn {
    type Target = AnyConnection;
    fn deref(&self) -> &AnyConnection {
        &self.conn
    }
}

impl DerefMut for Conn {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.conn
    }
}

impl Deref for Tx {
    type Target = AnyConnection;
    fn deref(&self) -> &AnyConnection {
        &self.conn
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        // Noticed by every test that comes this way, and never committed.
        self.disordered |= !self.waiting.is_empty();
        &mut self.conn
    }
}
