//! What is seen of a copy while it goes on.

use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use reeve_protocol::OperationId;
use reeve_protocol::ops::{Failure, RemotePath};
use reeve_sdk::transfer::Progress;

use crate::terminal::{escape, note};

/// Bars on a terminal, one for each transfer; elsewhere nothing but warnings.
pub struct Bars {
    all: MultiProgress,
}

impl Bars {
    pub fn new(shown: bool) -> Self {
        let target =
            if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { all: MultiProgress::with_draw_target(target) }
    }

    pub fn add(&self, name: &str) -> Bar {
        let bar = self.all.add(ProgressBar::no_length());
        bar.set_style(style(false));
        bar.set_prefix(escape(name));
        Bar { bar, all: self.all.clone(), operations: Mutex::default() }
    }
}

fn style(known: bool) -> ProgressStyle {
    let template = if known {
        "{prefix} {wide_bar} {percent:>3}% {binary_bytes:>10} {binary_bytes_per_sec:>12} {eta:>4}"
    } else {
        "{prefix} {wide_msg} {binary_bytes:>10} {binary_bytes_per_sec:>12} {elapsed:>4}"
    };
    ProgressStyle::with_template(template)
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
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).last().copied()
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
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }

    fn interrupted(&self, why: &str) {
        self.say(&format!("interrupted, going on: {why}"));
    }

    fn skipped(&self, failure: &Failure) {
        self.say(&format!("left out: {}", failure.message));
    }
}
