//! `file_mode`.

use std::io;

use reeve_protocol::ops::{Failure, FileKind, FileMode, FileModeChanged, RemotePath};

use super::entry_at;
use crate::host::paths::{self, LastLink, Place, Step, WalkOptions};
use crate::host::users::{self, Names};
use crate::operations::worker::{Needs, Perform, Worker};

impl Perform for FileMode {
    const NEEDS: Needs = Needs::Files;

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        let change = Change {
            user: self.user.as_deref().map(users::find_uid).transpose().map_err(unknown)?,
            group: self.group.as_deref().map(users::find_gid).transpose().map_err(unknown)?,
            asked: &self,
        };
        let place = worker.rules.find(&self.path, LastLink::Keep)?;
        worker.rules.check_change(&place.real, &self.path)?;
        if place.about.kind == FileKind::Symlink && self.changes_bits() {
            let message = format!(
                "{} is a symbolic link, which has no permission bits; name what it leads to",
                self.path.display()
            );
            return Err(Failure::at("symlink", &self.path, message));
        }
        change.make(&place, &self.path)?;
        let (mut changed, mut failed) = (1, 0);
        if self.recursive && place.about.is_folder() {
            for step in worker.rules.walk(&place, &self.path, WalkOptions::default())? {
                let done = match step {
                    Step::Found(visit) => worker
                        .rules
                        .check_change(&visit.place.real, &visit.path)
                        .and_then(|()| change.make(&visit.place, &visit.path)),
                    Step::Left(_) => continue,
                    Step::Skipped(failure) => Err(failure),
                };
                match done {
                    Ok(()) => changed += 1,
                    Err(failure) => {
                        failed += 1;
                        worker.warn(&failure);
                    }
                }
            }
        }
        let entry = entry_at(&place, &self.path, &mut Names::default())?;
        worker.answer(&FileModeChanged { changed, entry })?;
        if failed == 0 {
            return Ok(());
        }
        let message = format!(
            "{failed} things in {} could not be changed; {changed} were",
            self.path.display()
        );
        Err(Failure::at("incomplete", &self.path, message))
    }
}

fn unknown(error: users::UserError) -> Failure {
    Failure::new("unknown_user", format!("{error}; create it, or give a number"))
}

struct Change<'a> {
    asked: &'a FileMode,
    user: Option<u32>,
    group: Option<u32>,
}

impl Change<'_> {
    fn make(&self, place: &Place, path: &RemotePath) -> Result<(), Failure> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => Failure::at(
                "not_permitted",
                path,
                format!("the agent may not change {}: it belongs to somebody else", path.display()),
            ),
            _ => paths::describe(&error, path),
        };
        // First the owner: changing it takes set-user-id away.
        if self.user.is_some() || self.group.is_some() {
            place.set_owner(self.user, self.group).map_err(failed)?;
        }
        if self.asked.changes_bits() && place.about.kind != FileKind::Symlink {
            let bits = self.asked.new_bits(place.about.mode, place.about.is_folder());
            place.set_mode(bits).map_err(failed)?;
        }
        Ok(())
    }
}
