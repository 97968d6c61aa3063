//! `log_read`.

pub mod calendar;
pub mod cursor;
pub mod export;
pub mod family;
pub mod files;
pub mod filter;
pub mod follow;
pub mod followed;
pub mod globs;
pub mod journal;
pub mod kernel;
pub mod levels;
pub mod lines;
pub mod packing;
pub mod record;
pub mod scan;
pub mod seek;
pub mod times;
pub mod units;

use std::time::Duration;

use reeve_protocol::ops::{Failure, LogRead};

use crate::host;
use crate::operations::worker::{Needs, Perform, Worker};
use calendar::Zone;
use filter::Filter;
use scan::Tools;
use times::Times;

impl Perform for LogRead {
    const NEEDS: Needs = Needs::Logs;
    /// A follow goes on until it is cancelled.
    const LIMIT: Option<Duration> = None;

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        let filter = Filter::new(&self)?;
        if self.files.is_empty() {
            let begun = self.after.contains_key(kernel::PLACE);
            let read = if begun { Ok(()) } else { journal::read(&self, worker, &filter) };
            let buffered = self.kernel && self.journal_directory.is_none() && self.boot.is_none();
            return match read {
                Ok(()) if begun => kernel::read(&self, worker, &filter),
                Err(failure) if failure.code == journal::NONE && buffered => {
                    kernel::read(&self, worker, &filter)
                }
                other => other,
            };
        }
        let mut tools = Tools::new(&filter, Times::new(Zone::of_the_machine(), host::now_us()));
        if self.follow {
            return follow::follow(&self, worker, &mut tools);
        }
        files::read(&self, worker, &mut tools)
    }
}
