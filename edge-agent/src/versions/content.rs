//! Copying a content and hashing it on the way.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::host;

/// What is copied at once.
const COPY_BYTES: usize = 128 * 1024;

/// Copies what a file holds into an empty one; shares it with the original where the file system can,
/// and leaves holes where there is nothing. Gives the bytes there are and their BLAKE3 hash.
///
/// # Errors
/// When there are more than `most`, when `room` says that there is none for a real copy, or what the
/// disk says.
pub fn copy(
    from: &mut File,
    to: &mut File,
    most: u64,
    room: impl FnOnce() -> io::Result<()>,
) -> io::Result<(u64, String)> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; COPY_BYTES];
    let is_shared = host::files::share_content(&*from, &*to)?;
    if !is_shared {
        room()?;
    }
    let mut done = 0u64;
    loop {
        let source = if is_shared { &mut *to } else { &mut *from };
        let count = source.read(&mut buffer)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        hasher.update(bytes);
        done += u64::try_from(count).unwrap_or(0);
        // It may grow while it is copied, and no end be in sight.
        if done > most {
            return Err(io::Error::other(format!("it grew beyond {most} bytes meanwhile")));
        }
        if is_shared {
            continue;
        }
        if bytes.iter().all(|byte| *byte == 0) {
            to.seek(SeekFrom::Current(i64::try_from(count).unwrap_or(0)))?;
        } else {
            to.write_all(bytes)?;
        }
    }
    to.set_len(done)?;
    Ok((done, hasher.finalize().to_hex().to_string()))
}
