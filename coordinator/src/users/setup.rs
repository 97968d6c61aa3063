//! The first start: a one-time code makes the first admin.

use std::path::{Path, PathBuf};

use super::{Users, code, store};
use crate::db::DbError;
use crate::files::write_private;

/// Where the code lies in the data folder until it was used.
pub const SETUP_CODE_FILE: &str = "setup-code";

/// The code of the first start.
pub struct SetupCode {
    /// To be typed.
    pub code: String,
    /// Where it can be read again.
    pub file: PathBuf,
}

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The file cannot be written.
    #[error("{path} cannot be written: {source}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Users {
    /// The code to show while nobody has used it: the one in the file if that is still it, else a
    /// new one.
    ///
    /// # Errors
    /// When database or file fail.
    pub async fn prepare_setup(&self, data: &Path) -> Result<Option<SetupCode>, SetupError> {
        let file = data.join(SETUP_CODE_FILE);
        let mut conn = self.db.reader().await?;
        let done = store::has_users(&mut conn).await?;
        let known = store::find_setup_code(&mut conn).await?;
        drop(conn);
        if done {
            remove_file(&file);
            return Ok(None);
        }
        if let Ok(code) = std::fs::read_to_string(&file) {
            let code = code.trim().to_owned();
            if known.as_deref() == Some(code::hash(&code).as_slice()) {
                return Ok(Some(SetupCode { code, file }));
            }
        }
        let code = code::make();
        let mut tx = self.db.begin().await?;
        store::remove_setup_codes(&mut tx).await?;
        store::add_code(&mut tx, code::hash(&code), None, self.clock.micros(), None).await?;
        tx.commit().await?;
        write_private(&file, format!("{code}\n").as_bytes())
            .map_err(|source| SetupError::File { path: file.clone(), source })?;
        Ok(Some(SetupCode { code, file }))
    }

    /// Whether nobody has used the first start's code yet.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn setup_needed(&self) -> Result<bool, DbError> {
        let mut conn = self.db.reader().await?;
        Ok(!store::has_users(&mut conn).await?)
    }
}

/// Best effort: the code in it no longer works.
pub(super) fn remove_file(file: &Path) {
    if let Err(error) = std::fs::remove_file(file)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, file = %file.display(), "a used code's file could not be removed");
    }
}
