//! `file_move`.

use std::time::Duration;

use reeve_protocol::ops::{Failure, FileDeed, FileMove};

use super::{check_content, entry_at};
use crate::host::paths::{self, Replace};
use crate::host::users::Names;
use crate::operations::worker::{Needs, Perform, Worker};
use crate::versions;

impl Perform for FileMove {
    const NEEDS: Needs = Needs::Files;
    const LIMIT: Option<Duration> = Some(Duration::from_secs(3600));

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        let from = worker.rules.find_spot(&self.from)?;
        let to = worker.rules.find_spot(&self.to)?;
        let place = from.find()?;
        let about_same = |code: &str, message: String| Err(Failure::at(code, &self.to, message));
        if place.about.is_folder() {
            worker.rules.check_tree(&from.real(), &self.from)?;
            worker.rules.check_tree(&to.real(), &self.to)?;
            if to.real().starts_with(from.real()) {
                return about_same(
                    "invalid",
                    format!("{} cannot be moved into itself", self.from.display()),
                );
            }
        }
        check_content(Some(&place), &self.from, self.if_match.as_deref())?;
        let target = to.look()?;
        if let Some(target) = &target {
            let shown = self.to.display();
            if !self.replace {
                return about_same("exists", format!("{shown} is there already"));
            }
            if target.about.identity() == place.about.identity() {
                return about_same(
                    "same_file",
                    format!("{} and {shown} are the same file", self.from.display()),
                );
            }
            match (place.about.is_folder(), target.about.is_folder()) {
                (true, false) => {
                    return about_same("not_a_directory", format!("{shown} is no directory"));
                }
                (false, true) => {
                    return about_same(
                        "is_a_directory",
                        format!("{shown} is a directory; name a path in it"),
                    );
                }
                _ => {}
            }
            // Before anything is kept for a move that cannot be.
            if target.about.device != place.about.device {
                let error = std::io::ErrorKind::CrossesDevices.into();
                return Err(paths::describe(&error, &self.to));
            }
            if !self.no_version {
                versions::keep(worker, target, &self.to, FileDeed::MovedOver)?;
            }
        }
        let replace = if self.replace { Replace::Allowed } else { Replace::Never };
        from.rename(&to, replace)?;
        let failed = |error| paths::describe(&error, &self.to);
        to.sync().and_then(|()| from.sync()).map_err(failed)?;
        let entry = entry_at(&to.find()?, &self.to, &mut Names::default())?;
        worker.answer(&entry)
    }
}
