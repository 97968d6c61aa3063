//! Paths that others ask for, opened under the machine owner's rules. What was opened is checked, by
//! its descriptor, never a name: between a look at a name and its use it may come to mean something
//! else.
//!
//! [`Rules::find`] opens what is at a path, [`Rules::find_spot`] the folder that something is made,
//! replaced or removed in, [`Rules::walk`] everything beneath a folder. From there on everything is
//! done by descriptor and the name within a folder, which no link can lead astray.

mod blocked;
mod draft;
mod failure;
mod mounts;
mod place;
mod resolve;
mod spot;
mod walk;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reeve_protocol::ops::{Failure, RemotePath};

use blocked::Blocked;
pub use draft::{DRAFT_PREFIX, Draft};
pub use failure::describe;
pub use place::{About, Place};
pub use resolve::LastLink;
use resolve::Stopped;
pub use spot::{Replace, Spot};
pub use walk::{MAX_WALK_DEPTH, Step, Visit, Walk, WalkOptions};

/// Where file operations may look and what they never touch. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Without links on the way; nothing may be touched but these and what is beneath.
    allowed: Arc<[PathBuf]>,
    blocked: Arc<Blocked>,
    /// May be read and never changed: the policy itself.
    kept: Arc<[PathBuf]>,
    /// Do without openat2(2), as on a kernel that has none. For tests.
    without_openat2: bool,
}

impl Rules {
    /// Rules with every user's home put in for `~`; `own` is the agent's state, which is never
    /// touched.
    ///
    /// # Errors
    /// When the blocked paths make no sense on this machine.
    pub fn new(allowed: &[String], blocked: &[String], own: &Path) -> Result<Self, Failure> {
        let blocked = Blocked::new(blocked, own)?;
        let allowed = allowed.iter().map(|path| resolve::canonical(Path::new(path))).collect();
        Ok(Self { allowed, blocked: Arc::new(blocked), kept: Arc::new([]), without_openat2: false })
    }

    /// With a file that may be read and never changed.
    #[must_use]
    pub fn keeping(self, path: &Path) -> Self {
        // A link with that name as well as what it leads to.
        Self { kept: Arc::new([resolve::canonical_folder(path), resolve::canonical(path)]), ..self }
    }

    /// Opens the place at a path. What is there is not opened to be read: see [`Place::open`].
    ///
    /// # Errors
    /// `policy_path` when the rules forbid it, otherwise what openat2(2) says.
    pub fn find(&self, path: &RemotePath, last: LastLink) -> Result<Place, Failure> {
        path.check().map_err(|error| Failure::at("invalid", path, error.to_string()))?;
        let name = Path::new(std::ffi::OsStr::from_bytes(path.as_bytes()));
        // A name that is blocked tells nothing, not even whether it is there.
        if self.blocked.names(name) {
            return Err(forbidden(path));
        }
        let opened = resolve::open(name, last, self.without_openat2);
        let fd = opened.map_err(|stopped| self.explain(&stopped, path))?;
        let place = Place::new(fd).map_err(|error| describe(&error, path))?;
        self.check(&place, path)?;
        Ok(place)
    }

    /// Opens the folder that a path's last name is in, for making, replacing, moving or removing
    /// what has that name. A link with that name is not followed.
    ///
    /// # Errors
    /// `policy_path` when the rules forbid it, `invalid` for the root folder, otherwise what
    /// openat2(2) says.
    pub fn find_spot(&self, path: &RemotePath) -> Result<Spot, Failure> {
        path.check().map_err(|error| Failure::at("invalid", path, error.to_string()))?;
        let bytes = path.as_bytes();
        let length = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let bytes = bytes.get(..length).unwrap_or_default();
        let start = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let (folder, name) = bytes.split_at_checked(start).unwrap_or_default();
        if name.is_empty() || name == b"." {
            return Err(Failure::at(
                "invalid",
                path,
                format!("{} has no last name that could be made or removed", path.display()),
            ));
        }
        let folder_path = RemotePath::new(folder);
        let folder = self.find(&folder_path, LastLink::Follow).map_err(|failure| {
            // About the path that was asked for, as long as it tells nothing else.
            if failure.code == "policy_path" { forbidden(path) } else { failure }
        })?;
        if !folder.about.is_folder() {
            return Err(Failure::at(
                "not_a_directory",
                &folder_path,
                format!("{} is no directory", folder_path.display()),
            ));
        }
        let spot = Spot::new(self.clone(), folder, name, path);
        self.check_change(&spot.real(), path)?;
        Ok(spot)
    }

