//! Mode, owner and times of what is written.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use reeve_protocol::ops::{Failure, FileEntry, FileWrite};

use crate::host::copying;
use crate::host::paths::About;
use crate::host::users;

/// What the usual mask takes away of a new file's mode (umask(2)).
const MASK: u32 = 0o022;

/// Set-user-id and set-group-id: they mean something only with the owner they were given by.
const SET_IDS: u32 = 0o6000;

/// What was asked for.
#[derive(Debug)]
pub struct Attributes {
    preserve: bool,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    /// Numbers of the names that came, looked up once each.
    uids: std::collections::HashMap<String, Option<u32>>,
    gids: std::collections::HashMap<String, Option<u32>>,
}

impl Attributes {
    /// # Errors
    /// `unknown_user` when the owner that was asked for is not there.
    pub fn of(write: &FileWrite) -> Result<Self, Failure> {
        let unknown = |error: users::UserError| Failure::new("unknown_user", error.to_string());
        let owner = write.owner.as_deref().unwrap_or_default();
        let (user, group) = owner.split_once(':').unwrap_or((owner, ""));
        let uid =
            if user.is_empty() { None } else { Some(users::find_uid(user).map_err(unknown)?) };
        let gid =
            if group.is_empty() { None } else { Some(users::find_gid(group).map_err(unknown)?) };
        Ok(Self {
            preserve: write.preserve,
            mode: write.mode,
            uid,
            gid,
            uids: std::collections::HashMap::new(),
            gids: std::collections::HashMap::new(),
        })
    }

    /// Gives a new file what it is to have; `before` is the file whose place it takes.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn apply(
        &mut self,
        file: &File,
        entry: &FileEntry,
        before: Option<&About>,
    ) -> io::Result<()> {
        let owned = self.apply_owner(file, entry, before)?;
        let mode = match (self.mode, before) {
            (Some(mode), _) => mode,
            (None, _) if self.preserve && owned => entry.mode,
            (None, _) if self.preserve => entry.mode & !SET_IDS,
            (None, Some(before)) => before.mode,
            (None, None) => entry.mode & 0o777 & !MASK,
        };
        copying::set_mode(file, mode)?;
        if self.preserve {
            copying::set_modified(file, entry.modified_ns)?;
        }
        Ok(())
    }

    /// The same for a folder, once everything is in it. One that was there keeps what it has unless
    /// everything is to be as it was.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn apply_to_folder(
        &mut self,
        folder: impl AsFd,
        entry: &FileEntry,
        is_new: bool,
    ) -> io::Result<()> {
        if !is_new && !self.preserve {
            return Ok(());
        }
        let owned = self.apply_owner(&folder, entry, None)?;
        let mode = match self.preserve {
            true if owned => entry.mode,
            true => entry.mode & !SET_IDS,
            false => entry.mode & 0o777 & !MASK,
        };
        copying::set_mode(&folder, mode)?;
        if self.preserve {
            copying::set_modified(&folder, entry.modified_ns)?;
        }
        Ok(())
    }

    /// Whether it now belongs to whom it belonged at the source.
    fn apply_owner(
        &mut self,
        file: impl AsFd,
        entry: &FileEntry,
        before: Option<&About>,
    ) -> io::Result<bool> {
        let (mut uid, mut gid) = (self.uid, self.gid);
        let mut owned = false;
        if self.preserve && users::is_root() {
            owned = self.uid.is_none() && self.gid.is_none();
            uid = uid.or_else(|| Some(self.uid_of(entry)));
            gid = gid.or_else(|| Some(self.gid_of(entry)));
        } else if let Some(before) = before {
            // Whose it was it stays, as far as this agent may say so.
            let _ = copying::set_owner(&file, Some(before.uid), Some(before.gid));
        }
        if uid.is_some() || gid.is_some() {
            copying::set_owner(&file, uid, gid)?;
        }
        Ok(owned)
    }

    /// By name where this machine has it, else by number.
    fn uid_of(&mut self, entry: &FileEntry) -> u32 {
        let Some(name) = &entry.user else { return entry.uid };
        let find = || users::load_account(name).ok().map(|account| account.uid);
        self.uids.entry(name.clone()).or_insert_with(find).unwrap_or(entry.uid)
    }

    fn gid_of(&mut self, entry: &FileEntry) -> u32 {
        let Some(name) = &entry.group else { return entry.gid };
        let find = || match name.parse::<u32>() {
            Ok(_) => None,
            Err(_) => users::find_gid(name).ok(),
        };
        self.gids.entry(name.clone()).or_insert_with(find).unwrap_or(entry.gid)
    }
}
