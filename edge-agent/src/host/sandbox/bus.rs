//! The way to the D-Bus system bus, and to no other unix socket. No filter sees whom connect(2)
//! names, so the kernel asks the keeper (seccomp_unotify(2)): for the bus it makes the connection
//! itself and puts it in the place of the command's socket. What the command wrote is never used
//! again after it was looked at, so it cannot be changed in between.
//!
//! On the bus, its own rules and polkit see the user `nobody`, who has no right anywhere: the
//! reference bus lets nobody in who is in no file of users, as the command's own user is.

#![allow(unsafe_code, reason = "seccomp's requests, a child of its own")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socket_with, socketpair,
};

/// Where the bus is, under its two names. The first is connected to.
pub const SYSTEM_BUS: [&str; 2] =
    ["/run/dbus/system_bus_socket", "/var/run/dbus/system_bus_socket"];

/// As linux/audit.h has it; a call from another table of system calls is something else.
#[cfg(target_arch = "x86_64")]
const PROCESSOR: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const PROCESSOR: u32 = 0xC000_00B7;
#[cfg(target_arch = "riscv64")]
const PROCESSOR: u32 = 0xC000_00F3;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
const PROCESSOR: u32 = 0;

/// Seconds for one connection; the bus answers at once or is in trouble.
const LIMIT_SECONDS: u32 = 2;

/// The keeper's end: answers the command's connects.
#[derive(Debug)]
pub struct Bus {
    listener: OwnedFd,
    paths: Vec<String>,
    /// Who connections are made as.
    uid: u32,
}

/// Whether the kernel can do this (Linux 5.9: descriptors put into another process) and a bus is
/// there, and somebody to be on it. Where not, no unix socket can be made at all.
pub fn is_there(paths: &[String]) -> bool {
    paths.first().is_some_and(|path| {
        std::fs::metadata(path)
            .is_ok_and(|about| std::os::unix::fs::FileTypeExt::is_socket(&about.file_type()))
    }) && is_new_enough(&rustix::system::uname().release().to_string_lossy())
        && find_nobody().is_some()
}

/// The user that connections to the bus are made as.
fn find_nobody() -> Option<u32> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find_map(|line| line.strip_prefix("nobody:"))?;
    line.split(':').nth(1)?.parse().ok().filter(|uid| *uid != 0)
}

fn is_new_enough(release: &str) -> bool {
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 9)
}

/// Two ends over which the child sends what [`Bus::receive`] receives.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

impl Bus {
    /// Takes the listener that the child sent before it executed the command.
    pub fn receive(from: &OwnedFd, paths: &[String]) -> Option<Self> {
        let uid = find_nobody()?;
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let mut bytes = [io::IoSliceMut::new(&mut byte)];
        recvmsg(from, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
        let listener = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        })?;
        Some(Self { listener, paths: paths.to_vec(), uid })
    }

    /// Answers one connect. Every failure is an answer, too: it never waits for longer than a
    /// connection may take.
    pub fn answer(&self) {
        // SAFETY: plain numbers; the kernel wants them zero.
        let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        if !self.request(libc::SECCOMP_IOCTL_NOTIF_RECV, &mut asked) {
            return;
        }
        let error = match self.decide(&mut asked) {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(libc::EACCES),
        };
        let mut answer = libc::seccomp_notif_resp { id: asked.id, val: 0, error: -error, flags: 0 };
        self.request(libc::SECCOMP_IOCTL_NOTIF_SEND, &mut answer);
    }

    /// One ioctl(2) of seccomp's. Whether it worked.
    fn request<T>(&self, number: libc::Ioctl, value: &mut T) -> bool {
        // SAFETY: each number is only used with the structure it is for.
        unsafe { libc::ioctl(self.listener.as_raw_fd(), number, std::ptr::from_mut(value)) >= 0 }
    }

    fn decide(&self, asked: &mut libc::seccomp_notif) -> io::Result<()> {
        let refused = || io::Error::from_raw_os_error(libc::EACCES);
        let [fd, address, length, ..] = asked.data.args;
        let is_connect = libc::c_long::from(asked.data.nr) == libc::SYS_connect;
        if asked.data.arch != PROCESSOR || !is_connect {
            return Err(refused());
        }
        let name = read_name(asked.pid, address, length).ok_or_else(refused)?;
        let fd = u32::try_from(fd).map_err(|_| refused())?;
        if !self.paths.iter().any(|path| path.as_bytes() == name) {
            return Err(refused());
        }
        let flags = read_flags(asked.pid, fd).ok_or_else(refused)?;
        // Everything was read; is it still the one that asked?
        if !self.request(libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &mut asked.id) {
            return Err(refused());
        }
        let first = self.paths.first().map(String::as_str).unwrap_or_default();
        let connection = connect_as(self.uid, first)?;
        if flags & libc::O_NONBLOCK != 0 {
            super::super::pipe::set_nonblocking(&connection)?;
        }
        let mut put = libc::seccomp_notif_addfd {
            id: asked.id,
            flags: u32::try_from(libc::SECCOMP_ADDFD_FLAG_SETFD).unwrap_or(1),
            srcfd: connection.as_raw_fd().unsigned_abs(),
            newfd: fd,
            newfd_flags: (flags & libc::O_CLOEXEC).unsigned_abs(),
        };
        if self.request(libc::SECCOMP_IOCTL_NOTIF_ADDFD, &mut put) {
            Ok(())
        } else {
            Err(refused())
        }
    }
}

