//! `execute_command`: check it, write it down, start its keeper.

use std::fs::File;
use std::sync::Arc;

use reeve_protocol::ops::ExecuteCommand;
use reeve_protocol::{OperationId, Refusal, Request};

use super::{Operation, Operations, attend, describe_state, lock, refusal};
use crate::host::users::{Account, UserError};
use crate::host::{self, keeper_process};
use crate::keeper::files::{self, FileError, Spec};
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
    let account = find_account(&command, own)?;
    let settings = &operations.inner.settings;
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
    let switch_user = account.uid != own.uid;
    if switch_user && !host::users::is_root() {
        return Err(refusal(
            "policy_user",
            &format!(
                "the agent runs as '{}' and cannot run commands as '{}'; leave --user out, or run \
                 the agent as root",
                own.name, account.name
            ),
        ));
    }
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
    };
    launch(operations, &spec)
}

fn find_account(command: &ExecuteCommand, own: &Account) -> Result<Account, Refusal> {
    let Some(name) = command.user.as_deref().filter(|name| *name != own.name) else {
        return Ok(own.clone());
    };
    host::users::load_account(name).map_err(|error| match error {
        UserError::Unknown(_) => {
            refusal("unknown_user", &format!("{error}; create it, or choose another with --user"))
        }
        UserError::Lookup(..) => refusal("unknown_user", &error.to_string()),
    })
}

fn launch(operations: &Operations, spec: &Spec) -> Result<Arc<Operation>, Refusal> {
    let settings = &operations.inner.settings;
    let path = settings.folder.operations().join(spec.id.to_string());
    let give_up = |refusal: Refusal| {
        let _ = std::fs::remove_dir_all(&path);
        refusal
    };
    let lock_file = prepare(&path, spec).map_err(give_up)?;
    // Written before anything can run: whoever finds this id in the journal never starts it again.
    let record = Record { id: spec.id, time_us: host::now_us(), event: Event::Started };
    lock(&operations.inner.journal)
        .record(record)
        .map_err(|error| give_up(describe_state(&error)))?;
    let (operation, commands) = Operation::new(spec, path.clone());
    match keeper_process::spawn(&settings.program, &path, lock_file) {
        Ok((keeper, stream)) => {
            operations.hold(&operation);
            attend::attend(operations, &operation, commands, Some((keeper, stream)));
            Ok(operation)
        }
        Err(error) => {
            // No keeper was made, so nothing ran. The id stays in the journal, which is harmless:
            // this refusal is final for it.
            operations.write_journal(spec.id, Event::Finished);
            Err(give_up(refusal(
                "start_failed",
                &format!("the agent could not start a process: {error}"),
            )))
        }
    }
}

/// Makes the operation's folder. The lock in it is held from now on, first by us, then by the
/// keeper, so there is no moment in which it looks dead.
fn prepare(path: &std::path::Path, spec: &Spec) -> Result<File, Refusal> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(path).map_err(|error| describe_state(&error))?;
    let folder = host::unix::open_folder(path).map_err(|error| describe_state(&error))?;
    let lock_file = files::open_lock(&folder).map_err(|error| describe_state(&error))?;
    files::try_lock(&lock_file).map_err(|error| describe_state(&error))?;
    files::write(&folder, spec).map_err(|error| match error {
        FileError::Io { source, .. } => describe_state(&source),
        FileError::Damaged { .. } => refusal("invalid", &error.to_string()),
    })?;
    Ok(lock_file)
}
