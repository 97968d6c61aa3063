//! What an earlier agent, or a keeper that was killed, left behind.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reeve_protocol::{Containment, Evidence, OperationId, OperationResult, Outcome, Totals};

use super::{Kind, Operation, Operations, answer, attend, lock, never_started};
use crate::host::cgroup::{self, Group};
use crate::host::{self, process};
use crate::keeper::MARK;
use crate::keeper::files::{self, Spec};
use crate::keeper::spool::SpoolReader;
use crate::state::StateError;
use crate::state::journal::{Event, Record};

/// How long to wait for killed processes to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Finds every operation in the state folder.
pub async fn recover_all(operations: &Operations) -> Result<(), StateError> {
    let base = operations.inner.settings.folder.operations();
    let entries =
        std::fs::read_dir(&base).map_err(|source| StateError::Io { path: base.clone(), source })?;
    for entry in entries.filter_map(Result::ok) {
        let id = entry.file_name().to_str().and_then(|name| name.parse::<OperationId>().ok());
        if let Some(id) = id {
            recover_one(operations, id, &entry.path());
        }
    }
    if let Some(groups) = &operations.inner.settings.groups {
        cgroup::sweep(groups, |id| id.parse().is_ok_and(|id| operations.find(id).is_some()));
    }
    Ok(())
}

fn recover_one(operations: &Operations, id: OperationId, path: &Path) {
    let event = lock(&operations.inner.journal).find(id).ok().flatten().map(|found| found.event);
    let spec = host::unix::open_folder(path)
        .map_err(|error| error.to_string())
        .and_then(|folder| files::load::<Spec>(folder).map_err(|error| error.to_string()));
    match spec {
        // Not in the journal: it was never started, and whoever asked will ask again. Acknowledged or
        // taken back: the earlier agent died while it tidied up.
        _ if matches!(event, None | Some(Event::Acknowledged | Event::TakenBack)) => {
            let _ = std::fs::remove_dir_all(path);
        }
        Ok(spec) if event == Some(Event::Started) && take_back(operations, &spec, path) => {}
        Ok(spec) => {
            let (operation, commands) =
                Operation::new(spec.id, Kind::of(&spec), spec.created_us, path.to_owned());
            operations.hold(&operation);
            tracing::info!(%id, "found an operation of an earlier agent");
            // Whether its keeper lives is found out there.
            attend::attend(operations, &operation, commands, None);
        }
        Err(_) if answer::recover(operations, path).is_some() => {}
        Err(error) => {
            tracing::error!(%id, error, "an operation's folder is damaged");
            let aside = path.with_extension("damaged");
            let _ = std::fs::rename(path, aside);
        }
    }
}

/// Forgets an operation for which the earlier agent died before any keeper took it. Nothing of it
/// ran, so it is as if it had never come: the coordinator finds it missing, and sends it again if it
/// is still wanted. Whether that was so.
fn take_back(operations: &Operations, spec: &Spec, path: &Path) -> bool {
    // Held until the folder is gone. Nobody else gets it then: a keeper is born with it.
    let Ok(Some(lock_file)) = attend::take_lock(path) else { return false };
    if !is_untouched(operations, spec, path, &lock_file) {
        return false;
    }
    let record = Record { id: spec.id, time_us: host::now_us(), event: Event::TakenBack };
    if let Err(error) = lock(&operations.inner.journal).record(record) {
        tracing::warn!(id = %spec.id, %error, "what never started could not be taken back");
        return false;
    }
    tracing::info!(id = %spec.id, "an earlier agent died before this could start; it may be sent again");
    let _ = std::fs::remove_dir_all(path);
    true
}

/// Whether nothing of an operation ever ran, nor will. Asked by the one who has its lock.
fn is_untouched(operations: &Operations, spec: &Spec, path: &Path, lock_file: &File) -> bool {
    spec.boot_id == operations.inner.settings.boot_id
        && host::unix::open_folder(path).is_ok_and(|folder| {
            files::was_never_taken(&folder, lock_file)
                && files::load::<OperationResult>(&folder).is_err_and(|error| error.is_absent())
        })
}

/// The keeper of an operation that is attended is over, and left no result: whether it never was
/// one.
pub fn was_never_kept(operations: &Operations, operation: &Operation, lock_file: &File) -> bool {
    let spec = host::unix::open_folder(operation.path())
        .ok()
        .and_then(|folder| files::load::<Spec>(folder).ok());
    spec.is_some_and(|spec| is_untouched(operations, &spec, operation.path(), lock_file))
}

