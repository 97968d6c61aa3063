//! `file_read` and `file_write`: content on its way from and to this machine's disks.

mod attributes;
#[cfg(not(fuzzing))]
mod incoming;
#[cfg(fuzzing)]
pub mod incoming;
mod look;
mod outgoing;
mod partial;
mod read;
mod target;
mod tree;
mod unpack;
mod write;

use reeve_protocol::ops::{Failure, RemotePath};

pub use partial::remove_old as remove_old_partials;

/// For what is neither a file nor a folder: reading a FIFO waits for a writer, a device may have no
/// end.
fn not_a_file(path: &RemotePath, what: &str) -> Failure {
    Failure::at(
        "not_a_file",
        path,
        format!("{} is {what}; only files and folders are copied", path.display()),
    )
}
