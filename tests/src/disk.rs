//! A disk that fills up soon.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::require_root;

/// A small disk that goes away with this value.
pub struct SmallDisk {
    folder: PathBuf,
    _parent: tempfile::TempDir,
}

impl SmallDisk {
    /// Of a size as mount(8) takes it.
    ///
    /// # Panics
    /// When it cannot be mounted.
    #[must_use]
    pub fn of(size: &str) -> Self {
        require_root("a small disk is a tmpfs, which has to be mounted");
        let parent = tempfile::Builder::new().prefix("reeve-disk-").tempdir().expect("a folder");
        let folder = parent.path().join("data");
        fs::create_dir(&folder).expect("a folder");
        let options = format!("size={size},mode=700");
        mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .expect("mount a tmpfs (this story needs root with CAP_SYS_ADMIN)");
        Self { folder, _parent: parent }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes it larger.
    ///
    /// # Panics
    /// When it cannot be mounted anew.
    pub fn grow(&self, size: &str) {
        let options = format!("size={size},mode=700");
        mount(
            Some("tmpfs"),
            &self.folder,
            Some("tmpfs"),
            MsFlags::MS_REMOUNT,
            Some(options.as_str()),
        )
        .expect("remount");
    }

    /// Takes all the room that is left, but for `spare` bytes, with a file of its own.
    ///
    /// # Panics
    /// When that cannot be written.
    pub fn fill(&self, spare: u64) {
        let about = nix::sys::statvfs::statvfs(&self.folder).expect("statvfs");
        let free = about.blocks_available() * about.fragment_size();
        let bytes = usize::try_from(free.saturating_sub(spare)).expect("a small disk");
        fs::write(self.folder.join("ballast"), vec![1; bytes]).expect("room for it");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone = umount2(&self.folder, MntFlags::MNT_DETACH);
    }
}