/// The keeper is over: takes the result it wrote. Whether there is one.
pub fn settle_by_exit_file(operation: &Operation) -> bool {
    let result = host::unix::open_folder(operation.path())
        .ok()
        .and_then(|folder| files::load::<OperationResult>(folder).ok());
    let found = result.is_some();
    if let Some(result) = result {
        finish(operation, result);
    }
    found
}

/// The keeper was killed: kills whatever is left of the command. The operation is lost, with what
/// is known.
pub fn settle_as_lost(operations: &Operations, operation: &Operation) {
    let result = describe_lost(operations, operation);
    tracing::warn!(id = %operation.id(), "lost: {:?}", result.outcome);
    settle_with(operation, result);
}

/// Writes down how it ended where no keeper did, and that it is over.
pub fn settle_with(operation: &Operation, result: OperationResult) {
    let id = operation.id();
    let written = host::unix::open_folder(operation.path())
        .map_err(|error| error.to_string())
        .and_then(|folder| files::write(folder, &result).map_err(|error| error.to_string()));
    if let Err(error) = written {
        tracing::warn!(%id, error, "the result could not be written down");
    }
    finish(operation, result);
}

fn finish(operation: &Operation, result: OperationResult) {
    operation.update(|view| {
        view.spool_to = result.totals.all;
        view.stdin.closed = true;
        view.finished = Some(Arc::new(result));
    });
}

fn describe_lost(operations: &Operations, operation: &Operation) -> OperationResult {
    let view = operation.view();
    let spec = host::unix::open_folder(operation.path())
        .ok()
        .and_then(|folder| files::load::<Spec>(folder).ok());
    let boot_id = spec.as_ref().map(|spec| spec.boot_id.clone());
    let here = &operations.inner.settings.boot_id;
    let rebooted = boot_id.as_ref().is_some_and(|boot| boot != here);
    let killed = if rebooted {
        0
    } else {
        kill_rest(spec.as_ref().and_then(|spec| spec.group.as_deref()), operation.id())
    };
    let totals = find_end(operation.path());
    let (code, message) = if rebooted {
        ("rebooted", "the machine was rebooted while it ran".to_owned())
    } else {
        let what = match killed {
            0 => "no process of it was left".to_owned(),
            1 => "the one process left of it was killed".to_owned(),
            count => format!("the {count} processes left of it were killed"),
        };
        ("keeper_killed", format!("the process that kept it was killed; {what}"))
    };
    let containment = view
        .accepted
        .as_ref()
        .map(|accepted| accepted.containment)
        .or(spec.as_ref().map(|spec| match spec.group {
            Some(_) => Containment::CgroupV2,
            None => Containment::ProcessGroup,
        }))
        .unwrap_or(Containment::None);
    let started_us = view.accepted.as_ref().map_or(operation.created_us(), |a| a.started_us);
    OperationResult {
        started_us: Some(started_us),
        containment,
        totals,
        ..never_started(Outcome::Lost(Evidence {
            code: code.to_owned(),
            message,
            boot_id,
            last_byte: Some(totals.all),
            last_seen_us: find_last_change(operation.path()),
            killed,
        }))
    }
}

fn kill_rest(group: Option<&Path>, id: OperationId) -> u32 {
    let mut killed = 0;
    if let Some(group) = group.and_then(|path| Group::open(path).ok()) {
        killed += group.kill_and_wait(KILL_LIMIT);
        group.remove();
    }
    // Also those that were never in the group, or left it.
    killed + process::kill_marked(&format!("{MARK}={id}"))
}

fn find_end(path: &Path) -> Totals {
    let end = host::unix::open_folder(path).and_then(|folder| {
        let first = crate::keeper::spool::list_segments(&folder)?.first().copied();
        SpoolReader::open(folder, first.unwrap_or(0))?.find_end()
    });
    end.unwrap_or_default()
}

/// When anything in the folder was last written.
fn find_last_change(path: &Path) -> Option<i64> {
    let entries = std::fs::read_dir(path).ok()?;
    let changes = entries.filter_map(|entry| {
        let modified = entry.ok()?.metadata().ok()?.modified().ok()?;
        let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_micros()).ok()
    });
    changes.max()
}
