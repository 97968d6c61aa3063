//! Users of this machine (getpwnam(3), getgrouplist(3)). Looked up by the agent, never by a
//! keeper: name services load libraries and memory.

use std::ffi::CString;

use nix::unistd::{Uid, User, getgrouplist};
use serde::{Deserialize, Serialize};

/// Whoever a command runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Main group.
    pub gid: u32,
    /// All groups.
    pub groups: Vec<u32>,
    /// Home folder.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// Why there is no account.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No such user.
    #[error("there is no user '{0}' on this machine")]
    Unknown(String),
    /// No such group.
    #[error("there is no group '{0}' on this machine")]
    UnknownGroup(String),
    /// The name service failed.
    #[error("user '{0}' could not be looked up: {1}")]
    Lookup(String, #[source] nix::Error),
}

/// The account of a user by name.
///
/// # Errors
/// When there is none, or it cannot be looked up.
pub fn load_account(name: &str) -> Result<Account, UserError> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok(to_account(user)),
        Ok(None) => Err(UserError::Unknown(name.to_owned())),
        Err(error) => Err(UserError::Lookup(name.to_owned(), error)),
    }
}

/// The account this process runs as. A user id without a name is its own name.
#[must_use]
pub fn load_own_account() -> Account {
    let uid = Uid::effective();
    match User::from_uid(uid) {
        Ok(Some(user)) => to_account(user),
        _ => Account {
            name: uid.to_string(),
            uid: uid.as_raw(),
            gid: nix::unistd::Gid::effective().as_raw(),
            groups: Vec::new(),
            home: std::env::var("HOME").unwrap_or_else(|_| "/".to_owned()),
            shell: "/bin/sh".to_owned(),
        },
    }
}

fn to_account(user: User) -> Account {
    let groups = CString::new(user.name.as_str())
        .ok()
        .and_then(|name| getgrouplist(&name, user.gid).ok())
        .map(|groups| groups.into_iter().map(nix::unistd::Gid::as_raw).collect())
        .unwrap_or_else(|| vec![user.gid.as_raw()]);
    Account {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups,
        home: user.dir.to_string_lossy().into_owned(),
        shell: user.shell.to_string_lossy().into_owned(),
    }
}

/// The number of a user given by name or number.
///
/// # Errors
/// When there is none, or it cannot be looked up.
pub fn find_uid(name: &str) -> Result<u32, UserError> {
    match name.parse() {
        // To chown(2) it means none.
        Ok(u32::MAX) => Err(UserError::Unknown(name.to_owned())),
        Ok(number) => Ok(number),
        Err(_) => load_account(name).map(|account| account.uid),
    }
}

/// The number of a group given by name or number.
///
/// # Errors
/// When there is none, or it cannot be looked up.
pub fn find_gid(name: &str) -> Result<u32, UserError> {
    match name.parse() {
        Ok(u32::MAX) => return Err(UserError::UnknownGroup(name.to_owned())),
        Ok(number) => return Ok(number),
        Err(_) => {}
    }
    match nix::unistd::Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(UserError::UnknownGroup(name.to_owned())),
        Err(error) => Err(UserError::Lookup(name.to_owned(), error)),
    }
}

/// Whether this process may become other users.
#[must_use]
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// The user this program acts as.
#[must_use]
pub fn effective_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Names of users and groups by number, looked up once each.
#[derive(Debug, Default)]
pub struct Names {
    users: std::collections::HashMap<u32, Option<String>>,
    groups: std::collections::HashMap<u32, Option<String>>,
}

impl Names {
    /// The user's name, if there is one.
    pub fn user(&mut self, uid: u32) -> Option<String> {
        let find = || User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
        self.users.entry(uid).or_insert_with(find).clone()
    }

    /// The group's name, if there is one.
    pub fn group(&mut self, gid: u32) -> Option<String> {
        let gid_of = nix::unistd::Gid::from_raw;
        let find = || nix::unistd::Group::from_gid(gid_of(gid)).ok().flatten().map(|it| it.name);
        self.groups.entry(gid).or_insert_with(find).clone()
    }
}
