//! Keeping versions of many files in one operation: what is kept is made durable at once.

use std::io;

use reeve_protocol::OperationId;
use reeve_protocol::ops::{Failure, FileDeed, FileKind, FileVersion, RemotePath};

use super::store::Store;
use super::{FOLDER, Rules, content};
use crate::host;
use crate::host::paths::{About, Place};
use crate::operations::worker::Order;

/// Left free on the disk of the state folder, for the agent itself.
const SPARE_BYTES: u64 = 64 * 1024 * 1024;

/// Names of files in a warning at the most; the rest is counted.
const MAX_NAMED: u64 = 10;

/// Versions that one operation keeps.
#[derive(Debug)]
pub struct Session {
    store: Store,
    operation: OperationId,
    is_enabled: bool,
    max_file: u64,
    /// Contents that are not on the disk for sure.
    pending: Vec<String>,
    bytes: u64,
    count: u64,
    left_out: u64,
    warnings: Vec<Failure>,
}

impl Session {
    /// Nothing is made on the disk before something is kept.
    ///
    /// # Errors
    /// None today; a store that is damaged says so when something is kept.
    pub fn open(order: &Order) -> Result<Self, Failure> {
        let rules = &order.versions;
        Ok(Self {
            store: Store::new(order.state.join(FOLDER), rules.clone()),
            operation: order.id,
            is_enabled: rules.enabled,
            max_file: rules.max_file,
            pending: Vec::new(),
            bytes: 0,
            count: 0,
            left_out: 0,
            warnings: Vec::new(),
        })
    }

    /// As [`super::keep`], but it is not sure to last before [`Session::commit`].
    ///
    /// # Errors
    /// `version_not_kept`.
    pub fn keep(
        &mut self,
        place: &Place,
        path: &RemotePath,
        deed: FileDeed,
    ) -> Result<Option<FileVersion>, Failure> {
        if !self.is_enabled {
            return Ok(None);
        }
        let failed = |error: &io::Error| {
            Failure::at(
                "version_not_kept",
                path,
                format!(
                    "no version of {} could be kept ({error}), so it stays as it is; make room \
                     in the agent's state folder, or do without a version",
                    path.display()
                ),
            )
        };
        let about = place.about;
        let target = match about.kind {
            FileKind::File => None,
            FileKind::Symlink => {
                Some(RemotePath::new(place.read_link().map_err(|error| failed(&error))?))
            }
            _ => return Ok(None),
        };
        if target.is_none() && about.size > self.max_file {
            self.leave_out(path, about.size, "it is larger than [versions] max_file");
            return Ok(None);
        }
        if target.is_none() && self.bytes.saturating_add(about.size) > self.store.most_bytes() {
            self.leave_out(path, about.size, "there is more than [versions] max_bytes takes");
            return Ok(None);
        }
        let version = FileVersion {
            id: 0,
            path: Rules::to_remote(&place.real),
            kind: about.kind,
            kept_us: host::now_us(),
            deed,
            operation: self.operation,
            size: 0,
            mode: about.mode,
            uid: about.uid,
            gid: about.gid,
            modified_ns: about.modified_ns,
            hash: None,
            target,
        };
        let kept = self.try_keep(place, &about, version).map_err(|error| failed(&error))?;
        self.count += 1;
        Ok(Some(kept))
    }

    fn try_keep(
        &mut self,
        place: &Place,
        about: &About,
        mut version: FileVersion,
    ) -> io::Result<FileVersion> {
        self.store.create()?;
        if version.kind == FileKind::Symlink {
            return self.store.add(version, None);
        }
        let mut from = place.open()?;
        let name = format!("{}-{}", self.operation, self.count);
        let (path, mut to) = self.store.incoming(&name)?;
        let room = || {
            let needed = about.size.saturating_add(SPARE_BYTES);
            let has_room = self.store.free_bytes()? >= needed;
            if has_room { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
        };
        let copied = content::copy(&mut from, &mut to, self.max_file, room);
        let added = copied.and_then(|(size, hash)| {
            version.size = size;
            version.hash = Some(hash);
            self.store.add(version, Some(&path))
        });
        match added {
            Ok(version) => {
                self.bytes = self.bytes.saturating_add(version.size);
                self.pending.extend(version.hash.clone());
                Ok(version)
            }
            Err(error) => {
                let _ = std::fs::remove_file(&path);
                Err(error)
            }
        }
    }

    fn leave_out(&mut self, path: &RemotePath, size: u64, why: &str) {
        self.left_out += 1;
        if self.left_out <= MAX_NAMED {
            let message = format!("no version of {} is kept ({size} bytes): {why}", path.display());
            self.warnings.push(Failure::at("not_kept", path, message));
        }
    }

    /// Makes everything last that was kept since the last time.
    ///
    /// # Errors
    /// `version_not_kept`.
    pub fn commit(&mut self) -> Result<(), Failure> {
        if self.count == 0 {
            return Ok(());
        }
        let synced = self.store.sync(&self.pending);
        self.pending.clear();
        synced.map_err(|error| {
            let message = format!(
                "versions could not be written to the disk ({error}), so everything stays as it \
                 is; make room in the agent's state folder, or do without versions"
            );
            Failure::new("version_not_kept", message)
        })
    }

    /// Versions kept so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// What was not kept, for whoever asked.
    pub fn take_warnings(&mut self) -> Vec<Failure> {
        let more = self.left_out.saturating_sub(MAX_NAMED);
        if more > 0 {
            let message = format!("no versions of {more} more files were kept");
            self.warnings.push(Failure::new("not_kept", message));
        }
        self.left_out = 0;
        std::mem::take(&mut self.warnings)
    }
}
