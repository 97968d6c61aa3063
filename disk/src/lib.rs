//! Large content straight to the disk (O_DIRECT, open(2)), where the file system takes it so. What
//! is synced soon gains nothing from the page cache, and getting it there, and out again, takes more
//! processor than receiving, checking and naming it together.
//!
//! Plain files and memory: nothing in here needs more than the standard library.

mod stage;
mod straight;

pub use stage::Stage;
pub use straight::Straight;

/// Positions, lengths and addresses of what goes straight to the disk are multiples of this: no
/// disk has larger blocks.
pub const BLOCK: usize = 4096;

/// Flag of open(2) for a file that is written in whole blocks only, which the standard library does
/// not name. `None` where its value is not known.
#[must_use]
pub fn direct_flag() -> Option<i32> {
    if !cfg!(target_os = "linux") {
        None
    } else if cfg!(target_arch = "x86_64") {
        Some(0o40_000)
    } else if cfg!(target_arch = "aarch64") {
        Some(0o200_000)
    } else {
        None
    }
}

/// Whether an error says that this file, or this disk, is not written in this way.
#[must_use]
pub fn is_unfit(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::InvalidInput
}
