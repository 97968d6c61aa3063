//! Which file system a path is on (proc_pid_mountinfo(5)). Never touches the path: a dead NFS server
//! would hold us as it holds whoever we look at.

use std::fs;
use std::io::Read;

use reeve_protocol::ops::explain_operation::MountFinding;

/// A machine full of containers has thousands of mounts.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

struct Mount {
    id: u64,
    point: String,
    kind: String,
    source: String,
}

/// The mounts as one process sees them.
#[derive(Default)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// Reads them.
    pub fn read(pid: u32) -> Self {
        let mut text = String::new();
        if let Ok(file) = fs::File::open(format!("/proc/{pid}/mountinfo")) {
            // What is cut off, or no UTF-8, is not known.
            let _ = file.take(MAX_BYTES).read_to_string(&mut text);
        }
        Self::parse(&text)
    }

    fn parse(text: &str) -> Self {
        let parse_line = |line: &str| {
            let (before, after) = line.split_once(" - ")?;
            let mut before = before.split(' ');
            let id = before.next()?.parse().ok()?;
            let point = unescape(before.nth(3)?);
            let mut after = after.split(' ');
            Some(Mount {
                id,
                point,
                kind: after.next()?.to_owned(),
                source: unescape(after.next().unwrap_or_default()),
            })
        };
        Self(text.lines().filter_map(parse_line).collect())
    }

    /// The mount a path is on: the last one with the longest mount point.
    pub fn find(&self, path: &str) -> Option<MountFinding> {
        let is_below = |point: &str| {
            point == "/"
                || path
                    .strip_prefix(point)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mount =
            self.0.iter().filter(|mount| is_below(&mount.point)).max_by_key(|m| m.point.len())?;
        Some(MountFinding {
            point: mount.point.clone(),
            kind: mount.kind.clone(),
            source: mount.source.clone(),
            path: path.to_owned(),
        })
    }

    /// Whether files of the mount can be asked about without waiting for another machine or for
    /// another process.
    pub fn is_local(&self, id: u64) -> bool {
        const LOCAL: &[&str] = &[
            "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs", "ramfs", "devtmpfs",
            "overlay", "devpts", "zfs", "bcachefs", "squashfs", "erofs", "iso9660", "vfat",
            "exfat", "jfs",
        ];
        self.0.iter().any(|mount| mount.id == id && LOCAL.contains(&mount.kind.as_str()))
    }
}

/// Blanks, tabs, newlines and backslashes are octal numbers.
fn unescape(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('\\') {
        result.push_str(before);
        let code = behind.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                result.push(char::from(code));
                rest = &behind[3..];
            }
            None => {
                result.push('\\');
                rest = behind;
            }
        }
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
23 28 0:21 / /proc rw - proc proc rw
28 1 254:0 / / rw,relatime - ext4 /dev/vda rw
41 28 0:52 / /mnt/nas\\040box rw shared:5 - nfs4 nas.example:/export rw,vers=4.2,addr=192.0.2.7
42 28 0:53 / /mnt rw - tmpfs tmpfs rw
garbage
";

    #[test]
    fn path_is_on_the_mount_with_the_longest_point() {
        let mounts = Mounts::parse(TEXT);
        let found = mounts.find("/mnt/nas box/a/b").expect("a mount");
        assert_eq!((found.kind.as_str(), found.source.as_str()), ("nfs4", "nas.example:/export"));
        assert_eq!(mounts.find("/mnt/nas boxes").expect("a mount").kind, "tmpfs");
        assert_eq!(mounts.find("/etc/fstab").expect("a mount").point, "/");
        assert!(mounts.is_local(28) && !mounts.is_local(41) && !mounts.is_local(99));
    }
}
