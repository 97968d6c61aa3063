//! Starting a worker: what was asked is checked and written down, then a keeper starts our own
//! program on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use reeve_protocol::ops::{Command, ExecuteCommand, Stdin};
use reeve_protocol::{OperationId, Refusal, Request};

use super::exec::{self, Launched};
use super::worker::{self, Entry, Order};
use super::{Operation, Operations, refusal};
use crate::host;
use crate::keeper::files::Spec;
use crate::keeper::spool::SEGMENT_BYTES;

/// The variable that says where the system bus is (D-Bus specification).
const BUS_ADDRESS: &str = "DBUS_SYSTEM_BUS_ADDRESS";

/// Workers at the same time. More are refused: each is two processes.
const MAX_AT_ONCE: u32 = 256;

/// Starts it. When this returns a refusal, nothing was done.
pub fn start(
    operations: &Operations,
    id: OperationId,
    name: &str,
    entry: &Entry,
    request: &Request,
) -> Result<Arc<Operation>, Refusal> {
    let settings = &operations.inner.settings;
    let terms = (entry.check)(&request.body, &settings.policy)?;
    if operations.count_unfinished(Operation::is_work) >= MAX_AT_ONCE {
        return Err(refusal(
            "busy",
            &format!("this machine does {MAX_AT_ONCE} such operations already; try again later"),
        ));
    }
    let paths = &settings.policy.paths;
    let order = Order {
        id,
        name: name.to_owned(),
        body: request.body.clone(),
        allowed: paths.allowed.clone(),
        blocked: paths.blocked.clone(),
        state: settings.folder.path().to_owned(),
        policy: settings.policy.path.clone(),
        versions: settings.policy.versions.clone(),
        tunnels: settings.policy.allow.tunnels.clone(),
    };
    let folder = settings.folder.operations().join(id.to_string());
    let arguments = [settings.program.as_os_str(), worker::WORD.as_ref(), folder.as_os_str()];
    let argv = arguments.map(|argument| argument.to_string_lossy().into_owned());
    let spec = Spec {
        id,
        command: ExecuteCommand {
            cwd: Some("/".to_owned()),
            redact: request.redact,
            env: bus_address(),
            stdin: if terms.has_stdin { Stdin::Stream } else { Stdin::Null },
            timeout_ms: terms
                .limit
                .map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
            ..ExecuteCommand::new(Command::Argv(argv.to_vec()))
        },
        account: operations.inner.own_account.clone(),
        switch_user: false,
        created_us: host::now_us(),
        boot_id: settings.boot_id.clone(),
        group: settings.groups.as_ref().map(|base| base.join(format!("op-{id}"))),
        spool_bytes: settings.spool_bytes,
        segment_bytes: SEGMENT_BYTES,
        walls: None,
        work: Some(name.to_owned()),
        terminal: None,
    };
    exec::launch(operations, &Launched { spec: &spec, order: Some(&order) })
}

/// Where the system bus is, when the agent's own environment says that it is elsewhere than usual.
fn bus_address() -> BTreeMap<String, String> {
    let value = std::env::var(BUS_ADDRESS).ok();
    value.into_iter().map(|value| (BUS_ADDRESS.to_owned(), value)).collect()
}
