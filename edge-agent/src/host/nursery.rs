//! Keepers held ready. Loading a program and linking it takes as long as everything else a keeper
//! does before its command runs; so one small process of one thread has that behind it and forks
//! the next keeper, which waits for the request. Both end when the agent does, and the keepers that
//! have their requests go on.
//!
//! Each request is one message (unix(7), `SOCK_SEQPACKET`): the operation's folder, and with it the
//! keeper's connection and lock (`SCM_RIGHTS`).

#![allow(unsafe_code, reason = "fork, and the place where this process's arguments are")]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, fork};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
};
use rustix::pipe::PipeFlags;

use super::pipe;
use super::setup::{self, Inherited};

/// The word behind the program's name that makes it a nursery. As long as [`KEEP`], which takes its
/// place in a keeper.
pub const WORD: &str = "warm";

/// The word of a keeper.
const KEEP: &str = "keep";

/// After one that was held ready ended for nothing, before the next.
const BETWEEN_LOSSES: Duration = Duration::from_millis(100);

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
/// be made. The next one is made before it is asked for, and waits for the request itself.
///
/// # Errors
/// What the kernel says; whoever asked makes keepers otherwise then.
pub fn run(
    keep: impl Fn(&OsStr, Inherited) -> io::Result<()>,
    refuse: impl Fn(&OsStr, UnixStream, &io::Error),
) -> io::Result<ExitCode> {
    let requests = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let title = find_title();
    setup::make_way_for_children();
    // Keepers that end leave nothing behind that anybody would have to wait for.
    // SAFETY: no handler of ours is set.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
    loop {
        let (taken, told) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        // SAFETY: this process has one thread, so the child may do whatever this one could.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => {
                drop(taken);
                end_with(wait_and_keep(requests, told, title.as_ref(), &keep));
            }
            Ok(ForkResult::Parent { .. }) => {
                drop(told);
                if !is_told(&taken) {
                    if is_over(&requests) {
                        return Ok(ExitCode::SUCCESS);
                    }
                    // It was killed, or could not even wait.
                    pipe::pause(BETWEEN_LOSSES);
                }
            }
            Err(_) => {
                drop((taken, told));
                // There may be one again when it is needed.
                let Some(request) = take(&requests)? else { return Ok(ExitCode::SUCCESS) };
                // SAFETY: as above.
                match unsafe { fork() } {
                    Ok(ForkResult::Child) => {
                        drop(requests);
                        end_with(
                            become_keeper().and_then(|()| keep_for(request, title.as_ref(), &keep)),
                        );
                    }
                    Ok(ForkResult::Parent { .. }) => {}
                    Err(errno) => refuse(&request.folder, request.agent, &errno.into()),
                }
            }
        }
    }
}

fn end_with(kept: io::Result<()>) -> ! {
    std::process::exit(i32::from(kept.is_err()))
}

/// What the process that is held ready does: `told` is told once it has its request.
fn wait_and_keep(
    requests: OwnedFd,
    told: OwnedFd,
    title: Option<&Title>,
    keep: impl Fn(&OsStr, Inherited) -> io::Result<()>,
) -> io::Result<()> {
    become_keeper()?;
    let Some(request) = take(&requests)? else { return Ok(()) };
    // Whoever is to make the next one is gone, perhaps.
    let _ = rustix::io::write(&told, b"x");
    drop((requests, told));
    keep_for(request, title, keep)
}

/// All that can be done before it is known for whom.
fn become_keeper() -> io::Result<()> {
    // SAFETY: no handler of ours is set. A keeper has to hear of its children's ends.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
    setup::stand_alone()
}

fn keep_for(
    request: Asked,
    title: Option<&Title>,
    keep: impl Fn(&OsStr, Inherited) -> io::Result<()>,
) -> io::Result<()> {
    if let Some(title) = title {
        title.set(&request.folder);
    }
    keep(&request.folder, Inherited { agent: request.agent, lock: request.lock })
}

/// Waits until the process held ready has got its request. `false` when it ended without.
fn is_told(taken: &OwnedFd) -> bool {
    let mut byte = [0];
    matches!(retry_on_intr(|| rustix::io::read(taken, &mut byte)), Ok(1))
}

/// Whether the agent is gone, and all that it asked for was taken.
fn is_over(requests: &OwnedFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let mut byte = [0];
    match retry_on_intr(|| recv(requests, &mut byte, flags)) {
        Ok((_, length)) => length == 0,
        Err(error) => error != Errno::AGAIN,
    }
}

/// Somebody asked for a keeper.
struct Asked {
    /// The operation's.
    folder: OsString,
    agent: UnixStream,
    lock: OwnedFd,
}

/// The next request. Nothing when the agent is gone.
fn take(requests: &OwnedFd) -> io::Result<Option<Asked>> {
    let mut folder = vec![0; FOLDER_BYTES];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut name = [IoSliceMut::new(&mut folder)];
        let received = match recvmsg(requests, &mut name, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => received,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        let mut rights = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => rights.collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        if let (Some(agent), Some(lock)) = (rights.next(), rights.next()) {
            folder.truncate(received.bytes);
            let folder = OsString::from_vec(folder);
            return Ok(Some(Asked { folder, agent: agent.into(), lock }));
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
