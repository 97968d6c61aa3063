//! Which names a request is about: its globs, made ready.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use reeve_protocol::ops::{Failure, RemotePath};

/// Globs, any of which fits.
pub struct Chosen {
    /// Without a '/': for the name alone.
    names: GlobSet,
    /// With one: for the path below where the walk began.
    below: GlobSet,
    /// Beginning with one: for the whole path.
    whole: GlobSet,
}

impl Chosen {
    /// # Errors
    /// `invalid` with the glob that is none.
    pub fn new(globs: &[String], ignore_case: bool) -> Result<Self, Failure> {
        let build = |wanted: &dyn Fn(&str) -> bool| {
            let mut set = GlobSetBuilder::new();
            for glob in globs.iter().filter(|glob| wanted(glob)) {
                let built = GlobBuilder::new(glob)
                    .case_insensitive(ignore_case)
                    .literal_separator(true)
                    .backslash_escape(true)
                    .build();
                set.add(built.map_err(|error| {
                    Failure::new("invalid", format!("'{glob}' is no glob: {}", error.kind()))
                })?);
            }
            set.build().map_err(|error| Failure::new("invalid", format!("globs: {error}")))
        };
        Ok(Self {
            names: build(&|glob| !glob.contains('/'))?,
            below: build(&|glob| glob.contains('/') && !glob.starts_with('/'))?,
            whole: build(&|glob| glob.starts_with('/'))?,
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.below.is_empty() && self.whole.is_empty()
    }

    /// Whether one of them fits a path in a walk that began at `base`.
    pub fn has(&self, path: &RemotePath, base: &RemotePath) -> bool {
        let whole = Path::new(OsStr::from_bytes(path.as_bytes()));
        let fits_name = || whole.file_name().is_some_and(|name| self.names.is_match(name));
        let fits_below = || {
            let base = Path::new(OsStr::from_bytes(base.as_bytes()));
            whole.strip_prefix(base).is_ok_and(|below| self.below.is_match(below))
        };
        (!self.names.is_empty() && fits_name())
            || (!self.below.is_empty() && fits_below())
            || (!self.whole.is_empty() && self.whole.is_match(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_fit_names_paths_below_and_whole_paths() {
        let fits = |glob: &str, path: &[u8]| {
            let chosen = Chosen::new(&[glob.to_owned()], false).expect("a glob");
            chosen.has(&RemotePath::new(path), &RemotePath::from("/srv/www"))
        };
        assert!(fits("*.conf", b"/srv/www/a/b.conf") && !fits("*.conf", b"/srv/www/b.conf/x"));
        assert!(
            fits("a/*.conf", b"/srv/www/a/b.conf") && !fits("a/*.conf", b"/srv/www/c/a/b.conf")
        );
        assert!(fits("**/a/*.conf", b"/srv/www/c/a/b.conf"));
        assert!(fits("/srv/**/*.conf", b"/srv/www/a/b.conf") && !fits("/srv/*", b"/srv/www/a"));
        assert!(fits("*", b"/srv/www/bad\xff\nname") && fits("bad*", b"/srv/www/bad\xff"));
        assert!(fits("{a,b}?", b"/srv/www/b1") && !fits("B?", b"/srv/www/b1"));
        assert!(
            Chosen::new(&["B?".to_owned()], true).is_ok_and(|chosen| {
                chosen.has(&RemotePath::from("/b1"), &RemotePath::from("/"))
            })
        );
        let error = Chosen::new(&["a[".to_owned()], false).err().expect("no glob");
        assert!(error.code == "invalid" && error.message.contains("'a['"), "{error:?}");
    }
}
