//! `explain_operation`: what the processes of a running command wait for. Reads `/proc`, makes no
//! process and changes nothing. Processes come and go while it looks: whatever cannot be read is
//! left out.

mod descriptors;
mod findings;
mod holders;
mod locks;
mod memory;
mod mounts;
mod process;
mod sockets;
mod stat;
mod syscalls;

use std::sync::Arc;

use reeve_protocol::ops::{ExplainOperation, Operation as _};
use reeve_protocol::{OperationId, Refusal, Request};

use super::{Operation, Operations, answer, refusal};
use crate::host;
use crate::keeper::files::{self, KeeperFile, Spec};

/// What is looked at.
struct Subject {
    operation: Arc<Operation>,
    spec: Spec,
    /// The keeper's process id.
    keeper: Option<u32>,
}

/// Begins to look.
pub fn start(
    operations: &Operations,
    id: OperationId,
    request: &Request,
) -> Result<Arc<Operation>, Refusal> {
    let asked: ExplainOperation = reeve_protocol::decode(&request.body).map_err(|error| {
        refusal("invalid", &format!("the question could not be understood: {error}"))
    })?;
    let subject = find(operations, asked.operation)?;
    answer::start(operations, id, ExplainOperation::NAME, move || {
        findings::to_json(findings::look(&subject)).map_err(|error| {
            refusal("failed", &format!("what was found could not be written down: {error}"))
        })
    })
}

fn find(operations: &Operations, id: OperationId) -> Result<Subject, Refusal> {
    let over = || {
        refusal(
            "not_running",
            &format!("the operation {id} does not run on this machine (any more)"),
        )
    };
    let operation = operations.find(id).ok_or_else(over)?;
    if operation.is_finished() {
        return Err(over());
    }
    if operation.is_answer() {
        return Err(refusal("no_process", "the agent does this one itself; it has no process"));
    }
    let unreadable = |error: String| {
        refusal("state_unreadable", &format!("the operation's folder cannot be read: {error}"))
    };
    let folder =
        host::unix::open_folder(operation.path()).map_err(|error| unreadable(error.to_string()))?;
    let spec = files::load::<Spec>(&folder).map_err(|error| unreadable(error.to_string()))?;
    let keeper = files::load::<KeeperFile>(&folder).ok().map(|file| file.pid);
    Ok(Subject { operation, spec, keeper })
}
