//! Versions of files, kept in the agent's state folder before Reeve changes or removes them.
//!
//! Whoever is about to replace or remove something calls [`keep`] first and goes on only when it
//! succeeded. `versions/blobs` holds contents by their BLAKE3 hash, `versions/index` says what they
//! were. What the owner's rules block now is not read back either.

pub mod content;
#[cfg(not(fuzzing))]
mod index;
#[cfg(fuzzing)]
pub mod index;
mod session;
mod store;

use std::fs::File;
use std::io;
use std::path::PathBuf;

use reeve_protocol::ops::{Failure, FileDeed, FileVersion, RemotePath};

use crate::host::paths::{self, Place, Rules};
use crate::operations::worker::Worker;
use crate::policy::VersionRules;
use crate::state::StateFolder;
pub use session::Session;
use store::Store;

/// Name of their folder in the state folder.
const FOLDER: &str = "versions";

/// Keeps a version of one file or symbolic link that was found under the rules, because of what is
/// done to it next. When this returns, the version is on the disk. `None` where the machine's owner
/// wants none of it: then there is a warning, unless versions are off altogether, or it is something
/// of which there are no versions (a pipe, a folder).
///
/// # Errors
/// `version_not_kept`: the file has to stay as it is then, unless whoever asked said otherwise.
pub fn keep(
    worker: &mut Worker,
    place: &Place,
    path: &RemotePath,
    deed: FileDeed,
) -> Result<Option<FileVersion>, Failure> {
    let mut session = Session::open(&worker.order)?;
    let version = session.keep(place, path, deed)?;
    session.commit()?;
    for warning in session.take_warnings() {
        worker.warn(&warning);
    }
    Ok(version)
}

/// A version of a path and its content, to be read from the start. A symbolic link has no content
/// to read (`symlink`).
///
/// # Errors
/// `no_such_version`, `policy_path`, `version_damaged`, or what the file system says.
pub fn open(worker: &Worker, path: &RemotePath, id: u64) -> Result<(FileVersion, File), Failure> {
    let version = find(worker, path, id)?;
    let Some(hash) = &version.hash else {
        let message = format!("version {id} of {} is a symbolic link", path.display());
        return Err(Failure::at("symlink", path, message));
    };
    let file = store_of(worker).open_blob(hash).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => damaged(path, id),
        _ => paths::describe(&error, path),
    })?;
    Ok((version, file))
}

/// What is known of a version of a path.
///
/// # Errors
/// `no_such_version` or `policy_path`.
pub fn find(worker: &Worker, path: &RemotePath, id: u64) -> Result<FileVersion, Failure> {
    let versions = list(worker, path, false)?;
    versions.into_iter().find(|version| version.id == id).ok_or_else(|| {
        let message = format!(
            "there is no version {id} of {} on this machine; see 'reeve files history'",
            path.display()
        );
        Failure::at("no_such_version", path, message)
    })
}

/// The versions of a path, or of everything beneath it too, newest first.
///
/// # Errors
/// `policy_path`, or what the file system says.
pub fn list(
    worker: &Worker,
    path: &RemotePath,
    beneath: bool,
) -> Result<Vec<FileVersion>, Failure> {
    let real = worker.rules.name_of(path)?;
    let read = store_of(worker).read().map_err(|error| paths::describe(&error, path))?;
    let is_asked = |version: &FileVersion| {
        let place = real_of(version);
        (place == real || (beneath && place.starts_with(&real)))
            && worker.rules.check_name(&place, path).is_ok()
    };
    let mut found: Vec<FileVersion> = read.into_iter().filter(is_asked).collect();
    found.sort_unstable_by_key(|version| std::cmp::Reverse(version.id));
    Ok(found)
}

/// Removes what is too old or too much, and what a crash left behind.
///
/// # Errors
/// What the file system says.
pub fn tidy(folder: &StateFolder, rules: &VersionRules) -> io::Result<()> {
    let path = folder.file(FOLDER);
    if !path.exists() {
        return Ok(());
    }
    Store::new(path, rules.clone()).tidy()
}

/// For content that is not what its name says.
#[must_use]
pub fn damaged(path: &RemotePath, id: u64) -> Failure {
    let message = format!(
        "version {id} of {} is damaged on this machine's disk and cannot be used",
        path.display()
    );
    Failure::at("version_damaged", path, message)
}

fn store_of(worker: &Worker) -> Store {
    Store::new(worker.order.state.join(FOLDER), worker.order.versions.clone())
}

fn real_of(version: &FileVersion) -> PathBuf {
    Rules::to_path(&version.path)
}

#[cfg(test)]
mod tests;
