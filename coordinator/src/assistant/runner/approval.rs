//! What needs a yes.

use reeve_protocol::JobId;
use reeve_sdk::api::Reason;

use super::super::record::{Part, Try, reason};
use super::{Runner, Stop};

impl Runner {
    /// Nobody can be asked for a yes: what needs one is not run.
    pub(super) async fn get_approved(
        &self,
        _step: u32,
        _each: &Try,
        _part: &Part,
        _at: usize,
    ) -> Result<Result<JobId, Reason>, Stop> {
        self.check()?;
        Ok(Err(reason("needs_yes", "it needs a yes, and a task cannot ask for one here")))
    }
}
