//! `file_restore`.

use std::ffi::OsString;
use std::io;

use reeve_protocol::ops::{Failure, FileDeed, FileKind, FileRestore, FileVersion, RemotePath};

use super::{check_content, entry_at, make_all};
use crate::host::paths::{self, DRAFT_PREFIX, Draft, Replace, Spot};
use crate::host::users::Names;
use crate::operations::worker::{Needs, Perform, Worker};
use crate::{host, versions};

/// Permission bits of folders that have to be made anew.
const FOLDER_MODE: u32 = 0o755;

/// Set-user-id and set-group-id.
const SET_IDS: u32 = 0o6000;

impl Perform for FileRestore {
    const NEEDS: Needs = Needs::Files;

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        let version = versions::find(worker, &self.path, self.version)?;
        if self.parents {
            make_all(&worker.rules, &parent_of(&self.path), FOLDER_MODE)?;
        }
        let spot = worker.rules.find_spot(&self.path)?;
        let now = spot.look()?;
        check_content(now.as_ref(), &self.path, self.if_match.as_deref())?;
        if now.as_ref().is_some_and(|now| now.about.is_folder()) {
            let message = format!(
                "{} is a directory now; move it away to restore the file",
                self.path.display()
            );
            return Err(Failure::at("is_a_directory", &self.path, message));
        }
        // The new file is whole before the old one is kept, and that before the name changes hands.
        match version.kind {
            FileKind::Symlink => {
                keep_present(worker, now.as_ref(), &self.path)?;
                restore_link(worker, &spot, &version)?;
            }
            _ => {
                let draft = prepare(worker, &spot, &version)?;
                keep_present(worker, now.as_ref(), &self.path)?;
                draft.publish(&spot, Replace::Allowed)?;
            }
        }
        let mut entry = entry_at(&spot.find()?, &self.path, &mut Names::default())?;
        entry.hash = version.hash;
        worker.answer(&entry)
    }
}

fn keep_present(
    worker: &mut Worker,
    now: Option<&paths::Place>,
    path: &RemotePath,
) -> Result<(), Failure> {
    if let Some(now) = now {
        versions::keep(worker, now, path, FileDeed::Restored)?;
    }
    Ok(())
}

/// The version's content in a file that has no name yet, checked.
fn prepare(worker: &mut Worker, spot: &Spot, version: &FileVersion) -> Result<Draft, Failure> {
    let path = spot.path();
    let failed = |error: io::Error| paths::describe(&error, path);
    let (_, mut content) = versions::open(worker, path, version.id)?;
    let mut draft = spot.draft(worker.order.id)?;
    let room = || {
        let has_room = host::files::free_bytes(spot.folder().open_folder()?)? >= version.size;
        if has_room { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    };
    let copied = versions::content::copy(&mut content, &mut draft.file, version.size, room);
    let (_, hash) = copied.map_err(failed)?;
    if version.hash.as_ref() != Some(&hash) {
        return Err(versions::damaged(path, version.id));
    }
    let mut mode = version.mode;
    if let Err(error) = host::files::set_owner(&draft.file, version.uid, version.gid) {
        // What runs as its owner must not come to run as another one.
        mode &= !SET_IDS;
        let message = format!(
            "{} now belongs to the agent's user: its former owner {}:{} could not be set ({error})",
            path.display(),
            version.uid,
            version.gid
        );
        worker.warn(&Failure::at("owner", path, message));
    }
    host::files::set_mode(&draft.file, mode).map_err(failed)?;
    host::files::set_modified(&draft.file, version.modified_ns).map_err(failed)?;
    Ok(draft)
}

/// A link has no content to write: it is made under another name, which it then gives up.
fn restore_link(worker: &Worker, spot: &Spot, version: &FileVersion) -> Result<(), Failure> {
    let Some(target) = &version.target else {
        return Err(versions::damaged(spot.path(), version.id));
    };
    let name = OsString::from(format!("{DRAFT_PREFIX}{}", worker.order.id));
    let draft = spot.sibling(&name)?;
    draft.make_link(target)?;
    let renamed = draft.rename(spot, Replace::Allowed);
    if renamed.is_err() {
        draft.remove_file()?;
    }
    renamed?;
    spot.sync().map_err(|error| paths::describe(&error, spot.path()))
}

fn parent_of(path: &RemotePath) -> RemotePath {
    let bytes = path.as_bytes();
    let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let bytes = bytes.get(..end).unwrap_or_default();
    match bytes.iter().rposition(|byte| *byte == b'/') {
        Some(slash) if slash > 0 => RemotePath::new(bytes.get(..slash).unwrap_or_default()),
        _ => RemotePath::from("/"),
    }
}
