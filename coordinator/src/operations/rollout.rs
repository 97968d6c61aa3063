//! In which order a job's operations may start, and when no more may. Pure: it knows ids and
//! outcomes, nothing of machines.

use std::collections::VecDeque;

use reeve_protocol::OperationId;
use reeve_sdk::api::Rollout;

/// A rollout's request is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum InvalidRollout {
    #[error("'{0}' is no batch; give a number of machines (2) or a share of them (10%)")]
    Batch(String),
    #[error("{0} must be at least 1")]
    Zero(&'static str),
}

/// Where a job stands in its rollout.
#[derive(Debug)]
pub struct Progress {
    pending: VecDeque<OperationId>,
    batch: usize,
    forks: usize,
    max_failures: Option<u32>,
    fail_fast: bool,
    /// Of the current step: not released yet.
    step_pending: usize,
    /// Released and not ended.
    open: usize,
    failures: u32,
    stopped: bool,
}

/// What an ended operation means for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    GoOn,
    /// Start no more.
    StartNoMore,
    /// Start no more and cancel those that run.
    CancelAll,
}

impl Progress {
    /// The start of a rollout over these operations, in this order.
    ///
    /// # Errors
    /// When the request makes no sense.
    pub fn new(rollout: &Rollout, pending: Vec<OperationId>) -> Result<Self, InvalidRollout> {
        let total = pending.len();
        let batch = rollout.batch.as_deref().map_or(Ok(total), |text| parse_batch(text, total))?;
        if rollout.forks == Some(0) {
            return Err(InvalidRollout::Zero("forks"));
        }
        if rollout.max_failures == Some(0) {
            return Err(InvalidRollout::Zero("max_failures"));
        }
        Ok(Self {
            pending: pending.into(),
            batch: batch.max(1),
            forks: rollout.forks.map_or(usize::MAX, |forks| forks as usize),
            max_failures: rollout.max_failures,
            fail_fast: rollout.fail_fast,
            step_pending: 0,
            open: 0,
            failures: 0,
            stopped: false,
        })
    }

    /// A rollout that a former run of the coordinator began: these are under way, that many have
    /// not succeeded. What that means may not have been recorded then.
    pub fn resume(
        &mut self,
        rollout: &Rollout,
        total: usize,
        open: usize,
        failures: u32,
    ) -> Verdict {
        // A share is one of all machines, not of those that are left.
        if let Some(Ok(batch)) = rollout.batch.as_deref().map(|text| parse_batch(text, total)) {
            self.batch = batch;
        }
        self.open = open;
        self.failures = failures;
        self.judge()
    }

    /// Operations that may start now.
    pub fn release(&mut self) -> Vec<OperationId> {
        let mut released = Vec::new();
        if self.stopped {
            return released;
        }
        if self.step_pending == 0 && self.open == 0 {
            self.step_pending = self.batch.min(self.pending.len());
        }
        while self.step_pending > 0 && self.open < self.forks {
            let Some(next) = self.pending.pop_front() else { break };
            self.step_pending -= 1;
            self.open += 1;
            released.push(next);
        }
        released
    }

    /// One that was released has ended.
    pub fn ended(&mut self, succeeded: bool) -> Verdict {
        self.open = self.open.saturating_sub(1);
        if !succeeded {
            self.failures += 1;
        }
        self.judge()
    }

    fn judge(&mut self) -> Verdict {
        if self.stopped || self.failures == 0 {
            return Verdict::GoOn;
        }
        if self.fail_fast {
            self.stopped = true;
            return Verdict::CancelAll;
        }
        if self.max_failures.is_some_and(|max| self.failures >= max) {
            self.stopped = true;
            return Verdict::StartNoMore;
        }
        Verdict::GoOn
    }

    /// Starts no more; those that have not started.
    pub fn stop(&mut self) -> Vec<OperationId> {
        self.stopped = true;
        self.step_pending = 0;
        std::mem::take(&mut self.pending).into()
    }

    /// Takes one that has not been released out. Whether it was there.
    pub fn withdraw(&mut self, operation: OperationId) -> bool {
        let before = self.pending.len();
        self.pending.retain(|each| *each != operation);
        let withdrawn = self.pending.len() < before;
        if withdrawn {
            self.step_pending = self.step_pending.min(self.pending.len());
        }
        withdrawn
    }
}

