//! Commands that stop half-way until a story lets them go on, so that "in the middle of the
//! command" is a fact and not a matter of timing.

use std::fs;
use std::path::{Path, PathBuf};

/// A file that a command waits for.
pub struct Gate(PathBuf);

impl Gate {
    /// A closed gate in `folder`.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self(folder.join(format!("gate-{:08x}", rand::random::<u32>())))
    }

    /// Lets commands pass.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub fn open(&self) {
        fs::write(&self.0, "open").expect("open the gate");
    }

    /// A shell line that waits here.
    #[must_use]
    pub fn wait(&self) -> String {
        format!("until [ -e '{}' ]; do sleep 0.02; done", self.0.display())
    }

    /// A shell line that counts to 1000 on stdout, waits, counts on to 2000, and exits with `code`.
    #[must_use]
    pub fn count(&self, code: i32) -> String {
        format!("seq 1 1000; {}; seq 1001 2000; exit {code}", self.wait())
    }

    /// What [`Gate::count`] writes.
    #[must_use]
    pub fn counted() -> String {
        (1..=2000).map(|number| format!("{number}\n")).collect()
    }
}
