//! `file_find`.

use std::time::Duration;

use reeve_protocol::ops::{Failure, FileFind, FileKind};

use super::chosen::Chosen;
use super::lines::Lines;
use super::stat::look_at;
use super::walk::{Bounds, LeftOut, Next, walk};
use crate::host;
use crate::host::paths::{self, About};
use crate::host::users::{self, Names};
use crate::operations::worker::{self, Needs, Perform, Worker};

impl Perform for FileFind {
    const NEEDS: Needs = Needs::Files;
    /// Millions of files on a slow disk take their time.
    const LIMIT: Option<Duration> = Some(Duration::from_secs(3600));

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        let chosen = Chosen::new(&self.globs, self.ignore_case)?;
        let exclude = Chosen::new(&self.exclude, self.ignore_case)?;
        let owner = self.owner.as_deref().map(user_id).transpose()?;
        let now_s = host::now_us() / 1_000_000;
        let bounds = Bounds {
            exclude: &exclude,
            max_depth: self.max_depth,
            skip_hidden: self.skip_hidden,
            one_file_system: self.one_file_system,
        };
        let mut names = Names::default();
        let mut lines = Lines::new(&mut worker.stdout);
        let mut left_out = LeftOut::default();
        let mut count = 0;
        let done = walk(&worker.rules, &self.path, &bounds, &mut left_out, |found, left_out| {
            let fits_name = chosen.is_empty() || chosen.has(found.path, &self.path);
            if !fits_name || !fits(&self, &found.place.about, owner, now_s) {
                return Ok(Next::Further);
            }
            let entry = match look_at(found.place, found.path, &mut names) {
                Ok(entry) => entry,
                Err(error) => {
                    left_out.add(&paths::describe(&error, found.path));
                    return Ok(Next::Further);
                }
            };
            if self.limit.is_some_and(|limit| count >= limit) {
                worker::tell(&Failure::new(
                    "limit",
                    format!("there are more than the {count} that were asked for at the most"),
                ));
                return Ok(Next::Stop);
            }
            lines.write(&entry)?;
            count += 1;
            Ok(Next::Further)
        });
        left_out.tell();
        done
    }
}

/// What the file of users, or a number, says.
fn user_id(name: &str) -> Result<u32, Failure> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    users::load_account(name)
        .map(|account| account.uid)
        .map_err(|error| Failure::new("unknown_user", error.to_string()))
}

/// Everything that is asked for but the name.
fn fits(ask: &FileFind, about: &About, owner: Option<u32>, now_s: i64) -> bool {
    // What was modified in the future is as new as can be.
    let age = u64::try_from(now_s.saturating_sub(about.modified_ns / 1_000_000_000)).unwrap_or(0);
    let sized = ask.min_size.is_some() || ask.max_size.is_some();
    (ask.kinds.is_empty() || ask.kinds.contains(&about.kind))
        && (!sized || about.kind == FileKind::File)
        && ask.min_size.is_none_or(|least| about.size >= least)
        && ask.max_size.is_none_or(|most| about.size <= most)
        && ask.newer_than_s.is_none_or(|within| age < within)
        && ask.older_than_s.is_none_or(|beyond| age >= beyond)
        && owner.is_none_or(|uid| about.uid == uid)
}