    /// Where a path really is, whether or not something is there: links on the way to its last name
    /// are followed, as far as that is there.
    ///
    /// # Errors
    /// `policy_path` or `invalid`.
    pub fn name_of(&self, path: &RemotePath) -> Result<PathBuf, Failure> {
        let real = match self.find_spot(path) {
            Ok(spot) => return Ok(spot.real()),
            Err(failure) if matches!(failure.code.as_str(), "not_found" | "not_a_directory") => {
                resolve::canonical(&Self::to_path(path))
            }
            // Of the root folder, or of what may be read and not changed.
            Err(_) => self.find(path, LastLink::Keep)?.real,
        };
        self.check_name(&real, path)?;
        Ok(real)
    }

    /// A path of this machine.
    #[must_use]
    pub fn to_path(path: &RemotePath) -> PathBuf {
        PathBuf::from(std::ffi::OsStr::from_bytes(path.as_bytes()))
    }

    /// A path for others.
    #[must_use]
    pub fn to_remote(path: &Path) -> RemotePath {
        RemotePath::new(path.as_os_str().as_bytes())
    }

    /// Everything in a folder that was found at `path`.
    ///
    /// # Errors
    /// When it is no folder, or cannot be read.
    pub fn walk(
        &self,
        place: &Place,
        path: &RemotePath,
        options: WalkOptions,
    ) -> Result<Walk, Failure> {
        Walk::new(self.clone(), place, path, options)
    }

    /// Whether what is (or would be) at a real path may be touched at all: for paths that nothing
    /// is at any more.
    ///
    /// # Errors
    /// `policy_path`.
    pub fn check_name(&self, real: &Path, path: &RemotePath) -> Result<(), Failure> {
        if self.is_allowed(real) && !self.blocked.names(real) {
            return Ok(());
        }
        Err(forbidden(path))
    }

    /// Whether something at a real path may be made, replaced or removed.
    ///
    /// # Errors
    /// `policy_path`.
    pub fn check_change(&self, real: &Path, path: &RemotePath) -> Result<(), Failure> {
        self.check_name(real, path)?;
        if self.kept.iter().any(|kept| kept == real) {
            return Err(Failure::at(
                "policy_path",
                path,
                format!(
                    "{} is what this machine's owner decides; Reeve never changes it",
                    path.display()
                ),
            ));
        }
        Ok(())
    }

    /// Whether a whole folder may be moved or removed: nothing that is blocked, mounted or the
    /// start of what is allowed is in it.
    ///
    /// # Errors
    /// `policy_path` or `mount_point`.
    pub fn check_tree(&self, real: &Path, path: &RemotePath) -> Result<(), Failure> {
        self.check_change(real, path)?;
        let is_in = |inner: &Path| inner.starts_with(real);
        let roots = self.allowed.iter().filter(|root| *root != Path::new("/"));
        if roots.map(PathBuf::as_path).chain(self.kept.iter().map(PathBuf::as_path)).any(is_in)
            || self.blocked.holds_any(real)
        {
            return Err(Failure::at(
                "policy_path",
                path,
                format!(
                    "in {} is something that this machine's policy protects ([paths] in \
                     /etc/reeve/agent.toml), so it is neither moved nor removed",
                    path.display()
                ),
            ));
        }
        if let Some(point) = mounts::find_point_in(real) {
            let point = RemotePath::new(point.as_os_str().as_bytes());
            return Err(Failure::at(
                "mount_point",
                &point,
                format!("{} has a file system mounted on it; unmount it first", point.display()),
            ));
        }
        Ok(())
    }

    fn is_allowed(&self, real: &Path) -> bool {
        self.allowed.iter().any(|base| real.starts_with(base))
    }

    /// Whether what was opened may be touched.
    fn check(&self, place: &Place, path: &RemotePath) -> Result<(), Failure> {
        if self.is_allowed(&place.real) && !self.blocked.covers(place) {
            return Ok(());
        }
        Err(forbidden(path))
    }

    /// Whether something in a folder that may be touched, on this mount, may be, too.
    fn check_inner(&self, place: &Place, mount: u64, path: &RemotePath) -> Result<(), Failure> {
        if self.blocked.covers_inner(place, mount) { Err(forbidden(path)) } else { Ok(()) }
    }

    /// What is said of a path that could not be opened. Of what lies outside the policy nothing is
    /// told, not even that it is not there.
    fn explain(&self, stopped: &Stopped, path: &RemotePath) -> Failure {
        let inside = stopped.at.as_ref().is_none_or(|at| {
            // Above what is allowed nothing is told but what is on the way to it.
            self.check_name(at, path).is_ok()
                || self.allowed.iter().any(|base| base.starts_with(at))
        });
        if inside { describe(&stopped.error, path) } else { forbidden(path) }
    }
}

fn forbidden(path: &RemotePath) -> Failure {
    Failure::at(
        "policy_path",
        path,
        format!(
            "this machine's policy does not let Reeve touch {} ([paths] in \
             /etc/reeve/agent.toml); only its owner can change that",
            path.display()
        ),
    )
}

#[cfg(test)]
mod tests;
