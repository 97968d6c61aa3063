//! What happened in a run, one JSON object a line, in the order in which it was learned.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

/// A run's history; clones write into the same.
#[derive(Clone)]
pub struct History(Arc<Inner>);

struct Inner {
    start: Instant,
    file: Mutex<File>,
}

impl History {
    /// Begins one.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file = Mutex::new(File::create(path)?);
        Ok(Self(Arc::new(Inner { start: Instant::now(), file })))
    }

    /// Adds what happened; `what` is an object.
    pub fn note(&self, what: Value) {
        let mut line =
            json!({ "t": u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(0) });
        if let (Some(line), Value::Object(what)) = (line.as_object_mut(), what) {
            line.extend(what);
        }
        let mut file = self.0.file.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk must not end the run in another way than it would have ended.
        let _best_effort = writeln!(file, "{line}");
    }
}
