//! What the system says, in our words.

use std::io;

use reeve_protocol::ops::{Failure, RemotePath};
use rustix::io::Errno;

/// What the system says, as a failure about a path.
#[must_use]
pub fn describe(error: &io::Error, path: &RemotePath) -> Failure {
    let shown = path.display();
    let (code, message) = match error.kind() {
        io::ErrorKind::NotFound => ("not_found", format!("{shown} is not there")),
        io::ErrorKind::PermissionDenied => {
            ("not_permitted", format!("the agent may not use {shown}: permission denied"))
        }
        io::ErrorKind::NotADirectory => {
            ("not_a_directory", format!("a part of {shown} is no directory"))
        }
        io::ErrorKind::IsADirectory => ("is_a_directory", format!("{shown} is a directory")),
        io::ErrorKind::AlreadyExists => ("exists", format!("{shown} is there already")),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ("disk_full", format!("there is no space for {shown}; free some on the machine"))
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            ("read_only", format!("{shown} is on a file system that is mounted read-only"))
        }
        io::ErrorKind::DirectoryNotEmpty => ("not_empty", format!("{shown} is not empty")),
        io::ErrorKind::InvalidFilename => {
            ("name_too_long", format!("{shown} has a name longer than the file system takes"))
        }
        io::ErrorKind::CrossesDevices => (
            "other_file_system",
            format!("{shown} is on another file system; copy it there and remove it here"),
        ),
        io::ErrorKind::ResourceBusy => ("busy", format!("{shown} is in use by the system")),
        _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            ("link_loop", format!("{shown} leads through links in a circle, or through /proc"))
        }
        _ => ("io", format!("{shown}: {error}")),
    };
    Failure::at(code, path, message)
}
