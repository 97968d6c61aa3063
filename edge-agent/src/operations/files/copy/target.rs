//! The place a file is for: found under the machine owner's rules, and looked at again before
//! anything takes it.

use std::os::unix::ffi::OsStrExt;

use reeve_protocol::ops::{Existing, Failure, FileKind, FileWrite, LinkRule, RemotePath};

use super::not_a_file;
use super::read::kind_word;
use crate::host::paths::{About, LastLink, Rules, Spot};
use crate::operations::files::make_all;

/// Permission bits of folders that are made on the way.
pub const FOLDER_MODE: u32 = 0o755;

/// A name in an open folder, and what had it at first.
#[derive(Debug)]
pub struct Target {
    /// Where.
    pub spot: Spot,
    /// As asked for.
    pub path: RemotePath,
    /// What was there.
    pub before: Option<About>,
}

impl Target {
    /// Where a single file goes.
    pub fn find(rules: &Rules, write: &FileWrite) -> Result<Self, Failure> {
        let path = &write.path;
        let has_slash = path.as_bytes().last() == Some(&b'/');
        let nameless = || {
            let text = format!("{} is a directory, not a file", path.display());
            Failure::at("is_a_directory", path, text)
        };
        let name = || write.name.as_ref().ok_or_else(nameless);
        match rules.find(path, LastLink::Follow) {
            Ok(place) if place.about.is_folder() => {
                Self::at(rules, path.join(name()?.as_bytes()), write)
            }
            Ok(_) if has_slash => Err(Failure::at(
                "not_a_directory",
                path,
                format!("{} is no directory, though it ends with '/'", path.display()),
            )),
            Err(failure) if failure.code == "not_found" => {
                if has_slash && write.parents {
                    let name = name()?;
                    make_all(rules, path, FOLDER_MODE)?;
                    return Self::at(rules, path.join(name.as_bytes()), write);
                }
                if has_slash {
                    return Err(failure);
                }
                Self::at(rules, path.clone(), write)
            }
            Err(failure) => Err(failure),
            Ok(_) => Self::at(rules, path.clone(), write),
        }
    }

    fn at(rules: &Rules, path: RemotePath, write: &FileWrite) -> Result<Self, Failure> {
        let spot = match rules.find_spot(&path) {
            Err(failure) if failure.code == "not_found" && write.parents => {
                make_all(rules, &above(&path), FOLDER_MODE)?;
                rules.find_spot(&path)?
            }
            other => other?,
        };
        let place = spot.look()?;
        match place.as_ref().map(|place| place.about.kind) {
            None | Some(FileKind::File) => {}
            Some(FileKind::Symlink) if write.link == LinkRule::Replace => {}
            Some(FileKind::Symlink) if write.link == LinkRule::Follow => {
                let real = rules.find(&path, LastLink::Follow)?.real;
                // What the link led to is no link, unless it was swapped meanwhile.
                let write = FileWrite { link: LinkRule::Refuse, ..write.clone() };
                return Self::at(rules, RemotePath::new(real.as_os_str().as_bytes()), &write);
            }
            Some(FileKind::Symlink) => {
                let to = place.as_ref().and_then(|place| place.read_link().ok());
                let to = RemotePath::new(to.unwrap_or_default()).display();
                let text = format!(
                    "{} is a symbolic link to {to}; say whether to follow or to replace it, or \
                     name what it leads to",
                    path.display()
                );
                return Err(Failure::at("symlink", &path, text));
            }
            Some(FileKind::Directory) => {
                let text = format!("{} is a directory, where a file was to be", path.display());
                return Err(Failure::at("is_a_directory", &path, text));
            }
            Some(kind) => return Err(not_a_file(&path, kind_word(kind))),
        }
        let before = place.map(|place| place.about);
        if before.is_some() && write.existing == Existing::Refuse {
            let text = format!("{} is there already", path.display());
            return Err(Failure::at("exists", &path, text));
        }
        Ok(Self { spot, path, before })
    }

    /// Whether what was there at first still is, untouched.
    pub fn is_as_before(&self) -> Result<bool, Failure> {
        Ok(self.spot.look()?.map(|place| place.about) == self.before)
    }
}

/// The path of the folder that a path's last name is in.
fn above(path: &RemotePath) -> RemotePath {
    let bytes = path.as_bytes();
    let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let bytes = bytes.get(..end).unwrap_or_default();
    let slash = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    RemotePath::new(bytes.get(..slash).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_a_path_is_its_folder() {
        for (path, folder) in [("/a/b", "/a/"), ("/a//b///", "/a//"), ("/a", "/"), ("/", "")] {
            assert_eq!(above(&RemotePath::from(path)), RemotePath::from(folder), "{path}");
        }
    }
}
