//! This process's own stdin and stdout as plain files, without the standard library's locks and
//! line buffering.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

/// Stdin and stdout.
///
/// # Errors
/// When one of them is closed.
pub fn take() -> io::Result<(File, File)> {
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    Ok((File::from(stdin), File::from(stdout)))
}
