//! Starting a keeper.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

/// Starts a keeper for the operation in `folder`: the same program, so an upgrade in between does
/// not matter. Plainly (posix_spawn(3)), because a set-up here would copy the agent's whole address
/// space; the keeper does its own. Gives it `lock` and a connection, whose other end is returned.
///
/// # Errors
/// What the kernel says.
pub fn spawn(
    program: &Path,
    folder: &Path,
    lock: File,
) -> io::Result<(tokio::process::Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    #[allow(clippy::disallowed_methods, reason = "this is the place where keepers are made")]
    let mut command = std::process::Command::new(program);
    command
        .arg0("reeve-agent")
        .arg("keep")
        .arg(folder)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(lock))
        .stderr(Stdio::null());
    let child = tokio::process::Command::from(command).kill_on_drop(false).spawn()?;
    Ok((child, ours))
}
