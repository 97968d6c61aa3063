//! `file_remove`.

use std::collections::HashSet;
use std::time::Duration;

use reeve_protocol::ops::{Failure, FileDeed, FileRemove, FileRemoved};

use super::check_content;
use crate::host::paths::{self, Place, Spot, Step, Visit, WalkOptions};
use crate::operations::worker::{Needs, Perform, Worker};
use crate::versions::Session;

impl Perform for FileRemove {
    const NEEDS: Needs = Needs::Files;
    const LIMIT: Option<Duration> = Some(Duration::from_secs(3600));

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        let spot = worker.rules.find_spot(&self.path)?;
        let place = spot.find()?;
        let session = Session::open(&worker.order)?;
        let mut removal = Removal { asked: &self, session, removed: FileRemoved::default() };
        if place.about.is_folder() {
            if self.if_match.is_some() {
                return Err(is_folder(&self));
            }
            worker.rules.check_tree(&spot.real(), &self.path)?;
            if self.recursive {
                removal.empty(worker, &place)?;
            }
            spot.remove_folder().map_err(|failure| say_how(failure, &self))?;
            removal.removed.folders += 1;
        } else {
            check_content(Some(&place), &self.path, self.if_match.as_deref())?;
            removal.remove_file(&spot, &place)?;
        }
        spot.sync().map_err(|error| paths::describe(&error, &self.path))?;
        for warning in removal.session.take_warnings() {
            worker.warn(&warning);
        }
        removal.removed.versions = removal.session.count();
        worker.answer(&removal.removed)
    }
}

fn is_folder(asked: &FileRemove) -> Failure {
    let message = format!("{} is a directory, and if_match is about a file", asked.path.display());
    Failure::at("is_a_directory", &asked.path, message)
}

fn say_how(failure: Failure, asked: &FileRemove) -> Failure {
    if failure.code != "not_empty" || asked.recursive {
        return failure;
    }
    let message = format!(
        "{} is a directory with something in it; say so if all of it is to go (recursive)",
        asked.path.display()
    );
    Failure::at("not_empty", &asked.path, message)
}

struct Removal<'a> {
    asked: &'a FileRemove,
    session: Session,
    removed: FileRemoved,
}

impl Removal<'_> {
    fn remove_file(&mut self, spot: &Spot, place: &Place) -> Result<(), Failure> {
        if !self.asked.no_version {
            self.session.keep(place, spot.path(), FileDeed::Removed)?;
            self.session.commit()?;
        }
        spot.remove_file()?;
        self.removed.files += 1;
        Ok(())
    }

    /// Removes everything in a folder: looked at first, so that what cannot be removed as a whole is
    /// left as it is, and with versions of all of it on the disk before the first is gone.
    fn empty(&mut self, worker: &mut Worker, folder: &Place) -> Result<(), Failure> {
        // A folder with more names than are held in memory takes several rounds.
        loop {
            let mut seen = HashSet::new();
            let is_cut = self.keep_all(worker, folder, &mut seen)?;
            self.session.commit()?;
            let gone = self.remove_all(worker, folder, &seen)?;
            if !is_cut || !gone {
                return Ok(());
            }
        }
    }

    fn keep_all(
        &mut self,
        worker: &Worker,
        folder: &Place,
        seen: &mut HashSet<(u64, u64)>,
    ) -> Result<bool, Failure> {
        let mut is_cut = false;
        for step in worker.rules.walk(folder, &self.asked.path, WalkOptions::default())? {
            match step {
                Step::Found(visit) if visit.place.about.is_folder() => {}
                Step::Found(visit) => {
                    seen.insert(visit.place.about.identity());
                    self.keep(&visit)?;
                }
                Step::Left(_) => {}
                Step::Skipped(failure) if failure.code == "too_many" => is_cut = true,
                // Nothing has been removed yet, and nothing will be.
                Step::Skipped(failure) => return Err(failure),
            }
        }
        Ok(is_cut)
    }

    fn keep(&mut self, visit: &Visit) -> Result<(), Failure> {
        if !self.asked.no_version {
            self.session.keep(&visit.place, &visit.path, FileDeed::Removed)?;
        }
        Ok(())
    }

    /// Whether anything was removed.
    fn remove_all(
        &mut self,
        worker: &Worker,
        folder: &Place,
        seen: &HashSet<(u64, u64)>,
    ) -> Result<bool, Failure> {
        let before = self.removed.files + self.removed.folders;
        for step in worker.rules.walk(folder, &self.asked.path, WalkOptions::default())? {
            match step {
                Step::Found(visit) if visit.place.about.is_folder() => {}
                Step::Found(visit) => {
                    // It came since.
                    if !seen.contains(&visit.place.about.identity()) {
                        self.keep(&visit)?;
                        self.session.commit()?;
                    }
                    visit.remove()?;
                    self.removed.files += 1;
                }
                Step::Left(visit) => match visit.remove() {
                    Ok(()) => self.removed.folders += 1,
                    // There are more names in it than one round takes.
                    Err(failure) if failure.code == "not_empty" => {}
                    Err(failure) => return Err(failure),
                },
                Step::Skipped(failure) if failure.code == "too_many" => {}
                Step::Skipped(failure) => return Err(failure),
            }
        }
        Ok(self.removed.files + self.removed.folders > before)
    }
}
