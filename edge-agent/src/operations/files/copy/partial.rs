//! What has come of a file that has not come whole: a temporary file beside the place it is for. It
//! stays when a transfer that has a name is cut, for as long as [`KEEP`], and is listed in the
//! agent's state until then, so that the next transfer of whomever removes what is too old.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reeve_disk::Straight;
use reeve_protocol::ops::{Failure, PARTIAL_PREFIX, RemotePath};

use crate::host::copying::{self, WRITE_OUT_BYTES};
use crate::host::paths::{self, About, Draft, Replace, Rules, Spot};
use crate::operations::worker::Order;

/// How long what came is kept after a cut.
pub const KEEP: Duration = Duration::from_secs(24 * 3600);

/// Where partial files are listed, in the agent's state folder.
const LIST: &str = "partials";

/// Bytes that are hashed at once when a transfer goes on.
const HASH_BYTES: usize = 1024 * 1024;

/// The name of a transfer on this machine: others may share a disk with it and be given the same
/// thing at the same time, under the same name.
pub fn own_token(token: &str, state: &Path) -> String {
    let machine = fs::read("/etc/machine-id").unwrap_or_default();
    let mut hasher = blake3::Hasher::new();
    for part in [&machine, state.as_os_str().as_bytes(), token.as_bytes()] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_hex().chars().take(32).collect()
}

/// A file that comes.
#[derive(Debug)]
pub struct Partial {
    held: Held,
    /// What has come.
    length: u64,
    straight: Straight,
    /// How far the kernel was asked to write it out.
    written_out: u64,
}

#[derive(Debug)]
enum Held {
    /// The next attempt finds it again.
    Named(Named),
    /// Nobody goes on with it, so nothing of it stays even when its writer is killed.
    Draft(Draft),
}

#[derive(Debug)]
struct Named {
    spot: Spot,
    file: File,
    listed: Option<PathBuf>,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Remove,
    Keep,
    Placed,
}

impl Named {
    /// With what has come.
    fn open(target: &Spot, token: &str, state: &Path) -> Result<(Self, u64), Failure> {
        let spot = target.sibling(format!("{PARTIAL_PREFIX}{token}").as_ref())?;
        let path = target.path();
        let failed = |error: io::Error| paths::describe(&error, path);
        let busy = |why: &str| {
            Failure::at("busy", path, format!("{} is being written{why}", path.display()))
        };
        let listed = list(state, &spot.real());
        // Whoever had it before may finish or remove it meanwhile.
        for _ in 0..4 {
            let file = spot.open_own()?;
            copying::take_over(&file).map_err(|error| busy(&format!(": {error}")))?;
            let about = About::of(file.as_fd()).map_err(failed)?;
            let now = spot.look()?;
            if now.is_some_and(|now| now.about.identity() == about.identity()) {
                return Ok((Self { spot, file, listed, outcome: Outcome::Remove }, about.size));
            }
        }
        Err(busy(""))
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if self.outcome == Outcome::Keep {
            return;
        }
        // When that fails, it is removed when it is too old.
        if self.outcome == Outcome::Remove && self.spot.remove_file().is_err() {
            return;
        }
        if let Some(listed) = &self.listed {
            let _ = fs::remove_file(listed);
        }
    }
}

impl Partial {
    /// A file for `target`: of a transfer with a name as far as it came before, else a new one.
    pub fn open(target: &Spot, resume: Option<&str>, order: &Order) -> Result<Self, Failure> {
        let (held, length) = match resume {
            Some(token) => {
                let token = own_token(token, &order.state);
                let (named, length) = Named::open(target, &token, &order.state)?;
                (Held::Named(named), length)
            }
            None => (Held::Draft(target.draft(order.id)?), 0),
        };
        Ok(Self { held, length, straight: Straight::default(), written_out: 0 })
    }

    /// Bytes that have come.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The open file.
    pub fn file(&self) -> &File {
        self.held.file()
    }

    /// A hasher that has seen the first `length` bytes.
    pub fn hash_prefix(&self, length: u64) -> io::Result<blake3::Hasher> {
        let mut hasher = blake3::Hasher::new();
        let (mut at, mut buffer) = (0, vec![0; HASH_BYTES]);
        copying::will_read_all(self.file(), 0);
        while at < length {
            let wanted = usize::try_from(length - at).unwrap_or(usize::MAX).min(HASH_BYTES);
            let into = buffer.get_mut(..wanted).unwrap_or_default();
            let count = self.file().read_at(into, at)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            hasher.update(into.get(..count).unwrap_or_default());
            at += count as u64;
        }
        Ok(hasher)
    }

