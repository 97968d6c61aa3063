//! The agent's state folder: who it is, what it started, what runs.

pub mod identity;
pub mod journal;
pub mod status;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system refuses.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// What was to be used.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another agent uses it.
    #[error(
        "another agent (pid {pid}) uses {path}; stop it, or give this one its own folder with \
         --state", path = path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The other agent, as it wrote itself.
        pid: String,
    },
    /// A file does not make sense.
    #[error("{path} is damaged ({reason}); move it away and enrol again", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why it makes no sense.
        reason: String,
    },
    /// No identity yet.
    #[error(
        "this machine is not enrolled ({path} is missing); create a token with 'reeve tokens \
         create' and run 'reeve-agent enroll URL --token-file FILE'", path = path.display()
    )]
    NotEnrolled {
        /// The file that is missing.
        path: PathBuf,
    },
}

impl StateError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::Io { path: path.to_owned(), source }
    }
}

/// Where state is kept unless said otherwise.
#[must_use]
pub fn default_path() -> PathBuf {
    if crate::host::users::is_root() {
        return PathBuf::from("/var/lib/reeve-agent");
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(home)
        .unwrap_or_else(|| PathBuf::from("/tmp"))
        .join("reeve-agent")
}

/// The folder. Only its owner may look into it.
#[derive(Clone, Debug)]
pub struct StateFolder {
    path: PathBuf,
}

impl StateFolder {
    /// Uses a folder that may not exist.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Makes the folder if need be.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn create(path: PathBuf) -> Result<Self, StateError> {
        let folder = Self { path };
        for path in [folder.path.clone(), folder.operations()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(StateError::io(&path))?;
        }
        // Commands run from absolute folders; so does everything that is handed to a keeper.
        let path = fs::canonicalize(&folder.path).map_err(StateError::io(&folder.path))?;
        Ok(Self { path })
    }

    /// Itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One folder per operation.
    #[must_use]
    pub fn operations(&self) -> PathBuf {
        self.path.join("operations")
    }

    /// A file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes this process the folder's only agent for as long as the guard lives.
    ///
    /// # Errors
    /// When there is another one.
    pub fn lock(&self) -> Result<LockGuard, StateError> {
        let path = self.file("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(StateError::io(&path))?;
        if !crate::keeper::files::try_lock(&file).map_err(StateError::io(&path))? {
            let mut pid = String::new();
            let _ = file.take(16).read_to_string(&mut pid);
            return Err(StateError::InUse {
                path: self.path.clone(),
                pid: if pid.trim().is_empty() { "unknown".into() } else { pid.trim().into() },
            });
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(StateError::io(&path))?;
        Ok(LockGuard { _file: file })
    }

    /// The agent that uses this folder now, as it wrote itself.
    #[must_use]
    pub fn find_running_agent(&self) -> Option<u32> {
        let path = self.file("lock");
        let file = File::open(&path).ok()?;
        if crate::keeper::files::try_lock(&file).unwrap_or(true) {
            return None;
        }
        fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    /// Writes a file so that it is there whole or not at all, also after a crash.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write_file(&self, name: &str, bytes: &[u8], durable: bool) -> Result<(), StateError> {
        let path = self.file(name);
        let temporary = self.file(&format!("{name}.new"));
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&temporary)?;
            file.write_all(bytes)?;
            if durable {
                file.sync_all()?;
            }
            fs::rename(&temporary, &path)?;
            if durable {
                File::open(&self.path)?.sync_all()?;
            }
            Ok(())
        };
        write().map_err(StateError::io(&path))
    }
}

/// Held while an agent uses the folder.
#[derive(Debug)]
pub struct LockGuard {
    _file: File,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_agent_is_told_who_is_there() {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = StateFolder::create(temporary.path().join("state")).expect("made");
        let guard = folder.lock().expect("free");
        assert_eq!(folder.find_running_agent(), Some(std::process::id()));
        let error = folder.lock().expect_err("taken").to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(guard);
        assert_eq!(folder.find_running_agent(), None);
        folder.lock().expect("free again");
    }
}
