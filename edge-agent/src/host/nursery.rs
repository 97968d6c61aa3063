//! Keepers held ready. Loading a program and linking it takes as long as everything else a keeper
//! does before its command runs; so one small process of one thread has that behind it and forks a
//! keeper whenever it is asked. It ends when the agent does, and the keepers go on.
//!
//! Each request is one message (unix(7), `SOCK_SEQPACKET`): the operation's folder, and with it the
//! keeper's connection and lock (`SCM_RIGHTS`).

#![allow(unsafe_code, reason = "fork, and the place where this process's arguments are")]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, fork};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// The word behind the program's name that makes it a nursery. As long as [`KEEP`], which takes its
/// place in a keeper.
pub const WORD: &str = "warm";

/// The word of a keeper.
const KEEP: &str = "keep";

/// Longest name of a folder: what a path may have (`PATH_MAX`).
const FOLDER_BYTES: usize = 4096;

/// The agent's end.
#[derive(Debug)]
pub struct Nursery {
    requests: OwnedFd,
    /// Killed with this, should it not end by itself.
    _process: tokio::process::Child,
}

impl Nursery {
    /// Starts one for folders named like `example`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn start(program: &Path, example: &Path) -> io::Result<Self> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        #[allow(clippy::disallowed_methods, reason = "this is a place where processes are made")]
        let mut command = std::process::Command::new(program);
        command
            .arg0("reeve-agent")
            .arg(WORD)
            .arg(example)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        Ok(Self { requests: ours, _process: process })
    }

    /// Asks for a keeper of the operation in `folder`, which gets `lock` and a connection; returns
    /// its other end. Does not wait: what becomes of it is heard there, or seen from the lock.
    ///
    /// # Errors
    /// When it is gone or has too much to do; no keeper will be made then.
    pub fn ask(&self, folder: &Path, lock: &File) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let rights = [theirs.as_fd(), lock.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&rights)) {
            return Err(io::Error::other("no room for two descriptors"));
        }
        let name = [IoSlice::new(folder.as_os_str().as_bytes())];
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.requests, &name, &mut control, flags)?;
        Ok(ours)
    }
}

/// What a nursery does: `keep` runs a keeper in a process of its own, `refuse` tells that none could
/// be made.
///
/// # Errors
/// What the kernel says; whoever asked makes keepers otherwise then.
pub fn run(
    keep: impl Fn(&OsStr) -> io::Result<()>,
    refuse: impl Fn(&OsStr, UnixStream, &io::Error),
) -> io::Result<ExitCode> {
    let requests = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let title = find_title();
    // Keepers that end leave nothing behind that anybody would have to wait for.
    // SAFETY: no handler of ours is set.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
    let mut folder = vec![0; FOLDER_BYTES];
    while let Some((length, stream, lock)) = take(&requests, &mut folder)? {
        let folder = OsStr::from_bytes(folder.get(..length).unwrap_or_default());
        // SAFETY: this process has one thread, so the child may do whatever this one could.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => {
                // SAFETY: as above; a keeper has to hear of its children's ends.
                unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
                rustix::stdio::dup2_stdin(&stream)?;
                rustix::stdio::dup2_stdout(&lock)?;
                if let Some(title) = &title {
                    title.set(folder);
                }
                // All other descriptors are closed by their numbers: nothing here may be dropped.
                let kept = keep(folder);
                std::process::exit(i32::from(kept.is_err()));
            }
            Ok(ForkResult::Parent { .. }) => {}
            Err(errno) => refuse(folder, stream, &errno.into()),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The next request: how long the folder's name is, the keeper's connection, its lock. Nothing when
/// the agent is gone.
fn take(requests: &OwnedFd, folder: &mut [u8]) -> io::Result<Option<(usize, UnixStream, OwnedFd)>> {
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut name = [IoSliceMut::new(folder)];
        let received = match recvmsg(requests, &mut name, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => received,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        let mut rights = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => rights.collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        if let (Some(stream), Some(lock)) = (rights.next(), rights.next()) {
            return Ok(Some((received.bytes, stream.into(), lock)));
        }
    }
}

/// Where the kernel finds what this process is called (proc_pid_cmdline(5)).
struct Title {
    start: usize,
    length: usize,
}

/// Fields 48 and 49 of proc_pid_stat(5).
fn find_title() -> Option<Title> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(45);
    let start: usize = fields.next()?.parse().ok()?;
    let end: usize = fields.next()?.parse().ok()?;
    let length = end.checked_sub(start).filter(|_| start > 0)?;
    Some(Title { start, length })
}

impl Title {
    /// Makes this process be shown as the keeper of `folder`, if that fits.
    fn set(&self, folder: &OsStr) {
        let mut bytes = Vec::with_capacity(self.length);
        for argument in [b"reeve-agent", KEEP.as_bytes(), folder.as_bytes()] {
            bytes.extend_from_slice(argument);
            bytes.push(0);
        }
        if bytes.len() > self.length {
            return;
        }
        bytes.resize(self.length, 0);
        // SAFETY: the kernel says that this process's arguments lie there. They are writable, and
        // nothing in this process of one thread reads them any more.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start as *mut u8, self.length) }
    }
}
