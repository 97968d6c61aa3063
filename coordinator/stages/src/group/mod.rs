//! Machines whose results are alike. Output is normalised while it arrives (times, pids, names of
//! the machine and the like become the same) and hashed, so that ten thousand outputs cost a hash
//! each, and a model judges each class once.

mod normalise;

use std::collections::HashMap;

use reeve_protocol::{OperationId, Stream};
use reeve_sdk::api::OperationState;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::compact::Excerpt;
use crate::sample::Sample;

pub use normalise::{Normaliser, Volatile};

/// Names of machines that a sample keeps of its class: records stay small.
const MAX_NAMES: usize = 50;

/// Bytes of each stream that are compared; of longer ones the length counts as well.
pub const MAX_COMPARED: u64 = 4 * 1024 * 1024;

/// A class is dominating when it has at least this share of all, percent.
const DOMINATING: usize = 50;

/// Small beside a dominating one: at most this share of it, percent.
const SMALL: usize = 10;

/// Machines with like results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// Names of machines, in the order they came.
    pub machines: Vec<String>,
    /// Their operations, in the same order. The first stands for all.
    pub operations: Vec<OperationId>,
    /// How they ended.
    pub state: OperationState,
    /// Their exit code.
    pub exit_code: Option<i32>,
    /// A small class beside a dominating one.
    pub outlier: bool,
    /// Output was longer than is compared: alike at the beginning, and equally long.
    pub truncated: bool,
}

impl Class {
    /// The operation that stands for the class.
    #[must_use]
    pub fn representative(&self) -> Option<(OperationId, &str)> {
        Some((*self.operations.first()?, self.machines.first()?))
    }

    /// What a model is to see of it, with the output of its representative made small.
    #[must_use]
    pub fn sample(
        &self,
        reason: Option<String>,
        stdout: Excerpt,
        stderr: Excerpt,
    ) -> Option<Sample> {
        let (operation, machine) = self.representative()?;
        Some(Sample {
            operation,
            machine: machine.to_owned(),
            machines: self.machines.iter().take(MAX_NAMES).cloned().collect(),
            count: self.machines.len() as u64,
            outlier: self.outlier,
            state: self.state,
            exit_code: self.exit_code,
            reason,
            stdout,
            stderr,
        })
    }
}

/// Puts results into classes, one after the other.
#[derive(Debug, Default)]
pub struct Grouper {
    normaliser: Normaliser,
    classes: Vec<Class>,
    index: HashMap<Key, usize>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    state: OperationState,
    exit_code: Option<i32>,
    hash: [u8; 32],
}

impl Grouper {
    /// With a choice of what may differ among like results.
    #[must_use]
    pub fn new(normaliser: Normaliser) -> Self {
        Self { normaliser, ..Self::default() }
    }

    /// The output of a machine, to be fed. `names`: what its host is called, in any order.
    #[must_use]
    pub fn output(&self, names: &[&str]) -> Output {
        Output {
            stdout: Side::default(),
            stderr: Side::default(),
            normaliser: self.normaliser.for_host(names),
        }
    }

    /// A result is there.
    pub fn add(
        &mut self,
        machine: &str,
        operation: OperationId,
        state: OperationState,
        exit_code: Option<i32>,
        output: Output,
    ) {
        let truncated = output.is_truncated();
        let key = Key { state, exit_code, hash: output.finish() };
        let at = *self.index.entry(key).or_insert_with(|| {
            self.classes.push(Class {
                machines: Vec::new(),
                operations: Vec::new(),
                state,
                exit_code,
                outlier: false,
                truncated,
            });
            self.classes.len() - 1
        });
        self.classes[at].machines.push(machine.to_owned());
        self.classes[at].operations.push(operation);
    }

    /// The classes, largest first; equal ones in the order they came.
    #[must_use]
    pub fn finish(self) -> Vec<Class> {
        let mut classes = self.classes;
        classes.sort_by_key(|class| std::cmp::Reverse(class.machines.len()));
        let all: usize = classes.iter().map(|class| class.machines.len()).sum();
        let largest = classes.first().map_or(0, |class| class.machines.len());
        if largest * 100 > all * DOMINATING {
            for class in classes.iter_mut().skip(1) {
                // Of a few machines, one that differs is small.
                class.outlier = class.machines.len() * 100 <= (largest * SMALL).max(100);
            }
        }
        classes
    }
}

/// One machine's output on its way into a class.
#[derive(Debug)]
pub struct Output {
    stdout: Side,
    stderr: Side,
    normaliser: normalise::ForHost,
}

impl Output {
    /// The next bytes of a stream. What comes after [`MAX_COMPARED`] is counted only.
    pub fn push(&mut self, stream: Stream, bytes: &[u8]) {
        let side = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        side.push(bytes, &self.normaliser);
    }

    /// Bytes of a stream that are not given: a gap, or a rest that is not worth reading.
    pub fn skip(&mut self, stream: Stream, bytes: u64) {
        match stream {
            Stream::Stdout => self.stdout.skipped += bytes,
            Stream::Stderr => self.stderr.skipped += bytes,
        }
    }

    fn is_truncated(&self) -> bool {
        self.stdout.skipped + self.stderr.skipped > 0
    }

    fn finish(self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for side in [self.stdout, self.stderr] {
            let skipped = side.skipped;
            hash.update(side.finish(&self.normaliser));
            hash.update(skipped.to_be_bytes());
        }
        hash.finalize().into()
    }
}

/// A line longer than this is normalised in pieces, bytes.
const MAX_LINE: usize = 64 * 1024;

#[derive(Debug, Default)]
struct Side {
    hash: Sha256,
    /// The line that is not over yet.
    line: Vec<u8>,
    compared: u64,
    skipped: u64,
    scratch: Vec<u8>,
}

impl Side {
    fn push(&mut self, bytes: &[u8], normaliser: &normalise::ForHost) {
        let room = MAX_COMPARED.saturating_sub(self.compared);
        let taken = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        self.compared += taken as u64;
        self.skipped += (bytes.len() - taken) as u64;
        for piece in bytes[..taken].split_inclusive(|byte| *byte == b'\n') {
            let mut piece = piece;
            while self.line.len() + piece.len() > MAX_LINE {
                let (now, later) = piece.split_at(MAX_LINE - self.line.len());
                self.line.extend_from_slice(now);
                self.end_line(normaliser);
                piece = later;
            }
            if piece.ends_with(b"\n") && self.line.is_empty() {
                self.scratch.clear();
                normaliser.normalise(piece, &mut self.scratch);
                self.hash.update(&self.scratch);
                continue;
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.end_line(normaliser);
            }
        }
    }

    fn end_line(&mut self, normaliser: &normalise::ForHost) {
        self.scratch.clear();
        normaliser.normalise(&self.line, &mut self.scratch);
        self.hash.update(&self.scratch);
        self.line.clear();
    }

    fn finish(mut self, normaliser: &normalise::ForHost) -> [u8; 32] {
        if !self.line.is_empty() {
            self.end_line(normaliser);
        }
        self.hash.finalize().into()
    }
}
