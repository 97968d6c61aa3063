//! What is done with files.

mod chosen;
#[cfg(not(fuzzing))]
mod copy;
#[cfg(fuzzing)]
pub mod copy;
mod find;
mod grep;
mod history;
mod lines;
mod list;
mod mkdir;
mod mode;
mod moving;
mod remove;
mod restore;
mod stat;
mod walk;

use reeve_protocol::ops::{Failure, FileKind, RemotePath};

use crate::host::paths::{self, Place};

pub use copy::remove_old_partials;
pub use mkdir::make_all;
pub use stat::{entry_at, hash_file};

/// Whether what is at a path is a file with the content that somebody expects.
///
/// # Errors
/// `changed` when it has another one or is no file, otherwise why it cannot be read.
pub fn check_content(
    place: Option<&Place>,
    path: &RemotePath,
    expected: Option<&str>,
) -> Result<(), Failure> {
    let Some(expected) = expected else { return Ok(()) };
    let shown = path.display();
    let changed = |what: String| Failure::at("changed", path, what);
    let Some(place) = place else {
        return Err(changed(format!("{shown} is not there any more; nothing was done")));
    };
    if place.about.kind != FileKind::File {
        return Err(changed(format!("{shown} is no file any more; nothing was done")));
    }
    let mut file = place.open_file(path)?;
    let found = hash_file(&mut file).map_err(|error| paths::describe(&error, path))?;
    if found == expected {
        return Ok(());
    }
    Err(changed(format!(
        "{shown} has changed: its content is {found} now; nothing was done; look at it and try again"
    )))
}

#[cfg(test)]
mod tests;
