//! What is blocked: by its name, whether it is there or not; by what it is, so that another name for
//! it (a hard link) is blocked as well; and by where it lies in its file system, so that a bind mount
//! is.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use reeve_protocol::ops::{Failure, FileKind};
use rustix::fs::{Mode, OFlags};

use super::mounts::{Location, Mounts};
use super::place::{About, Place};
use super::resolve;
use crate::host::sandbox;

/// Entries of blocked folders that are looked through for files with several names. Beyond it, such
/// files are blocked wherever they are.
const MAX_SEARCHED: usize = 200_000;

/// Folders in folders that are looked through.
const MAX_SEARCH_DEPTH: usize = 64;

#[derive(Debug)]
pub struct Blocked {
    /// Paths without links, and as they were written; these and what is beneath them.
    names: HashSet<PathBuf>,
    /// What is there.
    items: HashSet<(u64, u64)>,
    /// Where that lies.
    locations: Vec<Location>,
    mounts: Mutex<Mounts>,
    /// Folders among them, to look for files with several names in.
    folders: Vec<PathBuf>,
    several: OnceLock<Several>,
}

/// Files beneath blocked folders that have other names too.
#[derive(Debug, Default)]
struct Several {
    found: HashSet<(u64, u64)>,
    /// There was too much to look at.
    is_cut: bool,
}

impl Blocked {
    pub fn new(patterns: &[String], own: &Path) -> Result<Self, Failure> {
        let mut names = HashSet::new();
        let mut folders = Vec::new();
        let own = sandbox::list_candidates(own.to_str()).into_iter();
        let listed = sandbox::list_candidates(patterns.iter().map(String::as_str));
        let mut items = HashSet::new();
        let mut locations = Vec::new();
        let mounts = Mounts::read();
        for candidate in listed.into_iter().chain(own) {
            // The name stays blocked where a link at it leads astray, or nothing is there.
            let target = candidate.find_target();
            names.insert(resolve::canonical_folder(&candidate.path));
            names.insert(candidate.path);
            let Some(target) = target else { continue };
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::open(&target, flags, Mode::empty());
            if let Some(place) = opened.ok().and_then(|fd| Place::new(fd).ok()) {
                items.insert(place.about.identity());
                locations.extend(mounts.locate(&place));
                if place.about.is_folder() {
                    folders.push(target.clone());
                }
            }
            names.insert(target);
        }
        if names.contains(Path::new("/")) {
            return Err(Failure::new(
                "policy_path",
                "this machine's policy blocks the root folder, so no file can be touched \
                 ([paths] blocked in /etc/reeve/agent.toml)",
            ));
        }
        let mounts = Mutex::new(mounts);
        Ok(Self { names, items, locations, mounts, folders, several: OnceLock::new() })
    }

    /// Whether a path is one of the blocked ones or beneath one.
    pub fn names(&self, path: &Path) -> bool {
        path.ancestors().any(|path| self.names.contains(path))
    }

    /// Whether a blocked path lies beneath one.
    pub fn holds_any(&self, path: &Path) -> bool {
        self.names.iter().any(|name| name.starts_with(path))
    }

    /// Whether what was opened is blocked, whatever its name.
    pub fn covers(&self, place: &Place) -> bool {
        self.names(&place.real) || self.covers_what_it_is(place) || self.covers_location(place)
    }

    /// The same for something in a folder that is not, and that was reached through this mount.
    pub fn covers_inner(&self, place: &Place, mount: u64) -> bool {
        // Where nothing else is mounted, what lies in a blocked folder lies in the one that is not.
        self.names.contains(&place.real)
            || self.covers_what_it_is(place)
            || (place.about.mount != mount && self.covers_location(place))
    }

    fn covers_what_it_is(&self, place: &Place) -> bool {
        let about = &place.about;
        if self.items.contains(&about.identity()) {
            return true;
        }
        if about.links < 2 || about.is_folder() {
            return false;
        }
        let several = self.several.get_or_init(|| Several::search(&self.folders));
        several.is_cut || several.found.contains(&about.identity())
    }

    fn covers_location(&self, place: &Place) -> bool {
        let mut mounts = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        if !mounts.knows(place.about.mount) {
            *mounts = Mounts::read();
        }
        let Some(location) = mounts.locate(place) else { return false };
        self.locations.iter().any(|blocked| location.is_in(blocked))
    }
}

impl Several {
    fn search(folders: &[PathBuf]) -> Self {
        let mut several = Self::default();
        let mut left = MAX_SEARCHED;
        for folder in folders {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // What the agent cannot read, nobody reads through it.
            if let Ok(fd) = rustix::fs::open(folder, flags, Mode::empty()) {
                several.search_one(&fd, &mut left, MAX_SEARCH_DEPTH);
            }
        }
        several
    }

    fn search_one(&mut self, folder: impl AsFd, left: &mut usize, depth: usize) {
        let folder = folder.as_fd();
        let Ok(entries) = rustix::fs::Dir::read_from(folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if *left == 0 || depth == 0 {
                self.is_cut = true;
                return;
            }
            *left -= 1;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let Ok(fd) = rustix::fs::openat(folder, name, flags, Mode::empty()) else { continue };
            let Ok(about) = About::of(fd.as_fd()) else { continue };
            if about.kind == FileKind::Directory {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                if let Ok(inner) = rustix::fs::openat(&fd, ".", flags, Mode::empty()) {
                    self.search_one(&inner, left, depth - 1);
                }
            } else if about.links > 1 {
                self.found.insert(about.identity());
            }
        }
    }
}
