//! A few bytes of another process's memory: what a system call's arguments point to. Needs what
//! ptrace(2) needs; without it nothing is known.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// A path is read up to this length, bytes.
const MAX_PATH: usize = 1024;

/// The memory of a process.
pub struct Memory(File);

impl Memory {
    /// Opens it.
    pub fn open(pid: u32) -> Option<Self> {
        File::open(format!("/proc/{pid}/mem")).ok().map(Self)
    }

    /// `length` bytes from an address.
    pub fn read(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.0.read_exact_at(&mut bytes, address).ok()?;
        Some(bytes)
    }

    /// A path that ends with NUL.
    pub fn read_path(&self, address: u64) -> Option<String> {
        let mut bytes = Vec::new();
        // In small steps: the page behind may not be there.
        while bytes.len() < MAX_PATH {
            let part = self.read(address.checked_add(bytes.len() as u64)?, 16);
            let part = part.or_else(|| self.read(address.checked_add(bytes.len() as u64)?, 1))?;
            if let Some(end) = part.iter().position(|byte| *byte == 0) {
                bytes.extend_from_slice(&part[..end]);
                break;
            }
            bytes.extend_from_slice(&part);
        }
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A `struct timespec`, milliseconds.
    pub fn read_timespec_ms(&self, address: u64) -> Option<u64> {
        let bytes = self.read(address, 16)?;
        let (seconds, rest) = bytes.split_first_chunk::<8>()?;
        let nanos = u64::try_from(i64::from_ne_bytes(*rest.first_chunk::<8>()?)).ok()?;
        let seconds = u64::try_from(i64::from_ne_bytes(*seconds)).ok()?;
        seconds.checked_mul(1000)?.checked_add(nanos / 1_000_000)
    }
}
