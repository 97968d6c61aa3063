//! Where file systems are mounted (proc_pid_mountinfo(5)): a bind mount shows the same files under
//! another path.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::place::Place;

/// Where in its own file system something lies, whatever it is mounted on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// `major:minor`, of the file system.
    device: Vec<u8>,
    path: PathBuf,
}

impl Location {
    /// Whether it is the other one or lies in it.
    pub fn is_in(&self, outer: &Self) -> bool {
        self.device == outer.device && self.path.starts_with(&outer.path)
    }
}

#[derive(Debug)]
struct Mount {
    device: Vec<u8>,
    /// Which part of the file system is mounted.
    root: PathBuf,
    /// On what.
    point: PathBuf,
}

/// All mounts that this process sees.
#[derive(Debug, Default)]
pub struct Mounts(HashMap<u64, Mount>);

impl Mounts {
    /// As they are now; none where `/proc` cannot be read.
    pub fn read() -> Self {
        // Of this thread, which may have a view of its own.
        let text = std::fs::read("/proc/thread-self/mountinfo").unwrap_or_default();
        Self(text.split(|byte| *byte == b'\n').filter_map(parse).collect())
    }

    /// Whether this mount is known.
    pub fn knows(&self, id: u64) -> bool {
        self.0.contains_key(&id)
    }

    /// Where a place lies in its file system.
    pub fn locate(&self, place: &Place) -> Option<Location> {
        let mount = self.0.get(&place.about.mount)?;
        let inner = place.real.strip_prefix(&mount.point).ok()?;
        Some(Location { device: mount.device.clone(), path: mount.root.join(inner) })
    }
}

fn parse(line: &[u8]) -> Option<(u64, Mount)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = fields.nth(1)?.to_owned();
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    Some((id, Mount { device, root, point }))
}

/// Blanks and the like are octal there; bytes that are no UTF-8 are as they are.
fn unescape(mut field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    while let Some((first, rest)) = field.split_first() {
        let digits = rest.get(..3).filter(|_| *first == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(code.unwrap_or(*first));
        field = if code.is_some() { rest.get(3..).unwrap_or_default() } else { rest };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// A mount point at a path or beneath it.
pub fn find_point_in(real: &Path) -> Option<PathBuf> {
    Mounts::read().0.into_values().map(|mount| mount.point).find(|point| point.starts_with(real))
}

/// The mount that a descriptor was reached through, from before statx(2) told (Linux 5.8).
pub fn read_id(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let value = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    value
        .and_then(|value| value.trim().parse().ok())
        .ok_or_else(|| io::Error::other("the kernel does not tell which mount a file is on"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_odd_names_are_understood() {
        let line = b"36 35 98:0 /mnt1 /m\\040n\xfft\\134 rw,noatime master:1 - ext3 /dev/root rw";
        let (id, mount) = parse(line).expect("a mount");
        assert_eq!((id, mount.device.as_slice()), (36, &b"98:0"[..]));
        assert_eq!(mount.root, Path::new("/mnt1"));
        assert_eq!(mount.point.as_os_str().as_encoded_bytes(), b"/m n\xfft\\");
        assert!(parse(b"").is_none() && parse(b"x y").is_none());
    }
}