fn parse_batch(text: &str, total: usize) -> Result<usize, InvalidRollout> {
    let bad = || InvalidRollout::Batch(text.to_owned());
    let batch = match text.strip_suffix('%') {
        Some(share) => {
            let share: usize = share.trim().parse().map_err(|_| bad())?;
            if share > 100 {
                return Err(bad());
            }
            // At least one machine: 10% of 5 is a step of one, not of none.
            if share == 0 { 0 } else { (total * share / 100).max(1) }
        }
        None => text.trim().parse().map_err(|_| bad())?,
    };
    if batch == 0 { Err(InvalidRollout::Zero("batch")) } else { Ok(batch) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: usize) -> Vec<OperationId> {
        (0..count).map(|_| OperationId::new()).collect()
    }

    fn progress(rollout: &Rollout, count: usize) -> Progress {
        Progress::new(rollout, ids(count)).expect("a rollout")
    }

    #[test]
    fn without_a_rollout_everything_starts_at_once() {
        assert_eq!(progress(&Rollout::default(), 5).release().len(), 5);
    }

    #[test]
    fn next_step_waits_for_every_one_of_the_last() {
        let mut progress =
            progress(&Rollout { batch: Some("2".to_owned()), ..Rollout::default() }, 5);
        for expected in [2, 2, 1] {
            assert_eq!(progress.release().len(), expected);
            assert!(progress.release().is_empty());
            for left in (0..expected).rev() {
                assert_eq!(progress.ended(true), Verdict::GoOn);
                if left > 0 {
                    assert!(progress.release().is_empty());
                }
            }
        }
        assert!(progress.release().is_empty());
    }

    #[test]
    fn forks_bound_what_runs_within_a_step() {
        let mut progress = progress(&Rollout { forks: Some(3), ..Rollout::default() }, 5);
        assert_eq!(progress.release().len(), 3);
        progress.ended(true);
        assert_eq!(progress.release().len(), 1);
    }

    #[test]
    fn too_many_failures_start_no_more() {
        let rollout =
            Rollout { batch: Some("1".to_owned()), max_failures: Some(2), ..Rollout::default() };
        let mut progress = progress(&rollout, 5);
        progress.release();
        assert_eq!(progress.ended(false), Verdict::GoOn);
        progress.release();
        assert_eq!(progress.ended(false), Verdict::StartNoMore);
        assert!(progress.release().is_empty());
        assert_eq!(progress.stop().len(), 3);
    }

    #[test]
    fn fail_fast_cancels_the_rest_once() {
        let mut progress = progress(&Rollout { fail_fast: true, ..Rollout::default() }, 3);
        progress.release();
        assert_eq!(progress.ended(true), Verdict::GoOn);
        assert_eq!(progress.ended(false), Verdict::CancelAll);
        assert_eq!(progress.ended(false), Verdict::GoOn);
    }

    #[test]
    fn share_is_one_of_all_machines_also_after_a_restart() {
        let rollout = Rollout { batch: Some("50%".to_owned()), ..Rollout::default() };
        let mut left = progress(&rollout, 6);
        assert_eq!(left.resume(&rollout, 10, 0, 0), Verdict::GoOn);
        assert_eq!(left.release().len(), 5);
    }

    #[test]
    fn verdict_of_a_former_run_is_given_again() {
        let rollout = Rollout { max_failures: Some(2), ..Rollout::default() };
        let mut left = progress(&rollout, 6);
        assert_eq!(left.resume(&rollout, 10, 1, 2), Verdict::StartNoMore);
        assert!(left.release().is_empty());
    }

    #[test]
    fn batches_are_numbers_or_shares() {
        for (text, expected) in
            [("2", Ok(2)), ("10%", Ok(1)), ("50%", Ok(5)), ("100%", Ok(10)), ("1%", Ok(1))]
        {
            assert_eq!(parse_batch(text, 10), expected, "{text}");
        }
        for text in ["", "0", "0%", "101%", "-1", "x", "1.5"] {
            assert!(parse_batch(text, 10).is_err(), "{text}");
        }
    }
}
