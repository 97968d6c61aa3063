//! Folders of operations that are over, kept for the next ones. Making and removing half a dozen
//! files for each command costs more than the command: some file systems look through everything
//! that was removed of late before they give out a new file.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::host;
use crate::host::files as at;
use crate::keeper::{files, spool};

/// Folders kept at most: as many as commands usually run at once. Further ones are removed.
const MOST: usize = 64;

/// What stays in a spare folder, and under which name: the names under which files are written
/// before they get their own, so that nothing in a spare folder can be taken for a fact.
const KEPT: [(&str, &str); 3] =
    [(files::SPEC, "spec.new"), (files::KEEPER, "keeper.new"), (files::EXIT, "exit.new")];

/// Spare folders, the one that has been spare longest in front.
#[derive(Debug)]
pub struct Spares {
    base: PathBuf,
    folders: VecDeque<PathBuf>,
    /// Part of the next name.
    count: u64,
}

impl Spares {
    /// None yet; those of an earlier agent are removed.
    #[must_use]
    pub fn new(base: PathBuf) -> Self {
        // Not there is as good as removed; all else shows when the first folder is to be kept.
        let _ = std::fs::remove_dir_all(&base);
        let _ = DirBuilder::new().mode(0o700).create(&base);
        Self { base, folders: VecDeque::new(), count: 0 }
    }

    /// Makes the folder of a new operation, and takes the lock in it. The lock is held from now on,
    /// first by us, then by the keeper, so there is no moment in which it looks dead.
    ///
    /// # Errors
    /// What the file system says.
    pub fn make(&mut self, path: &Path) -> io::Result<File> {
        if let Some(spare) = self.folders.pop_front() {
            match take(&spare) {
                Ok(Some(lock)) => {
                    std::fs::rename(&spare, path)?;
                    return Ok(lock);
                }
                // Its keeper has not quite gone yet: all the others are younger still.
                Ok(None) => self.folders.push_front(spare),
                Err(_) => drop(std::fs::remove_dir_all(&spare)),
            }
        }
        DirBuilder::new().mode(0o700).create(path)?;
        let lock = files::open_lock(host::unix::open_folder(path)?)?;
        files::try_lock(&lock)?;
        Ok(lock)
    }

    /// Keeps the folder of an operation that is over, or removes it.
    ///
    /// # Errors
    /// What the file system says when it removes.
    pub fn keep(&mut self, path: &Path) -> io::Result<()> {
        if self.folders.len() < MOST && empty(path).is_ok() {
            self.count += 1;
            let spare = self.base.join(self.count.to_string());
            if std::fs::rename(path, &spare).is_ok() {
                self.folders.push_back(spare);
                return Ok(());
            }
        }
        std::fs::remove_dir_all(path)
    }
}

/// The lock of a spare folder, unless the keeper it had still holds it.
fn take(spare: &Path) -> io::Result<Option<File>> {
    let lock = files::open_lock(host::unix::open_folder(spare)?)?;
    Ok(files::try_lock(&lock)?.then_some(lock))
}

fn empty(path: &Path) -> io::Result<()> {
    let folder = host::unix::open_folder(path)?;
    let mut has_segment = false;
    for name in at::list(&folder)? {
        if matches!(name.as_str(), "." | ".." | files::LOCK) {
            continue;
        }
        if let Some((_, other)) = KEPT.iter().find(|(kept, _)| *kept == name) {
            // Emptied now: what was asked for may hold secrets, which go with the operation; what is
            // not written yet need not be; and the next operation need not wait.
            at::rename(&folder, &name, other)?;
            at::create(&folder, other)?;
        } else if KEPT.iter().any(|(_, other)| *other == name) {
            // Left by a write that did not come to its end, or not used this time.
            at::create(&folder, &name)?;
        } else if spool::is_segment(&name) && !has_segment {
            has_segment = true;
            at::rename(&folder, &name, spool::SPARE)?;
            at::create(&folder, spool::SPARE)?;
        } else if name != spool::SPARE {
            at::remove(&folder, &name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_folder_holds_nothing_of_its_former_operation() {
        let temporary = tempfile::tempdir().expect("a folder");
        let mut spares = Spares::new(temporary.path().join("spare"));
        let (first, second) = (temporary.path().join("a"), temporary.path().join("b"));
        drop(spares.make(&first).expect("made"));
        for name in ["spec", "exit.new", "keeper", "sock", "spool.00000000000000000000"] {
            std::fs::write(first.join(name), "secret").expect("written");
        }
        spares.keep(&first).expect("kept");
        assert!(!first.exists());
        let _lock = spares.make(&second).expect("made");
        let mut names: Vec<_> = std::fs::read_dir(&second)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        assert_eq!(names, ["exit.new", "keeper.new", "lock", "segment.new", "spec.new"]);
        for name in ["exit.new", "keeper.new", "segment.new", "spec.new"] {
            assert_eq!(std::fs::read(second.join(name)).expect("there").len(), 0, "{name}");
        }
    }

    #[test]
    fn folder_whose_keeper_is_not_quite_gone_waits() {
        let temporary = tempfile::tempdir().expect("a folder");
        let mut spares = Spares::new(temporary.path().join("spare"));
        let (first, second) = (temporary.path().join("a"), temporary.path().join("b"));
        let lock = spares.make(&first).expect("made");
        spares.keep(&first).expect("kept");
        let _other = spares.make(&second).expect("a new one");
        assert_eq!(spares.folders.len(), 1);
        drop(lock);
        let _again = spares.make(&first).expect("made");
        assert_eq!(spares.folders.len(), 0);
    }

    #[test]
    fn spares_of_an_earlier_agent_are_removed() {
        let temporary = tempfile::tempdir().expect("a folder");
        let base = temporary.path().join("spare");
        std::fs::create_dir_all(base.join("7")).expect("made");
        let spares = Spares::new(base.clone());
        assert!(spares.folders.is_empty());
        assert_eq!(std::fs::read_dir(base).expect("a folder").count(), 0);
    }
}
