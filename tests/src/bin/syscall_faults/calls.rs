//! System calls that have to do with files (syscalls(2), x86-64), and which file it is.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use nix::libc::{self, user_regs_struct};
use nix::unistd::Pid;

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the numbers and registers here are those of x86-64");

/// Where a call says which file it is about.
#[derive(Clone, Copy)]
enum Names {
    /// By a descriptor.
    Descriptor,
    /// By a path.
    Path,
    /// By a path in a folder that is open.
    At,
}

/// A call.
#[derive(Clone, Copy)]
pub struct Call {
    pub name: &'static str,
    names: Names,
}

const CALLS: &[(i64, &str, Names)] = &[
    (libc::SYS_write, "write", Names::Descriptor),
    (libc::SYS_writev, "write", Names::Descriptor),
    (libc::SYS_pwrite64, "write", Names::Descriptor),
    (libc::SYS_pwritev, "write", Names::Descriptor),
    (libc::SYS_pwritev2, "write", Names::Descriptor),
    (libc::SYS_ftruncate, "truncate", Names::Descriptor),
    (libc::SYS_fallocate, "truncate", Names::Descriptor),
    (libc::SYS_fsync, "sync", Names::Descriptor),
    (libc::SYS_fdatasync, "sync", Names::Descriptor),
    (libc::SYS_syncfs, "sync", Names::Descriptor),
    (libc::SYS_rename, "rename", Names::Path),
    (libc::SYS_renameat, "rename", Names::At),
    (libc::SYS_renameat2, "rename", Names::At),
    (libc::SYS_link, "rename", Names::Path),
    (libc::SYS_linkat, "rename", Names::At),
    (libc::SYS_open, "open", Names::Path),
    (libc::SYS_openat, "open", Names::At),
    (libc::SYS_openat2, "open", Names::At),
    (libc::SYS_mkdir, "mkdir", Names::Path),
    (libc::SYS_mkdirat, "mkdir", Names::At),
    (libc::SYS_unlink, "unlink", Names::Path),
    (libc::SYS_unlinkat, "unlink", Names::At),
    (libc::SYS_read, "read", Names::Descriptor),
    (libc::SYS_pread64, "read", Names::Descriptor),
];

impl Call {
    /// The call that is about to be made, if it is one of these.
    pub fn of(registers: &user_regs_struct) -> Option<Self> {
        let number = registers.orig_rax.cast_signed();
        let (_, name, names) = CALLS.iter().find(|(known, ..)| *known == number)?;
        Some(Self { name, names: *names })
    }

    /// The file it is about.
    pub fn path(self, pid: Pid, registers: &user_regs_struct) -> Option<PathBuf> {
        match self.names {
            Names::Descriptor => of_descriptor(pid, registers.rdi),
            Names::Path => Some(resolve(pid, None, &text_at(pid, registers.rdi)?)),
            Names::At => Some(resolve(pid, Some(registers.rdi), &text_at(pid, registers.rsi)?)),
        }
    }
}

fn of_descriptor(pid: Pid, descriptor: u64) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/fd/{}", descriptor as i32)).ok()
}

fn resolve(pid: Pid, folder: Option<u64>, path: &Path) -> PathBuf {
    let base = match folder {
        _ if path.is_absolute() => PathBuf::new(),
        Some(folder) if folder as i32 != libc::AT_FDCWD => {
            of_descriptor(pid, folder).unwrap_or_default()
        }
        _ => fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default(),
    };
    base.join(path).components().filter(|part| *part != Component::CurDir).collect()
}

/// The text at an address of the process, up to its NUL.
fn text_at(pid: Pid, address: u64) -> Option<PathBuf> {
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut text = Vec::new();
    // To the end of each page: the next one may not be there.
    let mut at = address;
    while text.len() < 4096 {
        let mut page = vec![0; 4096 - (at % 4096) as usize];
        let count = memory.read_at(&mut page, at).ok().filter(|count| *count > 0)?;
        page.truncate(count);
        if let Some(end) = page.iter().position(|byte| *byte == 0) {
            text.extend_from_slice(&page[..end]);
            return Some(PathBuf::from(OsStr::from_bytes(&text)));
        }
        at += count as u64;
        text.extend(page);
    }
    None
}
