//! What can go wrong with the database, told apart as far as callers care.

use std::path::PathBuf;

use sqlx::error::ErrorKind;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// A rule of the schema was broken.
    #[error("{0} is not allowed by the database")]
    Constraint(Constraint, #[source] sqlx::Error),
    /// Somebody else held the database, or all connections, for too long.
    #[error("the database is busy")]
    Busy(#[source] sqlx::Error),
    /// No space is left where the database writes.
    #[error("the database's disk is full")]
    DiskFull(#[source] sqlx::Error),
    /// The server cannot be reached, or the connection broke.
    #[error("the database cannot be reached")]
    Lost(#[source] sqlx::Error),
    /// The file cannot be opened.
    #[error("the database file {path} cannot be opened: {source}", path = .path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No URL of ours.
    #[error("a database URL is sqlite:PATH or postgres://USER:PASSWORD@HOST/NAME")]
    Url,
    /// A row holds what no release writes.
    #[error("the database holds what this release does not understand: {0}")]
    Content(String),
    /// The schema cannot be brought up to date.
    #[error("the database schema cannot be brought up to date: {0}")]
    Schema(String),
    /// A migration failed.
    #[error("migration {number} ({name}) failed")]
    Migration {
        /// Its number.
        number: i64,
        /// Its name.
        name: &'static str,
        /// Why.
        source: sqlx::Error,
    },
    /// Anything else.
    #[error("the database answered with an error")]
    Other(#[source] sqlx::Error),
}

/// Which rule of the schema was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// What kind of rule.
    pub kind: ConstraintKind,
    /// Of a unique rule its columns, as `table.column` or `table.first, table.second`, the same on
    /// both engines; of other rules whatever the engine calls them.
    pub name: String,
}

/// Kinds of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ConstraintKind {
    Unique,
    ForeignKey,
    NotNull,
    Check,
}

impl std::fmt::Display for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            ConstraintKind::Unique => write!(f, "a second row with the same {}", self.name),
            ConstraintKind::ForeignKey => write!(f, "a reference to nothing ({})", self.name),
            ConstraintKind::NotNull => write!(f, "leaving out {}", self.name),
            ConstraintKind::Check => write!(f, "a value outside {}", self.name),
        }
    }
}

impl DbError {
    /// The broken rule, if that is what went wrong.
    #[must_use]
    pub fn constraint(&self) -> Option<&Constraint> {
        match self {
            Self::Constraint(constraint, _) => Some(constraint),
            _ => None,
        }
    }

    /// Whether a row with the same `table.column` (or `table.first, table.second`) was there already.
    #[must_use]
    pub fn is_duplicate(&self, columns: &str) -> bool {
        self.constraint().is_some_and(|constraint| {
            constraint.kind == ConstraintKind::Unique && constraint.name == columns
        })
    }

    /// Whether the same may work a moment later without anybody doing anything.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Lost(_))
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        let database = match &error {
            sqlx::Error::Database(database) => database,
            sqlx::Error::PoolTimedOut => return Self::Busy(error),
            sqlx::Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull => {
                return Self::DiskFull(error);
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => return Self::Lost(error),
            _ => return Self::Other(error),
        };
        let kind = match database.kind() {
            ErrorKind::UniqueViolation => Some(ConstraintKind::Unique),
            ErrorKind::ForeignKeyViolation => Some(ConstraintKind::ForeignKey),
            ErrorKind::NotNullViolation => Some(ConstraintKind::NotNull),
            ErrorKind::CheckViolation | ErrorKind::ExclusionViolation => {
                Some(ConstraintKind::Check)
            }
            _ => None,
        };
        if let Some(kind) = kind {
            let name = constraint_name(database.as_ref());
            return Self::Constraint(Constraint { kind, name }, error);
        }
        let code = database.code().unwrap_or_default().into_owned();
        let is_postgres = database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some();
        match (is_postgres, code.as_str()) {
            // https://www.postgresql.org/docs/current/errcodes-appendix.html
            (true, "53100") => Self::DiskFull(error),
            (true, "55P03" | "40001" | "40P01" | "53300") => Self::Busy(error),
            (true, "57P01" | "57P02" | "57P03" | "25P03") => Self::Lost(error),
            (true, code) if code.starts_with("08") => Self::Lost(error),
            (true, _) => Self::Other(error),
            // https://www.sqlite.org/rescode.html; the low byte is the primary code.
            (false, code) => match code.parse::<i32>().unwrap_or(0) & 0xff {
                5 | 6 => Self::Busy(error),
                13 => Self::DiskFull(error),
                // A failed read or write, a file that cannot be opened.
                10 | 14 => Self::Lost(error),
                _ => Self::Other(error),
            },
        }
    }
}

/// `table.column` as SQLite says it; PostgreSQL says it in the table and the detail of its error.
fn constraint_name(error: &dyn sqlx::error::DatabaseError) -> String {
    if let Some(error) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        let table = error.table().unwrap_or_default();
        let columns = error
            .detail()
            .and_then(|detail| detail.split_once('('))
            .and_then(|(_, rest)| rest.split_once(")=("))
            .map(|(columns, _)| columns);
        return match (columns, error.column()) {
            (Some(columns), _) => columns
                .split(", ")
                .map(|column| format!("{table}.{column}"))
                .collect::<Vec<_>>()
                .join(", "),
            (None, Some(column)) => format!("{table}.{column}"),
            (None, None) => error.constraint().unwrap_or_default().to_owned(),
        };
    }
    let message = error.message();
    message.split_once("constraint failed: ").map_or(message, |(_, name)| name).to_owned()
}

/// Turns a broken rule into the caller's own error where it happens.
pub trait OnConstraint<T> {
    /// When the rule on `columns` (see [`Constraint::name`]) was broken, answers what `make` makes;
    /// other errors pass.
    ///
    /// # Errors
    /// The one made, or the one passed.
    fn on_constraint<E: From<DbError>>(
        self,
        columns: &str,
        make: impl FnOnce() -> E,
    ) -> Result<T, E>;
}

impl<T, S: Into<DbError>> OnConstraint<T> for Result<T, S> {
    fn on_constraint<E: From<DbError>>(
        self,
        columns: &str,
        make: impl FnOnce() -> E,
    ) -> Result<T, E> {
        self.map_err(|error| {
            let error = error.into();
            if error.is_duplicate(columns) { make() } else { error.into() }
        })
    }
}
