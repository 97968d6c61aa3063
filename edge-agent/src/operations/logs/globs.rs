//! Which files a pattern means. Every folder on the way and every file found is opened under the
//! machine owner's rules; a name is never trusted.

use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

use globset::{Glob, GlobBuilder, GlobMatcher};
use reeve_protocol::ops::{Failure, RemotePath};

use crate::host::paths::{LastLink, Place, Rules};

/// Files of one pattern. More would take more open files than a process may have.
pub const MAX_FILES: usize = 512;
/// Folders below each other that `**` goes into.
const MAX_DEPTH: usize = 16;
/// Names looked at for one pattern.
const MAX_NAMES: usize = 1_000_000;

/// A file that was found.
#[derive(Debug)]
pub struct Match {
    pub path: RemotePath,
    pub place: Place,
}

/// What a pattern came to.
#[derive(Debug, Default)]
pub struct Matches {
    pub files: Vec<Match>,
    /// What was left out, and why.
    pub skipped: Vec<Failure>,
}

/// Whether a path stands for others.
#[must_use]
pub fn is_pattern(path: &RemotePath) -> bool {
    path.as_bytes().iter().any(|byte| b"*?[".contains(byte))
}

/// Finds the files that a path or pattern means, by name.
///
/// # Errors
/// Why the file of a plain path cannot be read, or what is wrong with the pattern. That a pattern
/// matches nothing is none.
pub fn expand(rules: &Rules, pattern: &RemotePath) -> Result<Matches, Failure> {
    let mut found = Matches::default();
    if !is_pattern(pattern) {
        let place = open_file(rules, pattern)?;
        found.files.push(Match { path: pattern.clone(), place });
        return Ok(found);
    }
    let parts: Vec<&[u8]> =
        pattern.as_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
    let mut steps = Vec::new();
    for part in parts {
        steps.push(Step::new(part).map_err(|why| Failure::at("invalid", pattern, why))?);
    }
    let mut walk = Walk { rules, found, names: 0 };
    walk.below(&RemotePath::from("/"), &steps, 0);
    let mut found = walk.found;
    found.files.sort_by(|a, b| a.path.cmp(&b.path));
    found.files.dedup_by(|a, b| a.path == b.path);
    if found.files.len() > MAX_FILES {
        found.files.truncate(MAX_FILES);
        found.skipped.push(Failure::at(
            "too_many",
            pattern,
            format!("{} means more than {MAX_FILES} files; only those are read", pattern.display()),
        ));
    }
    Ok(found)
}

/// Opens what has to be a regular file: a pipe would hold us up, a device has no end.
///
/// # Errors
/// What is there instead, or why it may not be opened.
pub fn open_file(rules: &Rules, path: &RemotePath) -> Result<Place, Failure> {
    let place = rules.find(path, LastLink::Follow)?;
    let about = place.metadata().map_err(|error| crate::host::paths::describe(&error, path))?;
    let shown = path.display();
    if about.is_dir() {
        let message = format!("{shown} is a directory; name its files, such as {shown}/*.log");
        return Err(Failure::at("is_a_directory", path, message));
    }
    if !about.is_file() {
        let message = format!("{shown} is no regular file, and only those are read as logs");
        return Err(Failure::at("not_a_file", path, message));
    }
    Ok(place)
}

/// Names in a folder.
///
/// # Errors
/// Why it cannot be listed.
pub fn list(rules: &Rules, folder: &RemotePath) -> Result<Vec<Vec<u8>>, Failure> {
    let place = rules.find(folder, LastLink::Follow)?;
    let opened = std::fs::read_dir(format!("/proc/self/fd/{}", place.fd.as_raw_fd()));
    let entries = opened.map_err(|error| crate::host::paths::describe(&error, folder))?;
    Ok(entries.flatten().map(|entry| entry.file_name().as_bytes().to_vec()).collect())
}

/// One part of a pattern between slashes.
enum Step {
    Name(Vec<u8>),
    Like { matcher: GlobMatcher, hidden: bool },
    AnyDepth,
}

impl Step {
    fn new(part: &[u8]) -> Result<Self, String> {
        if part == b"**" {
            return Ok(Self::AnyDepth);
        }
        if !part.iter().any(|byte| b"*?[".contains(byte)) {
            return Ok(Self::Name(part.to_vec()));
        }
        let text = std::str::from_utf8(part)
            .map_err(|_| "a pattern with *, ? or [ has to be UTF-8".to_owned())?;
        let glob: Glob = GlobBuilder::new(text)
            .literal_separator(true)
            .build()
            .map_err(|error| format!("the pattern: {error}"))?;
        Ok(Self::Like { matcher: glob.compile_matcher(), hidden: part.first() == Some(&b'.') })
    }

