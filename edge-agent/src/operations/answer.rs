//! Operations that the agent does itself, without a keeper or any other process. They go the same
//! road as commands: journal, folder, spool, result, kept until the coordinator has acknowledged
//! them. What an answer says is written by a closure that only looks or only does one thing, and is
//! over within seconds.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reeve_protocol::ops::SpoolFull;
use reeve_protocol::{
    Accepted, Containment, Evidence, OperationId, OperationResult, Outcome, Refusal, Stream, Totals,
};

use super::{
    Kind, Operation, Operations, describe_state, lock, never_started, recover as recovery, refusal,
};
use crate::host;
use crate::keeper::files::{self, Asked, FileError};
use crate::keeper::spool::{Append, SEGMENT_BYTES, SpoolWriter};
use crate::state::journal::{Event, Record};

/// Answers that are being made at the same time. More are refused: each holds a thread.
const MAX_AT_ONCE: u32 = 8;

/// An answer that takes longer is given up. Files of `/proc` can hang with the process they tell of.
const TIME_LIMIT: Duration = Duration::from_secs(15);

/// Begins an answer: `work` makes the bytes of its stdout, on a thread of its own. When this
/// returns a refusal, nothing was done.
pub fn start(
    operations: &Operations,
    id: OperationId,
    name: &str,
    work: impl FnOnce() -> Result<Vec<u8>, Refusal> + Send + 'static,
) -> Result<Arc<Operation>, Refusal> {
    if operations.count_unfinished(Operation::is_answer) >= MAX_AT_ONCE {
        return Err(refusal(
            "busy",
            &format!("the agent answers {MAX_AT_ONCE} questions already; try again in a moment"),
        ));
    }
    let settings = &operations.inner.settings;
    let asked = Asked {
        id,
        name: name.to_owned(),
        created_us: host::now_us(),
        boot_id: settings.boot_id.clone(),
    };
    let path = settings.folder.operations().join(id.to_string());
    let give_up = |refusal: Refusal| {
        let _ = std::fs::remove_dir_all(&path);
        refusal
    };
    let lock_file = prepare(operations, &path, &asked).map_err(give_up)?;
    let record = Record { id, time_us: asked.created_us, event: Event::Started };
    lock(&operations.inner.journal)
        .record(record)
        .map_err(|error| give_up(describe_state(&error)))?;
    // Nothing is said to an answer while it is made.
    let (operation, _) = Operation::new(id, Kind::Answer, asked.created_us, path);
    operations.hold(&operation);
    let (operations, answered) = (operations.clone(), operation.clone());
    operations.clone().inner.tasks.spawn("answer", async move {
        let began = Instant::now();
        let made = tokio::task::spawn_blocking(work);
        let outcome = match tokio::time::timeout(TIME_LIMIT, made).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => {
                Err(refusal("failed", &format!("the agent could not do it: {error}")))
            }
            Err(_) => Err(refusal(
                "timed_out",
                &format!("it took longer than {} s, so it was given up", TIME_LIMIT.as_secs()),
            )),
        };
        settle(&operations, &answered, outcome, began.elapsed());
        drop(lock_file);
    });
    Ok(operation)
}

fn prepare(operations: &Operations, path: &Path, asked: &Asked) -> Result<File, Refusal> {
    let lock_file =
        lock(&operations.inner.spares).make(path).map_err(|error| describe_state(&error))?;
    let folder = host::unix::open_folder(path).map_err(|error| describe_state(&error))?;
    files::write(&folder, asked).map_err(|error| match error {
        FileError::Io { source, .. } => describe_state(&source),
        FileError::Damaged { .. } => refusal("invalid", &error.to_string()),
    })?;
    Ok(lock_file)
}

/// Output, then the result, as a keeper would write them.
fn settle(
    operations: &Operations,
    operation: &Operation,
    outcome: Result<Vec<u8>, Refusal>,
    took: Duration,
) {
    let written = outcome.and_then(|bytes| spool(operations, operation.path(), &bytes));
    let result = match written {
        Ok(totals) => OperationResult {
            outcome: Outcome::Exited { code: 0 },
            started_us: Some(operation.created_us()),
            finished_us: host::now_us(),
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            totals,
            ..never_started(Outcome::Exited { code: 0 })
        },
        Err(refusal) => never_started(Outcome::Refused(refusal)),
    };
    if matches!(result.outcome, Outcome::Exited { .. }) {
        operation.update(|view| {
            view.accepted = Some(Accepted {
                started_us: operation.created_us(),
                pid: None,
                containment: Containment::None,
            });
        });
    }
    operations.write_journal(operation.id(), Event::Finished);
    recovery::settle_with(operation, result);
    operations.note_change();
}

fn spool(operations: &Operations, path: &Path, bytes: &[u8]) -> Result<Totals, Refusal> {
    let folder = host::unix::open_folder(path).map_err(|error| describe_state(&error))?;
    let limit = operations.inner.settings.spool_bytes;
    let mut spool = SpoolWriter::new(folder, limit, SEGMENT_BYTES, SpoolFull::Block).impatient();
    if bytes.len() as u64 > spool.room() {
        return Err(refusal("failed", "the answer is larger than the spool"));
    }
    // A record without bytes would be read as damage.
    if bytes.is_empty() {
        return Ok(spool.totals());
    }
    match spool.append(Stream::Stdout, bytes) {
        Ok(Append::Done) => Ok(spool.totals()),
        Ok(Append::DiskFull) => {
            Err(describe_state(&std::io::Error::from(std::io::ErrorKind::StorageFull)))
        }
        Err(error) => Err(describe_state(&error)),
    }
}

/// Takes over what an earlier agent answered. `None` when the folder is not that of an answer.
pub fn recover(operations: &Operations, path: &Path) -> Option<()> {
    let folder = host::unix::open_folder(path).ok()?;
    let asked: Asked = files::load(folder).ok()?;
    let (operation, _) =
        Operation::new(asked.id, Kind::Answer, asked.created_us, PathBuf::from(path));
    operations.hold(&operation);
    if !recovery::settle_by_exit_file(&operation) {
        operations.write_journal(asked.id, Event::Finished);
        let lost = Evidence {
            code: "agent_restarted".to_owned(),
            message: format!("the agent was restarted while it did {}; ask again", asked.name),
            boot_id: Some(asked.boot_id),
            last_byte: None,
            last_seen_us: Some(asked.created_us),
            killed: 0,
        };
        // Whatever had reached the spool is no whole answer, and is not sent.
        recovery::settle_with(&operation, never_started(Outcome::Lost(lost)));
    }
    Some(())
}
