//! `file_list`.

use reeve_protocol::ops::{Failure, FileList, FileListMore};

use super::entry_at;
use crate::host::paths::{LastLink, Step, WalkOptions};
use crate::host::users::Names;
use crate::operations::worker::{Needs, Perform, Worker};

impl Perform for FileList {
    const NEEDS: Needs = Needs::Files;

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let folder = worker.rules.find(&self.path, LastLink::Follow)?;
        let options = WalkOptions {
            depth: self.depth,
            one_file_system: self.one_file_system,
            skip_hidden: self.skip_hidden,
            // One more, to know that there are more.
            most_names: limit.saturating_add(1),
        };
        let mut names = Names::default();
        let mut count = 0;
        for step in worker.rules.walk(&folder, &self.path, options)? {
            match step {
                Step::Found(_) if count == limit => {
                    let more_than = u64::try_from(count).unwrap_or(u64::MAX);
                    return worker.answer(&FileListMore { more_than });
                }
                Step::Found(visit) => match entry_at(&visit.place, &visit.path, &mut names) {
                    Ok(entry) => {
                        count += 1;
                        worker.answer(&entry)?;
                    }
                    Err(failure) => worker.warn(&failure),
                },
                Step::Left(_) => {}
                // The limit is told of by the last line.
                Step::Skipped(failure) if failure.code == "too_many" => {}
                Step::Skipped(failure) => worker.warn(&failure),
            }
        }
        Ok(())
    }
}