    /// Forgets what lies behind `length`.
    pub fn cut_to(&mut self, length: u64) -> io::Result<()> {
        self.finish()?;
        self.file().set_len(length)?;
        self.length = length;
        self.written_out = self.written_out.min(length);
        Ok(())
    }

    /// Puts bytes behind what has come. The last of them are in the file after [`Self::finish`].
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.straight.append(self.held.file(), self.length, bytes)?;
        self.length += bytes.len() as u64;
        if self.length - self.written_out >= WRITE_OUT_BYTES {
            copying::write_out(self.held.file(), self.written_out, self.length - self.written_out);
            self.written_out = self.length;
        }
        Ok(())
    }

    /// All that has come is in the file.
    pub fn finish(&mut self) -> io::Result<()> {
        self.straight.finish(self.held.file(), self.length)
    }

    /// Puts a hole behind what has come.
    pub fn append_hole(&mut self, length: u64) -> io::Result<()> {
        let now = self.length.checked_add(length).ok_or(io::ErrorKind::FileTooLarge)?;
        self.finish()?;
        self.file().set_len(now)?;
        self.length = now;
        Ok(())
    }

    /// What has come of a transfer with a name stays when this value goes.
    pub fn keep(&mut self) {
        if let Held::Named(named) = &mut self.held {
            named.outcome = Outcome::Keep;
        }
    }

    /// What has come goes when this value goes.
    pub fn drop_it(&mut self) {
        if let Held::Named(named) = &mut self.held {
            named.outcome = Outcome::Remove;
        }
    }

    /// Gives it its name, or removes it.
    pub fn place(mut self, target: &Spot, replace: Replace) -> Result<(), Failure> {
        self.drop_it();
        match self.held {
            Held::Named(mut named) => {
                named.spot.rename(target, replace)?;
                named.outcome = Outcome::Placed;
                Ok(())
            }
            Held::Draft(draft) => draft.place(target, replace),
        }
    }
}

impl Held {
    fn file(&self) -> &File {
        match self {
            Self::Named(named) => &named.file,
            Self::Draft(draft) => &draft.file,
        }
    }
}

/// Writes a partial file's path down, so that it is found when it is too old. Where that cannot be
/// done the copy goes on all the same.
pub fn list(state: &Path, partial: &Path) -> Option<PathBuf> {
    let folder = state.join(LIST);
    let bytes = partial.as_os_str().as_bytes();
    let listed = folder.join(blake3::hash(bytes).to_hex().as_str());
    fs::create_dir_all(&folder).and_then(|()| fs::write(&listed, bytes)).ok()?;
    Some(listed)
}

/// Removes partial files that nobody went on with.
pub fn remove_old(rules: &Rules, state: &Path) {
    let Ok(listed) = fs::read_dir(state.join(LIST)) else { return };
    for note in listed.filter_map(|entry| Some(entry.ok()?.path())) {
        let age = |path: &Path| fs::symlink_metadata(path).ok()?.modified().ok()?.elapsed().ok();
        if age(&note).is_none_or(|age| age < KEEP) {
            continue;
        }
        let Ok(bytes) = fs::read(&note) else { continue };
        let partial = PathBuf::from(OsString::from_vec(bytes));
        if age(&partial).is_none_or(|age| age >= KEEP) && remove_abandoned(rules, &partial).is_ok()
        {
            let _ = fs::remove_file(&note);
        }
    }
}

fn remove_abandoned(rules: &Rules, partial: &Path) -> Result<(), Failure> {
    let name = partial.file_name().unwrap_or_default();
    if !name.as_bytes().starts_with(PARTIAL_PREFIX.as_bytes()) {
        return Ok(());
    }
    let spot = match rules.find_spot(&RemotePath::new(partial.as_os_str().as_bytes())) {
        Err(failure) if failure.code == "not_found" => return Ok(()),
        other => other?,
    };
    if spot.look()?.is_some() && copying::is_abandoned(&spot.open_own()?) {
        spot.remove_file()?;
    }
    Ok(())
}
