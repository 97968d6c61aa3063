//! `execute_command`: check it, write it down, start its keeper.

use std::fs::File;
use std::sync::Arc;

use reeve_protocol::ops::{ExecuteCommand, Mode};
use reeve_protocol::{OperationId, Refusal, Request};

use super::worker::Order;
use super::{Kind, Operation, Operations, attend, describe_state, lock, refusal};
use crate::host::sandbox::{SYSTEM_BUS, Walls};
use crate::host::{
    self,
    users::{Account, UserError},
};
use crate::keeper::files::{self, FileError, Spec};
use crate::keeper::refuse_inspection;
use crate::keeper::spool::SEGMENT_BYTES;
use crate::state::journal::{Event, Record};

/// Starts a command. When this returns a refusal, nothing of it ran.
pub fn start(
    operations: &Operations,
    id: OperationId,
    request: &Request,
) -> Result<Arc<Operation>, Refusal> {
    let command: ExecuteCommand = reeve_protocol::decode(&request.body).map_err(|error| {
        refusal("invalid", &format!("the command could not be understood: {error}"))
    })?;
    command.validate().map_err(|error| refusal("invalid", &error.to_string()))?;
    let own = &operations.inner.own_account;
    let settings = &operations.inner.settings;
    let walls = match command.mode {
        Mode::Normal => None,
        Mode::Inspect => Some(build_walls(operations, id)?),
    };
    let account = match &walls {
        None => find_account(&command, own)?,
        Some(walls) => name_inspector(walls),
    };
    settings.policy.check(&command, &account.name)?;
    let most = settings.policy.max_concurrent;
    if operations.count_running() >= most {
        return Err(refusal(
            "busy",
            &format!(
                "this machine runs {most} commands already, as many as its policy allows \
                 ([exec] max_concurrent); try again later"
            ),
        ));
    }
    let switch_user = walls.is_none() && has_to_switch(&account, own)?;
    let spec = Spec {
        id,
        command,
        account,
        switch_user,
        created_us: host::now_us(),
        boot_id: settings.boot_id.clone(),
        group: settings.groups.as_ref().map(|base| base.join(format!("op-{id}"))),
        spool_bytes: settings.spool_bytes,
        segment_bytes: SEGMENT_BYTES,
        walls,
        work: None,
        terminal: None,
    };
    launch(operations, &Launched { spec: &spec, order: None })
}

/// The walls of a command in inspect mode, when they can be built here.
fn build_walls(operations: &Operations, id: OperationId) -> Result<Walls, Refusal> {
    let settings = &operations.inner.settings;
    let inspection = &settings.inspection;
    if !inspection.fact.available {
        return Err(refuse_inspection(&inspection.fact.reason));
    }
    let paths = &settings.policy.paths;
    let own = settings.folder.path().to_string_lossy().into_owned();
    Ok(Walls {
        uid: inspection.uids.pick(id.0.as_u128()),
        blocked: paths.blocked.iter().cloned().chain([own]).collect(),
        allowed: paths.allowed.clone(),
        bus: if settings.policy.inspect_bus {
            SYSTEM_BUS.map(str::to_owned).to_vec()
        } else {
            Vec::new()
        },
    })
}

/// Nobody's account: it is in no file of users, and owns nothing.
fn name_inspector(walls: &Walls) -> Account {
    Account {
        name: INSPECTOR.to_owned(),
        uid: walls.uid,
        gid: walls.uid,
        groups: Vec::new(),
        home: "/".to_owned(),
        shell: "/bin/sh".to_owned(),
    }
}

/// What a command in inspect mode finds as its user's name.
const INSPECTOR: &str = "reeve-inspect";

/// Whether a command of this user has to become another than the agent's own.
///
/// # Errors
/// When the agent cannot do that.
pub(super) fn has_to_switch(account: &Account, own: &Account) -> Result<bool, Refusal> {
    if account.uid == own.uid || host::users::is_root() {
        return Ok(account.uid != own.uid);
    }
    Err(refusal(
        "policy_user",
        &format!(
            "the agent runs as '{}' and cannot run commands as '{}'; leave --user out, or run the \
             agent as root",
            own.name, account.name
        ),
    ))
}

pub(super) fn find_account(command: &ExecuteCommand, own: &Account) -> Result<Account, Refusal> {
    let Some(name) = command.user.as_deref().filter(|name| *name != own.name) else {
        return Ok(own.clone());
    };
    host::users::load_account(name).map_err(|error| match error {
        UserError::Unknown(_) => {
            refusal("unknown_user", &format!("{error}; create it, or choose another with --user"))
        }
        UserError::UnknownGroup(_) | UserError::Lookup(..) => {
            refusal("unknown_user", &error.to_string())
        }
    })
}

/// What a keeper is started on.
pub struct Launched<'a> {
    /// What it is to run.
    pub spec: &'a Spec,
    /// What that is to do, when it is a worker.
    pub order: Option<&'a Order>,
}

/// Writes it down and starts its keeper.
///
/// # Errors
/// Why nothing of it ran.
pub fn launch(operations: &Operations, launched: &Launched<'_>) -> Result<Arc<Operation>, Refusal> {
    let spec = launched.spec;
    let settings = &operations.inner.settings;
    let path = settings.folder.operations().join(spec.id.to_string());
    let give_up = |refusal: Refusal| {
        let _ = std::fs::remove_dir_all(&path);
        refusal
    };
    let lock_file = prepare(operations, &path, launched).map_err(give_up)?;
    // Written before anything can run: whoever finds this id in the journal never starts it again.
    let record = Record { id: spec.id, time_us: host::now_us(), event: Event::Started };
    lock(&operations.inner.journal)
        .record(record)
        .map_err(|error| give_up(describe_state(&error)))?;
    let (operation, commands) = Operation::new(spec.id, Kind::of(spec), spec.created_us, path);
    operations.hold(&operation);
    attend::attend(operations, &operation, commands, Some(lock_file));
    Ok(operation)
}

/// Makes the operation's folder, with its lock and what is to be run.
fn prepare(
    operations: &Operations,
    path: &std::path::Path,
    launched: &Launched<'_>,
) -> Result<File, Refusal> {
    let lock_file =
        lock(&operations.inner.spares).make(path).map_err(|error| describe_state(&error))?;
    let folder = host::unix::open_folder(path).map_err(|error| describe_state(&error))?;
    let written = match launched.order {
        Some(order) => files::write(&folder, order),
        None => Ok(()),
    };
    written.and_then(|()| files::write(&folder, launched.spec)).map_err(|error| match error {
        FileError::Io { source, .. } => describe_state(&source),
        FileError::Damaged { .. } => refusal("invalid", &error.to_string()),
    })?;
    files::offer(&lock_file).map_err(|error| describe_state(&error))?;
    Ok(lock_file)
}
