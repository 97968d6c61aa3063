//! `file_mkdir`.

use reeve_protocol::ops::{Failure, FileMkdir, RemotePath};

use super::entry_at;
use crate::host::paths::{LastLink, Place, Rules};
use crate::host::users::Names;
use crate::operations::worker::{Needs, Perform, Worker};

/// Permission bits of folders unless asked otherwise.
const USUAL_MODE: u32 = 0o755;

impl Perform for FileMkdir {
    const NEEDS: Needs = Needs::Files;

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        let mode = self.mode.unwrap_or(USUAL_MODE);
        let made = if self.parents {
            make_all(&worker.rules, &self.path, mode)?
        } else {
            worker.rules.find_spot(&self.path)?.make_folder(mode)?
        };
        let entry = entry_at(&made, &self.path, &mut Names::default())?;
        worker.answer(&entry)
    }
}

/// The folder at a path, with those above it, each made if it is not there.
///
/// # Errors
/// `not_a_directory` when something else is in the way, `policy_path`, or what mkdir(2) says.
pub fn make_all(rules: &Rules, path: &RemotePath, mode: u32) -> Result<Place, Failure> {
    let mut missing = Vec::new();
    let mut here = trimmed(path.as_bytes());
    // Upwards to what is there, then down again.
    let mut place = loop {
        let path = RemotePath::new(here);
        match rules.find(&path, LastLink::Follow) {
            Ok(place) if place.about.is_folder() => break place,
            Ok(_) => {
                let message = format!("{} is there and is no directory", path.display());
                return Err(Failure::at("not_a_directory", &path, message));
            }
            Err(failure) if failure.code == "not_found" && here != b"/" => {
                missing.push(path);
                let slash = here.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                here = trimmed(here.get(..slash).unwrap_or_default());
            }
            Err(failure) => return Err(failure),
        }
    };
    while let Some(path) = missing.pop() {
        let mode = if missing.is_empty() { mode } else { USUAL_MODE };
        let spot = rules.find_spot(&path)?;
        place = match spot.make_folder(mode) {
            // Somebody else was as quick.
            Err(failure) if failure.code == "exists" => rules
                .find(&path, LastLink::Follow)
                .ok()
                .filter(|place| place.about.is_folder())
                .ok_or(failure)?,
            made => made?,
        };
    }
    Ok(place)
}

fn trimmed(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    match path.get(..end) {
        Some(b"") | None => b"/",
        Some(path) => path,
    }
}
