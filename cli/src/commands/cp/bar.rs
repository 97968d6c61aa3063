//! What is seen of a copy while it goes on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use reeve_protocol::ops::{Failure, RemotePath};
use reeve_protocol::{JobId, OperationId, UploadId};
use reeve_sdk::transfer::{FanOut, ManyProgress, Progress, TransferError, Transferred};

use super::summary::why;
use crate::terminal::{escape, note};

/// Bars on a terminal, one for each transfer; elsewhere nothing but warnings.
pub struct Bars {
    all: MultiProgress,
    single: Mutex<Vec<Arc<Bar>>>,
    many: Mutex<Vec<Arc<ManyBar>>>,
}

impl Bars {
    pub fn new(shown: bool) -> Self {
        let target =
            if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let all = MultiProgress::with_draw_target(target);
        Self { all, single: Mutex::default(), many: Mutex::default() }
    }

    fn bar(&self, name: &str) -> ProgressBar {
        let bar = self.all.add(ProgressBar::no_length());
        bar.set_style(style(false));
        bar.set_prefix(escape(name));
        bar
    }

    /// Of one thing on its way to or from one machine.
    pub fn add(&self, name: &str) -> Arc<Bar> {
        let (bar, all) = (self.bar(name), self.all.clone());
        let bar = Arc::new(Bar { bar, all, operations: Mutex::default() });
        locked(&self.single).push(bar.clone());
        bar
    }

    /// Of one thing on its way to several machines.
    pub fn add_many(&self, many: &FanOut) -> Arc<ManyBar> {
        let path = many.write.path.clone();
        let name = format!("{} machines:{}", many.machines.len(), path.display());
        let (bar, all) = (self.bar(&name), self.all.clone());
        let bar = Arc::new(ManyBar { bar, all, path, traces: Mutex::default() });
        locked(&self.many).push(bar.clone());
        bar
    }

    /// It is not what goes on any more.
    pub fn forget(&self, bar: &Arc<ManyBar>) {
        locked(&self.many).retain(|each| !Arc::ptr_eq(each, bar));
    }

    pub fn single(&self) -> Vec<Arc<Bar>> {
        locked(&self.single).clone()
    }

    pub fn many(&self) -> Vec<Arc<ManyBar>> {
        locked(&self.many).clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn style(known: bool) -> ProgressStyle {
    template(if known {
        "{prefix} {wide_bar} {percent:>3}% {binary_bytes:>10} {binary_bytes_per_sec:>12} {eta:>4}"
    } else {
        "{prefix} {wide_msg} {binary_bytes:>10} {binary_bytes_per_sec:>12} {elapsed:>4}"
    })
}

/// With a word for what is done now.
fn stage(word: &str) -> ProgressStyle {
    let rest = "{wide_bar} {percent:>3}% {binary_bytes:>10} {binary_bytes_per_sec:>12} {eta:>4}";
    template(&format!("{{prefix}} {word} {rest}"))
}

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸ ")
}

/// One transfer.
pub struct Bar {
    bar: ProgressBar,
    all: MultiProgress,
    /// Operations of it that may still run.
    operations: Mutex<Vec<OperationId>>,
}

impl Bar {
    fn say(&self, text: &str) {
        // Above the bars, not through them.
        self.all.suspend(|| note(text));
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// The newest operation, which is the one that may still run.
    pub fn last_operation(&self) -> Option<OperationId> {
        locked(&self.operations).last().copied()
    }
}

impl Progress for Bar {
    fn total(&self, bytes: u64) {
        self.bar.set_length(bytes);
        self.bar.set_style(style(true));
    }

    fn moved(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn resumed(&self, from: u64) {
        self.bar.set_position(from);
        self.bar.reset_eta();
        self.say(&format!("going on behind {}", indicatif::BinaryBytes(from)));
    }

    fn entry(&self, path: &RemotePath) {
        self.bar.set_message(escape(&path.display()));
    }

    fn operation(&self, id: OperationId) {
        locked(&self.operations).push(id);
    }

    fn interrupted(&self, why: &str) {
        self.say(&format!("interrupted, going on: {why}"));
    }

    fn skipped(&self, failure: &Failure) {
        self.say(&format!("left out: {}", failure.message));
    }
}

/// One thing on its way to several machines: first it is read, then sent, then they get it.
pub struct ManyBar {
    bar: ProgressBar,
    all: MultiProgress,
    path: RemotePath,
    /// What of it may be left at the coordinator.
    traces: Mutex<(Option<UploadId>, Vec<JobId>)>,
}

impl ManyBar {
    /// Above the bars.
    pub fn say(&self, text: &str) {
        self.all.suspend(|| note(text));
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// The upload and the jobs that may still be there.
    pub fn traces(&self) -> (Option<UploadId>, Vec<JobId>) {
        locked(&self.traces).clone()
    }
}

impl Progress for ManyBar {
    fn total(&self, bytes: u64) {
        self.bar.set_length(bytes);
        self.bar.set_style(stage("reading"));
    }

    fn moved(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn entry(&self, path: &RemotePath) {
        self.bar.set_message(escape(&path.display()));
    }

    fn interrupted(&self, why: &str) {
        self.say(&format!("interrupted, going on: {why}"));
    }

    fn skipped(&self, failure: &Failure) {
        self.say(&format!("left out: {}", failure.message));
    }
}

impl ManyProgress for ManyBar {
    fn sending(&self, length: u64, from: u64) {
        self.bar.set_length(length);
        self.bar.set_style(stage("sending"));
        self.bar.set_position(from);
        self.bar.reset_eta();
        if from > 0 {
            self.say(&format!("going on behind {}", indicatif::BinaryBytes(from)));
        }
    }

    fn sent(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    fn handing_out(&self, machines: usize) {
        self.bar.set_length(machines as u64);
        self.bar.set_position(0);
        self.bar.set_style(template("{prefix} {wide_bar} {pos} of {len} machines {elapsed:>4}"));
    }

    fn ended(&self, machine: &str, outcome: &Result<Transferred, TransferError>) {
        self.bar.inc(1);
        if let Err(error) = outcome {
            self.say(&why(machine, &self.path, error));
        }
    }

    fn upload(&self, id: UploadId) {
        locked(&self.traces).0 = Some(id);
    }

    fn job(&self, id: JobId) {
        locked(&self.traces).1.push(id);
    }
}
