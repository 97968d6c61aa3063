//! Everything beneath a folder, by descriptors: no link is followed, nothing that is blocked is
//! entered, and however much there is, one descriptor per level is open.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use reeve_protocol::ops::{Failure, RemotePath};
use rustix::io::Errno;

use super::place::name as kind_name;
use super::{Place, Rules, describe, resolve};

/// Folders in folders, at the most: each is an open descriptor, of which a process may have 1,024.
pub const MAX_WALK_DEPTH: u32 = 256;

/// Names of one folder that are held in memory, some 50 MB of them.
const MAX_NAMES: usize = 1_000_000;

/// How far a walk goes.
#[derive(Clone, Copy, Debug)]
pub struct WalkOptions {
    /// 1 is what is in the folder itself; at most [`MAX_WALK_DEPTH`].
    pub depth: u32,
    /// Whether to stay on the folder's own file system.
    pub one_file_system: bool,
    /// Whether to leave out names that begin with a dot.
    pub skip_hidden: bool,
    /// Names of one folder at the most, the first ones in order.
    pub most_names: usize,
}

impl Default for WalkOptions {
    fn default() -> Self {
        Self {
            depth: MAX_WALK_DEPTH,
            one_file_system: false,
            skip_hidden: false,
            most_names: MAX_NAMES,
        }
    }
}

/// What a walk comes by.
#[derive(Debug)]
pub enum Step {
    /// Something that is there. A folder is entered next, unless [`Walk::skip_folder`] says no.
    Found(Visit),
    /// The end of a folder that was found and entered: everything in it was told of.
    Left(Visit),
    /// Something was left out: blocked, not readable, too deep, or more than `most_names`
    /// (`too_many`).
    Skipped(Failure),
}

/// Something in a folder.
#[derive(Debug)]
pub struct Visit {
    /// Under the path that the walk began at.
    pub path: RemotePath,
    /// It.
    pub place: Place,
    /// The folder it is in, open for what is done by name.
    pub folder: Arc<OwnedFd>,
    /// Its name there.
    pub name: OsString,
    /// 1 in the first folder.
    pub depth: u32,
}

/// A walk on its way: each folder before what is in it, names in the order of their bytes.
#[derive(Debug)]
pub struct Walk {
    rules: Rules,
    options: WalkOptions,
    device: u64,
    levels: Vec<Level>,
    /// A folder that was found last and is yet to be entered.
    next: Option<Visit>,
    /// What is to be told before going on.
    waiting: Vec<Failure>,
}

#[derive(Debug)]
struct Level {
    folder: Arc<OwnedFd>,
    real: PathBuf,
    path: RemotePath,
    /// The number of the mount that it is on.
    mount: u64,
    /// In reverse.
    names: Vec<Box<[u8]>>,
    /// What was said of it when it was found; `None` for the first.
    visit: Option<Visit>,
}

impl Walk {
    pub(super) fn new(
        rules: Rules,
        place: &Place,
        path: &RemotePath,
        options: WalkOptions,
    ) -> Result<Self, Failure> {
        if !place.about.is_folder() {
            let kind = kind_name(place.about.kind);
            let message = format!("{} is {kind}, no directory", path.display());
            return Err(Failure::at("not_a_directory", path, message));
        }
        let depth = options.depth.min(MAX_WALK_DEPTH);
        let mut walk = Self {
            rules,
            options: WalkOptions { depth, ..options },
            device: place.about.device,
            levels: Vec::new(),
            next: None,
            waiting: Vec::new(),
        };
        let folder = place.open_folder().map_err(|error| describe(&error, path))?;
        walk.enter(folder, (place.real.clone(), place.about.mount), path.clone(), None)
            .map_err(|error| describe(&error, path))?;
        Ok(walk)
    }

    /// Does not go into the folder that was found last.
    pub fn skip_folder(&mut self) {
        self.next = None;
    }

    fn enter(
        &mut self,
        folder: OwnedFd,
        (real, mount): (PathBuf, u64),
        path: RemotePath,
        visit: Option<Visit>,
    ) -> io::Result<()> {
        let most = self.options.most_names.min(MAX_NAMES);
        let (names, is_cut) = read_names(&folder, self.options.skip_hidden, most)?;
        if is_cut {
            let message = format!("{} holds more than {most} names", path.display());
            self.waiting.push(Failure::at("too_many", &path, message));
        }
        let folder = Arc::new(folder);
        self.levels.push(Level { folder, real, path, mount, names, visit });
        Ok(())
    }