impl AsFd for Bus {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// The path in a process's `sockaddr_un`, when it is one with a path.
fn read_name(pid: u32, address: u64, length: u64) -> Option<Vec<u8>> {
    const MOST: usize = size_of::<libc::sockaddr_un>();
    let length = usize::try_from(length).ok().filter(|length| (3..=MOST).contains(length))?;
    let mut bytes = [0_u8; MOST];
    let here = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: length };
    let there = libc::iovec {
        iov_base: std::ptr::with_exposed_provenance_mut(usize::try_from(address).ok()?),
        iov_len: length,
    };
    // SAFETY: writes at most `length` bytes to `bytes`; the other address is the other process's.
    let count = unsafe {
        libc::process_vm_readv(pid.cast_signed(), &raw const here, 1, &raw const there, 1, 0)
    };
    if usize::try_from(count).ok() != Some(length) {
        return None;
    }
    let family = u16::from_ne_bytes([bytes[0], bytes[1]]);
    let name = bytes.get(2..length)?.split(|byte| *byte == 0).next()?;
    (i32::from(family) == libc::AF_UNIX && !name.is_empty()).then(|| name.to_vec())
}

/// Flags of a process's descriptor: the new one gets the same.
fn read_flags(pid: u32, fd: u32) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    let digits = text.lines().find_map(|line| line.strip_prefix("flags:"))?.trim();
    i32::from_str_radix(digits, 8).ok()
}

/// A connection whose other end sees this user: made by a child that is it and nothing else.
fn connect_as(uid: u32, path: &str) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let path = CString::new(path).map_err(io::Error::other)?;
    let bytes = path.as_bytes_with_nul();
    // SAFETY: plain numbers and characters.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = u16::try_from(libc::AF_UNIX).unwrap_or(1);
    if bytes.len() > address.sun_path.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    let size = u32::try_from(size_of_val(&address)).unwrap_or(0);
    // SAFETY: a keeper has one thread; the child makes async-signal-safe calls only and exits.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: as above.
        unsafe {
            libc::alarm(LIMIT_SECONDS);
            let fine = libc::setgroups(0, std::ptr::null()) == 0
                && libc::setresgid(uid, uid, uid) == 0
                && libc::setresuid(uid, uid, uid) == 0
                && libc::connect(socket.as_raw_fd(), (&raw const address).cast(), size) == 0;
            libc::_exit(if fine { 0 } else { nix::errno::Errno::last_raw() & 0x7F });
        }
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut status = 0;
    // SAFETY: the status lives through the call; the child ends by its alarm at the latest.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
    match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
        (true, 0) => Ok(socket),
        (true, error) => Err(io::Error::from_raw_os_error(error)),
        (false, _) => Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
    }
}

/// In the child: loads the filter so that the keeper is asked, and sends it what it answers on.
///
/// # Safety
/// Only between fork and exec in a process of one thread.
pub(super) unsafe fn load_and_send(program: &libc::sock_fprog, to: &OwnedFd) -> bool {
    // SAFETY: everything pointed to lives through the calls.
    unsafe {
        let listener = libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            std::ptr::from_ref(program),
        );
        let Ok(listener) = i32::try_from(listener) else { return false };
        if listener < 0 {
            return false;
        }
        let listener = OwnedFd::from_raw_fd(listener);
        // One control message with one descriptor, cmsg(3): a header and a number, aligned.
        #[repr(C)]
        struct Control {
            header: libc::cmsghdr,
            descriptor: i32,
            padding: i32,
        }
        let mut control = std::mem::zeroed::<Control>();
        let used = size_of::<libc::cmsghdr>() + size_of::<i32>();
        control.header.cmsg_len = used as _;
        control.header.cmsg_level = libc::SOL_SOCKET;
        control.header.cmsg_type = libc::SCM_RIGHTS;
        control.descriptor = listener.as_raw_fd();
        let mut byte = [0_u8];
        let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
        let mut message = std::mem::zeroed::<libc::msghdr>();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = size_of::<Control>() as _;
        libc::sendmsg(to.as_raw_fd(), &raw const message, 0) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_is_new_enough_from_5_9_on() {
        assert!(is_new_enough("5.9.0-1-amd64") && is_new_enough("6.18.44"));
        assert!(
            !is_new_enough("5.8.18") && !is_new_enough("4.18.0-553.el8") && !is_new_enough("x")
        );
    }
}