    /// As shells do: a name with a dot before it is meant only when the pattern has one too.
    fn fits(&self, name: &[u8]) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Like { matcher, hidden } => {
                (*hidden || name.first() != Some(&b'.'))
                    && matcher.is_match(std::ffi::OsStr::from_bytes(name))
            }
            Self::AnyDepth => name.first() != Some(&b'.'),
        }
    }
}

struct Walk<'a> {
    rules: &'a Rules,
    found: Matches,
    names: usize,
}

impl Walk<'_> {
    fn below(&mut self, folder: &RemotePath, steps: &[Step], depth: usize) {
        let Some((step, rest)) = steps.split_first() else { return };
        if let Step::Name(name) = step {
            return self.enter(&folder.join(name), rest, depth);
        }
        if matches!(step, Step::AnyDepth) {
            self.below(folder, rest, depth);
        }
        // A folder that is not there, or may not be listed, has nothing to offer; what is blocked
        // is said.
        let names = match list(self.rules, folder) {
            Ok(names) => names,
            Err(failure) if failure.code == "not_found" || failure.code == "not_a_directory" => {
                return;
            }
            Err(failure) => return self.skip(failure),
        };
        for name in names {
            self.names += 1;
            if self.names > MAX_NAMES || self.found.files.len() > MAX_FILES {
                return;
            }
            if !step.fits(&name) {
                continue;
            }
            let path = folder.join(&name);
            if matches!(step, Step::AnyDepth) {
                if depth < MAX_DEPTH && self.is_own_folder(&path) {
                    self.below(&path, steps, depth + 1);
                }
            } else {
                self.enter(&path, rest, depth);
            }
        }
    }

    fn enter(&mut self, path: &RemotePath, rest: &[Step], depth: usize) {
        if !rest.is_empty() {
            return self.below(path, rest, depth);
        }
        match open_file(self.rules, path) {
            Ok(place) => self.found.files.push(Match { path: path.clone(), place }),
            // A pattern means files; what else has such a name is not meant.
            Err(failure)
                if ["not_found", "is_a_directory", "not_a_file", "not_a_directory"]
                    .contains(&failure.code.as_str()) => {}
            Err(failure) => self.skip(failure),
        }
    }

    /// Links are not followed by `**`, or a loop would never end.
    fn is_own_folder(&self, path: &RemotePath) -> bool {
        let place = self.rules.find(path, LastLink::Keep);
        place.is_ok_and(|place| place.metadata().is_ok_and(|about| about.is_dir()))
    }

    fn skip(&mut self, failure: Failure) {
        /// Said of one pattern; the rest is more of the same.
        const MAX_SKIPPED: usize = 20;
        if self.found.skipped.len() < MAX_SKIPPED {
            self.found.skipped.push(failure);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn names(folder: &Path, pattern: &str, blocked: &[String]) -> (Vec<String>, Vec<String>) {
        let rules = Rules::new(&["/".to_owned()], blocked, Path::new("/no/state")).expect("rules");
        let pattern = format!("{}/{pattern}", folder.display());
        let found = expand(&rules, &RemotePath::from(pattern)).expect("a pattern");
        let prefix = format!("{}/", folder.display());
        let short = |path: &RemotePath| path.display().replace(&prefix, "");
        (
            found.files.iter().map(|file| short(&file.path)).collect(),
            found.skipped.iter().map(|failure| failure.code.clone()).collect(),
        )
    }

    #[test]
    fn patterns_mean_what_they_mean_in_a_shell() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        for path in ["a/x.log", "a/y.log", "a/.hidden.log", "b/x.log", "b/deep/er/x.log", "c.txt"] {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, "x").expect("a file");
        }
        std::os::unix::fs::symlink(root, root.join("b/loop")).expect("a link");
        assert_eq!(names(root, "a/*.log", &[]).0, ["a/x.log", "a/y.log"]);
        assert_eq!(names(root, "a/.*.log", &[]).0, ["a/.hidden.log"]);
        assert_eq!(names(root, "?/[x]*.log", &[]).0, ["a/x.log", "b/x.log"]);
        assert_eq!(names(root, "**/x.log", &[]).0, ["a/x.log", "b/deep/er/x.log", "b/x.log"]);
        assert!(names(root, "*", &[]).0 == ["c.txt"] && names(root, "no/*", &[]).0.is_empty());
        let blocked = root.join("a/x.log").display().to_string();
        let (files, skipped) = names(root, "a/*.log", &[blocked]);
        assert_eq!((files, skipped), (vec!["a/y.log".to_owned()], vec!["policy_path".to_owned()]));
    }
}