    fn enter_next(&mut self, visit: Visit) -> Option<Step> {
        let path = visit.path.clone();
        if self.options.one_file_system && visit.place.about.device != self.device {
            return None;
        }
        if visit.depth >= self.options.depth {
            let told = visit.depth >= MAX_WALK_DEPTH;
            let message = format!(
                "{} has folders in it more than {MAX_WALK_DEPTH} deep, which are left out",
                path.display()
            );
            return told.then(|| Step::Skipped(Failure::at("too_deep", &path, message)));
        }
        let place = (visit.place.real.clone(), visit.place.about.mount);
        let opened = visit.place.open_folder();
        match opened.and_then(|folder| self.enter(folder, place, path.clone(), Some(visit))) {
            Ok(()) => None,
            Err(error) => Some(Step::Skipped(describe(&error, &path))),
        }
    }

    fn visit(&self, level: &Level, name: Box<[u8]>) -> Result<Option<Visit>, Failure> {
        let path = level.path.join(&name);
        let name = OsString::from_vec(name.into_vec());
        let opened = resolve::open_in(level.folder.as_fd(), &name)
            .and_then(|fd| Place::inside(&level.real, &name, fd));
        let place = match opened {
            Ok(place) => place,
            // Gone since the folder was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(describe(&error, &path)),
        };
        self.rules.check_inner(&place, level.mount, &path)?;
        let depth = u32::try_from(self.levels.len()).unwrap_or(u32::MAX);
        Ok(Some(Visit { path, place, folder: level.folder.clone(), name, depth }))
    }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(failure) = self.waiting.pop() {
                return Some(Step::Skipped(failure));
            }
            if let Some(visit) = self.next.take() {
                if let Some(step) = self.enter_next(visit) {
                    return Some(step);
                }
                continue;
            }
            let level = self.levels.last_mut()?;
            let Some(name) = level.names.pop() else {
                match self.levels.pop()?.visit {
                    Some(visit) => return Some(Step::Left(visit)),
                    None => return None,
                }
            };
            let level = self.levels.last()?;
            match self.visit(level, name) {
                Ok(None) => {}
                Ok(Some(visit)) => {
                    if visit.place.about.is_folder() {
                        match visit.try_clone() {
                            Ok(next) => self.next = Some(next),
                            Err(error) => self.waiting.push(describe(&error, &visit.path)),
                        }
                    }
                    return Some(Step::Found(visit));
                }
                Err(failure) => return Some(Step::Skipped(failure)),
            }
        }
    }
}

impl Visit {
    fn try_clone(&self) -> io::Result<Self> {
        let place = Place {
            fd: self.place.fd.try_clone()?,
            real: self.place.real.clone(),
            about: self.place.about,
        };
        Ok(Self {
            path: self.path.clone(),
            place,
            folder: self.folder.clone(),
            name: self.name.clone(),
            depth: self.depth,
        })
    }

    /// Removes it from its folder; a folder has to be empty.
    ///
    /// # Errors
    /// What unlink(2) or rmdir(2) says.
    pub fn remove(&self) -> Result<(), Failure> {
        let flags = if self.place.about.is_folder() {
            rustix::fs::AtFlags::REMOVEDIR
        } else {
            rustix::fs::AtFlags::empty()
        };
        rustix::fs::unlinkat(&self.folder, &self.name, flags)
            .map_err(|errno| describe(&errno.into(), &self.path))
    }
}

/// The names in a folder in reverse order, of `most` at the most the first ones, and whether there
/// were more.
fn read_names(
    folder: &OwnedFd,
    skip_hidden: bool,
    most: usize,
) -> io::Result<(Vec<Box<[u8]>>, bool)> {
    let mut names: Vec<Box<[u8]>> = Vec::new();
    let mut is_cut = false;
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = match entry {
            Ok(entry) => entry,
            Err(Errno::NOENT) => break,
            Err(errno) => return Err(errno.into()),
        };
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") || (skip_hidden && name.starts_with(b".")) {
            continue;
        }
        names.push(name.into());
        if names.len() >= most.saturating_mul(2).max(1024) {
            is_cut |= keep_first(&mut names, most);
        }
    }
    is_cut |= keep_first(&mut names, most);
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok((names, is_cut))
}

fn keep_first(names: &mut Vec<Box<[u8]>>, most: usize) -> bool {
    if names.len() <= most {
        return false;
    }
    names.select_nth_unstable(most);
    names.truncate(most);
    true
}
