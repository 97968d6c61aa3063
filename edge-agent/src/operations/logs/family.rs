//! A log and the files it was rotated to.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use reeve_protocol::ops::{Failure, RemotePath};

use super::cursor::Found;
use super::globs;
use super::packing::{self, Packing};
use crate::host::paths::{self, Place, Rules};

/// Rotated files of one log that are looked at.
const MAX_ROTATED: usize = 400;

/// An open file of a log.
#[derive(Debug)]
pub struct Member {
    pub path: RemotePath,
    pub file: File,
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    /// When it was last written, microseconds since 1970.
    pub modified_us: i64,
    pub packing: Option<Packing>,
}

impl Member {
    /// Opens what was found.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn open(path: RemotePath, place: &Place) -> Result<Self, Failure> {
        Self::try_open(&path, place).map_err(|error| paths::describe(&error, &path))
    }

    fn try_open(path: &RemotePath, place: &Place) -> io::Result<Self> {
        let file = place.open()?;
        let about = file.metadata()?;
        let packing = Packing::of(&file)?;
        Ok(Self {
            path: path.clone(),
            device: about.dev(),
            inode: about.ino(),
            size: about.len(),
            modified_us: about.mtime().saturating_mul(1_000_000) + about.mtime_nsec() / 1_000,
            packing,
            file,
        })
    }

    /// As [`super::cursor::plan`] wants to know it.
    ///
    /// # Errors
    /// What reading says.
    pub fn found(&self) -> io::Result<Found> {
        Ok(Found {
            device: self.device,
            inode: self.inode,
            size: self.packing.is_none().then_some(self.size),
            head: packing::head(&self.file, self.packing)?,
        })
    }
}

/// The files that a log was rotated to, oldest first.
///
/// # Errors
/// Why its folder cannot be listed.
pub fn rotated(
    rules: &Rules,
    log: &RemotePath,
    skipped: &mut Vec<Failure>,
) -> Result<Vec<Member>, Failure> {
    let bytes = log.as_bytes();
    let slash = memchr::memrchr(b'/', bytes).unwrap_or(0);
    let folder = RemotePath::new(bytes.get(..slash.max(1)).unwrap_or(b"/"));
    let name = bytes.get(slash + 1..).unwrap_or_default();
    let mut members = Vec::new();
    let names = globs::list(rules, &folder)?;
    for other in names.iter().filter(|other| is_rotated(name, other)).take(MAX_ROTATED) {
        let path = folder.join(other);
        let opened = globs::open_file(rules, &path).and_then(|place| Member::open(path, &place));
        match opened {
            Ok(member) => members.push(member),
            // Rotated once more, or packed, meanwhile.
            Err(failure) if failure.code == "not_found" => {}
            Err(failure) => skipped.push(failure),
        }
    }
    members.sort_by_key(|member| member.modified_us);
    Ok(members)
}

/// Whether a name is what logrotate, log4j, newsyslog and their like make of a log's name:
/// `app.log.1`, `app.log-20261121.gz`, `app-2026-11-21.log`, `app.1.log`, `app.log.old`.
#[must_use]
pub fn is_rotated(log: &[u8], name: &[u8]) -> bool {
    const PACKED: [&[u8]; 4] = [b".gz", b".zst", b".xz", b".bz2"];
    let name = PACKED.iter().find_map(|end| name.strip_suffix(*end)).unwrap_or(name);
    if let Some(rest) = name.strip_prefix(log) {
        return rest == b".old" || is_number_part(rest);
    }
    let Some(dot) = memchr::memrchr(b'.', log).filter(|dot| *dot > 0) else { return false };
    let (stem, end) = log.split_at(dot);
    name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(end)).is_some_and(is_number_part)
}

/// `.1`, `-20261121`, `.2026-11-21T08`, `_3`.
fn is_number_part(part: &[u8]) -> bool {
    let Some((first, rest)) = part.split_first() else { return false };
    b".-_".contains(first)
        && rest.iter().any(u8::is_ascii_digit)
        && rest.iter().all(|byte| byte.is_ascii_digit() || b".-_:T".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::is_rotated;

    #[test]
    fn rotated_names_are_known() {
        for name in [
            "app.log.1",
            "app.log.12.gz",
            "app.log-20261121",
            "app.log-20261121.xz",
            "app.log.old",
            "app-2026-11-21.log",
            "app.1.log",
            "app.2026-11-21T08.log.zst",
            "app.log.2026-11-21",
        ] {
            assert!(is_rotated(b"app.log", name.as_bytes()), "{name}");
        }
        for name in [
            "app.log",
            "app.log.gz",
            "app.logs",
            "app.log.swp",
            "app.log.err",
            "apps.log",
            "app-db.log",
            "my-app.log.1",
            "app.log.",
            "app..log",
        ] {
            assert!(!is_rotated(b"app.log", name.as_bytes()), "{name}");
        }
        assert!(is_rotated(b"messages", b"messages-20261121.gz"));
        assert!(!is_rotated(b"messages", b"messages2"));
        assert!(!is_rotated(b".log", b"1.log"));
    }
}
