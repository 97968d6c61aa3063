//! `file_history`.

use reeve_protocol::ops::{Failure, FileHistory};

use crate::operations::worker::{Needs, Perform, Worker};
use crate::versions;

impl Perform for FileHistory {
    const NEEDS: Needs = Needs::Files;

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        for version in versions::list(worker, &self.path, self.beneath)? {
            worker.answer(&version)?;
        }
        Ok(())
    }
}
